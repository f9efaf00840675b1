//! What reads the log and the `.snap` files around a database.

use super::*;

pub fn wal_head(input: &[u8]) {
    wal::identity(input);
}

pub fn logs() -> Vec<Vec<u8>> {
    let lines = ["3.4", "3.5", "3.7"];
    let names = lines.map(|line| format!("official-restore-{line}/wal-first-4096"));
    fixtures(&names.each_ref().map(String::as_str))
}

pub fn snaps() -> Vec<Vec<u8>> {
    let name = "0000000000000001-0000000000000003.snap";
    let names = ["3.4", "3.5", "3.7"].map(|line| format!("official-restore-{line}/{name}"));
    fixtures(&names.each_ref().map(String::as_str))
}

pub fn snap_file(input: &[u8]) {
    snap::read(input).ok();
}

/// As the last segment, as one before another, and as that.
pub fn wal_log(input: &[u8]) {
    let name = |sequence, first_index| SegmentName { sequence, first_index };
    for after in [0, 2, u64::MAX] {
        let mut reader = Reader::after(after);
        let half = input.len() / 2;
        reader.segment(name(0, 0), input, false);
        reader.segment(name(1, 3), &input[half..], false);
        reader.segment(name(2, 4), input, true);
        let log = reader.finish();
        let indexes: Vec<u64> = log.entries.iter().map(|entry| entry.index).collect();
        assert!(
            indexes.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "a gap: {indexes:?}"
        );
        assert!(indexes.first().is_none_or(|first| *first > after));
        Tail::of(&log, &Summary::default()).ok();
        let mut alone = Reader::after(after);
        alone.segment(name(0, 0), input, true);
        alone.finish();
    }
}

/// Half of the changed logs get right checksums, as far as their records can be told apart.
pub fn mend_log(input: &mut Vec<u8>, mutator: &mut Mutator) {
    if mutator.below(2) == 0 {
        return;
    }
    let (mut mended, mut rolling, mut at) = (Vec::new(), 0_u32, 0);
    while let Some(word) = input.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().unwrap());
        let length = (word & 0x00ff_ffff_ffff_ffff) as usize;
        let padding = if word >> 63 == 1 { (word >> 56 & 7) as usize } else { 0 };
        let Some(record) = length.checked_add(at + 8).and_then(|end| input.get(at + 8..end)) else {
            break;
        };
        let Some((kind, data)) = kind_and_data(record).filter(|_| length > 0) else {
            break;
        };
        rolling = crc32c::crc32c_append(rolling, data);
        let mut again = vec![0x08, kind, 0x10];
        varint(&mut again, rolling.into());
        if !data.is_empty() {
            again.push(0x1a);
            varint(&mut again, data.len() as u64);
            again.extend_from_slice(data);
        }
        let padded = again.len().next_multiple_of(8);
        let word = again.len() as u64 | ((0x80 | (padded - again.len()) as u64) << 56);
        mended.extend_from_slice(&word.to_le_bytes());
        again.resize(padded, 0);
        mended.extend_from_slice(&again);
        at += 8 + length + padding;
    }
    mended.extend_from_slice(input.get(at..).unwrap_or_default());
    *input = mended;
}

fn kind_and_data(record: &[u8]) -> Option<(u8, &[u8])> {
    let [0x08, kind, 0x10, rest @ ..] = record else {
        return None;
    };
    let end = rest.iter().position(|byte| *byte < 0x80)?;
    let rest = &rest[end + 1..];
    let [0x1a, rest @ ..] = rest else {
        return Some((*kind, &[]));
    };
    let end = rest.iter().position(|byte| *byte < 0x80)?;
    Some((*kind, &rest[end + 1..]))
}

fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// Half of the changed files get a right checksum.
pub fn mend_snap(input: &mut Vec<u8>, mutator: &mut Mutator) {
    if mutator.below(2) == 0 {
        return;
    }
    let Some(end) = input
        .get(1..)
        .and_then(|rest| rest.iter().position(|byte| *byte < 0x80))
    else {
        return;
    };
    let rest = input.get(end + 3..).unwrap_or_default();
    let Some(length) = rest.iter().position(|byte| *byte < 0x80) else {
        return;
    };
    let content = &rest[length + 1..];
    let mut mended = vec![0x08];
    varint(&mut mended, crc32c::crc32c(content).into());
    mended.push(0x12);
    varint(&mut mended, content.len() as u64);
    mended.extend_from_slice(content);
    *input = mended;
}
