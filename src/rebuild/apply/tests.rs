//! Changes behind a backup, appended natively: what comes of them, and what is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;

use super::super::tests::{Bench, SNAPSHOT, go, laid_out};
use super::super::{ContentProof, Error, Plan, Rebuilt, rebuild};
use super::*;
use crate::keyspace::{CompactionMarks, Inspection, LiveKeys};
use crate::layout::Span;
use crate::layout::delta::{Encoder, Put};
use crate::source::Source;

/// One change of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    main: i64,
    sub: i64,
    key: Vec<u8>,
    /// Create revision, version, lease and value; none where it deletes.
    put: Option<(i64, i64, i64, Vec<u8>)>,
}

fn revision(revision: i64) -> Revision {
    Revision::new(revision).unwrap()
}

impl Event {
    fn entry(&self) -> (Vec<u8>, Vec<u8>) {
        let kind = match self.put {
            Some(_) => EntryKind::Put,
            None => EntryKind::Tombstone,
        };
        let at = RevisionKey::new(revision(self.main), self.sub, kind).unwrap();
        let mut record = KeyValue::tombstone(&self.key);
        if let Some((create_revision, version, lease, value)) = &self.put {
            record = KeyValue {
                create_revision: *create_revision,
                mod_revision: self.main,
                version: *version,
                lease: *lease,
                value,
                ..record
            };
        }
        let mut value = Vec::new();
        record.encode_into(&mut value);
        (at.encode(), value)
    }

    fn record(&self) -> Record<'_> {
        Record::Change(Change {
            revision: revision(self.main),
            sub: self.sub,
            key: &self.key,
            put: self.put.as_ref().map(|(create, version, lease, value)| Put {
                create_revision: revision(*create),
                version: *version,
                lease: *lease,
                value,
            }),
        })
    }
}

/// The log of the snapshot.
fn base() -> Vec<(Vec<u8>, Vec<u8>)> {
    let file = bbolt::File::open(&SNAPSHOT[..SNAPSHOT.len() - 32]).unwrap();
    log_of(&file)
}

fn log_of(file: &bbolt::File<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let log = file.bucket(b"key").unwrap().unwrap();
    let owned = |(key, value): bbolt::Entry<'_>| (key.to_vec(), value.to_vec());
    log.iter().map(|entry| owned(entry.unwrap())).collect()
}

/// A store that goes on from the snapshot.
struct Store {
    live: BTreeMap<Vec<u8>, (i64, i64)>,
    events: Vec<Event>,
    main: i64,
    random: u64,
}

const BASE: i64 = 346;

impl Store {
    fn new(seed: u64) -> Store {
        let mut live = BTreeMap::new();
        for (key, value) in base() {
            let record = KeyValue::decode(&value).unwrap();
            match RevisionKey::decode(&key).unwrap().kind() {
                EntryKind::Put => live.insert(record.key.to_vec(), (record.create_revision, record.version)),
                EntryKind::Tombstone => live.remove(record.key),
            };
        }
        Store {
            live,
            events: Vec::new(),
            main: BASE,
            random: seed * 2 + 1,
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn change(&mut self, sub: i64, key: &[u8], value: Option<(&[u8], i64)>) {
        let put = value.map(|(value, lease)| {
            let (create, version) = self.live.get(key).copied().unwrap_or((self.main, 0));
            self.live.insert(key.to_vec(), (create, version + 1));
            (create, version + 1, lease, value.to_vec())
        });
        if put.is_none() {
            self.live.remove(key).unwrap();
        }
        self.events.push(Event {
            main: self.main,
            sub,
            key: key.to_vec(),
            put,
        });
    }

    /// One revision of some changes: of keys of the snapshot, of new ones, and one key put and deleted.
    fn revision(&mut self) {
        self.main += 1;
        let mut sub = 0;
        for _ in 0..=self.below(3) {
            let place = self.below(self.live.len() as u64 + 5) as usize;
            let known = self.live.keys().nth(place).cloned();
            let key = known
                .clone()
                .unwrap_or_else(|| format!("new-{}", self.below(6)).into_bytes());
            match self.below(4) {
                0 if self.live.contains_key(&key) => self.change(sub, &key, None),
                1 if !self.live.contains_key(&key) => {
                    self.change(sub, &key, Some((b"in passing", 0)));
                    sub += 1;
                    self.change(sub, &key, None);
                }
                _ => {
                    let value = vec![b'v'; self.below(300) as usize];
                    let lease = [0, 0, 0, 77, 78][self.below(5) as usize];
                    self.change(sub, &key, Some((&value, lease)));
                }
            }
            sub += 1;
        }
    }

    fn grown(seed: u64, revisions: usize) -> Store {
        let mut store = Store::new(seed);
        (0..revisions).for_each(|_| store.revision());
        store
    }

    /// HashKV of the snapshot and of all changes up to `main`, as a member reports it that was compacted by the snapshot's mark.
    fn hash_kv(&self, main: i64) -> HashKv {
        let events = self.events.iter().filter(|event| event.main <= main).map(Event::entry);
        let entries: Vec<_> = base().into_iter().chain(events).collect();
        let file = bbolt::File::open(&SNAPSHOT[..SNAPSHOT.len() - 32]).unwrap();
        let compacted = CompactionMarks::read(&file).compact_revision();
        let mut last = BTreeMap::new();
        for (key, value) in &entries {
            last.insert(KeyValue::decode(value).unwrap().key.to_vec(), key.clone());
        }
        let mut sum = crc32c::crc32c(b"key");
        for (key, value) in &entries {
            let at = RevisionKey::decode(key).unwrap();
            let is_put = at.kind() == EntryKind::Put;
            let is_last = last[KeyValue::decode(value).unwrap().key] == *key;
            if at.main().get() > compacted || (is_put && is_last) {
                sum = crc32c::crc32c_append(crc32c::crc32c_append(sum, key), value);
            }
        }
        HashKv {
            revision: revision(main),
            compact_revision: compacted,
            hash: sum,
        }
    }
}

/// A delta of some revisions, with what else is to stand behind its changes.
fn delta(events: &[Event], behind: &[Record<'_>]) -> DeltaRecords {
    let (from, to) = (events.first().unwrap().main, events.last().unwrap().main);
    let mut encoder = Encoder::new(revision(from));
    events.iter().for_each(|event| encoder.put(&event.record()).unwrap());
    behind.iter().for_each(|record| encoder.put(record).unwrap());
    DeltaRecords {
        name: format!("delta {from}-{to}"),
        span: Span::new(revision(from), revision(to)).unwrap(),
        plain: encoder.finish().into(),
    }
}

/// All changes of a store, so many revisions to a delta.
fn deltas(events: &[Event], revisions: i64) -> Vec<DeltaRecords> {
    let runs = events.chunk_by(|a, b| (a.main - BASE - 1) / revisions == (b.main - BASE - 1) / revisions);
    runs.map(|run| delta(run, &[])).collect()
}

fn rebuilt(deltas: Vec<DeltaRecords>, to: i64, change: impl Fn(&mut Plan)) -> (Bench, Result<Rebuilt, Error>) {
    let [bench, _] = Bench::each();
    let mut deltas = deltas.into_iter();
    let changes = Changes::new(revision(to), move || Ok(deltas.next()));
    let source = Source::open("snapshot", Cursor::new(SNAPSHOT), Some(SNAPSHOT.len() as u64), None).unwrap();
    let mut plan = bench.plan(None);
    change(&mut plan);
    let rebuilt = rebuild(source, Some(changes), &plan, &go);
    (bench, rebuilt)
}

/// What comes of it if it is refused: the message and the last revision that is good.
fn refused(deltas: Vec<DeltaRecords>, to: i64) -> (String, i64) {
    let (bench, rebuilt) = rebuilt(deltas, to, |_| {});
    let error = rebuilt.unwrap_err();
    assert_eq!(bench.found(), [""], "something was left");
    match &error {
        Error::BrokenChanges { good, .. } => (error.to_string(), good.get()),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_laid_out_is_the_log_of_the_store_at_any_revision() {
    let store = Store::grown(1, 120);
    for (to, size) in [
        (BASE, 7),
        (BASE + 1, 1),
        (BASE + 63, 7),
        (BASE + 64, 64),
        (store.main, 1000),
    ] {
        let (bench, rebuilt) = rebuilt(deltas(&store.events, size), to, |_| {});
        let rebuilt = rebuilt.unwrap();
        let (walk, _, bytes) = laid_out(&bench);
        let events = store.events.iter().filter(|event| event.main <= to);
        let expected: Vec<_> = base().into_iter().chain(events.clone().map(Event::entry)).collect();
        assert_eq!(log_of(&bbolt::File::open(&bytes).unwrap()), expected);
        assert_eq!(
            (rebuilt.revision, walk.summary.revision()),
            (revision(to), revision(to))
        );
        assert_eq!(rebuilt.hash_kv, store.hash_kv(to));
        assert_eq!(walk.hash_kv(), rebuilt.hash_kv);
        let applied = rebuilt.applied.unwrap();
        assert_eq!((applied.from, applied.to), (revision(BASE), revision(to)));
        assert_eq!(applied.revisions, (to - BASE).unsigned_abs());
        assert_eq!(applied.changes, events.count() as u64);
        assert_eq!(applied.checkpoints, Checkpoints::default());
    }
}

#[test]
fn what_the_backup_has_already_is_passed_over_and_what_is_behind_the_point_too() {
    let store = Store::grown(2, 30);
    let middle = BASE + 10;
    let at = |from: i64, to: i64| -> Vec<Event> {
        let wanted = |event: &&Event| (from..=to).contains(&event.main);
        store.events.iter().filter(wanted).cloned().collect()
    };
    // Another writer has cut its deltas elsewhere.
    let twice = vec![
        delta(&at(BASE + 1, BASE + 6), &[]),
        delta(&at(BASE + 3, BASE + 5), &[]),
        delta(&at(BASE + 2, BASE + 15), &[]),
    ];
    let (_, rebuilt) = rebuilt(twice, middle, |_| {});
    let rebuilt = rebuilt.unwrap();
    assert_eq!(rebuilt.hash_kv, store.hash_kv(middle));
    assert_eq!(rebuilt.applied.unwrap().revisions, 10);
}

#[test]
fn a_hole_is_told_with_the_last_revision_before_it() {
    let store = Store::grown(3, 40);
    for dropped in 0..4 {
        let mut left = deltas(&store.events, 10);
        left.remove(dropped);
        let (told, good) = refused(left, store.main);
        let last = BASE + 10 * dropped as i64;
        assert_eq!(good, last, "{told}");
        assert!(
            told.contains(&format!("{last}")) || told.contains(&format!("{}", last + 1)),
            "{told}"
        );
    }
}

#[test]
fn a_delta_that_is_damaged_is_told() {
    let store = Store::grown(4, 40);
    let mut damaged = deltas(&store.events, 10);
    damaged[2].plain.bytes()[100] ^= 1;
    let (told, good) = refused(damaged, store.main);
    assert!(told.contains("damaged") && good <= BASE + 20, "{told}, {good}");
}

fn native(store: &Store, main: i64) -> Record<'static> {
    Record::Checkpoint(store.hash_kv(main))
}

/// The events without one of them; what is left of its revision moves up.
fn without(events: &[Event], dropped: usize) -> Vec<Event> {
    let mut events = events.to_vec();
    let lost = events.remove(dropped);
    for event in events
        .iter_mut()
        .filter(|event| event.main == lost.main && event.sub > lost.sub)
    {
        event.sub -= 1;
    }
    events
}

#[test]
fn a_change_that_is_missing_shows_in_the_next_one_of_its_key_and_else_in_what_a_member_reported() {
    let store = Store::grown(5, 60);
    let middle = BASE + 30;
    let (mut by_life, mut by_report) = (0, 0);
    for dropped in 0..store.events.len() {
        let lost = &store.events[dropped];
        let left = without(&store.events, dropped);
        if left.iter().all(|event| event.main != lost.main) {
            continue;
        }
        let split = left.iter().position(|event| event.main > middle).unwrap();
        let deltas = vec![
            delta(&left[..split], &[native(&store, middle)]),
            delta(&left[split..], &[native(&store, store.main)]),
        ];
        let (told, good) = refused(deltas, store.main);
        assert!(good < lost.main, "{lost:?}: {told}, good {good}");
        // What is not in doubt by a report is not given up.
        assert!(lost.main <= middle || good >= middle, "{lost:?}: {told}, good {good}");
        match told.contains("HashKV") {
            true => by_report += 1,
            false => {
                assert!(told.contains(&lost.key.escape_ascii().to_string()), "{told}");
                by_life += 1;
            }
        }
    }
    assert!(by_life > 10 && by_report > 10, "{by_life}, {by_report}");
}

#[test]
fn a_value_that_is_another_is_found_by_what_a_member_reported() {
    let store = Store::grown(6, 50);
    let place = store
        .events
        .iter()
        .position(|event| event.main > BASE + 35 && event.put.is_some())
        .unwrap();
    let mut events = store.events.clone();
    events[place].put.as_mut().unwrap().3.push(b'!');
    let reports: Vec<_> = (1..=5).map(|tenth| native(&store, BASE + 10 * tenth)).collect();
    let (told, good) = refused(vec![delta(&events, &reports)], store.main);
    assert!(told.contains("HashKV at revision 396"), "{told}");
    assert_eq!(good, BASE + 30);
    // Without any it cannot be known.
    assert!(rebuilt(vec![delta(&events, &[])], store.main, |_| {}).1.is_ok());
}

#[test]
fn what_members_reported_is_compared_as_far_as_it_can_be() {
    let store = Store::grown(7, 50);
    let other = |by: i64, main| match native(&store, main) {
        Record::Checkpoint(hash) => Record::Checkpoint(HashKv {
            compact_revision: hash.compact_revision + by,
            hash: hash.hash ^ 1,
            ..hash
        }),
        other => other,
    };
    let cases = [
        (vec![native(&store, BASE + 50)], BASE + 50, 1, Some(BASE + 50)),
        (
            vec![native(&store, BASE + 20), native(&store, BASE + 40)],
            BASE + 50,
            2,
            Some(BASE + 40),
        ),
        // Behind the point.
        (
            vec![native(&store, BASE + 20), native(&store, BASE + 40)],
            BASE + 30,
            1,
            Some(BASE + 20),
        ),
        // Of a member that was less compacted than the backup.
        (
            vec![native(&store, BASE + 20), other(-1, BASE + 50)],
            BASE + 50,
            2,
            Some(BASE + 20),
        ),
        (vec![native(&store, BASE)], BASE + 50, 1, Some(BASE)),
    ];
    for (reports, to, found, matched) in cases {
        let (_, rebuilt) = rebuilt(vec![delta(&store.events, &reports)], to, |_| {});
        let rebuilt = rebuilt.unwrap();
        let checkpoints = rebuilt.applied.unwrap().checkpoints;
        assert_eq!((checkpoints.found, checkpoints.matched), (found, matched.map(revision)));
        let is_proven = matched == Some(to);
        assert_eq!(rebuilt.proof == ContentProof::HashKv, is_proven);
    }
}

#[test]
fn leases_have_the_time_that_was_granted_and_those_that_nobody_knows_are_told() {
    let store = Store::grown(8, 80);
    let (_, without) = rebuilt(deltas(&store.events, 10), store.main, |_| {});
    let without = without.unwrap();
    assert_eq!(without.added_leases, [LeaseId(77), LeaseId(78)]);
    let known = [
        Record::Lease {
            id: 77,
            granted_ttl: 500,
        },
        Record::Lease {
            id: 77,
            granted_ttl: 600,
        },
        Record::Lease { id: 77, granted_ttl: 0 },
        Record::Lease { id: 78, granted_ttl: 0 },
        Record::Lease { id: 79, granted_ttl: 5 },
    ];
    let (bench, with) = rebuilt(vec![delta(&store.events, &known)], store.main, |_| {});
    let with = with.unwrap();
    assert_eq!(with.added_leases, [LeaseId(78)]);
    let (walk, ..) = laid_out(&bench);
    assert_eq!(walk.summary.leases, with.leases);
    assert!(walk.summary.dangling(&walk.replayed.leases).is_empty());
    let ttl = |id| {
        with.leases
            .iter()
            .find(|lease| lease.id == LeaseId(id))
            .map(|lease| lease.ttl_seconds)
    };
    assert_eq!((ttl(77), ttl(78), ttl(79)), (Some(600), Some(3600), None));
    // Those of the snapshot stay.
    let before = rebuilt(Vec::new(), BASE, |_| {}).1.unwrap().leases;
    assert!(!before.is_empty() && before.iter().all(|lease| with.leases.contains(lease)));
}

#[test]
fn revisions_jump_and_history_goes_as_without_changes() {
    use super::super::Rewrite;
    let store = Store::grown(9, 60);
    let with = |rewrite| {
        let (bench, rebuilt) = rebuilt(deltas(&store.events, 9), BASE + 50, |plan| {
            plan.bump = std::num::NonZeroU64::new(1000);
            plan.rewrite = rewrite;
        });
        let (walk, ..) = laid_out(&bench);
        (rebuilt.unwrap(), walk)
    };
    let (plain, walk) = with(Rewrite::Not);
    assert_eq!(
        (plain.revision.get(), walk.summary.revision().get()),
        (BASE + 1050, BASE + 1050)
    );
    assert_eq!(plain.hash_kv, store.hash_kv(BASE + 50));
    let (compacted, smaller) = with(Rewrite::Compacted);
    assert_eq!(compacted.revision, plain.revision);
    assert!(compacted.database_bytes < plain.database_bytes);
    assert_eq!(smaller.replayed.live_keys, walk.replayed.live_keys);
    assert_eq!(smaller.hash_kv(), walk.hash_kv());
}

#[test]
fn whoever_stops_it_finds_nothing() {
    let store = Store::grown(10, 60);
    let [bench, _] = Bench::each();
    let mut deltas = deltas(&store.events, 10).into_iter();
    let changes = Changes::new(revision(store.main), move || Ok(deltas.next()));
    let source = Source::open("snapshot", Cursor::new(SNAPSHOT), None, None).unwrap();
    let stops = |progress| match progress {
        Progress::Applying { revisions: 30.., of } => {
            assert_eq!(of, 60);
            std::ops::ControlFlow::Break(())
        }
        _ => std::ops::ControlFlow::Continue(()),
    };
    let rebuilt = rebuild(source, Some(changes), &bench.plan(None), &stops);
    assert!(matches!(rebuilt, Err(Error::Interrupted)));
    assert_eq!(bench.found(), [""]);
}

#[test]
fn the_snapshot_of_a_point_is_what_is_laid_out_of_it() {
    use super::super::{DigestRule, Wanted, export_at};
    let store = Store::grown(11, 60);
    let to = BASE + 44;
    let mut deltas = deltas(&store.events, 10).into_iter();
    let changes = Changes::new(revision(to), move || Ok(deltas.next()));
    let source = Source::open("snapshot", Cursor::new(SNAPSHOT), None, None).unwrap();
    let (file, path) = (tempfile::NamedTempFile::new().unwrap(), std::path::Path::new("x"));
    let wanted = Wanted {
        digest: DigestRule::Required,
        expected: None,
        compacted_into: None,
    };
    let exported = export_at(source, Some(changes), (file.as_file(), path), wanted, &go).unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    let (database, digest) = bytes.split_at(bytes.len() - 32);
    assert_eq!(digest, &<sha2::Sha256 as sha2::Digest>::digest(database)[..]);
    assert_eq!(
        exported.sha256.0,
        <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&bytes))
    );
    assert_eq!(exported.bytes, bytes.len() as u64);
    let file = bbolt::File::open(database).unwrap();
    let walk = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}).unwrap();
    assert_eq!(walk.fault_count(), 0);
    assert_eq!(
        (walk.hash_kv(), exported.hash_kv),
        (store.hash_kv(to), store.hash_kv(to))
    );
    assert_eq!(exported.revision, revision(to));
    assert!(walk.summary.dangling(&walk.replayed.leases).is_empty());
}

#[test]
fn what_was_prepared_with_changes_is_founded_though_another_run_has_made_it() {
    use super::super::{Homes, Wish, found_in, prepare_in, prepared_in};
    use crate::datadir::{InitialCluster, Membership};
    use crate::durable::Dir;
    let store = Store::grown(12, 60);
    let cluster: InitialCluster = "m1=http://127.0.0.1:2380,m2=http://127.0.0.1:2381".parse().unwrap();
    let membership = Membership::new(&cluster, "token").unwrap();
    let own = membership.member("m2").unwrap();
    let mut made = Vec::new();
    for is_taken_up in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let home = Dir::open(place.path()).unwrap();
        let homes = Homes {
            data: &home,
            log: None,
            name: "x",
            owner: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        };
        let mut wish: Wish = Bench::each()[0].plan(None).wish();
        wish.bump = std::num::NonZeroU64::new(1000);
        let mut deltas = deltas(&store.events, 10).into_iter();
        let changes = Changes::new(revision(store.main), move || Ok(deltas.next()));
        let source = Source::open("snapshot", Cursor::new(SNAPSHOT), None, None).unwrap();
        let (prepared, rebuilt) = prepare_in(homes, source, Some(changes), &wish, &go).unwrap();
        assert_eq!(rebuilt.revision.get(), store.main + 1000);
        // As it was told, not as the backup was recorded.
        wish.expected = Some(super::super::Expected {
            sha256: crate::model::Digest([0; 32]),
            revision: rebuilt.hash_kv.revision,
            hash_kv: Some(rebuilt.hash_kv),
        });
        let prepared = match is_taken_up {
            true => prepared_in(homes, "snapshot", &wish).unwrap(),
            false => prepared,
        };
        found_in(homes, Some(prepared), &membership, own).unwrap();
        made.push(std::fs::read(place.path().join("x/member/snap/db")).unwrap());
    }
    assert!(made[0] == made[1], "who takes it up makes another one");
}

/// How fast changes are applied, and in how much memory: `cargo test --release --lib changes_are_applied_fast -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn changes_are_applied_fast() {
    const DELTA: usize = 16 << 20;
    for (value, count, keys) in [
        (1024, 1_000_000_i64, 100_000),
        (1024, 1_000_000, 1_000_000),
        (32, 5_000_000, 100_000),
    ] {
        let (value, len) = (vec![b'v'; value], value);
        let mut lives = vec![(0_i64, 0_i64); keys as usize];
        let (mut main, mut random) = (BASE, 1_u64);
        let to = BASE + count;
        let next = move || {
            if main == to {
                return Ok(None);
            }
            let from = main + 1;
            let mut encoder = Encoder::new(revision(from));
            while main < to && encoder.len() < DELTA {
                main += 1;
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = (random >> 33) % keys;
                let life = &mut lives[place as usize];
                *life = (if life.1 == 0 { main } else { life.0 }, life.1 + 1);
                let key = format!("/registry/pods/some-namespace/pod-{place:08}");
                let put = Put {
                    create_revision: revision(life.0),
                    version: life.1,
                    lease: 0,
                    value: &value,
                };
                let change = Change {
                    revision: revision(main),
                    sub: 0,
                    key: key.as_bytes(),
                    put: Some(put),
                };
                encoder.put(&Record::Change(change)).unwrap();
            }
            Ok(Some(DeltaRecords {
                name: format!("{from}-{main}"),
                span: Span::new(revision(from), revision(main)).unwrap(),
                plain: encoder.finish().into(),
            }))
        };
        let (sent, made) = (std::cell::Cell::new(None), std::time::Instant::now());
        // What makes them is not counted.
        let making = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = std::sync::Arc::clone(&making);
        let mut next = next;
        let changes = Changes::new(revision(to), move || {
            let began = std::time::Instant::now();
            let delta = next();
            counted.fetch_add(began.elapsed().as_micros() as u64, std::sync::atomic::Ordering::Relaxed);
            delta
        });
        let [bench, _] = Bench::each();
        let source = Source::open("snapshot", Cursor::new(SNAPSHOT), None, None).unwrap();
        let listener = |progress| {
            if progress == Progress::Checking && sent.get().is_none() {
                sent.set(Some(made.elapsed()));
            } else if progress == Progress::Checking {
                let applied = made.elapsed() - sent.get().unwrap();
                let applied = applied.as_secs_f64() - making.load(std::sync::atomic::Ordering::Relaxed) as f64 / 1e6;
                let bytes = (len as i64 * count) as f64 / 1e6;
                println!(
                    "{count} of {} bytes, {keys} keys: {:.0} revisions/s, {:.0} MB/s",
                    len,
                    count as f64 / applied,
                    bytes / applied
                );
            }
            std::ops::ControlFlow::Continue(())
        };
        let rebuilt = rebuild(source, Some(changes), &bench.plan(None), &listener).unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let most = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        println!(
            "in all {:.1} s, {} of them making, {most}, {} bytes",
            made.elapsed().as_secs_f64(),
            making.load(std::sync::atomic::Ordering::Relaxed) / 1_000_000,
            rebuilt.database_bytes
        );
    }
}

#[test]
fn data_is_kept_up_in_place_and_stays_as_it_was_where_it_is_not_carried_through() {
    use super::super::Warm;
    let store = Store::grown(13, 60);
    let changes = |events: &[Event], to: i64| {
        let mut deltas = deltas(events, 10).into_iter();
        Changes::new(revision(to), move || Ok(deltas.next()))
    };
    let [bench, _] = Bench::each();
    let plan = bench.plan(None);
    let source = Source::open("snapshot", Cursor::new(SNAPSHOT), Some(SNAPSHOT.len() as u64), None).unwrap();
    rebuild(source, None, &plan, &go).unwrap();
    let path = plan.data_dir.join("member/snap/db");
    let mut warm = Warm::open(&plan).unwrap();
    assert!(matches!(Warm::open(&plan).err(), Some(Error::Running { .. })));
    for to in [BASE + 3, BASE + 20, BASE + 44] {
        warm.advance(changes(&store.events, to), &go).unwrap();
        assert_eq!((warm.revision(), warm.hash_kv()), (revision(to), store.hash_kv(to)));
        let bytes = std::fs::read(&path).unwrap();
        let file = bbolt::File::open(&bytes).unwrap();
        let walk = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}).unwrap();
        assert_eq!((walk.fault_count(), walk.hash_kv()), (0, store.hash_kv(to)));
    }
    // Broken off, or wrong.
    let before = std::fs::read(&path).unwrap();
    let stops = |progress| match progress {
        Progress::Checking => std::ops::ControlFlow::Break(()),
        _ => std::ops::ControlFlow::Continue(()),
    };
    let stopped = warm.advance(changes(&store.events, BASE + 60), &stops);
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let mut wrong = store.events.clone();
    let put = wrong.iter_mut().filter(|event| event.main > BASE + 50);
    put.filter_map(|event| event.put.as_mut()).next().unwrap().1 += 1;
    let broken = warm.advance(changes(&wrong, BASE + 60), &go);
    assert!(matches!(broken, Err(Error::BrokenChanges { .. })));
    assert!(std::fs::read(&path).unwrap() == before);
    assert_eq!(warm.hash_kv(), store.hash_kv(BASE + 44));
    // Killed before the metas, between them, and behind them.
    warm.advance(changes(&store.events, BASE + 55), &go).unwrap();
    drop(warm);
    let after = std::fs::read(&path).unwrap();
    let page = 4096;
    for (old, to) in [(2 * page, 44), (page, 55), (0, 55)] {
        let mut torn = after.clone();
        torn[..old].copy_from_slice(&before[..old]);
        std::fs::write(&path, torn).unwrap();
        let mut warm = Warm::open(&plan).unwrap();
        assert_eq!(warm.hash_kv(), store.hash_kv(BASE + to), "{old} bytes are old");
        warm.advance(changes(&store.events, BASE + 60), &go).unwrap();
        assert_eq!(warm.hash_kv(), store.hash_kv(BASE + 60));
    }
    // Written anew it is the same in less, and goes on to be locked.
    let mut warm = Warm::open(&plan).unwrap();
    let grown = warm.bytes();
    let mut waits = File::open(&path).unwrap();
    warm.tidy().unwrap();
    // Who had opened it before, as an etcd that waits for the lock, finds no database in what has no name any more.
    let mut nameless = Vec::new();
    std::io::Read::read_to_end(&mut waits, &mut nameless).unwrap();
    assert!(bbolt::File::open(&nameless).is_err());
    assert_eq!(warm.hash_kv(), store.hash_kv(BASE + 60));
    assert!(warm.bytes() < grown && std::fs::metadata(&path).unwrap().len() == warm.bytes());
    assert!(matches!(Warm::open(&plan).err(), Some(Error::Running { .. })));
    drop(warm);
    let mut warm = Warm::open(&plan).unwrap();
    assert_eq!(warm.hash_kv(), store.hash_kv(BASE + 60));
    // Once a member has written to its log, nothing is.
    let log = plan.data_dir.join("member/wal").join(crate::datadir::wal::FILE_NAME);
    let mut bytes = std::fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 8 * 8 + 8;
    bytes[end] = 1;
    std::fs::write(&log, bytes).unwrap();
    let advanced = warm.advance(changes(&store.events, BASE + 60), &go);
    assert!(matches!(advanced, Err(Error::NotWarm { .. })));
    assert!(matches!(warm.tidy(), Err(Error::NotWarm { .. })));
    drop(warm);
    assert!(matches!(Warm::open(&plan).err(), Some(Error::NotWarm { .. })));
}

#[test]
fn what_a_member_reports_late_is_compared_with_what_was_taken_in_before() {
    use super::super::Warm;
    let store = Store::grown(14, 60);
    let late = BASE + 20;
    let split = |events: &[Event]| events.iter().position(|event| event.main > late).unwrap();
    let one = |delta: DeltaRecords, to| {
        let mut delta = Some(delta);
        Changes::new(revision(to), move || Ok(delta.take()))
    };
    // A value of which no change tells that it is another.
    let mut altered = store.events.clone();
    let until = split(&altered);
    let last = altered[..until].iter_mut().filter_map(|event| event.put.as_mut());
    last.last().unwrap().3.push(b'!');
    let less_compacted = match native(&store, late) {
        Record::Checkpoint(hash) => Record::Checkpoint(HashKv {
            compact_revision: hash.compact_revision - 1,
            ..hash
        }),
        other => other,
    };
    let cases = [
        (&store.events, native(&store, late), Some((1, Some(late), 0))),
        (&store.events, less_compacted, Some((1, None, 1))),
        (&altered, native(&store, late), None),
    ];
    for (events, report, expected) in cases {
        let [bench, _] = Bench::each();
        let plan = bench.plan(None);
        let source = Source::open("snapshot", Cursor::new(SNAPSHOT), Some(SNAPSHOT.len() as u64), None).unwrap();
        rebuild(source, None, &plan, &go).unwrap();
        let mut warm = Warm::open(&plan).unwrap();
        let (before, behind) = events.split_at(split(events));
        warm.advance(one(delta(before, &[]), late), &go).unwrap();
        let advanced = warm.advance(one(delta(behind, &[report]), store.main), &go);
        match expected {
            Some((found, matched, not_compared)) => {
                let checkpoints = advanced.unwrap().checkpoints;
                assert_eq!((checkpoints.found, checkpoints.not_compared), (found, not_compared));
                assert_eq!(checkpoints.matched, matched.map(revision));
            }
            None => {
                let error = advanced.unwrap_err();
                assert!(
                    matches!(error, Error::BaseDiffers { at, .. } if at == revision(late)),
                    "{error}"
                );
                assert_eq!(warm.revision(), revision(late));
            }
        }
    }
    // In a delta of which no change is wanted any more.
    let (before, behind) = altered.split_at(split(&altered));
    let again = delta(&store.events[..split(&altered)], &[native(&store, late)]);
    let (told, _) = refused(vec![delta(before, &[]), again, delta(behind, &[])], store.main);
    assert!(told.contains(&format!("HashKV at revision {late}")), "{told}");
}
