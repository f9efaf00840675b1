//! The index of a pack: what lies in it, and where.
//!
//! Entries of 64 bytes, numbers little-endian:
//!
//! ```text
//!  0  kind (1 a delta, 2 a mark), three zero bytes, epoch (4)
//!  8  from revision (8)          16  to revision (8)
//! 24  place in the pack's body, from its beginning (8)          32  length (8)
//! 40  first time in milliseconds since 1970 (8)                  48  last time (8)
//! 56  CRC-32C of the entry's object (4)                          60  CRC-32C of the 60 bytes before (4)
//! ```

use jiff::Timestamp;

use crate::layout::manifest::Fault;
use crate::layout::names::{ChainPath, Epoch, ObjectName, Span};
use crate::model::Revision;

const ENTRY: usize = 64;

/// What lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedKind {
    /// A delta.
    Delta,
    /// A mark.
    Mark,
}

/// An object in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// What it is.
    pub kind: PackedKind,
    /// Under which epoch it was written.
    pub epoch: Epoch,
    /// Its revisions; of a mark the one it is about.
    pub span: Span,
    /// Where it begins in the body of the pack.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// The time of its first mark, to the millisecond.
    pub first_time: Timestamp,
    /// The time of its last mark.
    pub last_time: Timestamp,
    /// CRC-32C of its bytes.
    pub sum: u32,
}

impl IndexEntry {
    /// The name that the object had.
    pub fn name(&self, chain: &ChainPath) -> ObjectName {
        match self.kind {
            PackedKind::Delta => ObjectName::Delta(chain.clone(), self.span, self.epoch),
            PackedKind::Mark => {
                let time = super::whole_second(self.last_time);
                ObjectName::Mark(chain.clone(), self.span.to(), time, self.epoch)
            }
        }
    }

    /// The index of these.
    pub fn encode(entries: &[IndexEntry]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(entries.len() * ENTRY);
        for entry in entries {
            let start = bytes.len();
            bytes.extend_from_slice(&[
                match entry.kind {
                    PackedKind::Delta => 1,
                    PackedKind::Mark => 2,
                },
                0,
                0,
                0,
            ]);
            bytes.extend_from_slice(&entry.epoch.0.to_le_bytes());
            bytes.extend_from_slice(&entry.span.from().get().to_le_bytes());
            bytes.extend_from_slice(&entry.span.to().get().to_le_bytes());
            bytes.extend_from_slice(&entry.offset.to_le_bytes());
            bytes.extend_from_slice(&entry.bytes.to_le_bytes());
            bytes.extend_from_slice(&entry.first_time.as_millisecond().to_le_bytes());
            bytes.extend_from_slice(&entry.last_time.as_millisecond().to_le_bytes());
            bytes.extend_from_slice(&entry.sum.to_le_bytes());
            let sum = crc32c::crc32c(bytes.get(start..).unwrap_or_default());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    /// Reads an index.
    pub fn decode(bytes: &[u8]) -> Result<Vec<IndexEntry>, Fault> {
        let malformed = |detail: &str| Fault::Malformed {
            detail: detail.to_owned(),
        };
        let (entries, rest) = bytes.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(malformed("its index ends inside an entry"));
        }
        let read = |entry: &[u8; ENTRY]| {
            let word = |at: usize| {
                let bytes = entry.get(at..).and_then(|rest| rest.first_chunk::<8>());
                u64::from_le_bytes(*bytes.unwrap_or(&[0; 8]))
            };
            let half = |at: usize| {
                let bytes = entry.get(at..).and_then(|rest| rest.first_chunk::<4>());
                u32::from_le_bytes(*bytes.unwrap_or(&[0; 4]))
            };
            if crc32c::crc32c(entry.get(..60).unwrap_or_default()) != half(60) {
                return None;
            }
            let revision = |at| Revision::new(word(at).cast_signed()).ok();
            let time = |at| Timestamp::from_millisecond(word(at).cast_signed()).ok();
            Some(IndexEntry {
                kind: match half(0) {
                    1 => PackedKind::Delta,
                    2 => PackedKind::Mark,
                    _ => return None,
                },
                epoch: Epoch(half(4)),
                span: Span::new(revision(8)?, revision(16)?)?,
                offset: word(24),
                bytes: word(32),
                first_time: time(40)?,
                last_time: time(48)?,
                sum: half(56),
            })
        };
        let entries: Option<Vec<_>> = entries.iter().map(read).collect();
        entries.ok_or_else(|| malformed("an entry of its index is damaged"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(from: i64, to: i64) -> IndexEntry {
        let revision = |revision| Revision::new(revision).unwrap();
        IndexEntry {
            kind: PackedKind::Delta,
            epoch: Epoch(3),
            span: Span::new(revision(from), revision(to)).unwrap(),
            offset: 128,
            bytes: 1000,
            first_time: "2026-11-20T10:15:30.125Z".parse().unwrap(),
            last_time: "2026-11-20T10:15:40.5Z".parse().unwrap(),
            sum: 0x0102_0304,
        }
    }

    #[test]
    fn an_index_reads_as_it_was_written_and_not_when_a_byte_differs() {
        let entries = [
            entry(7, 9),
            IndexEntry {
                kind: PackedKind::Mark,
                ..entry(9, 9)
            },
        ];
        let bytes = IndexEntry::encode(&entries);
        assert_eq!(bytes.len(), 128);
        assert_eq!(IndexEntry::decode(&bytes).unwrap(), entries);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(IndexEntry::decode(&changed).is_err(), "{at}");
        }
        assert!(IndexEntry::decode(&bytes[..100]).is_err());
        assert!(IndexEntry::decode(&[0; 64]).is_err());
    }
}
