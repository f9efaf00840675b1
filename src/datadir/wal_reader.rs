//! Reading a write-ahead log: from the bytes of its segments to the entries in it.
//!
//! ```text
//! segment   crc (that of the segment before) · metadata · hard state · then what was written, in order
//! ```
//!
//! How a record is framed stands in [`super::wal`]. The rules are those of etcd's `ReadAll` and `Repair`: the end of a
//! segment is its last byte or a length of zero. Only the last segment may end in the middle of a record, or in one of which
//! a sector was never written; from there on it is given up. Everything else that does not fit is damage: etcd would not
//! start. An entry whose index was there before replaces it and all that followed: a later leader wrote it.
//!
//! Invariant: no bytes cause a panic, or more memory than they are long.
//!
//! Source of the rules: etcd `server/storage/wal/{wal,decoder,repair}.go` of 3.6; 3.4, 3.5 and 3.7 have the same.

use std::fmt;

use super::raft::{Entry, HardState, SnapshotMark};
use super::wal::RecordType;
use crate::keyspace::wire::{Fields, WireError};
use crate::model::{ClusterId, MemberId};

/// What a disk writes at once: a torn write leaves whole sectors of zeros.
const SECTOR_BYTES: usize = 512;
const LENGTH_BYTES: usize = 8;

/// The name of a segment: its number, and the index that its first entry was to have. In the order of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// The number of the segment; the next one has the next.
    pub sequence: u64,
    /// The index of the first entry that was written to it.
    pub first_index: u64,
}

impl SegmentName {
    /// Reads the name of a file; `None` for one that etcd would not take for a segment.
    pub fn parse(name: &str) -> Option<SegmentName> {
        let number = |text: &str| {
            let is_number = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            u64::from_str_radix(text, 16).ok().filter(|_| is_number)
        };
        let (sequence, first_index) = name.strip_suffix(".wal")?.split_once('-')?;
        Some(SegmentName {
            sequence: number(sequence)?,
            first_index: number(first_index)?,
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index)
    }
}

/// What is wrong at one place of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{segment} is damaged at byte {offset}: {what}")]
pub struct Damage {
    /// The segment.
    pub segment: SegmentName,
    /// Where the record begins that is not right.
    pub offset: u64,
    /// What is not right.
    pub what: Wrong,
}

/// What is not right about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A segment that is not the last ends in the middle of a record.
    #[error("it ends in the middle of a record, and is not the last segment")]
    CutShort,
    /// Its checksum does not fit.
    #[error("a checksum does not match")]
    Checksum,
    /// The checksum that a segment begins with is not that of the segment before.
    #[error("it does not go on where the segment before it ended")]
    Chain,
    /// It does not decode.
    #[error("a record cannot be read: {0}")]
    Malformed(#[from] WireError),
    /// A kind of record that etcd does not know.
    #[error("a record is of the unknown kind {0}")]
    Kind(i64),
    /// It names another member or cluster than the records before.
    #[error("it names another member or cluster than what is before it")]
    Foreign,
    /// Entries are missing before it.
    #[error("entry {found} follows entry {last}")]
    Gap {
        /// The last entry before it.
        last: u64,
        /// The index of this one.
        found: u64,
    },
    /// A segment is missing before it.
    #[error("segment {expected} is missing before it")]
    MissingSegment {
        /// The number that was to come.
        expected: u64,
    },
}

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After a whole record.
    Whole,
    /// In the middle of a write; what is after that is given up, as etcd does when it starts.
    Torn {
        /// The last segment.
        segment: SegmentName,
        /// Up to where it is whole.
        offset: u64,
        /// How many bytes that are not zero come after that.
        given_up: u64,
    },
    /// The damage that is named last is in the part that is wanted.
    Damaged,
}

/// What a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How many segments it has.
    pub segments: u64,
    /// Whose log it is.
    pub identity: Option<(ClusterId, MemberId)>,
    /// What raft knew last: term, vote, and what is committed.
    pub hard_state: HardState,
    /// The index of the first entry that is in it.
    pub first_index: Option<u64>,
    /// The index of the last entry, or of a snapshot that stands for entries.
    pub last_index: u64,
    /// Up to where `.snap` files cover it, in the order in which that was written.
    pub snapshots: Vec<SnapshotMark>,
    /// The entries that were asked for, without a gap: from the one after [`Reader::after`] on.
    pub entries: Vec<Entry>,
    /// The entries from the one asked for to this one are not in it: they were removed when a snapshot covered them, or
    /// another member sent a snapshot in their place.
    pub missing_up_to: Option<u64>,
    /// What is damaged.
    pub damages: Vec<Damage>,
    /// How it ends.
    pub end: End,
}

/// A log that is being read, segment by segment.
#[derive(Debug)]
#[must_use]
pub struct Reader {
    after: u64,
    previous: Option<SegmentName>,
    rolling: u32,
    metadata: Option<Vec<u8>>,
    log: Log,
}

/// Why a segment is not read on.
enum Stop {
    /// In the middle of a record.
    Short,
    /// A record is not right.
    Wrong(Wrong),
}

impl From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Stop {
        Stop::Wrong(wrong)
    }
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Stop {
        Stop::Wrong(error.into())
    }
}

struct Record<'a> {
    kind: i64,
    crc: u32,
    data: &'a [u8],
    end: usize,
}

impl Reader {
    /// Begins a log whose entries after that index are wanted.
    pub fn after(index: u64) -> Reader {
        Reader {
            after: index,
            previous: None,
            rolling: 0,
            metadata: None,
            log: Log {
                segments: 0,
                identity: None,
                hard_state: HardState::default(),
                first_index: None,
                last_index: 0,
                snapshots: Vec::new(),
                entries: Vec::new(),
                missing_up_to: None,
                damages: Vec::new(),
                end: End::Whole,
            },
        }
    }

    /// The first of these segments, in order, that has to be read: the last one that begins no later than the first entry
    /// that is wanted.
    pub fn first_wanted(&self, names: &[SegmentName]) -> usize {
        let wanted = self.after.saturating_add(1);
        names.iter().rposition(|name| name.first_index <= wanted).unwrap_or(0)
    }

    /// Reads the next segment.
    pub fn segment(&mut self, name: SegmentName, bytes: &[u8], is_last: bool) {
        self.log.segments += 1;
        let expected = self.previous.map(|previous| previous.sequence.saturating_add(1));
        self.previous = Some(name);
        if self.log.end == End::Damaged {
            // What is damaged is of no use to what begins here, or this cannot be used without it.
            if name.first_index > self.after.saturating_add(1) {
                return;
            }
            self.begin_anew();
        } else if let Some(expected) = expected.filter(|expected| *expected != name.sequence) {
            self.damaged(name, 0, Wrong::MissingSegment { expected });
            return self.segment_after_gap(name, bytes, is_last);
        }
        self.records(name, bytes, is_last);
    }

    /// Ends the log.
    pub fn finish(mut self) -> Log {
        self.log.identity = self.metadata.as_deref().and_then(super::wal::ids);
        self.log
    }

    fn segment_after_gap(&mut self, name: SegmentName, bytes: &[u8], is_last: bool) {
        if name.first_index <= self.after.saturating_add(1) {
            self.begin_anew();
            self.records(name, bytes, is_last);
        }
    }

    fn begin_anew(&mut self) {
        let damages = std::mem::take(&mut self.log.damages);
        let segments = self.log.segments;
        let fresh = Reader::after(self.after);
        self.rolling = 0;
        self.metadata = None;
        self.log = Log {
            damages,
            segments,
            ..fresh.log
        };
    }

    fn damaged(&mut self, segment: SegmentName, offset: usize, what: Wrong) {
        let offset = offset as u64;
        self.log.damages.push(Damage { segment, offset, what });
        self.log.end = End::Damaged;
    }

    fn records(&mut self, name: SegmentName, bytes: &[u8], is_last: bool) {
        let mut at = 0;
        loop {
            let read = self.record(bytes, at, is_last);
            let taken = read.and_then(|record| match record {
                Some(record) => self.take(&record).map(|()| Some(record.end)),
                None => Ok(None),
            });
            match taken {
                Ok(Some(end)) => at = end,
                Ok(None) => return,
                Err(Stop::Short) if is_last => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let last = rest.iter().rposition(|byte| *byte != 0);
                    self.log.end = End::Torn {
                        segment: name,
                        offset: at as u64,
                        given_up: last.map_or(0, |last| last as u64 + 1),
                    };
                    return;
                }
                Err(Stop::Short) => return self.damaged(name, at, Wrong::CutShort),
                Err(Stop::Wrong(wrong)) => return self.damaged(name, at, wrong),
            }
        }
    }

    /// The record at `at`, its checksum compared; `None` at the end of what was written.
    fn record<'a>(&mut self, bytes: &'a [u8], at: usize, is_last: bool) -> Result<Option<Record<'a>>, Stop> {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (word, rest) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(Stop::Short)?;
        let word = u64::from_le_bytes(*word);
        if word == 0 {
            return Ok(None);
        }
        let len = usize::try_from(word & 0x00ff_ffff_ffff_ffff).map_err(|_| Stop::Short)?;
        let padding = if word >> 63 == 1 { (word >> 56 & 7) as usize } else { 0 };
        let framed = len.checked_add(padding).ok_or(Stop::Short)?;
        let framed = rest.get(..framed).ok_or(Stop::Short)?;
        let start = at + LENGTH_BYTES;
        let torn_or = |wrong: Wrong| match is_last && is_torn(framed, start) {
            true => Stop::Short,
            false => Stop::Wrong(wrong),
        };
        let message = framed.get(..len).unwrap_or_default();
        let (kind, crc, data) = fields(message).map_err(|error| torn_or(error.into()))?;
        if kind != RecordType::Crc as i64 {
            let rolling = crc32c::crc32c_append(self.rolling, data);
            if rolling != crc {
                return Err(torn_or(Wrong::Checksum));
            }
            self.rolling = rolling;
        }
        let end = start + framed.len();
        Ok(Some(Record { kind, crc, data, end }))
    }

    fn take(&mut self, record: &Record<'_>) -> Result<(), Stop> {
        const METADATA: i64 = RecordType::Metadata as i64;
        const ENTRY: i64 = RecordType::Entry as i64;
        const STATE: i64 = RecordType::State as i64;
        const CRC: i64 = RecordType::Crc as i64;
        const SNAPSHOT: i64 = RecordType::Snapshot as i64;
        match record.kind {
            METADATA => match &self.metadata {
                Some(known) if known != record.data => Err(Wrong::Foreign.into()),
                Some(_) => Ok(()),
                None => {
                    self.metadata = Some(record.data.to_vec());
                    Ok(())
                }
            },
            ENTRY => self.entry(Entry::decode(record.data)?),
            STATE => {
                self.log.hard_state = HardState::decode(record.data)?;
                Ok(())
            }
            CRC if self.rolling != 0 && self.rolling != record.crc => Err(Wrong::Chain.into()),
            CRC => {
                self.rolling = record.crc;
                Ok(())
            }
            SNAPSHOT => {
                let mark = SnapshotMark::decode(record.data)?;
                self.log.last_index = self.log.last_index.max(mark.index);
                self.log.snapshots.push(mark);
                Ok(())
            }
            other => Err(Wrong::Kind(other).into()),
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Stop> {
        let log = &mut self.log;
        let found = entry.index;
        let is_first = *log.first_index.get_or_insert(found) == found;
        if found > self.after {
            let before = found - self.after - 1;
            match usize::try_from(before)
                .ok()
                .filter(|before| *before <= log.entries.len())
            {
                // What a later leader writes replaces what was not committed.
                Some(before) => log.entries.truncate(before),
                // A snapshot stands for what is missing.
                None if is_first || log.snapshots.iter().any(|mark| mark.index == found - 1) => {
                    log.missing_up_to = Some(found - 1);
                    log.entries.clear();
                }
                None if log.missing_up_to.is_some() => {}
                None => {
                    let last = self.after + log.entries.len() as u64;
                    return Err(Wrong::Gap { last, found }.into());
                }
            }
            if log.missing_up_to.is_none() {
                log.entries.push(entry);
            }
        }
        log.last_index = found;
        Ok(())
    }
}

/// The fields of a record: kind, checksum, data.
fn fields(record: &[u8]) -> Result<(i64, u32, &[u8]), WireError> {
    let (mut kind, mut crc, mut data) = (0, 0, &[][..]);
    for field in Fields::of(record) {
        let field = field?;
        match field.number {
            1 => kind = field.int64()?,
            // As protocol buffers read a 32-bit number.
            2 => crc = field.uint64()? as u32,
            3 => data = field.bytes()?,
            _ => {}
        }
    }
    Ok((kind, crc, data))
}

/// Whether a sector of what was to be written at `start` has nothing but zeros.
fn is_torn(mut framed: &[u8], start: usize) -> bool {
    let mut at = start;
    while !framed.is_empty() {
        let len = (SECTOR_BYTES - at % SECTOR_BYTES).min(framed.len());
        let (sector, rest) = framed.split_at(len);
        if sector.iter().all(|byte| *byte == 0) {
            return true;
        }
        (framed, at) = (rest, at + len);
    }
    false
}

#[cfg(test)]
mod tests;
