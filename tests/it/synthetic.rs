//! Full backups that are made of a full one and its deltas: what is in them is what etcd had, and etcd is not asked.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::json::Page;
use super::support::client::{Client, HashKv};
use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, Output, copy_tree, files_below};
use super::support::killing::Killing;
use super::support::load::Load;
use super::support::running::{Running, until};
use super::support::tools::Version;

pub(super) const DELTAS: &str = "[deltas]\nenabled = true\nevery = \"1s\"\nmark_every = \"2s\"\n";

/// A host whose agent captures, and the etcd that it does so of.
pub(super) struct Captured {
    pub host: Host,
    pub etcd: Etcd,
    agent: Option<Running>,
}

fn window_to(host: &Host, chain: Option<&str>) -> Option<i64> {
    let listed = host.lifeboat(["--json", "list"]).json();
    let windows = listed["windows"].as_array()?.iter();
    let of_chain = windows.filter(|window| chain.is_none_or(|chain| window["chain"] == chain));
    of_chain.filter_map(|window| window["to_revision"].as_i64()).max()
}

impl Captured {
    pub fn start(version: Version, more: &str) -> Option<Captured> {
        let etcd = Etcd::start(version, Options::default())?;
        let client = etcd.client();
        client.put("/before", "1", 0).unwrap();
        let host = Host::new(&etcd);
        host.configure(&etcd, more);
        let agent = Some(host.start(["agent"]));
        until("the first backup", || window_to(&host, None).is_some());
        Some(Captured { host, etcd, agent })
    }

    /// Waits until all that etcd has is stored; the last revision.
    pub fn until_stored(&self) -> i64 {
        let last = self.etcd.client().revision().unwrap();
        until(&format!("the deltas to reach {last}"), || {
            window_to(&self.host, None) >= Some(last)
        });
        last
    }

    pub fn stop_agent(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.signal("TERM");
        drop(agent.wait());
    }

    fn make(&self, more: &[&str]) -> Output {
        let identity = self.host.identity().display().to_string();
        let args = ["--json", "backup", "--synthetic", "--identity", &identity];
        self.host.lifeboat([&args[..], more].concat())
    }

    fn deltas(&self) -> Vec<PathBuf> {
        let store = self.host.store();
        let files = files_below(&store).into_iter();
        let deltas = files.filter(|file| file.extension().is_some_and(|end| end == "delta" || end == "pack"));
        deltas.map(|file| store.join(file)).collect()
    }
}

/// That a backup is what etcd had: by what lifeboat says of it, and by a member that serves it.
#[track_caller]
fn serves(host: &Host, version: Version, id: &str, then: HashKv, from: &Everything) {
    let mut target = Etcd::plan(version, Options::default()).unwrap();
    let args = host.rebuild_args(id, &target, 0);
    let rebuilt = host.lifeboat(args.iter().map(String::as_str).chain(["--json"]));
    let rebuilt = rebuilt.expect_code(0).json();
    assert_eq!(rebuilt["revision"], then.revision, "{rebuilt}");
    target.boot();
    assert_eq!(target.hash_kv_of_each(0), [then]);
    let client = target.client();
    assert_eq!(&Everything::of(&client), from);
}

#[derive(Debug, PartialEq)]
pub(super) struct Everything {
    keys: String,
    leases: BTreeSet<i64>,
    ttl: i64,
}

pub(super) const LEASE: i64 = 0x11fe;

impl Everything {
    pub fn of(client: &Client) -> Everything {
        let all = client.get_all().unwrap();
        // Those without a key may have run out meanwhile.
        let held = all.values().map(|entry| entry.lease).filter(|lease| *lease != 0);
        let held: BTreeSet<i64> = held.collect();
        let leases = client.leases().unwrap().into_iter();
        Everything {
            leases: leases.filter(|lease| held.contains(lease)).collect(),
            ttl: client.granted_ttl(LEASE).unwrap(),
            keys: format!("{all:?}"),
        }
    }
}

#[test]
fn one_is_made_without_etcd_and_holds_what_etcd_had() {
    let version = Version::V3_6;
    let Some(mut captured) = Captured::start(version, DELTAS) else {
        return;
    };
    let client = captured.etcd.client();
    let base = window_to(&captured.host, None);
    client.grant(LEASE, 7_000).unwrap();
    client.put("/leased", "1", LEASE).unwrap();
    let mut load = Load::new(31);
    load.run(&client, 120);
    let last = captured.until_stored();
    assert!(base < Some(last));
    let (then, everything) = (client.hash_kv(last).unwrap(), Everything::of(&client));
    captured.stop_agent();
    captured.etcd.stop();

    let host = &captured.host;
    let before = host.lifeboat(["--json", "list"]).json();
    let full = before["latest"].as_str().unwrap().to_owned();
    host.lifeboat(["backup", "--synthetic"]).expect_code(8);
    host.lifeboat(["backup", "--synthetic", "--member", "m1"])
        .expect_code(2);
    let other = host.path("other-key.txt").display().to_string();
    host.lifeboat(["keygen", "--identity", &other]).expect_code(0);
    host.lifeboat(["backup", "--synthetic", "--identity", &other])
        .expect_code(8);
    host.lifeboat(["backup", "--identity", &other]).expect_code(2);
    let made = captured
        .make(&["--pin", "--note", "before the move"])
        .expect_code(0)
        .json();
    let (page, mut seen) = (Page::read(), BTreeSet::new());
    page.check("backup", &made, &mut seen);
    assert!(seen.contains("synthetic.base_revision"), "{seen:?}");
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(made["revision"], last, "{made}");
    assert_eq!(made["synthetic"]["chain"], full.as_str());
    assert_eq!(made["synthetic"]["base_revision"], base.unwrap());
    assert_eq!(made["synthetic"]["hash_kv"]["hash"], then.hash, "{made}");
    let manifest = host.manifest(&id);
    assert_eq!(manifest["origin"], "synthetic");
    assert_eq!(manifest["proof"], made["proof"]);
    // How far it is proven is told by what members have reported, and by nothing else.
    let is_reported = !manifest["hash_kv"].is_null();
    assert_eq!(manifest["proof"] == "hash_kv", is_reported, "{manifest}");
    assert_eq!(manifest["hash_kv_reason"].is_null(), is_reported, "{manifest}");
    let listed = host.lifeboat(["--json", "list"]).json();
    assert_eq!(listed["latest"], id.as_str());
    let backups = listed["backups"].as_array().unwrap();
    let is_it = |backup: &&Value| backup["id"] == id.as_str();
    assert_eq!(backups.iter().find(is_it).unwrap()["pinned"], true);
    assert_eq!(backups[0]["lineage"], backups[1]["lineage"]);
    let identity = host.identity().display().to_string();
    host.lifeboat(["verify", &id, "--identity", &identity]).expect_code(0);
    host.lifeboat(["show", &id]).expect_code(0);
    serves(host, version, &id, then, &everything);

    // Nothing more has come: one is enough.
    let files = files_below(&host.store());
    captured.make(&[]).expect_code(4).says(&["nothing follows backup"]);
    assert_eq!(files_below(&host.store()), files);

    // Capture goes on behind it, and from there the next one is made.
    captured.etcd.boot();
    captured.agent = Some(captured.host.start(["agent"]));
    let client = captured.etcd.client();
    load.run(&client, 60);
    let next = captured.until_stored();
    assert_eq!(window_to(&captured.host, Some(&id)), Some(next), "its chain goes on");
    let middle = client.hash_kv(last + 7).unwrap();
    let (then, everything) = (client.hash_kv(next).unwrap(), Everything::of(&client));
    let at = format!("{id}:{}", middle.revision);
    let target = Etcd::plan(version, Options::default()).unwrap();
    let args = captured.host.rebuild_args(&at, &target, 0);
    let rebuilt = captured
        .host
        .lifeboat(args.iter().map(String::as_str).chain(["--json"]));
    assert_eq!(rebuilt.expect_code(0).json()["hash_kv"]["hash"], middle.hash);
    captured.stop_agent();
    let folder = captured.host.path("work");
    fs::create_dir(&folder).unwrap();
    let made = captured
        .make(&["--work-dir", folder.to_str().unwrap()])
        .expect_code(0)
        .json();
    assert_eq!(made["synthetic"]["chain"], id.as_str());
    assert_eq!(files_below(&folder), [""; 0].map(PathBuf::from));
    serves(&captured.host, version, made["id"].as_str().unwrap(), then, &everything);
}

#[test]
fn of_deltas_that_are_broken_none_is_made_and_the_last_good_revision_is_named() {
    let Some(mut captured) = Captured::start(Version::V3_5, DELTAS) else {
        return;
    };
    let client = captured.etcd.client();
    let mut load = Load::new(32);
    for _ in 0..3 {
        load.run(&client, 20);
        captured.until_stored();
    }
    captured.stop_agent();
    let deltas = captured.deltas();
    let last = deltas.iter().max().unwrap();
    let mut bytes = fs::read(last).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    fs::write(last, bytes).unwrap();
    let good: i64 = last.file_name().unwrap().to_str().unwrap()[..20]
        .parse::<i64>()
        .unwrap()
        - 1;
    let files = files_below(&captured.host.store());
    let said = captured.make(&[]).expect_code(5);
    said.says(&[
        &format!("revision {good} is the last that can be had"),
        "lifeboat backup",
    ]);
    assert_eq!(files_below(&captured.host.store()), files);
    assert_eq!(
        files_below(&captured.host.path("state").join(CLUSTER).join("chains")),
        [""; 0].map(PathBuf::from)
    );
    // Where it is gone altogether the window ends before it, and so does what is made.
    fs::remove_file(last).unwrap();
    assert_eq!(captured.make(&[]).expect_code(0).json()["revision"], good);
}

#[test]
fn killed_at_any_step_it_leaves_nothing_that_is_taken_for_a_backup_and_can_be_made_again() {
    let Some(mut captured) = Captured::start(Version::V3_5, DELTAS) else {
        return;
    };
    let client = captured.etcd.client();
    Load::new(33).run(&client, 20);
    let last = captured.until_stored();
    captured.stop_agent();
    let host = &captured.host;
    let Some(killing) = Killing::new(&host.path("killing")) else {
        return;
    };
    let folders = ["state", "store"];
    let before = host.path("before");
    folders
        .iter()
        .for_each(|folder| copy_tree(&host.path(folder), &before.join(folder)));
    let (identity, work) = (host.identity().display().to_string(), host.path("work"));
    fs::create_dir(&work).unwrap();
    let args = ["--json", "backup", "--synthetic", "--identity", &identity];
    let args = [&args[..], &["--work-dir", work.to_str().unwrap()]].concat();
    let backups = || {
        host.lifeboat(["--json", "list"]).json()["backups"]
            .as_array()
            .unwrap()
            .len()
    };
    let at_first = backups();
    for step in 1.. {
        for folder in folders {
            fs::remove_dir_all(host.path(folder)).unwrap();
            copy_tree(&before.join(folder), &host.path(folder));
        }
        let mut command = host.command(&args);
        killing.at(&mut command, step);
        if command.output().unwrap().status.success() {
            assert!(step > 8, "only {step} steps were seen");
            return;
        }
        let made = match backups() - at_first {
            // It was one already, and all of it is there.
            1 => host
                .lifeboat(["verify", "latest", "--identity", &identity])
                .expect_code(0),
            count => {
                assert_eq!(count, 0, "step {step}");
                let made = host.lifeboat(&args).expect_code(0);
                assert_eq!(made.json()["revision"], last);
                made
            }
        };
        drop(made);
        let listed = host.lifeboat(["--json", "list", "--all"]).json();
        assert_eq!(listed["backups"].as_array().unwrap().len(), at_first + 1, "step {step}");
        for left in ["foreign", "damaged", "incomplete"] {
            assert_eq!(listed[left], serde_json::json!([]), "step {step}");
        }
        // No more than an empty file, where it died between the making of it and the removal of its name.
        let left = files_below(&work)
            .into_iter()
            .map(|file| fs::metadata(work.join(file)).unwrap().len());
        assert_eq!(left.sum::<u64>(), 0, "step {step}");
    }
}
