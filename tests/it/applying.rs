//! Changes that real servers have made, as a watch tells them, applied natively to a snapshot of before: at any revision
//! HashKV is that of the server, and what is missing is found.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use etcd_client::{EventType, Txn, TxnOp, WatchOptions};

use lifeboat::datadir::{InitialCluster, Membership};
use lifeboat::layout::Span;
use lifeboat::layout::delta::{Change, Encoder, Put, Record};
use lifeboat::model::{self, Revision};
use lifeboat::rebuild::{self, DigestRule, Plan, Rebuilt, Rewrite, rebuild};
use lifeboat::source::{Changes, DeltaRecords, Source};

use super::support::client::{Client, HashKv, wait_for};
use super::support::etcd::{Etcd, Options};
use super::support::load::Load;
use super::support::random::Random;
use super::support::tools::Version;

/// One event of a watch.
#[derive(Debug, Clone)]
struct Event {
    revision: i64,
    key: Vec<u8>,
    /// Create revision, version, lease and value; none where it deletes.
    put: Option<(i64, i64, i64, Vec<u8>)>,
}

/// What a server did behind a snapshot.
struct History {
    snapshot: Vec<u8>,
    /// The revision of the snapshot.
    from: i64,
    events: Vec<Event>,
    /// The time to live of each lease, by its first event.
    leases: BTreeMap<i64, i64>,
    /// What the server reported while it was written to, in order.
    reports: Vec<HashKv>,
}

fn revision(revision: i64) -> Revision {
    Revision::new(revision).unwrap()
}

impl History {
    /// A snapshot in the middle of a load, and all that comes behind it; there are compactions before and after.
    fn of(etcd: &Etcd, seed: u64, rounds: usize) -> History {
        let client = etcd.client();
        let mut load = Load::new(seed);
        load.run(&client, 150);
        load.compact(&client);
        load.run(&client, 40);
        // A lease that keys of the snapshot hang on, and keys of later.
        client.grant(4_711, 9_000).unwrap();
        client.put("/registry/held/before", "1", 4_711).unwrap();
        let from = client.revision().unwrap();
        let mut history = History {
            snapshot: snapshot(client.raw()),
            from,
            events: Vec::new(),
            leases: BTreeMap::new(),
            reports: Vec::new(),
        };
        let mut random = Random::new(seed);
        for round in 0..rounds {
            load.run(&client, 1 + usize::try_from(random.below(25)).unwrap());
            let passing = format!("/registry/passing/{}", random.below(3));
            put_and_delete(&client, &passing);
            if round == 0 {
                client.put("/registry/held/after", "2", 4_711).unwrap();
            }
            history.hear(&client);
            history.reports.push(client.hash_kv(0).unwrap());
            if round % 5 == 3 {
                load.compact(&client);
            }
        }
        let hashes = history.reports.iter().map(|report| report.revision);
        assert!(hashes.is_sorted_by(|a, b| a < b));
        history
    }

    fn last(&self) -> i64 {
        self.events.last().map_or(self.from, |event| event.revision)
    }

    /// Hears what has come since.
    fn hear(&mut self, client: &Client) {
        let (from, to) = (self.last() + 1, client.revision().unwrap());
        let events = watched(client, from, to);
        for (_, _, lease, _) in events.iter().filter_map(|event| event.put.as_ref()) {
            if *lease != 0 {
                let ttl = || client.granted_ttl(*lease).unwrap();
                self.leases.entry(*lease).or_insert_with(ttl);
            }
        }
        self.events.extend(events);
    }

    /// Deltas of some revisions each, with leases and reports behind the changes that they are of.
    fn deltas(&self, random: &mut Random, with_reports: bool) -> Vec<DeltaRecords> {
        let mut deltas = Vec::new();
        let mut known = BTreeMap::new();
        let mut reports = self.reports.iter().filter(|_| with_reports).peekable();
        let mut rest = self.events.as_slice();
        while let Some(first) = rest.first() {
            let mut to = first.revision + i64::try_from(random.below(20)).unwrap();
            // A revision that was lost makes two deltas with a hole between them.
            let mut last = first.revision;
            for event in rest.iter().take_while(|event| event.revision <= to) {
                if event.revision > last + 1 {
                    to = last;
                    break;
                }
                last = event.revision;
            }
            let count = rest.iter().take_while(|event| event.revision <= to).count();
            let (these, others) = rest.split_at(count);
            rest = others;
            let to = these.last().unwrap().revision;
            let mut encoder = Encoder::new(revision(first.revision));
            let mut place = (0, 0);
            for event in these {
                place = (event.revision, if event.revision == place.0 { place.1 + 1 } else { 0 });
                let put = event.put.as_ref();
                let change = Change {
                    revision: revision(event.revision),
                    sub: place.1,
                    key: &event.key,
                    put: put.map(|(create, version, lease, value)| Put {
                        create_revision: revision(*create),
                        version: *version,
                        lease: *lease,
                        value,
                    }),
                };
                encoder.put(&Record::Change(change)).unwrap();
                let lease = put.map_or(0, |(_, _, lease, _)| *lease);
                if let Some(ttl) = self.leases.get(&lease).filter(|_| known.insert(lease, ()).is_none()) {
                    let granted_ttl = u64::try_from(*ttl).unwrap_or(0);
                    encoder.put(&Record::Lease { id: lease, granted_ttl }).unwrap();
                }
            }
            while let Some(report) = reports.next_if(|report| report.revision <= to) {
                encoder.put(&Record::Checkpoint(native(*report))).unwrap();
            }
            deltas.push(DeltaRecords {
                name: format!("{}-{to}", first.revision),
                span: Span::new(revision(first.revision), revision(to)).unwrap(),
                plain: encoder.finish().into(),
            });
        }
        deltas
    }

    /// Lays out the data of the only member of `etcd` up to a revision.
    fn rebuild(&self, deltas: Vec<DeltaRecords>, to: i64, etcd: &Target) -> Result<Rebuilt, rebuild::Error> {
        let mut deltas = deltas.into_iter();
        let changes = Changes::new(revision(to), move || Ok(deltas.next()));
        let length = self.snapshot.len() as u64;
        let source = Source::open("snapshot", Cursor::new(self.snapshot.clone()), Some(length), None).unwrap();
        rebuild(source, Some(changes), &etcd.plan(), &|_| ControlFlow::Continue(()))
    }
}

/// Where data is laid out.
struct Target {
    initial_cluster: String,
    token: String,
    name: String,
    data_dir: PathBuf,
}

impl Target {
    fn of(etcd: &Etcd) -> Target {
        Target {
            initial_cluster: etcd.initial_cluster(),
            token: etcd.token.clone(),
            name: etcd.members[0].name.clone(),
            data_dir: etcd.members[0].data_dir.clone(),
        }
    }

    /// One that no etcd is to run on.
    fn in_dir(dir: &Path) -> Target {
        Target {
            initial_cluster: "m1=http://127.0.0.1:2380".to_owned(),
            token: "token".to_owned(),
            name: "m1".to_owned(),
            data_dir: dir.join("d"),
        }
    }

    fn plan(&self) -> Plan {
        let cluster: InitialCluster = self.initial_cluster.parse().unwrap();
        let membership = Membership::new(&cluster, &self.token).unwrap();
        Plan {
            member: membership.member(&self.name).unwrap().clone(),
            membership,
            data_dir: self.data_dir.clone(),
            wal_dir: None,
            bump: None,
            line: None,
            digest: DigestRule::Required,
            rewrite: Rewrite::Not,
            expected: None,
            left: None,
            history: None,
        }
    }
}

fn native(report: HashKv) -> model::HashKv {
    model::HashKv {
        revision: revision(report.revision),
        compact_revision: report.compact_revision,
        hash: report.hash,
    }
}

/// All bytes of a snapshot.
fn snapshot(mut client: etcd_client::Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    wait_for(async {
        let mut stream = client.snapshot().await?;
        while let Some(message) = stream.message().await? {
            bytes.extend_from_slice(message.blob());
        }
        Ok::<_, etcd_client::Error>(())
    })
    .expect("a healthy server sends a snapshot");
    bytes
}

/// One key is put and deleted in the same revision.
fn put_and_delete(client: &Client, key: &str) {
    let nested = |op| TxnOp::txn(Txn::new().and_then([op]));
    let both = [
        nested(TxnOp::put(key, "for a moment", None)),
        nested(TxnOp::delete(key, None)),
    ];
    client.txn(Txn::new().and_then(both)).unwrap();
}

/// All events of the revisions from `from` to `to`.
fn watched(client: &Client, from: i64, to: i64) -> Vec<Event> {
    let options = WatchOptions::new().with_all_keys().with_start_revision(from);
    let mut events: Vec<Event> = Vec::new();
    wait_for(async {
        let mut watch = client.raw().watch_client().max_decoding_message_size(usize::MAX);
        let mut stream = watch.watch(vec![0], Some(options)).await?;
        while events.last().is_none_or(|event| event.revision < to) {
            let message = stream.message().await?.expect("the watch goes on");
            assert!(!message.canceled(), "{}", message.cancel_reason());
            for event in message.events() {
                let kv = event.kv().expect("a key");
                events.push(Event {
                    revision: kv.mod_revision(),
                    key: kv.key().to_vec(),
                    put: (event.event_type() == EventType::Put).then(|| {
                        let (create, version) = (kv.create_revision(), kv.version());
                        (create, version, kv.lease(), kv.value().to_vec())
                    }),
                });
            }
        }
        Ok::<_, etcd_client::Error>(())
    })
    .expect("a healthy server is watched");
    events
}

#[test]
fn any_revision_behind_a_snapshot_is_laid_out_as_the_server_had_it() {
    for (seed, version) in (11..).zip(Version::ALL) {
        let Some(etcd) = Etcd::start(version, Options::default()) else {
            return;
        };
        let history = History::of(&etcd, seed, 12);
        let mut random = Random::new(seed);
        let place = tempfile::tempdir().unwrap();
        for report in &history.reports {
            let target = Target::in_dir(&place.path().join(report.revision.to_string()));
            std::fs::create_dir_all(target.data_dir.parent().unwrap()).unwrap();
            let rebuilt = history.rebuild(history.deltas(&mut random, true), report.revision, &target);
            let rebuilt = rebuilt.unwrap_or_else(|error| panic!("{version:?} at {}: {error}", report.revision));
            let applied = rebuilt.applied.unwrap();
            assert_eq!(
                applied.checkpoints.matched,
                Some(revision(report.revision)),
                "{version:?}"
            );
            assert_eq!(rebuilt.proof, rebuild::ContentProof::HashKv);
            assert_eq!(rebuilt.revision, revision(report.revision));
            assert_eq!(applied.revisions, (report.revision - history.from).unsigned_abs());
            assert_eq!(rebuilt.added_leases, [], "all were recorded");
            if rebuilt.hash_kv.compact_revision == report.compact_revision {
                assert_eq!(rebuilt.hash_kv, native(*report));
            }
        }
        boots(&etcd, &history, &mut random);
    }
}

/// A member on what was laid out serves the same keys and leases, and says the same HashKV.
fn boots(etcd: &Etcd, history: &History, random: &mut Random) {
    let version = etcd.version;
    let middle = &history.reports[history.reports.len() / 2];
    for report in [middle, history.reports.last().unwrap()] {
        let Some(mut member) = Etcd::plan(version, Options::default()) else {
            return;
        };
        let rebuilt = history.rebuild(history.deltas(random, false), report.revision, &Target::of(&member));
        let rebuilt = rebuilt.unwrap();
        member.boot();
        let client = member.client();
        assert_eq!(client.revision().unwrap(), report.revision, "{version:?}");
        assert_eq!(native(client.hash_kv(0).unwrap()), rebuilt.hash_kv, "{version:?}");
        let serves = client.get_all().unwrap();
        if report.revision == history.last() {
            assert_eq!(serves, etcd.client().get_all().unwrap());
        }
        let held: std::collections::BTreeSet<i64> = serves.values().map(|entry| entry.lease).collect();
        for lease in held.into_iter().filter(|lease| *lease != 0) {
            let ttl = client.granted_ttl(lease).unwrap();
            assert_eq!(ttl, history.leases.get(&lease).copied().unwrap_or(ttl));
            assert!(ttl > 3600, "{version:?}: {ttl}");
        }
        // Compacted as the server was, it says what the server said.
        if report.compact_revision > rebuilt.hash_kv.compact_revision {
            client.compact(report.compact_revision).unwrap();
            assert_eq!(client.hash_kv(0).unwrap().hash, report.hash, "{version:?}");
        }
        client.put("/registry/afterwards", "1", 0).unwrap();
        assert_eq!(client.revision().unwrap(), report.revision + 1);
    }
}

#[test]
fn a_change_that_is_missing_is_found_and_nothing_is_left() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let history = History::of(&etcd, 5, 6);
    let place = tempfile::tempdir().unwrap();
    let target = Target::in_dir(place.path());
    let mut random = Random::new(5);
    let last = history.last();
    let mut refused = |history: &History, with_reports: bool, what: &str| {
        let deltas = history.deltas(&mut random, with_reports);
        match history.rebuild(deltas, last, &target) {
            Err(error @ rebuild::Error::BrokenChanges { .. }) => {
                assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "{what}");
                error
            }
            other => panic!("{what}: {other:?}"),
        }
    };
    let places = 0..history.events.len();
    let deletes = places.clone().filter(|place| history.events[*place].put.is_none());
    let dropped: Vec<usize> = deletes.take(25).chain(places.clone().step_by(7)).collect();
    let mut without_reports = 0;
    for dropped in dropped {
        let mut events = history.events.clone();
        let lost = events.remove(dropped);
        let holed = History {
            events,
            snapshot: history.snapshot.clone(),
            leases: history.leases.clone(),
            reports: history.reports.clone(),
            from: history.from,
        };
        let error = refused(&holed, true, &format!("{lost:?}"));
        let rebuild::Error::BrokenChanges { good, at, .. } = error else {
            panic!("it was one");
        };
        assert!(
            good.get() < lost.revision && lost.revision <= at.get(),
            "{lost:?}: {good} to {at}"
        );
        // What is offered instead can be had.
        let deltas = holed.deltas(&mut Random::new(1), true);
        let rebuilt = holed.rebuild(deltas, good.get(), &target).unwrap();
        assert_eq!(rebuilt.hash_kv.revision, good);
        std::fs::remove_dir_all(&target.data_dir).unwrap();
        // A later change of the same key tells of it, too.
        let is_followed = history.events[dropped + 1..].iter().any(|event| event.key == lost.key);
        without_reports += usize::from(is_followed);
    }
    assert!(without_reports > 0);

    // A whole delta.
    let count = history.deltas(&mut Random::new(9), false).len();
    for dropped in 0..count {
        let mut deltas = history.deltas(&mut Random::new(9), false);
        let lost = deltas.remove(dropped);
        match history.rebuild(deltas, last, &target) {
            Err(rebuild::Error::BrokenChanges { good, .. }) => assert_eq!(good.get() + 1, lost.span.from().get()),
            other => panic!("{}: {other:?}", lost.name),
        }
    }
}
