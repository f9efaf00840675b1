//! Capture of changes against real etcds: what the agent has stored is what etcd tells by itself, revision by revision.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use etcd_client::{AlarmAction, AlarmType, EventType, WatchOptions};
use jiff::Timestamp;
use lifeboat::layout::delta::{Decoder, Head, Record};
use lifeboat::layout::{Epoch, ObjectName};
use lifeboat::pipeline::{Identities, Unlock, decode};
use serde_json::Value;

use super::support::client::{Client, wait_for};
use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host};
use super::support::load::Load;
use super::support::running::{Running, until};
use super::support::shifted::Shifted;
use super::support::tools::Version;

/// Nothing but deltas: full backups are taken where capture wants one.
pub const DELTAS: &str = "[deltas]\nenabled = true\nevery = \"1s\"\nmark_every = \"2s\"\n";

/// A change, as both sides tell it: revision, place in it, key; and of a put create revision, version, lease and value.
pub type Told = (i64, i64, Vec<u8>, Option<(i64, i64, i64, Vec<u8>)>);

pub fn lane(host: &Host) -> Value {
    let path = host.path("state").join(CLUSTER).join("status.json");
    let text = fs::read_to_string(path).unwrap_or_else(|_| "null".to_owned());
    let status: Value = serde_json::from_str(&text).unwrap();
    status["deltas"][0].clone()
}

/// What is stored of the chain that was begun last, by name.
pub struct Stored {
    pub chain: String,
    pub files: BTreeMap<String, PathBuf>,
}

pub fn chains(host: &Host, store: &std::path::Path) -> Vec<Stored> {
    let mut chains: BTreeMap<String, Stored> = BTreeMap::new();
    for file in super::support::host::files_below(store) {
        let path = store.join(&file);
        let inside = path
            .strip_prefix(store.join(CLUSTER))
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let mut parts = inside.split('/');
        let (_, Some(chain)) = (parts.next(), parts.next()) else {
            continue;
        };
        // What is being written has another name.
        if inside.contains("/20") && !inside.ends_with(".partial") {
            let stored = chains.entry(chain.to_owned()).or_insert_with(|| Stored {
                chain: chain.to_owned(),
                files: BTreeMap::new(),
            });
            stored.files.insert(inside, path);
        }
    }
    assert!(host.store().exists());
    chains.into_values().collect()
}

impl Stored {
    pub fn base(&self) -> Option<i64> {
        self.files.keys().find_map(|name| {
            let (_, file) = name.rsplit_once('/')?;
            file.strip_prefix("full-")?.strip_suffix(".json")?.parse().ok()
        })
    }

    pub fn with(&self, suffix: &str) -> Vec<&String> {
        self.files.keys().filter(|name| name.ends_with(suffix)).collect()
    }

    /// What its deltas hold beside changes and marks, in words.
    pub fn others(&self, host: &Host) -> Vec<String> {
        let mut others = Vec::new();
        for (name, plain) in self.deltas(host) {
            let ObjectName::Delta(_, span, _) = name else { continue };
            let mut decoder = Decoder::new(&plain, span).unwrap();
            while let Some(record) = decoder.next().unwrap() {
                match record {
                    Record::Lease { id, granted_ttl } => others.push(format!("lease {id} {granted_ttl}")),
                    Record::Checkpoint(hash) => others.push(format!("hash {} {}", hash.revision, hash.hash)),
                    Record::Change(_) | Record::Mark(_) => {}
                }
            }
        }
        others
    }

    /// Its deltas in order, opened.
    fn deltas(&self, host: &Host) -> Vec<(ObjectName, Vec<u8>)> {
        let identities = Identities::parse(&fs::read(host.identity()).unwrap(), "it")
            .ok()
            .unwrap();
        let mut deltas = Vec::new();
        for (text, path) in &self.files {
            let name: ObjectName = text.parse().unwrap();
            let ObjectName::Delta(..) = &name else { continue };
            let bytes = fs::read(path).unwrap();
            let head = Head::read(&name, &bytes).unwrap();
            let body = bytes[usize::try_from(head.body).unwrap()..].to_vec();
            assert_eq!(head.header.stored.unwrap().bytes, body.len() as u64);
            let mut decoded = decode(std::io::Cursor::new(body), Unlock::stored(&identities)).unwrap();
            let (mut plain, mut block) = (Vec::new(), Vec::new());
            while decoded.next_block(&mut block).unwrap() {
                plain.extend_from_slice(&block);
            }
            assert_eq!(head.header.plain.unwrap().bytes, plain.len() as u64);
            deltas.push((name, plain));
        }
        deltas
    }

    /// All changes in its deltas, and the revision that they reach without a hole.
    pub fn changes(&self, host: &Host) -> (Vec<Told>, i64) {
        let mut reached = self.base().expect("a chain begins with a full backup");
        let mut told = Vec::new();
        for (name, plain) in self.deltas(host) {
            let ObjectName::Delta(_, span, _) = &name else { continue };
            assert!(
                span.from().get() <= reached + 1,
                "{name} leaves a hole behind {reached}"
            );
            let mut decoder = Decoder::new(&plain, *span).unwrap();
            while let Some(record) = decoder.next().unwrap() {
                let Record::Change(change) = record else { continue };
                if change.revision.get() <= reached {
                    continue;
                }
                let put = change.put.map(|put| {
                    let (create, value) = (put.create_revision.get(), put.value.to_vec());
                    (create, put.version, put.lease, value)
                });
                told.push((change.revision.get(), change.sub, change.key.to_vec(), put));
            }
            reached = reached.max(span.to().get());
        }
        (told, reached)
    }
}

/// What etcd itself tells of the revisions from `from` to `to`.
pub fn watched(client: &Client, from: i64, to: i64) -> Vec<Told> {
    wait_for(async {
        let options = WatchOptions::new().with_all_keys().with_start_revision(from);
        let mut client = client.raw().watch_client().max_decoding_message_size(1 << 30);
        let mut stream = client.watch("", Some(options)).await.unwrap();
        let mut told: Vec<Told> = Vec::new();
        loop {
            let message = stream.message().await.unwrap().unwrap();
            assert!(!message.canceled(), "{message:?}");
            for event in message.events() {
                let kv = event.kv().unwrap();
                if kv.mod_revision() > to {
                    return told;
                }
                let sub = match told.last() {
                    Some((revision, sub, ..)) if *revision == kv.mod_revision() => sub + 1,
                    _ => 0,
                };
                let put = (event.event_type() == EventType::Put).then(|| {
                    let value = kv.value().to_vec();
                    (kv.create_revision(), kv.version(), kv.lease(), value)
                });
                told.push((kv.mod_revision(), sub, kv.key().to_vec(), put));
            }
            if told.last().is_some_and(|(revision, ..)| *revision >= to) {
                return told;
            }
        }
    })
}

pub fn newest(host: &Host) -> Stored {
    chains(host, &host.store())
        .into_iter()
        .filter(|stored| stored.base().is_some())
        .max_by_key(|stored| stored.chain.clone())
        .expect("there is a backup")
}

/// Waits until the newest chain has come to `revision`.
pub fn until_stored(host: &Host, revision: i64) -> Stored {
    let names = |stored: &Stored| -> i64 {
        let deltas = stored.with(".delta");
        let to = deltas.iter().filter_map(|name| {
            let (_, file) = name.rsplit_once('/')?;
            file.split(['-', '.']).nth(1)?.parse().ok()
        });
        to.max().unwrap_or_else(|| stored.base().unwrap_or(0))
    };
    until(&format!("the deltas to reach {revision}: {}", lane(host)), || {
        let all = chains(host, &host.store());
        all.iter().any(|stored| stored.base().is_some()) && names(&newest(host)) >= revision
    });
    newest(host)
}

/// That the newest chain holds all that etcd knows of behind its full backup.
pub fn prove(host: &Host, client: &Client, revision: i64) -> Stored {
    let stored = until_stored(host, revision);
    let (told, reached) = stored.changes(host);
    let base = stored.base().unwrap();
    assert!(reached >= revision);
    if reached == base {
        return stored;
    }
    let expected = watched(client, base + 1, reached);
    assert_eq!(told.len(), expected.len(), "from {base} to {reached}");
    assert!(told == expected, "the changes from {base} to {reached} differ");
    stored
}

pub fn stop(agent: Running) -> String {
    agent.signal("TERM");
    agent.wait().expect_code(0).stderr
}

fn all_changes_are_captured_through_kills_and_outages(version: Version) {
    let Some(etcd) = Etcd::start(version, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let agent = host.start(["agent"]);
    // There is no backup at all: one is taken.
    until("the first backup", || !chains(&host, &host.store()).is_empty());
    let mut load = Load::new(7);
    load.run(&client, 150);
    prove(&host, &client, client.revision().unwrap());

    // Killed in the middle of it.
    let background = load.in_background(client.clone());
    std::thread::sleep(std::time::Duration::from_millis(1500));
    agent.signal("KILL");
    drop(agent.wait());
    std::thread::sleep(std::time::Duration::from_millis(500));
    let agent = host.start(["agent"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let (load, _) = background.stop();
    let stored = prove(&host, &client, client.revision().unwrap());
    assert_eq!(
        stored
            .with(".json")
            .iter()
            .filter(|name| name.contains("/epochs/"))
            .count(),
        2
    );

    // The destination is away for a while: what comes waits on the disk.
    let away = host.path("away");
    fs::rename(host.store(), &away).unwrap();
    let background = load.in_background(client.clone());
    until("something that waits", || lane(&host)["spool"].as_u64() > Some(0));
    let (mut load, _) = background.stop();
    fs::rename(&away, host.store()).unwrap();
    let stored = prove(&host, &client, client.revision().unwrap());
    assert_eq!(stored.with(".gap").len(), 0);

    // At rest the window's end moves all the same, and nothing waits.
    until("a mark", || !newest(&host).with(".mark").is_empty());
    until("an empty spool", || lane(&host)["spool"] == 0);
    let last = client.revision().unwrap();
    until("its state", || lane(&host)["captured_to"] == last);
    assert_eq!(lane(&host)["capturing"], "writing");

    // What came when it is told to stop is stored.
    load.run(&client, 5);
    let last = client.revision().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    stop(agent);
    let (_, reached) = newest(&host).changes(&host);
    assert_eq!(reached, last);
}

#[test]
fn all_changes_of_3_4_are_captured_through_kills_and_outages() {
    all_changes_are_captured_through_kills_and_outages(Version::V3_4);
}

#[test]
fn all_changes_of_3_5_are_captured_through_kills_and_outages() {
    all_changes_are_captured_through_kills_and_outages(Version::V3_5);
}

#[test]
fn all_changes_of_3_6_are_captured_through_kills_and_outages() {
    all_changes_are_captured_through_kills_and_outages(Version::V3_6);
}

#[test]
fn all_changes_of_3_7_are_captured_through_kills_and_outages() {
    all_changes_are_captured_through_kills_and_outages(Version::V3_7);
}

#[test]
fn what_etcd_compacted_meanwhile_ends_the_chain_and_a_new_one_begins_by_itself() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = etcd.client();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    client.put("first", "x", 0).unwrap();
    let agent = host.start(["agent"]);
    until("the first backup", || !chains(&host, &host.store()).is_empty());
    let mut load = Load::new(11);
    load.run(&client, 20);
    let before = prove(&host, &client, client.revision().unwrap());
    stop(agent);
    load.run(&client, 30);
    client.compact(client.revision().unwrap()).unwrap();
    load.run(&client, 3);
    let agent = host.start(["agent"]);
    until("another backup", || newest(&host).chain != before.chain);
    load.run(&client, 20);
    let after = prove(&host, &client, client.revision().unwrap());
    assert_eq!((before.with(".gap").len(), after.with(".gap").len()), (0, 0));
    let old = chains(&host, &host.store());
    let old = old.iter().find(|stored| stored.chain == before.chain).unwrap();
    let gap = old.with(".gap");
    assert_eq!(gap.len(), 1, "{:?}", old.files.keys());
    let document: Value = serde_json::from_slice(&fs::read(&old.files[gap[0]]).unwrap()).unwrap();
    assert_eq!(document["reason"], "compacted");
    let said = stop(agent);
    assert!(said.contains("has compacted"), "{said}");
}

#[test]
fn what_only_has_the_name_of_captured_changes_is_captured_anew_and_named() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let agent = host.start(["agent"]);
    until("the first backup", || !chains(&host, &host.store()).is_empty());
    let mut load = Load::new(23);
    load.run(&client, 20);
    let before = until_stored(&host, client.revision().unwrap());
    stop(agent);
    let deltas = before.with(".delta");
    let last = &before.files[deltas[deltas.len() - 1]];
    // A power cut of the store's host has torn the last one, and a stranger says that all that follows is there.
    let whole = fs::read(last).unwrap();
    fs::write(last, &whole[..whole.len() - 7]).unwrap();
    let next = client.revision().unwrap() + 1;
    let first = before.base().unwrap() + 1;
    let forged = last.with_file_name(format!("{first:020}-{:020}.00000001.delta", next + 5_000));
    fs::write(&forged, &whole).unwrap();
    load.run(&client, 20);
    let agent = host.start(["agent"]);
    let revision = client.revision().unwrap();
    until("the changes to be captured", || {
        lane(&host)["captured_to"].as_i64() == Some(revision)
    });
    let said = stop(agent);
    assert!(said.contains("counts for nothing"), "{said}");
    assert!(said.contains("(and 1 more)"), "{said}");
    fs::remove_file(&forged).unwrap();
    fs::remove_file(last).unwrap();
    let after = prove(&host, &client, revision);
    assert_eq!((after.with(".gap").len(), after.chain), (0, before.chain));
}

#[test]
fn what_was_written_before_a_backup_that_came_while_no_agent_ran_is_captured_as_well() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = etcd.client();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let mut load = Load::new(17);
    load.run(&client, 20);
    let agent = host.start(["agent"]);
    until("a chain", || {
        !chains(&host, &host.store()).is_empty() && !lane(&host)["epoch"].is_null()
    });
    load.run(&client, 20);
    until_stored(&host, client.revision().unwrap());
    stop(agent);
    load.run(&client, 20);
    host.lifeboat(["backup"]).expect_code(0);
    let base = newest(&host).base().unwrap();
    load.run(&client, 20);
    let agent = host.start(["agent"]);
    prove(&host, &client, client.revision().unwrap());
    stop(agent);
    let all = chains(&host, &host.store());
    let (before, newest) = (&all[0], &all[1]);
    assert_eq!((all.len(), newest.base()), (2, Some(base)));
    let (told, reached) = before.changes(&host);
    assert!(
        reached >= base,
        "the chain before ends at {reached}, and the next one begins at {base}"
    );
    assert!(told == watched(&client, before.base().unwrap() + 1, reached));
    assert!(before.with(".gap").is_empty() && newest.with(".gap").is_empty());
}

#[test]
fn another_cluster_that_answers_while_a_chain_catches_up_with_a_newer_backup_gets_its_full_backup() {
    let Some(mut etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = etcd.client();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let mut load = Load::new(19);
    load.run(&client, 20);
    let agent = host.start(["agent"]);
    until("a chain", || {
        !chains(&host, &host.store()).is_empty() && !lane(&host)["epoch"].is_null()
    });
    load.run(&client, 20);
    until_stored(&host, client.revision().unwrap());
    stop(agent);
    load.run(&client, 20);
    host.lifeboat(["backup"]).expect_code(0);
    // As a restore by hand does it, while no agent runs.
    etcd.stop();
    fs::remove_dir_all(&etcd.members[0].data_dir).unwrap();
    "another".clone_into(&mut etcd.token);
    etcd.boot();
    etcd.client().put("/other", "x", 0).unwrap();
    let agent = host.start(["agent"]);
    until("a full backup of the other cluster", || {
        chains(&host, &host.store()).len() == 3
    });
    let said = stop(agent);
    assert!(said.matches("end before revision").count() <= 2, "{said}");
}

#[test]
fn capture_goes_over_to_a_newer_backup_and_begins_and_ends_with_its_configuration() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    let often = "[schedules.often]\nkind = \"full\"\nevery = \"4s\"\njitter = \"0s\"\n";
    host.configure(&etcd, &format!("{often}{DELTAS}"));
    let agent = host.start(["agent"]);
    let mut load = Load::new(13);
    let mut seen = BTreeSet::new();
    until("deltas behind three backups", || {
        load.step(&client).unwrap();
        let all = chains(&host, &host.store());
        seen.extend(
            all.iter()
                .filter(|stored| !stored.with(".delta").is_empty())
                .map(|stored| stored.chain.clone()),
        );
        seen.len() >= 3
    });
    host.reconfigure("every = \"4s\"", "every = \"24h\"");
    agent.signal("HUP");
    load.run(&client, 20);
    std::thread::sleep(std::time::Duration::from_secs(3));
    prove(&host, &client, client.revision().unwrap());
    host.reconfigure("enabled = true", "enabled = false");
    agent.signal("HUP");
    until("its end", || lane(&host).is_null());
    stop(agent);
    assert!(newest(&host).files.keys().all(|name| {
        let name: ObjectName = name.parse().unwrap();
        !matches!(name, ObjectName::Gap(..)) && !matches!(name, ObjectName::Epoch(_, Epoch(0)))
    }));
}

#[test]
fn of_hosts_that_share_a_store_one_writes_and_another_takes_over_when_it_dies() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let (host, other) = (Host::new(&etcd), Host::new(&etcd));
    let shared = format!("shared = true\n{DELTAS}");
    host.configure(&etcd, &format!("{shared}[host]\nmember = \"m1\"\n"));
    other.configure(&etcd, &shared);
    other.reconfigure(other.recipient(), host.recipient());
    other.reconfigure(
        &other.store().display().to_string(),
        &host.store().display().to_string(),
    );
    other.has_written_before();
    let agent = host.start(["agent"]);
    until("the first backup", || !chains(&host, &host.store()).is_empty());
    let mut load = Load::new(17);
    load.run(&client, 20);
    prove(&host, &client, client.revision().unwrap());
    let stands_by = other.start(["agent"]);
    until("the other to stand by", || lane(&other)["capturing"] == "standing_by");
    let background = load.in_background(client.clone());
    until("more of it", || newest(&host).with(".delta").len() > 3);
    assert_eq!(lane(&other)["capturing"], "standing_by");
    agent.signal("KILL");
    drop(agent.wait());
    let died = std::time::Instant::now();
    let epochs = || {
        let stored = newest(&host);
        stored
            .with(".json")
            .iter()
            .filter(|name| name.contains("/epochs/"))
            .count()
    };
    until("the other to take over", || epochs() == 2);
    let after = died.elapsed();
    assert!(
        after < std::time::Duration::from_secs(10),
        "it took over after {after:?}"
    );
    // Whoever comes back stands by.
    let agent = host.start(["agent"]);
    until("the first to stand by", || lane(&host)["capturing"] == "standing_by");
    let (_, _) = background.stop();
    let stored = prove(&host, &client, client.revision().unwrap());
    assert_eq!((epochs(), stored.with(".gap").len()), (2, 0));
    stop(agent);
    stop(stands_by);
}

#[test]
fn that_nobody_answers_is_told_from_the_one_that_is_meant_being_away() {
    let three = Options {
        members: 3,
        ..Options::default()
    };
    let Some(mut etcd) = Etcd::start(Version::V3_6, three) else {
        return;
    };
    etcd.client().put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    host.configure(&etcd, &format!("{DELTAS}[backup]\nmember = \"m3\"\n"));
    let agent = host.start(["agent"]);
    until("that it captures", || lane(&host)["capturing"] == "writing");
    etcd.kill(2);
    until("that the one that is meant is away", || {
        lane(&host)["trouble"]
            .to_string()
            .contains("no member can be asked: m3")
    });
    assert_eq!(lane(&host)["nobody_answers"], false, "{}", lane(&host));
    etcd.kill(0);
    etcd.kill(1);
    until("that nobody answers", || lane(&host)["nobody_answers"] == true);
    etcd.boot();
    until("that it goes on", || {
        lane(&host)["nobody_answers"] == false && lane(&host)["trouble"].is_null()
    });
    stop(agent);
}

#[test]
fn changed_users_have_a_full_backup_taken_and_leases_and_hashes_are_kept() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let agent = host.start(["agent"]);
    until("the first backup", || !chains(&host, &host.store()).is_empty());
    until("that it captures", || lane(&host)["capturing"] == "writing");
    client.grant(77, 4321).unwrap();
    client.put("leased", "x", 77).unwrap();
    let stored = until_stored(&host, client.revision().unwrap());
    let records = stored.others(&host);
    assert!(records.contains(&"lease 77 4321".to_owned()), "{records:?}");
    // The first hash comes after some seconds, with what is written then.
    let begun = std::time::Instant::now();
    wait_for(client.raw().auth_client().user_add("somebody", "x", None)).unwrap();
    let long = std::time::Duration::from_secs(100);
    let (mut has_hash, mut goes_over) = (false, false);
    while !(has_hash && goes_over) {
        assert!(begun.elapsed() < long, "hash {has_hash}, backup {goes_over}");
        client.put("tick", "x", 0).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        goes_over = chains(&host, &host.store()).len() > 1;
        let all = chains(&host, &host.store());
        has_hash = all
            .iter()
            .filter(|stored| stored.base().is_some())
            .any(|stored| stored.others(&host).iter().any(|record| record.starts_with("hash ")));
    }
    assert_eq!(newest(&host).with(".gap").len(), 0);
    prove(&host, &client, client.revision().unwrap());
    stop(agent);
}

#[test]
fn a_destination_that_gets_the_backup_late_has_all_that_follows_it() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    let Some(clock) = Shifted::new(&host.path("shim")) else {
        return;
    };
    host.configure(&etcd, DELTAS);
    let far = host.add_destination("far");
    host.lifeboat(["backup", "--to", "local"]).expect_code(0);
    // As if it were an hour old.
    let mut agent = host.command(["agent"]);
    clock.ahead_by(&mut agent, 3600);
    let agent = Running::start(agent);
    let mut load = Load::new(19);
    load.run(&client, 20);
    prove(&host, &client, client.revision().unwrap());
    // What came meanwhile waits; nothing of it is anywhere but there.
    until("what waits", || lane(&host)["spool"].as_u64() > Some(0));
    host.lifeboat(["copy", "--from", "local", "--to", "far"]).expect_code(0);
    load.run(&client, 20);
    let last = client.revision().unwrap();
    let stored = prove(&host, &client, last);
    let there = || {
        let mut all = chains(&host, &far).into_iter();
        all.find(|there| there.chain == stored.chain && there.base().is_some())
    };
    until("all of it in the other destination", || {
        there().is_some_and(|there| there.changes(&host).1 >= last)
    });
    until("an empty spool", || lane(&host)["spool"] == 0);
    stop(agent);
}

#[test]
fn what_changed_while_no_agent_ran_and_no_watch_shows_has_a_full_backup_taken() {
    let Some(mut etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let kept = host.path("state").join(CLUSTER).join("deltas/own/beside.json");
    let agent = host.start(["agent"]);
    until("what is kept of users and members", || kept.exists());
    stop(agent);
    assert_eq!(chains(&host, &host.store()).len(), 1);

    wait_for(client.raw().auth_client().user_add("somebody", "x", None)).unwrap();
    let agent = host.start(["agent"]);
    until("a backup with the user", || chains(&host, &host.store()).len() == 2);
    until("that it goes over", || {
        lane(&host)["chain"] == newest(&host).chain.as_str()
    });
    let said = stop(agent);
    assert!(said.contains("users, roles or passwords changed"), "{said}");

    // Nothing but an alarm, which no backup is taken for.
    let alarm = |action| {
        let mut raw = client.raw();
        wait_for(raw.alarm(action, AlarmType::Nospace, None)).unwrap();
    };
    alarm(AlarmAction::Activate);
    let agent = host.start(["agent"]);
    until("that it captures", || lane(&host)["capturing"] == "writing");
    let marks = || newest(&host).with(".mark").len();
    let before = marks();
    until("a mark", || marks() > before);
    let said = stop(agent);
    assert!(said.contains("etcd has raised alarm NOSPACE"), "{said}");
    alarm(AlarmAction::Deactivate);
    assert_eq!(chains(&host, &host.store()).len(), 2);

    etcd.add_learner();
    let agent = host.start(["agent"]);
    until("a backup with the member", || chains(&host, &host.store()).len() == 3);
    let said = stop(agent);
    assert!(
        said.contains("members changed, which only a full backup holds"),
        "{said}"
    );
}

#[test]
fn an_etcd_that_is_away_is_told_once_and_so_is_its_return() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let agent = host.start(["agent"]);
    until("that it captures", || lane(&host)["capturing"] == "writing");
    let mut load = Load::new(23);
    load.run(&client, 20);
    prove(&host, &client, client.revision().unwrap());
    // At rest for a while: it was heard to the end all the same, and counts as late from then on.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let heard = Timestamp::now();
    etcd.stop();
    until("that nobody answers", || {
        let lane = lane(&host);
        lane["nobody_answers"] == true
            && lane["trouble"]
                .as_str()
                .is_some_and(|why| why.contains("no member can be asked"))
    });
    let at = lane(&host)["heard_at"].as_str().map(str::parse::<Timestamp>);
    let before = heard.duration_since(at.unwrap().unwrap());
    assert!(
        before.as_secs() <= 1,
        "it was heard until {before} before it was stopped"
    );
    // Long enough to be tried again more than once.
    std::thread::sleep(std::time::Duration::from_secs(4));
    etcd.boot();
    let client = etcd.client();
    load.run(&client, 20);
    until("that it goes on", || {
        let lane = lane(&host);
        lane["capturing"] == "writing" && lane["trouble"].is_null()
    });
    prove(&host, &client, client.revision().unwrap());
    let said = stop(agent);
    let times = |words: &str| said.matches(words).count();
    assert_eq!(times("etcd is not heard: no member can be asked: m1: "), 1, "{said}");
    assert_eq!(times("etcd is heard again after "), 1, "{said}");
    assert_eq!(times(", and nothing is lost"), 1, "{said}");
    assert_eq!(times("h2 ") + times("does not go on"), 0, "{said}");
}
