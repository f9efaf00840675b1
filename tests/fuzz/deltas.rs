//! What reads the objects behind a full backup: their heads, their records, the index of a pack.

use std::fs;

use lifeboat::layout::delta::{Change, Decoder, Encoder, Head, IndexEntry, PackedKind, Put, Record, TimeMark};
use lifeboat::layout::{Epoch, ObjectName, Span};
use lifeboat::model::{HashKv, Revision};

use super::mutator::Mutator;
use super::targets::{DOCUMENT, JSON, Target, as_it_is, project};

pub const HEAD: Target = Target {
    name: "delta-head",
    corpus: heads,
    run: head,
    memory: DOCUMENT,
    mend: as_it_is,
    words: JSON,
};

pub const RECORDS: Target = Target {
    name: "delta-records",
    corpus: || vec![records()],
    run: read_records,
    memory: |length| (1 << 20) + 2 * length,
    mend: with_sum,
    words: &[],
};

pub const INDEX: Target = Target {
    name: "pack-index",
    corpus: || vec![IndexEntry::encode(&[entry(7, 9), entry(10, 10)])],
    run: |input| drop(IndexEntry::decode(input)),
    memory: |length| (1 << 20) + 4 * length,
    mend: with_sums,
    words: &[],
};

const VECTOR: &str = "00000000000000000828-00000000000000000829.00000001.delta";

fn heads() -> Vec<Vec<u8>> {
    vec![fs::read(project("tests/vectors/deltas").join(VECTOR)).unwrap()]
}

/// Under its own name, and under the one that it gives itself.
fn head(input: &[u8]) {
    let line = input.split(|byte| *byte == b'\n').nth(1);
    let own = line.and_then(|line| serde_json::from_slice(line).ok());
    let own = own.and_then(|header: lifeboat::layout::delta::Header| header.name().ok());
    let vector = format!("cdf8181/20261120T101530Z-9f3c4a1b/{VECTOR}").parse::<ObjectName>();
    for name in [own, vector.ok()].into_iter().flatten() {
        if let Ok(head) = Head::read(&name, input) {
            head.digest();
        }
    }
}

fn revision(revision: i64) -> Revision {
    Revision::new(revision).unwrap()
}

fn span(from: i64, to: i64) -> Span {
    Span::new(revision(from), revision(to)).unwrap()
}

fn records() -> Vec<u8> {
    let put = |at, sub| {
        let put = Put {
            create_revision: revision(3),
            version: 2,
            lease: 77,
            value: b"value",
        };
        Record::Change(Change {
            revision: revision(at),
            sub,
            key: b"/registry/pods/a",
            put: Some(put),
        })
    };
    let deletion = Record::Change(Change {
        revision: revision(8),
        sub: 1,
        key: b"/registry/pods/b",
        put: None,
    });
    let mark = Record::Mark(TimeMark {
        revision: revision(9),
        time: "2026-11-20T10:15:30.125Z".parse().unwrap(),
        uncertainty_ms: Some(7),
    });
    let lease = Record::Lease {
        id: 77,
        granted_ttl: 60,
    };
    let hash = Record::Checkpoint(HashKv {
        revision: revision(9),
        compact_revision: 3,
        hash: 0xdead_beef,
    });
    let mut encoder = Encoder::new(revision(7));
    for record in [put(7, 0), put(8, 0), deletion, put(9, 0), mark, lease, hash] {
        encoder.put(&record).unwrap();
    }
    encoder.finish()
}

fn read_records(input: &[u8]) {
    let Ok(mut decoder) = Decoder::new(input, span(7, 9)) else {
        return;
    };
    while let Ok(Some(_)) = decoder.next() {}
}

#[expect(clippy::ptr_arg, reason = "a target's own kind of function")]
fn with_sum(input: &mut Vec<u8>, _: &mut Mutator) {
    let Some((body, sum)) = input.split_last_chunk_mut::<4>() else {
        return;
    };
    *sum = crc32c::crc32c(body).to_le_bytes();
}

fn entry(from: i64, to: i64) -> IndexEntry {
    IndexEntry {
        kind: PackedKind::Delta,
        epoch: Epoch(3),
        span: span(from, to),
        offset: 0,
        bytes: 1000,
        first_time: "2026-11-20T10:15:30.125Z".parse().unwrap(),
        last_time: "2026-11-20T10:15:40.5Z".parse().unwrap(),
        sum: 1,
    }
}

#[expect(clippy::ptr_arg, reason = "a target's own kind of function")]
fn with_sums(input: &mut Vec<u8>, _: &mut Mutator) {
    for entry in input.chunks_exact_mut(64) {
        let (body, sum) = entry.split_at_mut(60);
        sum.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
}
