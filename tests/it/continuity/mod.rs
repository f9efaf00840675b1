//! Deltas under everything that goes wrong: an agent captures a cluster on which random operations go on, while members are
//! killed, the agent is killed, destinations go away and history is compacted. Then the state at random revisions, rebuilt
//! from a destination, is compared with what an independent recorder wrote down, and with HashKV as members reported it.
//!
//! A short life of each line is in every run; `make continuity MINUTES=60 SEED=1` is as long as one likes.

mod recorder;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_client::{Txn, TxnOp};
use lifeboat::bbolt;
use lifeboat::keyspace::{Agreement, EntryKind, Inspection, KeyValue, LiveKeys, RevisionKey, replayed};
use lifeboat::model::Revision;

use super::support::client::{Client, HashKv};
use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::load::Load;
use super::support::random::Random;
use super::support::running::{Running, until};
use super::support::tools::Version;
use recorder::{Change, Put, Recorder, Written};

const DIGEST_BYTES: usize = 32;

/// What was done and compared.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    revisions: usize,
    agents_killed: u64,
    members_killed: u64,
    outages: u64,
    compactions: u64,
    points: u64,
    changes_compared: u64,
    hashes_equal: u64,
}

#[test]
fn a_cluster_of_3_4_is_captured_without_a_hole() {
    live(Version::V3_4, 1, 1, Duration::from_secs(12));
}

#[test]
fn a_cluster_of_3_5_is_captured_without_a_hole() {
    live(Version::V3_5, 1, 2, Duration::from_secs(12));
}

#[test]
fn a_cluster_of_3_6_is_captured_without_a_hole() {
    live(Version::V3_6, 3, 3, Duration::from_secs(25));
}

#[test]
fn a_cluster_of_3_7_is_captured_without_a_hole() {
    live(Version::V3_7, 1, 4, Duration::from_secs(12));
}

#[test]
#[ignore = "takes as long as it is told to: make continuity"]
fn as_long_a_life_as_is_asked_for_is_captured_without_a_hole() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("LIFEBOAT_SEED").unwrap_or(1);
    let minutes = number("LIFEBOAT_MINUTES").unwrap_or(5);
    for (index, version) in Version::ALL.into_iter().enumerate() {
        let each = Duration::from_secs(minutes * 60) / 4;
        let counts = live(version, 3, seed + index as u64, each).expect("it needs every server");
        eprintln!("{}: {counts:?}", version.number());
    }
}

/// One life of a cluster of so many members. `None` where it cannot run here.
fn live(version: Version, members: usize, seed: u64, long: Duration) -> Option<Counts> {
    let options = Options {
        members,
        flags: vec!["--unsafe-no-fsync".to_owned()],
        ..Options::default()
    };
    let mut etcd = Etcd::start(version, options)?;
    let client = etcd.client();
    let mut load = Load::new(seed);
    load.run(&client, 50);
    let host = Host::new(&etcd);
    let more = "[schedules.full]\nkind = \"full\"\nevery = \"24h\"\n[deltas]\nenabled = true\nevery = \"1s\"\n";
    host.configure(&etcd, more);
    let mut life = Life {
        random: Random::new(seed),
        counts: Counts::default(),
        agent: Some(host.start(["agent"])),
    };
    let clients: Vec<Client> = (0..members).map(|index| etcd.client_of(index)).collect();
    let from = client.revision().expect("it runs") + 1;
    let recorder = Recorder::begin(clients, from);
    until("the first full is there", || !backups(&host).is_empty());

    let stop = Arc::new(AtomicBool::new(false));
    let working = {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        thread::spawn(move || work(&mut load, &client, &stop))
    };
    let begun = Instant::now();
    while begun.elapsed() < long {
        life.disturb(&mut etcd, &host, &client);
    }
    stop.store(true, Ordering::Relaxed);
    working.join().expect("the load goes on");
    life.back_to_work(&host);
    // The client may have been connected to a member that was killed.
    let mut last = 0;
    until("all members serve again", || {
        client.revision().is_ok_and(|revision| {
            last = revision;
            true
        })
    });
    until("the recorder has all", || recorder.last() >= last);
    until("the destination has all", || tip(&host) >= last);
    let (written, hashes) = recorder.end();
    life.counts.revisions = written.len();
    life.compare(&host, &written, &hashes);
    if let Some(agent) = life.agent.take() {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
    Some(life.counts)
}

/// Operations, whatever becomes of each: a member may just have been killed.
fn work(load: &mut Load, client: &Client, stop: &AtomicBool) {
    let mut turn = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        load.step(client).ok();
        if turn.is_multiple_of(200) {
            let puts = (0..128).map(|number| TxnOp::put(format!("/many/{number:03}"), turn.to_string(), None));
            client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).ok();
        }
        if turn.is_multiple_of(500) {
            client.put("/large", vec![turn as u8; 1 << 20], 0).ok();
        }
        thread::sleep(Duration::from_millis(1));
    }
}

struct Life {
    random: Random,
    counts: Counts,
    agent: Option<Running>,
}

impl Life {
    fn disturb(&mut self, etcd: &mut Etcd, host: &Host, client: &Client) {
        match self.random.below(5) {
            0 => {
                if let Some(agent) = self.agent.take() {
                    agent.signal("KILL");
                    agent.wait();
                    self.counts.agents_killed += 1;
                }
                self.pause(2_000);
                self.agent = Some(host.start(["agent"]));
                self.pause(2_000);
            }
            1 if etcd.members.len() > 1 => {
                let leader = client.leader().unwrap_or(0);
                let index = (self.random.next() ^ leader) % etcd.members.len() as u64;
                etcd.kill(usize::try_from(index).unwrap());
                self.counts.members_killed += 1;
                self.pause(2_000);
                etcd.boot();
            }
            2 => {
                // What a mount that is away looks like.
                let (store, aside) = (host.store(), host.path("aside"));
                fs::rename(&store, &aside).unwrap();
                self.counts.outages += 1;
                self.pause(3_000);
                fs::rename(&aside, &store).unwrap();
            }
            3 => {
                let revision = client.revision().unwrap_or(0);
                // What is captured within ten seconds is not yet given up.
                if revision > 2_000 && client.compact(revision - 1_500).is_ok() {
                    self.counts.compactions += 1;
                }
                self.pause(1_000);
            }
            _ => self.pause(2_000),
        }
    }

    fn pause(&mut self, most_ms: u64) {
        thread::sleep(Duration::from_millis(200 + self.random.below(most_ms)));
    }

    fn back_to_work(&mut self, host: &Host) {
        if self.agent.as_ref().is_none_or(Running::has_ended) {
            self.agent = Some(host.start(["agent"]));
        }
    }

    /// The states at some revisions against what was written down.
    fn compare(&mut self, host: &Host, written: &Written, hashes: &[HashKv]) {
        let listed = host.lifeboat(["--json", "list"]).expect_code(0).json();
        let windows = listed["windows"].as_array().expect("it is a list");
        let (mut points, long_enough) = (Vec::new(), 12);
        for window in windows {
            let (from, to) = (
                window["from_revision"].as_i64().unwrap(),
                window["to_revision"].as_i64().unwrap(),
            );
            let chain = window["chain"].as_str().unwrap();
            points.push((chain, from, to));
            for _ in 0..long_enough {
                let span = u64::try_from(to - from).unwrap();
                points.push((chain, from, from + i64::try_from(self.random.below(span + 1)).unwrap()));
            }
        }
        // Every hash that was reported of a revision in a window is proven at its own revision, and some of them are points.
        for hash in hashes.iter().rev().take(6) {
            for window in windows {
                let (from, to) = (
                    window["from_revision"].as_i64().unwrap(),
                    window["to_revision"].as_i64().unwrap(),
                );
                if (from..=to).contains(&hash.revision) {
                    points.push((window["chain"].as_str().unwrap(), from, hash.revision));
                }
            }
        }
        let file = host.path("point.db");
        for (chain, from, at) in points {
            let source = format!("{chain}:{at}");
            let identity = host.identity();
            let args = [
                "export",
                "--identity",
                identity.to_str().unwrap(),
                &source,
                file.to_str().unwrap(),
            ];
            host.lifeboat(args).expect_code(0);
            self.judge(&file, from, at, written, hashes);
            fs::remove_file(&file).unwrap();
        }
        assert!(self.counts.hashes_equal > 0, "no hash was compared");
    }

    fn judge(&mut self, file: &Path, from: i64, at: i64, written: &Written, hashes: &[HashKv]) {
        let bytes = fs::read(file).unwrap();
        let database = &bytes[..bytes.len() - DIGEST_BYTES];
        let file = bbolt::File::open(database).expect("it is a database");
        let walk = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}).expect("it can be read");
        assert_eq!(walk.fault_count(), 0, "{:?}", walk.faults().collect::<Vec<_>>());
        assert_eq!(walk.summary.revision().get(), at, "the revision of the file");
        let mut found = Written::new();
        for entry in file.bucket(b"key").unwrap().expect("it is there").iter() {
            let (key, value) = entry.unwrap();
            let key = RevisionKey::decode(key).unwrap();
            let (revision, record) = (key.main().get(), KeyValue::decode(value).unwrap());
            if revision <= from || !written.contains_key(&revision) {
                assert!(revision <= from, "nobody wrote revision {revision}");
                continue;
            }
            let changes = found.entry(revision).or_default();
            assert_eq!(changes.len() as i64, key.sub(), "the order in revision {revision}");
            let is_put = key.kind() == EntryKind::Put;
            changes.push(Change {
                key: record.key.to_vec(),
                put: is_put.then(|| Put {
                    create_revision: record.create_revision,
                    version: record.version,
                    lease: record.lease,
                    value: record.value.to_vec(),
                }),
            });
        }
        let expected: Written = written.range(from + 1..=at).map(|(r, c)| (*r, c.clone())).collect();
        let differs = expected
            .iter()
            .find(|(revision, changes)| found.get(revision) != Some(changes));
        assert!(
            differs.is_none() && found.len() == expected.len(),
            "{differs:?} of {at}"
        );
        self.counts.points += 1;
        self.counts.changes_compared += found.values().map(Vec::len).sum::<usize>() as u64;
        for hash in hashes.iter().filter(|hash| hash.revision == at) {
            let revision = Revision::new(hash.revision).unwrap();
            let told = replayed(
                &file,
                LiveKeys::Counted,
                Some(revision),
                &[hash.compact_revision],
                |error| panic!("{error}"),
            );
            let agreement = told.unwrap().hashes[0].compared_with(hash.hash);
            assert_ne!(agreement, Agreement::Different, "{hash:?}");
            self.counts.hashes_equal += u64::from(agreement == Agreement::Equal);
        }
    }
}

fn backups(host: &Host) -> Vec<serde_json::Value> {
    let listed = host.lifeboat(["--json", "list"]).json();
    listed["backups"].as_array().cloned().unwrap_or_default()
}

/// The last revision that can be restored.
fn tip(host: &Host) -> i64 {
    let listed = host.lifeboat(["--json", "list"]).json();
    let windows = listed["windows"].as_array().cloned().unwrap_or_default();
    windows
        .iter()
        .filter_map(|window| window["to_revision"].as_i64())
        .max()
        .unwrap_or(0)
}
