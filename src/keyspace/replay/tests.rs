use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One entry: revision, position in it, and key and value, or just the key of a deletion.
type Change = (i64, i64, &'static str, Option<String>);

fn key_of((main, sub, _, value): &Change) -> RevisionKey {
    let kind = if value.is_some() {
        EntryKind::Put
    } else {
        EntryKind::Tombstone
    };
    RevisionKey::new(Revision::new(*main).unwrap(), *sub, kind).unwrap()
}

fn bytes_of(change: &Change) -> (Vec<u8>, Vec<u8>) {
    let (main, _, key, value) = change;
    let record = match value {
        Some(value) => KeyValue {
            key: key.as_bytes(),
            create_revision: *main,
            mod_revision: *main,
            version: 1,
            value: value.as_bytes(),
            lease: i64::try_from(value.len()).unwrap() % 3,
        },
        None => KeyValue::tombstone(key.as_bytes()),
    };
    let mut message = Vec::new();
    record.encode_into(&mut message);
    (key_of(change).encode(), message)
}

/// The algorithm as it stands in the specification: two passes over a list, nothing clever.
fn naive(log: &[Change], until: i64, compacted: i64) -> u32 {
    let mut last = BTreeMap::new();
    for change in log.iter().filter(|change| change.0 <= until) {
        last.insert(change.2, change);
    }
    let keep: Vec<_> = last
        .values()
        .filter(|change| change.3.is_some())
        .map(|change| key_of(change))
        .collect();
    let mut hash = crc32c::crc32c(b"key");
    for change in log {
        let (key, value) = bytes_of(change);
        if change.0 > until
            || (change.0 <= compacted && !keep.is_empty() && !keep.contains(&key_of(change)))
            || (change.0 == compacted && change.3.is_none())
        {
            continue;
        }
        hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value);
    }
    hash
}

/// What a finished compaction leaves of a log.
fn compact(log: &[Change], compacted: i64) -> Vec<Change> {
    let mut last = BTreeMap::new();
    for change in log.iter().filter(|change| change.0 <= compacted) {
        last.insert(change.2, key_of(change));
    }
    let stays = |change: &&Change| {
        change.0 > compacted
            || (last[change.2] == key_of(change) && change.3.is_some())
            || (change.0 == compacted && change.3.is_none())
    };
    log.iter().filter(stays).cloned().collect()
}

fn replayed(log: &[Change], keys: LiveKeys, until: Option<i64>, compacted: &[i64]) -> Replayed {
    replayed_after(CompactionMarks::default(), log, keys, until, compacted)
}

fn replayed_after(
    marks: CompactionMarks,
    log: &[Change],
    keys: LiveKeys,
    until: Option<i64>,
    compacted: &[i64],
) -> Replayed {
    let entries: Vec<_> = log.iter().map(bytes_of).collect();
    let entries = || entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    read(
        marks,
        keys,
        until.map(|until| Revision::new(until).unwrap()),
        compacted,
        |_| entries(),
        |_| {},
    )
}

/// The marks of a store whose compaction has come to an end.
fn compacted_at(revision: i64) -> CompactionMarks {
    let revision = Revision::new(revision).ok();
    CompactionMarks {
        scheduled: revision,
        finished: revision,
    }
}

/// put a=1, put b=2, put a=3, delete b on a fresh store, with the numbers of etcd 3.5.30.
fn recorded_log() -> [(&'static [u8], &'static [u8]); 4] {
    [
        (
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0",
            b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x011",
        ),
        (
            b"\0\0\0\0\0\0\0\x03_\0\0\0\0\0\0\0\0",
            b"\x0a\x01b\x10\x03\x18\x03\x20\x01\x2a\x012",
        ),
        (
            b"\0\0\0\0\0\0\0\x04_\0\0\0\0\0\0\0\0",
            b"\x0a\x01a\x10\x02\x18\x04\x20\x02\x2a\x013",
        ),
        (b"\0\0\0\0\0\0\0\x05_\0\0\0\0\0\0\0\0t", b"\x0a\x01b"),
    ]
}

#[test]
fn hashes_are_those_of_a_real_server() {
    for (revision, compacted, expected) in [
        (5, -1, 1_125_682_900),
        (4, -1, 2_069_675_932),
        (3, -1, 1_827_592_406),
        (5, 4, 1_468_967_122),
        (5, 5, 3_184_071_396),
        (4, 3, 1_107_643_163),
    ] {
        for keys in [LiveKeys::Counted, LiveKeys::Ignored] {
            let until = Some(Revision::new(revision).unwrap());
            let log = |_| recorded_log().into_iter();
            let hash = read(CompactionMarks::default(), keys, until, &[compacted], log, |_| {}).hashes[0];
            assert_eq!(hash.hash, expected, "revision {revision} compacted {compacted}");
            assert_eq!(hash.compared_with(expected), Agreement::Equal);
            assert_eq!(hash.compared_with(expected ^ 1), Agreement::Different);
        }
    }
}

#[test]
fn an_empty_log_hashes_to_the_name_of_the_bucket() {
    let replayed = replayed(&[], LiveKeys::Counted, None, &[-1]);
    assert_eq!(replayed.hashes[0].hash, crc32c::crc32c(b"key"));
    assert_eq!((replayed.last, replayed.live_keys), (None, Some(0)));
}

#[test]
fn without_a_live_key_the_state_of_the_compaction_decides() {
    let put = |main, value: &str| (main, 0, "a", Some(value.to_owned()));
    let log = [put(2, "x"), put(3, "y"), (4, 0, "a", None)];
    let hash = replayed(&log, LiveKeys::Ignored, None, &[3]).hashes[0];
    assert_eq!(hash.hash, naive(&log, 4, 3));
    assert_eq!(hash.settled, naive(&compact(&log, 3), 4, 3));
    assert_ne!(hash.hash, hash.settled);
    assert_eq!(hash.compared_with(hash.settled), Agreement::Equal);
    assert_eq!(hash.compared_with(1), Agreement::Unknown);
}

#[test]
fn entries_out_of_order_or_malformed_are_refused_and_not_counted() {
    let log = recorded_log();
    let mut replay = Replay::new(CompactionMarks::default(), LiveKeys::Counted, None, &[-1], None);
    replay.entry(log[1].0, log[1].1).unwrap();
    let before = format!("{replay:?}");
    for (key, value) in [
        (log[1].0, log[1].1),
        (log[0].0, log[0].1),
        (log[2].0, b"\x0a\xff"),
        (b"x", b""),
    ] {
        replay.entry(key, value).unwrap_err();
    }
    assert_eq!(format!("{replay:?}"), before);
}

#[test]
fn the_entry_of_a_bump_lives_as_the_empty_key() {
    let bump = RevisionKey::first_put(Revision::new(1_000_005).unwrap()).encode();
    let log = |_| recorded_log().into_iter().chain([(bump.as_slice(), &b""[..])]);
    let marks = CompactionMarks {
        scheduled: Revision::new(1_000_005).ok(),
        finished: None,
    };
    let replayed = read(marks, LiveKeys::Counted, None, &[1_000_005], log, |_| {});
    assert_eq!(
        (replayed.live_keys, &replayed.broken),
        (Some(2), &BrokenLives::default())
    );
    let kept = [&b"key"[..], recorded_log()[2].0, recorded_log()[2].1, &bump].concat();
    assert_eq!(replayed.hashes[0].hash, crc32c::crc32c(&kept));
}

#[test]
fn a_young_log_needs_no_memory_when_keys_are_ignored() {
    let mut replay = Replay::new(CompactionMarks::default(), LiveKeys::Ignored, None, &[-1], None);
    for (key, value) in recorded_log() {
        replay.entry(key, value).unwrap();
    }
    assert!(replay.changed.is_none());
}

/// A history as etcd can have it: revisions without gaps, several changes in some, few keys.
fn history() -> impl Strategy<Value = Vec<Change>> {
    let key = prop::sample::select(vec!["a", "b", "c", "d", ""]);
    let change = (key, prop::option::weighted(0.6, "[xyz]{0,4}"));
    prop::collection::vec(prop::collection::vec(change, 1..4), 0..14).prop_map(|revisions| {
        let number = |(main, changes): (usize, Vec<(&'static str, Option<String>)>)| {
            changes
                .into_iter()
                .enumerate()
                .map(move |(sub, (key, value))| (main as i64 + 2, sub as i64, key, value))
        };
        revisions.into_iter().enumerate().flat_map(number).collect()
    })
}

proptest! {
    #[test]
    fn streaming_equals_the_naive_way(
        log in history(),
        until in 0i64..18,
        mut compacted in prop::collection::vec(-1i64..18, 1..4),
        counted: bool,
    ) {
        let keys = if counted { LiveKeys::Counted } else { LiveKeys::Ignored };
        let streamed = replayed(&log, keys, Some(until), &compacted);
        compacted.sort_unstable();
        compacted.dedup();
        for (compacted, hash) in compacted.iter().zip(&streamed.hashes) {
            prop_assert_eq!(hash.compact_revision, *compacted);
            prop_assert_eq!(hash.hash, naive(&log, until, *compacted));
        }
        prop_assert_eq!(streamed.hashes.len(), compacted.len());
    }

    #[test]
    fn a_finished_compaction_does_not_change_the_hash(log in history(), until in 0i64..18, compacted in -1i64..18) {
        // A server refuses to hash a revision that is older than its compaction.
        let until = until.max(compacted);
        let uncompacted = replayed(&log, LiveKeys::Ignored, Some(until), &[compacted]);
        let shorter = compact(&log, compacted);
        for marks in [CompactionMarks::default(), compacted_at(compacted)] {
            let settled = replayed_after(marks, &shorter, LiveKeys::Counted, Some(until), &[compacted]);
            prop_assert_eq!(uncompacted.hashes[0].settled, settled.hashes[0].hash);
            prop_assert_eq!(uncompacted.hashes[0].compared_with(settled.hashes[0].hash), Agreement::Equal);
        }
    }

    #[test]
    fn live_keys_and_leases_are_those_of_the_naive_way(log in history(), compacted in -1i64..18) {
        let compacted = compacted.min(log.last().map_or(1, |change| change.0));
        let mut live = BTreeMap::new();
        for (_, _, key, value) in &log {
            match value {
                Some(value) => live.insert(key, value.len() as i64 % 3),
                None => live.remove(key),
            };
        }
        let mut leases = BTreeMap::new();
        for lease in live.values().filter(|lease| **lease != 0) {
            *leases.entry(LeaseId(*lease)).or_insert(0u64) += 1;
        }
        let leases: Vec<_> = leases.into_iter().collect();
        // Read along, ahead of what was compacted, and ahead with a compaction still to come.
        let end = log.last().map_or(1, |change| change.0);
        for (marks, targets, log) in [
            (CompactionMarks::default(), vec![], log.clone()),
            (compacted_at(compacted), vec![compacted, end], compact(&log, compacted)),
            (CompactionMarks { scheduled: Revision::new(end).ok(), ..compacted_at(compacted) }, vec![end], compact(&log, compacted)),
        ] {
            let streamed = replayed_after(marks, &log, LiveKeys::Counted, None, &targets);
            prop_assert_eq!(streamed.live_keys, Some(live.len() as u64));
            prop_assert_eq!(&streamed.leases, &leases);
            prop_assert_eq!(streamed.entries, log.len() as u64);
        }
    }

    #[test]
    fn hostile_entries_never_panic(finished in -1i64..3, entries in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..20)), 0..8)) {
        let log = |_| entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let marks = compacted_at(finished);
        let mut replay = Replay::new(marks, LiveKeys::Counted, None, &[-1], None);
        for (key, value) in log(-1) {
            let taken = replay.entry(key, value).is_ok();
            prop_assert!(!taken || KeyValue::decode(value).is_ok());
        }
        for targets in [&[-1][..], &[-1, 0, i64::MAX]] {
            let replayed = read(marks, LiveKeys::Counted, None, targets, log, |_| {});
            prop_assert!(replayed.entries <= entries.len() as u64);
        }
    }
}
