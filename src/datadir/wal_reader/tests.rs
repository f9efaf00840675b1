use proptest::prelude::*;

use super::super::raft;
use super::super::wal::{RecordType, Segment};
use super::*;
use crate::datadir::{EntryKind, wal};
use crate::keyspace::wire::{put_bytes, put_uint64};

/// A record that a segment is made of.
#[derive(Debug, Clone)]
enum Written {
    Entry { term: u64, index: u64, data: Vec<u8> },
    State { term: u64, commit: u64 },
    Snapshot { term: u64, index: u64 },
}

impl Written {
    fn push(&self, segment: &mut Segment) {
        let mut data = Vec::new();
        let kind = match self {
            Written::Entry { term, index, data: of } => {
                put_uint64(&mut data, 1, 0);
                put_uint64(&mut data, 2, *term);
                put_uint64(&mut data, 3, *index);
                put_bytes(&mut data, 4, of);
                RecordType::Entry
            }
            Written::State { term, commit } => {
                for (number, value) in [(1, *term), (2, 7), (3, *commit)] {
                    put_uint64(&mut data, number, value);
                }
                RecordType::State
            }
            Written::Snapshot { term, index } => {
                put_uint64(&mut data, 1, *index);
                put_uint64(&mut data, 2, *term);
                RecordType::Snapshot
            }
        };
        segment.push(kind, Some(&data));
    }
}

fn entry(term: u64, index: u64) -> Written {
    let data = format!("entry {index} of term {term}").into_bytes();
    Written::Entry { term, index, data }
}

/// The segments of a log, each with its name and its bytes.
fn log_of(parts: &[Vec<Written>]) -> Vec<(SegmentName, Vec<u8>)> {
    let (mut segments, mut crc, mut next_index) = (Vec::new(), 0, 0);
    for (sequence, part) in (0..).zip(parts) {
        let first_index = next_index;
        let mut segment = Segment {
            crc,
            ..Segment::default()
        };
        segment.push(RecordType::Crc, None);
        let mut metadata = Vec::new();
        put_uint64(&mut metadata, 1, 5);
        put_uint64(&mut metadata, 2, 6);
        segment.push(RecordType::Metadata, Some(&metadata));
        for record in part {
            record.push(&mut segment);
            if let Written::Entry { index, .. } = record {
                next_index = index + 1;
            }
        }
        crc = segment.crc;
        segments.push((SegmentName { sequence, first_index }, segment.bytes));
    }
    segments
}

fn read(segments: &[(SegmentName, Vec<u8>)], after: u64) -> Log {
    let mut reader = Reader::after(after);
    for (place, (name, bytes)) in segments.iter().enumerate() {
        reader.segment(*name, bytes, place + 1 == segments.len());
    }
    reader.finish()
}

fn indexes(log: &Log) -> Vec<(u64, u64)> {
    log.entries.iter().map(|entry| (entry.term, entry.index)).collect()
}

/// Where its records end, from 0 on.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    while *ends.last().unwrap() < bytes.len() {
        let at = *ends.last().unwrap();
        let word = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let padding = if word >> 63 == 1 { (word >> 56 & 7) as usize } else { 0 };
        ends.push(at + 8 + (word & 0xff_ffff) as usize + padding);
    }
    ends
}

/// Three segments with a change of leader in the middle, which writes entries 7 and 8 anew.
fn three() -> Vec<(SegmentName, Vec<u8>)> {
    log_of(&[
        vec![
            Written::Snapshot { term: 0, index: 0 },
            entry(1, 1),
            entry(1, 2),
            entry(1, 3),
            Written::State { term: 1, commit: 3 },
        ],
        vec![
            entry(1, 4),
            entry(1, 5),
            entry(1, 6),
            entry(1, 7),
            entry(1, 8),
            entry(1, 9),
        ],
        vec![
            entry(2, 7),
            entry(2, 8),
            Written::State { term: 2, commit: 8 },
            Written::Snapshot { term: 1, index: 5 },
            entry(2, 9),
        ],
    ])
}

#[test]
fn a_log_reads_across_segments_and_later_leaders_replace_entries() {
    let log = read(&three(), 0);
    assert_eq!(
        indexes(&log),
        [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (2, 7), (2, 8), (2, 9)]
    );
    assert_eq!((log.end, log.damages.len(), log.segments), (End::Whole, 0, 3));
    assert_eq!(log.identity, Some((ClusterId(6), MemberId(5))));
    assert_eq!(
        (log.hard_state.commit, log.hard_state.term, log.hard_state.vote),
        (8, 2, 7)
    );
    assert_eq!((log.first_index, log.last_index), (Some(1), 9));
    assert_eq!(log.snapshots.last().map(|mark| (mark.index, mark.term)), Some((5, 1)));
    assert_eq!(log.entries[7].data, b"entry 8 of term 2");
    // Only those that are wanted are kept.
    assert_eq!(indexes(&read(&three(), 7)), [(2, 8), (2, 9)]);
    assert_eq!(indexes(&read(&three(), 9)), []);
    assert_eq!(indexes(&read(&three(), 50)), []);
    // What comes after what is left out: the segments that are not wanted need not be read.
    let segments = three();
    let names: Vec<_> = segments.iter().map(|(name, _)| *name).collect();
    for (after, first) in [(0, 0), (2, 0), (3, 1), (8, 1), (9, 2), (40, 2)] {
        assert_eq!(Reader::after(after).first_wanted(&names), first, "after {after}");
        let part = &segments[first..];
        assert_eq!(
            indexes(&read(part, after)),
            indexes(&read(&segments, after)),
            "after {after}"
        );
    }
}

#[test]
fn the_log_that_we_write_reads() {
    let membership = crate::datadir::snap::tests::members_of_the_fixtures();
    let own = membership.member("m2").unwrap();
    let bytes = wal::first_segment(&membership, own);
    let name = SegmentName::parse(wal::FILE_NAME).unwrap();
    assert_eq!(name.to_string(), wal::FILE_NAME);
    let log = read(&[(name, bytes)], 0);
    assert_eq!(log.identity, Some((membership.cluster_id(), own.id)));
    assert_eq!((log.hard_state.commit, log.last_index, log.end), (3, 3, End::Whole));
    assert!(log.entries.iter().all(|entry| entry.kind == EntryKind::ConfChange));
    let changes = log.entries.iter().map(|entry| raft::VoterChange::decode(&entry.data));
    let added: Vec<_> = changes.map(|change| change.unwrap().unwrap()).collect();
    let members = membership.members().iter();
    assert_eq!(
        added,
        members
            .map(|member| raft::VoterChange::Added(member.id.0))
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_logs_of_all_official_tools_read() {
    for line in ["3.4", "3.5", "3.6", "3.7"] {
        let bytes = crate::datadir::snap::tests::fixture(line, "wal-first-4096");
        let log = read(&[(SegmentName::parse(wal::FILE_NAME).unwrap(), bytes)], 0);
        assert_eq!((log.end, log.damages.len()), (End::Whole, 0), "{line}");
        assert_eq!(
            (log.hard_state.term, log.hard_state.commit, log.last_index),
            (1, 3, 3),
            "{line}"
        );
        let marks: Vec<_> = log.snapshots.iter().map(|mark| (mark.index, mark.term)).collect();
        assert_eq!(marks, [(0, 0), (3, 1)], "{line}");
        for entry in &log.entries {
            let change = raft::VoterChange::decode(&entry.data).unwrap();
            assert!(matches!(change, Some(raft::VoterChange::Added(_))), "{line}");
        }
        assert_eq!(indexes(&log), [(1, 1), (1, 2), (1, 3)], "{line}");
    }
}

#[test]
fn a_tail_that_was_cut_anywhere_is_given_up_up_to_the_last_whole_record() {
    let mut segments = three();
    let whole = segments[2].1.clone();
    let all = indexes(&read(&segments, 0));
    let ends = ends(&whole);
    for cut in 0..=whole.len() {
        let end = *ends.iter().filter(|end| **end <= cut).max().unwrap();
        // The file ends there.
        segments[2].1 = whole[..cut].to_vec();
        let log = read(&segments, 0);
        assert_eq!(log.damages, [], "cut at {cut}");
        match log.end {
            End::Whole => assert_eq!(cut, end),
            End::Torn { segment, offset, .. } => assert_eq!((segment, offset as usize), (segments[2].0, end)),
            End::Damaged => panic!("cut at {cut}"),
        }
        let expected = if end < ends[3] { (1, 7) } else { (2, 7) };
        assert!(
            all.starts_with(&indexes(&log)) || log.entries[6].term == expected.0,
            "cut at {cut}"
        );
        assert_eq!(
            log.entries.get(6).map(|entry| (entry.term, entry.index)),
            Some(expected)
        );
        // The end of what was preallocated: zeros follow.
        segments[2].1.resize(whole.len() + 4096, 0);
        let zeroed = read(&segments, 0);
        // A length that was written without all of its record leaves no sector of zeros here, which is damage to etcd too.
        let next = ends.iter().copied().find(|end| *end > cut).unwrap_or(cut);
        let lacks_zeros_only = whole[cut..next].iter().all(|byte| *byte == 0);
        if zeroed.end != End::Damaged && !lacks_zeros_only {
            assert_eq!(indexes(&zeroed), indexes(&log), "cut at {cut}");
        }
    }
}

#[test]
fn a_sector_of_zeros_in_the_last_record_is_a_torn_write_and_anything_else_is_damage() {
    let big = Written::Entry {
        term: 1,
        index: 2,
        data: vec![b'x'; 5000],
    };
    let segments = log_of(&[vec![entry(1, 1), big]]);
    let (name, whole) = segments[0].clone();
    let is_big = |bytes: &[u8]| bytes.iter().all(|byte| *byte == b'x');
    let inside = (1..).find(|sector| is_big(&whole[sector * 512..][..512])).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        read(&[(name, bytes)], 0)
    };
    let torn = with(&|bytes| bytes[inside * 512..][..512].fill(0));
    assert!(
        matches!(torn.end, End::Torn { given_up, .. } if given_up > 4000),
        "{:?}",
        torn.end
    );
    assert_eq!(indexes(&torn), [(1, 1)]);
    // Not a sector of the file.
    for changed in [
        with(&|bytes| bytes[inside * 512 + 1..][..511].fill(0)),
        with(&|bytes| bytes[inside * 512] ^= 1),
    ] {
        assert_eq!(changed.end, End::Damaged);
        assert_eq!(changed.damages[0].what, Wrong::Checksum);
        assert_eq!(indexes(&changed), [(1, 1)]);
    }
}

#[test]
fn damage_is_named_by_segment_and_offset() {
    let segments = three();
    let mut unseen = 0;
    // A byte of the second segment: neither its end nor a torn write.
    for at in (0..segments[1].1.len()).step_by(7) {
        let mut damaged = segments.clone();
        damaged[1].1[at] ^= 0x10;
        let log = read(&damaged, 0);
        // Zeros to a multiple of 8 are not looked at, nor are some bits of how many there are.
        if log == read(&segments, 0) {
            unseen += 1;
            continue;
        }
        assert!(
            log.end == End::Damaged && log.damages[0].segment.sequence == 1,
            "at {at}: {log:?}"
        );
        assert!(log.damages[0].offset as usize <= at, "at {at}");
    }
    assert!(unseen < segments[1].1.len() / 7 / 4, "{unseen}");
    let mut cut = segments.clone();
    cut[0].1.truncate(90);
    let log = read(&cut, 0);
    assert_eq!(log.damages[0].what, Wrong::CutShort);
    assert_eq!(
        log.damages[0].to_string(),
        "0000000000000000-0000000000000000.wal is damaged at byte 64: it ends in the middle of a record, and is not the last \
         segment"
    );
    // What is damaged before all that is wanted is told, and the rest is read.
    let log = read(&cut, 5);
    assert_eq!((log.damages.len(), log.end), (1, End::Whole));
    assert_eq!(indexes(&log), [(1, 6), (2, 7), (2, 8), (2, 9)]);
    // Records that are gone from the end of a segment: the next one does not go on from there.
    let mut short = segments.clone();
    let whole = ends(&short[0].1);
    short[0].1.truncate(whole[whole.len() - 2]);
    assert_eq!(read(&short, 0).damages[0].what, Wrong::Chain);
    // A segment that is gone.
    let gone = [segments[0].clone(), segments[2].clone()];
    let log = read(&gone, 0);
    assert_eq!(log.damages[0].what, Wrong::MissingSegment { expected: 1 });
    assert_eq!(log.end, End::Damaged);
    // Of another member.
    let mut metadata = Vec::new();
    put_uint64(&mut metadata, 1, 9);
    put_uint64(&mut metadata, 2, 6);
    let mut reader = Reader::after(0);
    reader.segment(segments[0].0, &segments[0].1, true);
    let mut foreign = Segment {
        bytes: segments[0].1.clone(),
        crc: reader.rolling,
    };
    foreign.push(RecordType::Metadata, Some(&metadata));
    let foreign = read(&[(segments[0].0, foreign.bytes)], 0);
    assert_eq!((foreign.damages[0].what, foreign.end), (Wrong::Foreign, End::Damaged));
}

#[test]
fn entries_that_are_not_in_the_log_are_told() {
    // It begins later than what is wanted.
    let later = log_of(&[vec![
        Written::Snapshot { term: 1, index: 90 },
        entry(1, 91),
        entry(1, 92),
    ]]);
    let log = read(&later, 40);
    assert_eq!(
        (log.missing_up_to, log.entries.len(), log.end),
        (Some(90), 0, End::Whole)
    );
    assert_eq!(indexes(&read(&later, 90)), [(1, 91), (1, 92)]);
    // Another member sent a snapshot.
    let sent = log_of(&[vec![
        entry(1, 1),
        entry(1, 2),
        Written::Snapshot { term: 3, index: 70 },
        entry(3, 71),
    ]]);
    let log = read(&sent, 1);
    assert_eq!((log.missing_up_to, log.last_index), (Some(70), 71));
    assert_eq!(indexes(&read(&sent, 70)), [(3, 71)]);
    // And this is damage.
    let gap = log_of(&[vec![entry(1, 1), entry(1, 2), entry(1, 4)]]);
    assert_eq!(read(&gap, 0).damages[0].what, Wrong::Gap { last: 2, found: 4 });
}

proptest! {
    #[test]
    fn what_is_written_reads_back(parts in proptest::collection::vec(1usize..20, 1..5), after in 0u64..60) {
        let mut index = 0;
        let parts: Vec<Vec<Written>> = parts
            .iter()
            .map(|count| (0..*count).map(|_| { index += 1; entry(1 + index / 10, index) }).collect())
            .collect();
        let log = read(&log_of(&parts), after);
        let expected: Vec<_> = (after + 1..=index).map(|index| (1 + index / 10, index)).collect();
        prop_assert_eq!(indexes(&log), expected);
        prop_assert_eq!((log.end, log.last_index), (End::Whole, index));
    }

    #[test]
    fn no_bytes_make_it_panic(
        changes in proptest::collection::vec((0usize..3, any::<prop::sample::Index>(), any::<u8>()), 1..12),
        after in 0u64..12,
    ) {
        let mut segments = three();
        for (segment, place, byte) in changes {
            let bytes = &mut segments[segment].1;
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let log = read(&segments, after);
        let follow = log.entries.iter().zip(after + 1..);
        prop_assert!(follow.clone().all(|(entry, index)| entry.index == index));
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400), is_last: bool) {
        let mut reader = Reader::after(0);
        let name = SegmentName { sequence: 0, first_index: 0 };
        reader.segment(name, &bytes, is_last);
        let log = reader.finish();
        prop_assert!(log.entries.iter().map(|entry| entry.data.len()).sum::<usize>() <= bytes.len());
    }
}
