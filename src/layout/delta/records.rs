//! The records of a delta: every change of its revisions, in order, and what was learned beside them.
//!
//! ```text
//! record   = tag (one byte), then what the tag says; numbers are unsigned LEB128 varints, texts a length and bytes
//!   1 key, back, version, lease, value   a put, the first change of the next revision
//!   2 key                                a deletion, the first change of the next revision
//!   3, 4                                 the same as 1 and 2, one more change of the same revision
//!   5 seconds, milliseconds, uncertainty a time mark: everything up to the last revision above had come by then
//!   6 id, seconds                        a lease and the time to live it was granted; 0 where it is gone
//!   7 revision, compacted, hash          HashKV, as a member reported it
//!   15 CRC-32C (4 bytes, little-endian)  the end: of all bytes before it
//! ```
//!
//! The first 1 or 2 is of the header's `from_revision`, each further one of the next revision: none can be left out, and
//! none is split between two deltas. `back` is the revision of the change minus the key's create revision. `uncertainty` is
//! in milliseconds plus 1, 0 where it is not known.
//!
//! Invariant: what decodes encodes to the same bytes, and no bytes make a reader panic or reserve more than they have.

use jiff::Timestamp;

use super::{Span, TimeMark};
use crate::model::{HashKv, Revision};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const MORE: u8 = 2;
const MARK: u8 = 5;
const LEASE: u8 = 6;
const CHECKPOINT: u8 = 7;
const END: u8 = 15;

/// One record; borrows keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A change of a key.
    Change(Change<'a>),
    /// When everything up to some revision had come.
    Mark(TimeMark),
    /// A lease that keys hang on.
    Lease {
        /// Its id.
        id: i64,
        /// The time to live that it was granted, in seconds; 0 where it was gone before anybody asked.
        granted_ttl: u64,
    },
    /// What a member reported.
    Checkpoint(HashKv),
}

/// A change of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// The revision that made it.
    pub revision: Revision,
    /// Its place among the changes of that revision, from 0.
    pub sub: i64,
    /// The key.
    pub key: &'a [u8],
    /// What it was set to; none where it was deleted.
    pub put: Option<Put<'a>>,
}

/// What a key was set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put<'a> {
    /// The revision of the first put of this life of the key.
    pub create_revision: Revision,
    /// Which put of this life it is, from 1.
    pub version: i64,
    /// The lease that it hangs on, 0 for none.
    pub lease: i64,
    /// The value.
    pub value: &'a [u8],
}

/// Why bytes are not the records of a delta.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// They end inside a record.
    #[error("the records end inside one, at byte {at}")]
    CutOff {
        /// Where.
        at: usize,
    },
    /// No such tag.
    #[error("there is no record of kind {tag}, at byte {at}: it is damaged, or of a later version")]
    Unknown {
        /// The tag.
        tag: u8,
        /// Where.
        at: usize,
    },
    /// A number that cannot be.
    #[error("{what} cannot be, at byte {at}")]
    Impossible {
        /// Which.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// The sum at the end is another.
    #[error("the records do not match the checksum at their end")]
    Checksum,
    /// There is something behind the end.
    #[error("there are {bytes} bytes behind the end of the records")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The last revision is another than the header says.
    #[error("the records end with revision {found}, the header says {expected}")]
    Short {
        /// The last revision in it.
        found: i64,
        /// The one that the header says.
        expected: i64,
    },
}

/// Writes records.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    from: Revision,
    last: i64,
    sub: i64,
    records: u64,
}

impl Encoder {
    /// Nothing yet, for a delta that begins with the revision `from`.
    pub fn new(from: Revision) -> Encoder {
        Encoder {
            bytes: Vec::new(),
            from,
            last: from.get() - 1,
            sub: 0,
            records: 0,
        }
    }

    /// Adds a record.
    ///
    /// Fails where a change is not the next one of its revision, or the first of the next revision, and where a number of it
    /// cannot be.
    pub fn put(&mut self, record: &Record<'_>) -> Result<(), RecordFault> {
        let at = self.bytes.len();
        let impossible = |what| RecordFault::Impossible { what, at };
        match record {
            Record::Change(change) => {
                let revision = change.revision.get();
                let more = match (revision.checked_sub(self.last), change.sub) {
                    (Some(1), 0) => 0,
                    (Some(0), sub) if sub.checked_sub(self.sub) == Some(1) => MORE,
                    _ => return Err(impossible("this order of changes")),
                };
                match &change.put {
                    None => {
                        self.bytes.push(DELETE + more);
                        self.text(change.key);
                    }
                    Some(put) => {
                        let back = revision - put.create_revision.get();
                        let back = u64::try_from(back).map_err(|_| impossible("a create revision to come"))?;
                        let version = u64::try_from(put.version).map_err(|_| impossible("a version below 0"))?;
                        self.bytes.push(PUT + more);
                        self.text(change.key);
                        self.number(back);
                        self.number(version);
                        self.number(put.lease.cast_unsigned());
                        self.text(put.value);
                    }
                }
                (self.last, self.sub) = (revision, change.sub);
            }
            Record::Mark(mark) => {
                if mark.revision.get() != self.last {
                    return Err(impossible("a mark of another revision"));
                }
                let millis = mark.time.as_millisecond();
                let seconds = u64::try_from(millis / 1000).map_err(|_| impossible("a time before 1970"))?;
                self.bytes.push(MARK);
                self.number(seconds);
                self.number((millis % 1000).cast_unsigned());
                self.number(mark.uncertainty_ms.map_or(0, |ms| u64::from(ms) + 1));
            }
            Record::Lease { id, granted_ttl } => {
                self.bytes.push(LEASE);
                self.number(id.cast_unsigned());
                self.number(*granted_ttl);
            }
            Record::Checkpoint(hash) => {
                self.bytes.push(CHECKPOINT);
                self.number(hash.revision.get().cast_unsigned());
                self.number(hash.compact_revision.cast_unsigned());
                self.number(u64::from(hash.hash));
            }
        }
        self.records += 1;
        Ok(())
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The first revision.
    pub fn from(&self) -> Revision {
        self.from
    }

    /// The last revision, if there is a change.
    pub fn to(&self) -> Option<Revision> {
        (self.last >= self.from.get()).then(|| Revision::new(self.last).unwrap_or(self.from))
    }

    /// All bytes, the end included.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let sum = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&sum.to_le_bytes());
        self.bytes
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number as u8) | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }
}

/// Reads records, of a delta whose every byte is at hand.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    last: i64,
    sub: i64,
    expected: i64,
    begun: bool,
    ended: bool,
}

impl<'a> Decoder<'a> {
    /// The records in `bytes`, of a delta of those revisions. Their sum is checked at once, so that nothing that is not whole
    /// is given out.
    pub fn new(bytes: &'a [u8], span: Span) -> Result<Decoder<'a>, RecordFault> {
        let cut_off = RecordFault::CutOff { at: bytes.len() };
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| cut_off.clone())?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(RecordFault::Checksum);
        }
        Ok(Decoder {
            bytes: body,
            at: 0,
            last: span.from().get() - 1,
            sub: 0,
            expected: span.to().get(),
            begun: false,
            ended: false,
        })
    }

    /// The next record; none behind the last.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's error would have to be asked for at each record"
    )]
    pub fn next(&mut self) -> Result<Option<Record<'a>>, RecordFault> {
        if self.ended {
            return Ok(None);
        }
        let at = self.at;
        let impossible = |what| RecordFault::Impossible { what, at };
        let tag = *self.bytes.get(at).ok_or(RecordFault::CutOff { at })?;
        self.at += 1;
        let record = match tag {
            1..=4 => {
                let next = match tag > MORE {
                    true => Some(self.last).zip(self.sub.checked_add(1)),
                    false => self.last.checked_add(1).zip(Some(0)),
                };
                (self.last, self.sub) = next.ok_or_else(|| impossible("a revision so high"))?;
                let revision = Revision::new(self.last).map_err(|_| impossible("a revision below 0"))?;
                let is_first = !std::mem::replace(&mut self.begun, true);
                if self.last > self.expected || (is_first && tag > MORE) {
                    return Err(impossible("a revision outside of the delta's"));
                }
                let key = self.text()?;
                let put = match tag {
                    PUT | 3 => {
                        let back = self.number()?;
                        let create = i64::try_from(back).ok().map(|back| self.last - back);
                        let create = create.and_then(|create| Revision::new(create).ok());
                        Some(Put {
                            create_revision: create.ok_or_else(|| impossible("a create revision below 0"))?,
                            version: i64::try_from(self.number()?).map_err(|_| impossible("a version so high"))?,
                            lease: self.number()?.cast_signed(),
                            value: self.text()?,
                        })
                    }
                    _ => None,
                };
                Record::Change(Change {
                    revision,
                    sub: self.sub,
                    key,
                    put,
                })
            }
            MARK => {
                let (seconds, millis, uncertainty) = (self.number()?, self.number()?, self.number()?);
                let time = i64::try_from(seconds)
                    .ok()
                    .and_then(|seconds| seconds.checked_mul(1000));
                let time = time
                    .zip(i64::try_from(millis).ok().filter(|millis| *millis < 1000))
                    .and_then(|(seconds, millis)| Timestamp::from_millisecond(seconds.checked_add(millis)?).ok());
                let uncertainty = match uncertainty.checked_sub(1).map(u32::try_from) {
                    None => None,
                    Some(Ok(ms)) => Some(ms),
                    Some(Err(_)) => return Err(impossible("an uncertainty so high")),
                };
                Record::Mark(TimeMark {
                    revision: Revision::new(self.last).map_err(|_| impossible("a revision below 0"))?,
                    time: time.ok_or_else(|| impossible("a time so late"))?,
                    uncertainty_ms: uncertainty,
                })
            }
            LEASE => Record::Lease {
                id: self.number()?.cast_signed(),
                granted_ttl: self.number()?,
            },
            CHECKPOINT => {
                let revision = i64::try_from(self.number()?).ok().and_then(|n| Revision::new(n).ok());
                let compacted = self.number()?.cast_signed();
                let hash = u32::try_from(self.number()?).map_err(|_| impossible("a hash of more than 32 bits"))?;
                Record::Checkpoint(HashKv {
                    revision: revision.ok_or_else(|| impossible("a revision so high"))?,
                    compact_revision: compacted,
                    hash,
                })
            }
            END => {
                self.ended = true;
                let bytes = self.bytes.len() - self.at;
                if bytes > 0 {
                    return Err(RecordFault::Trailing { bytes });
                }
                if self.last != self.expected {
                    return Err(RecordFault::Short {
                        found: self.last,
                        expected: self.expected,
                    });
                }
                return Ok(None);
            }
            tag => return Err(RecordFault::Unknown { tag, at }),
        };
        Ok(Some(record))
    }

    fn number(&mut self) -> Result<u64, RecordFault> {
        let mut number = 0u64;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        for (index, byte) in rest.iter().enumerate().take(10) {
            let is_canonical = index == 0 || *byte != 0;
            if (index == 9 && *byte > 1) || !is_canonical {
                return Err(RecordFault::Impossible {
                    what: "a number of this form",
                    at: self.at,
                });
            }
            number |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.at += index + 1;
                return Ok(number);
            }
        }
        Err(RecordFault::CutOff { at: self.bytes.len() })
    }

    fn text(&mut self) -> Result<&'a [u8], RecordFault> {
        let cut_off = RecordFault::CutOff { at: self.bytes.len() };
        let length = usize::try_from(self.number()?).map_err(|_| cut_off.clone())?;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let text = rest.get(..length).ok_or(cut_off)?;
        self.at += length;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn revision(revision: i64) -> Revision {
        Revision::new(revision).unwrap()
    }

    fn span(from: i64, to: i64) -> Span {
        Span::new(revision(from), revision(to)).unwrap()
    }

    fn put<'a>(at: i64, sub: i64, key: &'a [u8], value: &'a [u8]) -> Record<'a> {
        Record::Change(Change {
            revision: revision(at),
            sub,
            key,
            put: Some(Put {
                create_revision: revision(3),
                version: 2,
                lease: -5,
                value,
            }),
        })
    }

    fn delete(at: i64, sub: i64, key: &[u8]) -> Record<'_> {
        Record::Change(Change {
            revision: revision(at),
            sub,
            key,
            put: None,
        })
    }

    fn mark(at: i64) -> Record<'static> {
        Record::Mark(TimeMark {
            revision: revision(at),
            time: "2026-11-20T10:15:30.125Z".parse().unwrap(),
            uncertainty_ms: Some(7),
        })
    }

    fn checkpoint() -> Record<'static> {
        Record::Checkpoint(HashKv {
            revision: revision(8),
            compact_revision: -1,
            hash: 0xdead_beef,
        })
    }

    fn encoded(records: &[Record<'_>], from: i64) -> Vec<u8> {
        let mut encoder = Encoder::new(revision(from));
        for record in records {
            encoder.put(record).unwrap();
        }
        encoder.finish()
    }

    fn decoded(bytes: &[u8], of: Span) -> Result<Vec<Record<'_>>, RecordFault> {
        let mut decoder = Decoder::new(bytes, of)?;
        let mut records = Vec::new();
        while let Some(record) = decoder.next()? {
            records.push(record);
        }
        Ok(records)
    }

    /// Puts the right sum behind bytes that were changed.
    fn summed(body: &[u8]) -> Vec<u8> {
        [body, &crc32c::crc32c(body).to_le_bytes()].concat()
    }

    #[test]
    fn version_1_of_the_records_is_these_bytes() {
        let lease = Record::Lease {
            id: 0x3039,
            granted_ttl: 60,
        };
        let records = [
            put(7, 0, b"k", b"v"),
            delete(7, 1, b"k2"),
            delete(8, 0, b"k"),
            mark(8),
            lease,
            checkpoint(),
        ];
        let bytes = encoded(&records, 7);
        let body: &[u8] = &[
            1, 1, b'k', 4, 2, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, b'v', // a put
            4, 2, b'k', b'2', // a deletion by the same revision
            2, 1, b'k', // a deletion by the next
            5, 0xc2, 0xbb, 0x80, 0xd8, 6, 125, 8, // the mark
            6, 0xb9, 0x60, 60, // the lease
            7, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0xef, 0xfd, 0xb6, 0xf5, 0x0d, // HashKV
            15,
        ];
        assert_eq!(bytes, summed(body));
        assert_eq!(decoded(&bytes, span(7, 8)).unwrap(), records);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let bytes = encoded(&[put(7, 0, b"k", b"v"), delete(8, 0, b"k")], 7);
        assert!(matches!(
            decoded(&bytes, span(7, 9)),
            Err(RecordFault::Short { found: 8, expected: 9 })
        ));
        assert!(matches!(
            decoded(&bytes, span(7, 7)),
            Err(RecordFault::Impossible { .. })
        ));
        for end in 0..bytes.len() {
            assert!(decoded(&bytes[..end], span(7, 8)).is_err(), "{end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            assert_eq!(decoded(&changed, span(7, 8)), Err(RecordFault::Checksum), "{at}");
        }
        assert!(decoded(&vec![0; bytes.len()], span(7, 8)).is_err());
        let more_first = summed(&[4, 1, b'k', END]);
        assert!(matches!(
            decoded(&more_first, span(7, 7)),
            Err(RecordFault::Impossible { .. })
        ));
        let unknown = summed(&[9, END]);
        assert_eq!(
            decoded(&unknown, span(7, 7)),
            Err(RecordFault::Unknown { tag: 9, at: 0 })
        );
        let behind = summed(&[2, 1, b'k', END, 0]);
        assert_eq!(decoded(&behind, span(7, 7)), Err(RecordFault::Trailing { bytes: 1 }));
        let long_number = summed(&[2, 0x81, 0, b'k', END]);
        assert!(matches!(
            decoded(&long_number, span(7, 7)),
            Err(RecordFault::Impossible { .. })
        ));
    }

    #[test]
    fn behind_the_highest_revision_there_is_none() {
        let bytes = summed(&[2, 1, b'k', 2, 1, b'k', END]);
        let fault = decoded(&bytes, span(i64::MAX, i64::MAX)).unwrap_err();
        assert!(matches!(fault, RecordFault::Impossible { .. }), "{fault}");
        let mut encoder = Encoder::new(revision(0));
        assert!(encoder.put(&delete(i64::MAX, 0, b"k")).is_err());
    }

    #[test]
    fn changes_go_in_their_order() {
        let refused = |records: &[Record<'_>]| {
            let mut encoder = Encoder::new(revision(7));
            let (last, before) = records.split_last().unwrap();
            before.iter().for_each(|record| encoder.put(record).unwrap());
            assert!(encoder.put(last).is_err(), "{records:?}");
        };
        refused(&[delete(8, 0, b"k")]);
        refused(&[delete(7, 1, b"k")]);
        refused(&[delete(7, 0, b"k"), delete(7, 0, b"k")]);
        refused(&[delete(7, 0, b"k"), delete(7, 2, b"k")]);
        refused(&[delete(7, 0, b"k"), delete(9, 0, b"k")]);
        refused(&[delete(7, 0, b"k"), mark(8)]);
        refused(&[put(2, 0, b"k", b"created in the future")]);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(body in prop::collection::vec(0_u8..20, 0..60)) {
            let bytes = summed(&body);
            if let Ok(records) = decoded(&bytes, span(1, 3)) {
                let mut encoder = Encoder::new(revision(1));
                for record in &records {
                    encoder.put(record).unwrap();
                }
                prop_assert_eq!(encoder.finish(), bytes);
            }
        }
    }
}
