use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::Lease;
use super::*;
use crate::bbolt::{Rules, check};

const PAGE: u32 = 1024;

/// One entry: revision, position in it, user key, and the value or a deletion.
type Change = (i64, i64, String, Option<Vec<u8>>);

fn key_of((main, sub, _, value): &Change) -> Vec<u8> {
    let kind = match value {
        Some(_) => EntryKind::Put,
        None => EntryKind::Tombstone,
    };
    RevisionKey::new(Revision::new(*main).unwrap(), *sub, kind)
        .unwrap()
        .encode()
}

fn value_of((main, _, key, value): &Change) -> Vec<u8> {
    let record = match value {
        Some(value) => KeyValue {
            key: key.as_bytes(),
            create_revision: *main,
            mod_revision: *main,
            version: 1,
            value,
            lease: 0,
        },
        None => KeyValue::tombstone(key.as_bytes()),
    };
    let mut message = Vec::new();
    record.encode_into(&mut message);
    message
}

/// A log as etcd writes one: revisions without gaps, deletions only of what lives, at times many keys in one revision,
/// and a put and the deletion of its key in one.
fn log() -> impl Strategy<Value = Vec<Change>> {
    let step = (0..7_u8, 0..20_usize, 0..300_usize);
    prop::collection::vec(prop::collection::vec(step, 1..4), 0..150).prop_map(|revisions| {
        let mut live = BTreeMap::new();
        let (mut log, mut main) = (Vec::new(), 2);
        for steps in revisions {
            let mut changes: Vec<Change> = Vec::new();
            for (kind, key, len) in steps {
                let key = format!("key {key}");
                let was_put = changes.iter().any(|(_, _, put, value)| *put == key && value.is_some());
                let was_deleted = changes.iter().any(|(_, _, put, value)| *put == key && value.is_none());
                let sub = changes.len() as i64;
                match (kind, live.contains_key(&key)) {
                    (0..=3, _) if !was_put && !was_deleted => {
                        live.insert(key.clone(), ());
                        changes.push((main, sub, key, Some(vec![kind; len])));
                    }
                    (4.., true) if !was_deleted => {
                        live.remove(&key);
                        changes.push((main, sub, key, None));
                    }
                    (_, _) => {}
                }
            }
            if !changes.is_empty() {
                main += 1;
                log.append(&mut changes);
            }
        }
        log
    })
}

/// What a compaction leaves, as it stands in the head of this module.
fn model(log: &[Change], compacted: i64) -> Vec<Change> {
    let mut last = BTreeMap::new();
    for change in log.iter().filter(|change| change.0 <= compacted) {
        last.insert(change.2.clone(), key_of(change));
    }
    let stays = |change: &&Change| match change {
        (main, ..) if *main > compacted => true,
        (_, _, key, Some(_)) => last[key] == key_of(change),
        (main, _, _, None) => *main == compacted,
    };
    log.iter().filter(stays).cloned().collect()
}

/// A database with that log, marks and buckets beside it; with free pages, as one that has lived.
fn database(log: &[Change], marks: [Option<i64>; 2]) -> Vec<u8> {
    let write = |bytes: &mut Vec<u8>, entries: &[Change]| {
        let old = bytes.clone();
        let base = File::open(&old).unwrap();
        let report = check(&base, Rules::Ours, |_, _, _| {});
        let mut writer = Writer::over(bytes, &base, &report).unwrap();
        let mut put = |name: &str, entries: &[(Vec<u8>, Vec<u8>)]| {
            let mut bucket = writer.bucket(name.as_bytes()).unwrap();
            entries.iter().for_each(|(key, value)| bucket.put(key, value).unwrap());
            bucket.finish().unwrap();
        };
        let keys: Vec<_> = entries.iter().map(|entry| (key_of(entry), value_of(entry))).collect();
        put("alarm", &[]);
        put("key", &keys);
        let leases: Vec<_> = (1..60)
            .map(|id| Lease::granted(super::super::LeaseId(id), 30))
            .collect();
        let leases: Vec<_> = leases
            .iter()
            .map(|lease| (lease.key().to_vec(), lease.encode()))
            .collect();
        put("lease", &leases);
        put("members", &[(b"1f".to_vec(), br#"{"id":31,"name":"m1"}"#.to_vec())]);
        let mut meta = vec![(b"consistent_index".to_vec(), 77_u64.to_be_bytes().to_vec())];
        for (key, mark) in [FINISHED_COMPACT_REV, SCHEDULED_COMPACT_REV].into_iter().zip(marks) {
            let mark = mark.map(|mark| RevisionKey::first_put(Revision::new(mark).unwrap()).encode());
            meta.extend(mark.map(|mark| (key.to_vec(), mark)));
        }
        meta.sort();
        meta.push((b"term".to_vec(), 3_u64.to_be_bytes().to_vec()));
        put("meta", &meta);
        put("of a later etcd", &[(b"a".to_vec(), b"b".to_vec())]);
        writer.finish().unwrap().seal().unwrap();
    };
    let mut bytes = Writer::fresh(Vec::new(), PAGE)
        .unwrap()
        .finish()
        .unwrap()
        .seal()
        .unwrap()
        .0;
    write(&mut bytes, &log[..log.len() / 2]);
    write(&mut bytes, log);
    bytes
}

fn inspected(file: &File<'_>, compacted: Option<i64>) -> Inspection {
    Inspection::of(file, LiveKeys::Counted, compacted, |_, _, _| {}).unwrap()
}

fn rewritten(file: &File<'_>, history: History) -> Vec<u8> {
    rewrite(file, history, Vec::new()).unwrap().seal().unwrap().0
}

fn size(file: &File<'_>, history: History) -> (u64, u64) {
    let mut size = RewrittenSize::new(file, history).unwrap();
    assert!(check(file, Rules::Bbolt, |bucket, key, value| size.entry(bucket, key, value)).is_sound());
    size.finish()
}

fn entries(file: &File<'_>, bucket: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bucket = file.bucket(bucket).unwrap().unwrap();
    let owned = |entry: Result<bbolt::Entry<'_>, _>| entry.map(|(key, value)| (key.to_vec(), value.to_vec()));
    bucket.iter().map(owned).collect::<Result<_, _>>().unwrap()
}

/// All that holds for whatever is written anew.
fn assert_same(before: &[u8], after: &[u8], history: History) {
    let (source, made) = (File::open(before).unwrap(), File::open(after).unwrap());
    let report = check(&made, Rules::Ours, |_, _, _| {});
    assert!(report.is_sound(), "{:?}", report.faults());
    // The metas and the freelist are in use too.
    assert_eq!(report.reachable().len(), made.pages(), "there are free pages");
    let (was, is) = (inspected(&source, None), inspected(&made, None));
    assert_eq!((was.fault_count(), is.fault_count()), (0, 0));
    assert_eq!(differences((&source, &was), (&made, &is), history).unwrap(), [""; 0]);
    assert_eq!(is.summary.members, was.summary.members);
    assert_eq!(is.summary.leases.len(), 59);
    assert_eq!(is.summary.meta.consistent_index, Some(77));
    assert_eq!(entries(&made, b"of a later etcd"), entries(&source, b"of a later etcd"));
    assert_eq!(
        made.bucket_names().unwrap().count(),
        source.bucket_names().unwrap().count()
    );
    let size = size(&source, history);
    assert_eq!(size, (after.len() as u64, entries(&made, b"key").len() as u64));
    assert_eq!(rewritten(&made, history), after, "once more changes nothing");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_stays_is_what_a_compaction_leaves_and_reads_the_same(log in log(), at in 0..110_usize, scheduled: bool) {
        let last = log.last().map_or(1, |change| change.0);
        let compacted = 1 + (last - 1) * at.min(100) as i64 / 100;
        let marks = match scheduled {
            // Begun, and cut off at any place.
            true => [(compacted > 3).then_some(compacted / 2), Some(compacted)],
            false => [Some(compacted); 2],
        };
        // What a finished compaction gave up is gone: a server marks it so in the transaction that removes the last of it.
        let half_done = match marks[0] {
            Some(finished) => model(&log, finished),
            None => log.clone(),
        };
        let before = database(&half_done, marks);
        let source = File::open(&before).unwrap();
        let history = History::asked_by(CompactionMarks::read(&source));
        prop_assert_eq!(history, History::CompactedAt(Revision::new(compacted).unwrap()));
        let after = rewritten(&source, history);
        assert_same(&before, &after, history);
        let made = File::open(&after).unwrap();
        let left: Vec<_> = model(&log, compacted).iter().map(|change| (key_of(change), value_of(change))).collect();
        prop_assert_eq!(entries(&made, b"key"), left);
        let marks = CompactionMarks::read(&made);
        prop_assert_eq!((marks.scheduled, marks.finished), (Revision::new(compacted).ok(), Revision::new(compacted).ok()));
    }

    #[test]
    fn without_a_compaction_all_stays(log in log(), finished in prop::option::of(1..5_i64)) {
        let log = finished.map_or(log.clone(), |finished| model(&log, finished));
        let before = database(&log, [finished, finished]);
        let source = File::open(&before).unwrap();
        let after = rewritten(&source, History::Whole);
        assert_same(&before, &after, History::Whole);
        let made = File::open(&after).unwrap();
        prop_assert_eq!(entries(&made, b"key"), entries(&source, b"key"));
        prop_assert_eq!(entries(&made, b"meta"), entries(&source, b"meta"));
    }

    #[test]
    fn all_that_is_past_can_go(log in log()) {
        let before = database(&log, [None, None]);
        let source = File::open(&before).unwrap();
        let last = inspected(&source, None).summary.revision();
        let history = History::CompactedAt(last);
        assert_same(&before, &rewritten(&source, history), history);
    }
}

/// put a=1, put b=2, put a=3, delete b: a real store, with the numbers of etcd 3.5.30.
fn recorded() -> Vec<Change> {
    let put = |main, key: &str, value: &str| (main, 0, key.to_owned(), Some(value.as_bytes().to_vec()));
    vec![
        put(2, "a", "1"),
        put(3, "b", "2"),
        put(4, "a", "3"),
        (5, 0, "b".to_owned(), None),
    ]
}

#[test]
fn what_is_lost_or_changed_on_the_way_is_told() {
    let log = recorded();
    let before = database(&log, [None, Some(4)]);
    let source = File::open(&before).unwrap();
    let history = History::asked_by(CompactionMarks::read(&source));
    let told = |after: &[u8]| {
        let made = File::open(after).unwrap();
        differences(
            (&source, &inspected(&source, None)),
            (&made, &inspected(&made, None)),
            history,
        )
        .unwrap()
    };
    assert_eq!(told(&rewritten(&source, history)), [""; 0]);
    let mut changed = model(&log, 4);
    // A key that only the compacted revision still has.
    changed.remove(0);
    assert_eq!(
        told(&database(&changed, [Some(4); 2])),
        ["HashKV at the compacted revision"]
    );
    let mut changed = model(&log, 4);
    changed[1].3 = Some(b"4".to_vec());
    assert!(told(&database(&changed, [Some(4); 2])).contains(&"HashKV"));
    assert_eq!(
        told(&database(&model(&log, 4), [Some(3), Some(5)]))[0],
        "compacted revision"
    );
    let mut without = rewritten(&source, history);
    let at = without.windows(4).position(|bytes| bytes == b"\"m1\"").unwrap();
    without[at + 2] = b'2';
    assert_eq!(told(&without), ["buckets beside the log"]);
}

#[test]
fn snapshots_of_real_servers_keep_their_hash() {
    for (bytes, left) in [
        (
            &include_bytes!("../../../tests/vectors/fixtures/etcd-3.4.23-rev97-base.snap")[..],
            None,
        ),
        (
            &include_bytes!("../../../tests/vectors/fixtures/etcd-3.4.23-rev346-compact150.snap")[..],
            Some(150),
        ),
    ] {
        let source = File::open(&bytes[..bytes.len() - 32]).unwrap();
        let history = History::asked_by(CompactionMarks::read(&source));
        assert_eq!(history.compacted(), left.unwrap_or(-1));
        let after = rewritten(&source, history);
        let made = File::open(&after).unwrap();
        let (was, is) = (inspected(&source, None), inspected(&made, None));
        assert_eq!(is.hash_kv(), was.hash_kv());
        assert_eq!(differences((&source, &was), (&made, &is), history).unwrap(), [""; 0]);
        assert!(after.len() < bytes.len(), "{} of {}", after.len(), bytes.len());
        assert_eq!(size(&source, history).0, after.len() as u64);
    }
}
