use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::candidates::Place;
use super::*;
use crate::bbolt::Leaves as _;
use crate::etcd::KeyPut;
use crate::keyspace::{EntryKind, KeyValue, LogKey, RevisionKey};

const LARGE: ByteSize = ByteSize(1 << 30);

fn revision(revision: i64) -> Revision {
    Revision::new(revision).unwrap()
}

/// An entry of the log, and the change that it is.
type Logged = ((Vec<u8>, Vec<u8>), KeyChange);

fn entry(main: i64, sub: i64, value: Option<&[u8]>) -> Logged {
    let kind = if value.is_some() {
        EntryKind::Put
    } else {
        EntryKind::Tombstone
    };
    let key = format!("/key/{main}/{sub}").into_bytes();
    let record = match value {
        None => KeyValue::tombstone(&key),
        Some(value) => KeyValue {
            key: &key,
            create_revision: 3,
            mod_revision: main,
            version: 7,
            value,
            lease: 9,
        },
    };
    let mut message = Vec::new();
    record.encode_into(&mut message);
    let at = RevisionKey::new(revision(main), sub, kind).unwrap().encode();
    let put = value.map(|value| KeyPut {
        value: value.to_vec(),
        create_revision: revision(3),
        version: 7,
        lease: 9,
    });
    ((at, message), KeyChange { key, put })
}

fn candidates(wanted: RangeOf, folder: &std::path::Path, most: u64) -> Candidates {
    Candidates::new(wanted.0..=wanted.1, folder, ByteSize(most), Arc::default()).unwrap()
}

struct RangeOf(i64, i64);

/// A leaf passes.
fn pass(candidates: &mut Candidates, entries: &[Logged]) -> Option<(LogKey, Place)> {
    let first = candidates.key(&entries.first()?.0.0)?;
    let bytes = entries.iter().map(|((key, value), _)| (&key[..], &value[..]));
    Some((first, candidates.leaf(bytes).unwrap()))
}

fn handed_out(
    candidates: &Candidates,
    leaves: &[(LogKey, Place)],
    ends: (i64, i64),
    most: ByteSize,
) -> (Vec<WholeRevision>, Result<ControlFlow<()>, String>) {
    let leaves = leaves.iter().map(|(key, place)| (key, *place));
    let mut whole = Vec::new();
    let ends = (revision(ends.0), revision(ends.1));
    let end = hand_out(candidates, leaves, ends, most, &mut |revision| {
        whole.push(revision);
        ControlFlow::Continue(())
    });
    (whole, end)
}

/// The changes of a log from a revision to another one, by revision.
fn expected(log: &[Logged], from: i64, to: i64) -> Vec<WholeRevision> {
    let mut whole: Vec<WholeRevision> = Vec::new();
    for ((key, _), change) in log {
        let at = RevisionKey::decode(key).unwrap().main();
        if !(from..=to).contains(&at.get()) {
            continue;
        }
        match whole.last_mut().filter(|last| last.revision == at) {
            Some(last) => last.changes.push(change.clone()),
            None => whole.push(WholeRevision {
                revision: at,
                changes: vec![change.clone()],
            }),
        }
    }
    whole
}

/// How many changes a revision has, and how long values are; how leaves are cut, and in which order they pass.
fn logs() -> impl Strategy<Value = (Vec<(u8, usize)>, Vec<usize>, Vec<u16>)> {
    let revisions = proptest::collection::vec((1..5_u8, prop_oneof![3 => 0..300_usize, 1 => 0..90_000_usize]), 1..60);
    let cuts = proptest::collection::vec(1..12_usize, 100);
    let order = proptest::collection::vec(any::<u16>(), 400);
    (revisions, cuts, order)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn leaves_in_any_order_among_dead_ones_give_what_a_watch_tells((revisions, cuts, order) in logs(), from in 1..70_i64) {
        let mut log = Vec::new();
        for (at, (count, len)) in (5..).zip(&revisions) {
            for sub in 0..i64::from(*count) {
                let value = vec![at as u8; *len];
                log.push(entry(at, sub, (sub != 2).then_some(&value)));
            }
        }
        let last = 4 + revisions.len() as i64;
        let from = from.clamp(5, last);
        // What counts, and beside each leaf the same in an older state, and one of another history.
        let (mut leaves, mut rest) = (Vec::new(), &log[..]);
        for cut in cuts.iter().cycle() {
            let (leaf, behind) = rest.split_at((*cut).min(rest.len()));
            if leaf.is_empty() {
                break;
            }
            leaves.push((Some(leaves.len()), leaf.to_vec()));
            leaves.push((None, leaf[..leaf.len() / 2].to_vec()));
            let main = RevisionKey::decode(&leaf[0].0.0).unwrap().main().get();
            leaves.push((None, vec![entry(main, 0, Some(b"another history"))]));
            rest = behind;
        }
        let mut shuffled: Vec<_> = leaves.into_iter().enumerate().collect();
        shuffled.sort_by_key(|(at, _)| order.get(*at).copied().unwrap_or(0));
        let folder = tempfile::tempdir().unwrap();
        let mut candidates = candidates(RangeOf(from, i64::MAX), folder.path(), 1 << 30);
        let mut live = Vec::new();
        for (_, (place, leaf)) in &shuffled {
            let passed = pass(&mut candidates, leaf);
            live.extend(place.zip(passed));
        }
        live.sort_by_key(|(at, _)| *at);
        let live: Vec<_> = live.into_iter().map(|(_, passed)| passed).collect();
        prop_assert_eq!(candidates.unkept(), None);
        let (whole, end) = handed_out(&candidates, &live, (from, last), LARGE);
        prop_assert_eq!(end, Ok(ControlFlow::Continue(())));
        prop_assert_eq!(whole, expected(&log, from, last));
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_is_missing_is_found_and_nothing_behind_it_is_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let two = |main| [entry(main, 0, Some(b"a")), entry(main, 1, None)];
    let log = [two(7), two(8), two(9)].concat();
    let mut raised = log.clone();
    raised[2].0.1.clear();
    let without = |at: usize| {
        let mut log = log.clone();
        log.remove(at);
        log
    };
    // A whole revision, the first and the last part of one, the last one, and the mark that raises a revision.
    let whole = [&log[..2], &log[4..]].concat();
    for (log, ends, missing, whole) in [
        (whole, (7, 9), 8, 1),
        (without(0), (7, 9), 7, 0),
        (without(2), (7, 9), 8, 1),
        (log.clone(), (7, 10), 10, 3),
        (log.clone(), (6, 9), 6, 0),
        (raised, (7, 9), 8, 1),
    ] {
        let mut candidates = candidates(RangeOf(ends.0, ends.1), folder.path(), 1 << 30);
        let leaves: Vec<_> = log.chunks(3).filter_map(|leaf| pass(&mut candidates, leaf)).collect();
        let (handed, end) = handed_out(&candidates, &leaves, ends, LARGE);
        assert_eq!(end, Err(format!("revision {missing} is not all there")));
        assert_eq!(handed.len(), whole);
    }
    let mut candidates = candidates(RangeOf(7, 9), folder.path(), 1 << 30);
    let leaves: Vec<_> = log.chunks(3).filter_map(|leaf| pass(&mut candidates, leaf)).collect();
    let (_, end) = handed_out(&candidates, &leaves, (7, 9), ByteSize(100));
    assert_eq!(
        end,
        Err("there is more than 100 B of changes of revision 7 alone".to_owned())
    );
}

#[test]
fn what_has_no_room_says_how_much_had_and_leaves_the_room_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let held = Arc::new(AtomicU64::new(0));
    let mut candidates = Candidates::new(1..=i64::MAX, folder.path(), ByteSize(600_000), held.clone()).unwrap();
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    for main in 1..=100 {
        let value: Vec<u8> = (0..10_000).map(|_| random()).collect();
        pass(&mut candidates, &[entry(main, 0, Some(&value))]).unwrap();
    }
    let length = held.load(Ordering::Relaxed);
    assert!((500_000..=600_000).contains(&length), "{length}");
    let Some(Unkept::NoRoom { revisions }) = candidates.unkept() else {
        panic!("{:?}", candidates.unkept())
    };
    assert!((54..=90).contains(revisions), "{revisions}");
    drop(candidates);
    assert_eq!(held.load(Ordering::Relaxed), 0);
    let gone = Candidates::new(1..=2, &folder.path().join("gone"), ByteSize(1), held);
    assert!(matches!(gone.err(), Some(Unkept::Failed(_))));
}

#[tokio::test]
async fn what_fills_the_spool_waits_while_it_drains_and_not_for_ever() {
    let (_sender, heard) = mpsc::channel(1);
    let mut catching_up = CatchingUp {
        heard,
        held: Arc::new(AtomicU64::new(70)),
        stuck: None,
        begun: Instant::now(),
        _task: JoinSet::new(),
    };
    let begun = Instant::now();
    let mut may = |waits, after| {
        let now = begun + Duration::from_secs(after);
        catching_up.may_go_on(ByteSize(waits), ByteSize(100), ByteSize(10), now)
    };
    assert!(may(20, 0) && !may(40, 0) && !may(40, 299));
    // It drains, and does not any more.
    assert!(!may(39, 300) && !may(39, 599) && may(39, 600) && may(45, 601));
    assert!(may(20, 602) && !may(40, 603));
    // However little there is in all, an empty one takes a delta.
    assert!(may(0, 604) && !may(25, 605));
}

#[test]
fn a_snapshot_is_drawn_where_a_watch_costs_more() {
    let is_due = |behind, bytes| SnapshotFrom::MEASURED.is_due(behind, bytes);
    assert!(!is_due(10_000, 0) && is_due(10_001, 1 << 20) && !is_due(-1, 0));
    // Of 150 MB and of 8 GB.
    assert!(!is_due(27_000, 150_000_000) && is_due(28_000, 150_000_000));
    assert!(!is_due(200_000, 8_000_000_000) && is_due(201_000, 8_000_000_000));
    assert!(is_due(i64::MAX, u64::MAX));
}
