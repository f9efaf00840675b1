//! Random histories on real servers: the model, a server, the library over a snapshot as a file and as it streams past agree
//! on HashKV at random revisions.
//!
//! Snapshots are taken at rest, while operations go on, and while a compaction is half done. Some dozen histories are in
//! every run; `make soak HISTORIES=10000 SEED=1` does as many as one likes. A history that fails names its seed.

mod history;
mod model;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lifeboat::bbolt::{self, Scan, Scanner};
use lifeboat::keyspace::{Agreement, CompactionMarks, Inspection, LiveKeys, META_KEYS, Meta, PassingLog};
use lifeboat::model::Revision;

use super::support::client::wait_for;
use super::support::etcd::{Etcd, Options};
use super::support::random::Random;
use super::support::tools::Version;
use history::Operation;
use model::Model;

/// How many histories one server sees, one after the other.
const HISTORIES_OF_A_SERVER: u64 = 100;
const DIGEST_BYTES: usize = 32;

/// What was done and compared.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    histories: u64,
    operations: u64,
    compactions: u64,
    snapshots: u64,
    /// Of those, with operations going on.
    under_load: u64,
    /// Of those, with a compaction that had begun and not ended.
    half_compacted: u64,
    /// HashKV of a server equal to the model's.
    by_server: u64,
    /// HashKV of the library, over a file, equal to the model's.
    by_file: u64,
    /// HashKV of the library, in flight, equal to the model's.
    in_flight: u64,
    /// Not decided: no key lived, and a compaction was running.
    undecided: u64,
}

#[test]
fn random_histories_of_3_4_agree_everywhere() {
    soak(Version::V3_4, 1, 6);
}

#[test]
fn random_histories_of_3_5_agree_everywhere() {
    soak(Version::V3_5, 2, 6);
}

#[test]
fn random_histories_of_3_6_agree_everywhere() {
    soak(Version::V3_6, 3, 6);
}

#[test]
fn random_histories_of_3_7_agree_everywhere() {
    soak(Version::V3_7, 4, 6);
}

#[test]
#[ignore = "takes as long as it is told to: make soak"]
fn as_many_histories_as_are_asked_for_agree_everywhere() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("LIFEBOAT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let histories = number("LIFEBOAT_HISTORIES").unwrap_or(400);
    let begun = Instant::now();
    let mut all = Counts::default();
    let mut server = 0;
    while all.histories < histories {
        let version = Version::ALL[server % Version::ALL.len()];
        let seed = seed + server as u64;
        let counts = soak(version, seed, HISTORIES_OF_A_SERVER.min(histories - all.histories));
        let counts = counts.expect("a soak needs every server");
        all.add(counts);
        let seconds = begun.elapsed().as_secs();
        eprintln!("{} seed {seed}, {seconds} s in all: {all:?}", version.number());
        server += 1;
    }
}

/// So many histories on one server. `None` where it cannot run here.
fn soak(version: Version, seed: u64, histories: u64) -> Option<Counts> {
    // A compaction takes a step for each few revisions, and rests in between.
    let batch = match version {
        Version::V3_4 | Version::V3_5 => "--experimental-compaction-batch-limit=4",
        Version::V3_6 | Version::V3_7 => "--compaction-batch-limit=4",
    };
    let options = Options {
        flags: ["--unsafe-no-fsync", "--snapshot-count=500", batch]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    };
    let etcd = Etcd::start(version, options)?;
    let mut life = Life {
        etcd,
        random: Random::new(seed),
        looks: Random::new(!seed),
        model: Model::default(),
        finished: true,
        counts: Counts::default(),
    };
    for history in 0..histories {
        let what = format!("history {history} of seed {seed} on {}", version.number());
        let told = thread::Builder::new().name(what.clone());
        let done = thread::scope(|scope| {
            let life = &mut life;
            told.spawn_scoped(scope, || life.history())
                .expect("a thread can be started")
                .join()
        });
        assert!(done.is_ok(), "{what} failed: LIFEBOAT_SEED={seed} make soak");
    }
    Some(life.counts)
}

/// A server, and what it should hold.
struct Life {
    etcd: Etcd,
    /// What is done comes from one, what is looked at from the other: that depends on what a server is in the middle of.
    random: Random,
    looks: Random,
    model: Model,
    /// No compaction can be running.
    finished: bool,
    counts: Counts,
}

impl Life {
    fn history(&mut self) {
        let operations = 20 + self.random.below(40);
        match self.random.below(4) {
            0 => self.under_load(operations),
            _ => self.operations(operations),
        }
        self.counts.histories += 1;
        self.ask_the_server();
        let taken = snapshot(self.etcd.client().raw(), Duration::ZERO);
        let taken = self.judge(&taken);
        assert_eq!(taken, self.model.revision, "a snapshot at rest holds everything");
    }

    fn operations(&mut self, operations: u64) {
        let mut client = self.etcd.client().raw();
        for _ in 0..operations {
            let operation = history::next(&mut self.random, &self.model);
            wait_for(history::ask(&mut client, &operation, &mut self.model))
                .unwrap_or_else(|error| panic!("{operation:?}: {error}"));
            self.counts.operations += 1;
            if let Operation::Compact { wait, .. } = operation {
                self.counts.compactions += 1;
                self.finished = wait;
                if !wait && self.looks.once_in(2) {
                    let taken = snapshot(self.etcd.client().raw(), Duration::ZERO);
                    self.judge(&taken);
                }
            }
        }
    }

    /// Operations go on while snapshots are taken, one after the other, and slowly.
    fn under_load(&mut self, operations: u64) {
        let done = AtomicBool::new(false);
        let pause = Duration::from_micros(self.random.below(3_000));
        let client = self.etcd.client().raw();
        let taken = thread::scope(|scope| {
            let taking = scope.spawn(|| {
                let mut all = Vec::new();
                while !done.load(Ordering::Relaxed) && all.len() < 8 {
                    all.push(snapshot(client.clone(), pause));
                }
                all
            });
            self.operations(operations);
            done.store(true, Ordering::Relaxed);
            taking.join().expect("snapshots can be taken")
        });
        for taken in taken {
            self.counts.under_load += 1;
            self.judge(&taken);
        }
    }

    /// HashKV of the server, now and at some earlier revisions.
    fn ask_the_server(&mut self) {
        let client = self.etcd.client();
        let first = self.model.compacted().max(1);
        for number in 0..4 {
            let asked = match number {
                0 => 0,
                _ => self.between(first, self.model.revision),
            };
            let told = match client.hash_kv(asked) {
                Ok(told) => told,
                // Older servers have none at the compacted revision itself.
                Err(error) => {
                    assert!(
                        asked == first && error.to_string().contains("compacted"),
                        "at {asked}: {error}"
                    );
                    continue;
                }
            };
            let compacted = told.compact_revision;
            assert!(self.was_compacted_at(compacted), "nobody compacted at {compacted}");
            // Of a revision that was just compacted a server tells what it had before that.
            let finished = self.finished && compacted == self.model.compacted();
            match self.model.hash_kv(told.revision, compacted, finished) {
                Some(hash) => {
                    assert_eq!(told.hash, hash, "the server, at {} after {compacted}", told.revision);
                    self.counts.by_server += 1;
                }
                None => self.counts.undecided += 1,
            }
        }
    }

    /// A snapshot: whole, and what the model has at its revision, which is given.
    fn judge(&mut self, snapshot: &[u8]) -> i64 {
        self.counts.snapshots += 1;
        let database = &snapshot[..snapshot.len() - DIGEST_BYTES];
        let file = bbolt::File::open(database).expect("it is a database");
        let walk = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}).expect("it can be read");
        assert_eq!(walk.fault_count(), 0, "{:?}", walk.faults().collect::<Vec<_>>());
        let (revision, compacted) = (walk.summary.revision().get(), walk.compact_revision);
        assert!(
            revision <= self.model.revision && self.was_compacted_at(compacted),
            "{revision}, {compacted}"
        );
        let marks = CompactionMarks::read(&file);
        let finished = marks.finished == marks.scheduled;
        self.counts.half_compacted += u64::from(!finished);
        assert_eq!(
            walk.replayed.live_keys,
            Some(self.model.live_at(revision)),
            "at {revision}"
        );

        let settled = self.model.hash_kv(revision, compacted, true).expect("it is finished");
        let agreement = walk.hash_for(compacted).compared_with(settled);
        assert_ne!(agreement, Agreement::Different, "at {revision} after {compacted}");
        match self.model.hash_kv(revision, compacted, finished) {
            Some(hash) => {
                assert_eq!(walk.hash_kv().hash, hash, "the file, at {revision} after {compacted}");
                self.counts.by_file += 1;
            }
            None => self.counts.undecided += 1,
        }
        let earlier = self.between(compacted.max(1), revision);
        let of_earlier = walk.hash_kv_at(&file, Revision::new(earlier).expect("it is none below 0"));
        let of_earlier = of_earlier.expect("it can be read").expect("it is not compacted");
        if let Some(hash) = self.model.hash_kv(earlier, compacted, finished) {
            assert_eq!(of_earlier.hash, hash, "the file, at {earlier} after {compacted}");
            self.counts.by_file += 1;
        }

        let passed = in_flight(database, &mut self.looks);
        assert_eq!(passed.revision, revision, "as it streams past");
        // As the server reports it now, at an earlier revision, and as it will once it has compacted further.
        let further = self.between(compacted.max(0), revision);
        for (at, after) in [
            (revision, compacted),
            (earlier, compacted),
            (revision, further),
            (earlier, further.min(earlier)),
        ] {
            let told = passed
                .scan
                .owner()
                .hash_kv(passed.scan.leaves(), at, after)
                .expect("its entries are records");
            let expected = self.model.hash_kv(at, after, true).expect("it is finished");
            assert_ne!(
                told.compared_with(expected),
                Agreement::Different,
                "as it streams past, at {at} after {after}"
            );
            if after == compacted && at == revision {
                assert_eq!(
                    told.hash,
                    walk.hash_kv().hash,
                    "as it streams past, at {at} after {after}"
                );
            }
            self.counts.in_flight += u64::from(told.compared_with(expected) == Agreement::Equal);
        }
        revision
    }

    fn was_compacted_at(&self, revision: i64) -> bool {
        revision == -1 || self.model.compactions.contains(&revision)
    }

    fn between(&mut self, first: i64, last: i64) -> i64 {
        let span = u64::try_from(last - first).expect("the last is not before the first");
        first + i64::try_from(self.looks.below(span + 1)).expect("it is small")
    }
}

/// What is known of a database that has passed.
struct Passed {
    revision: i64,
    scan: Scan<PassingLog>,
}

/// A database that streams past in pieces of any length, and is not kept.
fn in_flight(database: &[u8], random: &mut Random) -> Passed {
    let mut scanner = Scanner::new(b"key", META_KEYS, PassingLog::default());
    let mut rest = database;
    while !rest.is_empty() {
        let most = 1 + random.below(64 << 10);
        let (piece, after) = rest.split_at(rest.len().min(usize::try_from(most).expect("it is small")));
        scanner.push(piece).expect("it is a database");
        rest = after;
    }
    let scan = scanner.finish().expect("it is whole");
    let entries = scan.entries(b"meta").expect("it can be read").unwrap_or_default();
    let meta = Meta::of_entries(&entries).expect("etcd wrote it");
    let last = scan.last_key().and_then(|last| Revision::new(last.main()).ok());
    let revision = meta.revision(last).get();
    assert!(scan.is_whole(), "{:?}", scan.faults());
    Passed { revision, scan }
}

/// All bytes of a snapshot, read with a pause after each message.
fn snapshot(mut client: etcd_client::Client, pause: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    wait_for(async {
        let mut stream = client.snapshot().await?;
        while let Some(message) = stream.message().await? {
            bytes.extend_from_slice(message.blob());
            tokio::time::sleep(pause).await;
        }
        Ok::<_, etcd_client::Error>(())
    })
    .expect("a healthy server sends a snapshot");
    bytes
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.histories += other.histories;
        self.operations += other.operations;
        self.compactions += other.compactions;
        self.snapshots += other.snapshots;
        self.under_load += other.under_load;
        self.half_compacted += other.half_compacted;
        self.by_server += other.by_server;
        self.by_file += other.by_file;
        self.in_flight += other.in_flight;
        self.undecided += other.undecided;
    }
}
