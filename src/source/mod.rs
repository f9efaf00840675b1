//! The plain bytes of one snapshot, from wherever it is: a stored object, a snapshot file, a database file, a pipe.
//!
//! What kind it is, is told by its first bytes, and how long it is by the database's own header: a small object may unpack
//! to terabytes, and a disk that may be etcd's is not to be full before that is found out. Whether the bytes are a sound
//! database is not judged here.

mod changes;
pub mod delta;
mod digest;
mod file_kind;
mod held;
mod reading;
mod stored;
#[cfg(test)]
pub(crate) mod test_objects;

use std::fs::File;
use std::io::{self, Cursor, Read};

use crate::bbolt;
use crate::model::{Digest, Revision};
use crate::pipeline::{DecodeError, Decoded, Unlock, decode, fill};

pub use changes::{Changes, DeltaRecords};
pub use digest::{Hashed, SnapshotHasher, TrailingDigest, trailing_digest};
pub use file_kind::FileKind;
pub use held::{Database, Held, NotHeld, room_for};
pub use reading::{Chain, Notes};

/// The first bytes of an age file.
const AGE_MAGIC: &[u8] = b"age-encryption.org/v1\n";

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is encrypted, and there is no identity.
    #[error("{name} is encrypted and no identity is given")]
    NoIdentity {
        /// What the source is called.
        name: String,
    },
    /// It does not open, or breaks off.
    #[error("{name}: {error}")]
    Decode {
        /// What the source is called.
        name: String,
        /// Why.
        error: DecodeError,
    },
    /// It is a file of another kind.
    #[error("{name} {holds} {kind}, not an etcd snapshot", holds = if *.encrypted { "is encrypted and holds" } else { "is" })]
    OtherFile {
        /// What the source is called.
        name: String,
        /// What it is.
        kind: FileKind,
        /// Whether that is what it holds under its encryption.
        encrypted: bool,
    },
    /// It has no bytes.
    #[error("{name} is empty")]
    Empty {
        /// What the source is called.
        name: String,
    },
    /// It is no database.
    #[error("{name} is not an etcd snapshot: {error}")]
    NotADatabase {
        /// What the source is called.
        name: String,
        /// Why.
        error: bbolt::Error,
    },
    /// Changes are missing.
    #[error("the changes behind revision {reached} are missing: nothing that can be read holds revision {}", .reached.get().saturating_add(1))]
    Hole {
        /// The last revision that is there.
        reached: Revision,
    },
    /// Reading failed.
    #[error("cannot read {name}: {error}")]
    Read {
        /// What the source is called.
        name: String,
        /// What the system said.
        error: io::Error,
    },
}

/// How far an encoded database may go on behind its last page. A copy of a live file has a tail that is not in use: bbolt
/// makes its file longer by 16 MiB at a time, and by what one transaction needs.
const UNUSED_TAIL_BYTES: u64 = 64 << 20;

/// The digest that may follow a database.
const DIGEST_BYTES: u64 = 32;

/// A snapshot that is read once, from front to back.
///
/// Invariant: its own header says, before anything is written anywhere, how long it is; what goes on beyond is damage.
#[must_use]
pub struct Source {
    name: String,
    bytes: Bytes,
    /// The first bytes, which were looked at already.
    first: Option<Vec<u8>>,
    /// The length of the database as its header has it.
    database: u64,
    /// The length of the plain bytes, where it is known beforehand.
    length: Option<u64>,
    came: u64,
    limit: Option<Limit>,
    stored: Option<Stored>,
    /// The file that the plain bytes are, where they are one.
    file: Option<File>,
}

/// What the stored bytes are held to, at their end.
struct Stored {
    seen: stored::Seen,
    recorded: Digest,
}

/// How many plain bytes may come, and who says so.
#[derive(Debug, Clone, Copy)]
struct Limit {
    bytes: u64,
    by: &'static str,
}

enum Bytes {
    Plain(Box<dyn Read + Send>),
    Encoded(Decoded),
}

impl Bytes {
    fn next_block(&mut self, name: &str, block: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Bytes::Plain(reader) => fill(reader, block).map_err(|error| Error::Read {
                name: name.to_owned(),
                error,
            }),
            Bytes::Encoded(decoded) => {
                let next = decoded.next_block(block).map_err(|error| Error::Decode {
                    name: name.to_owned(),
                    error,
                })?;
                debug_assert_eq!(next, !block.is_empty());
                Ok(())
            }
        }
    }
}

impl Source {
    /// Opens `reader`, called `name` in errors, and looks at its first block; `length` is that of what `reader` gives.
    ///
    /// Fails where that does not begin as a database does.
    pub fn open(
        name: impl Into<String>,
        mut reader: impl Read + Send + 'static,
        length: Option<u64>,
        unlock: Option<Unlock<'_>>,
    ) -> Result<Source, Error> {
        let name = name.into();
        let mut head = Vec::with_capacity(AGE_MAGIC.len());
        let read = (&mut reader).take(AGE_MAGIC.len() as u64).read_to_end(&mut head);
        read.map_err(|error| Error::Read {
            name: name.clone(),
            error,
        })?;
        let encrypted = is_encrypted(&head);
        let whole = Cursor::new(head).chain(reader);
        let (mut bytes, length) = match (encrypted, unlock) {
            (false, _) => (Bytes::Plain(Box::new(whole)), length),
            (true, None) => return Err(Error::NoIdentity { name }),
            (true, Some(unlock)) => match decode(whole, unlock) {
                Ok(decoded) => (Bytes::Encoded(decoded), None),
                Err(error) => return Err(Error::Decode { name, error }),
            },
        };
        let mut first = Vec::new();
        bytes.next_block(&name, &mut first)?;
        let database = match database_bytes(&first) {
            Ok(database) => database,
            Err(_) if first.is_empty() => return Err(Error::Empty { name }),
            Err(error) => {
                return Err(match FileKind::of(&first) {
                    Some(kind) => Error::OtherFile { name, kind, encrypted },
                    None => Error::NotADatabase { name, error },
                });
            }
        };
        // Where the length is known, so many bytes are there already; of anything else the header must answer for them.
        let limit = length.is_none().then(|| Limit {
            bytes: longest(database),
            by: "that its own header says",
        });
        Ok(Source {
            name,
            bytes,
            first: Some(first),
            database,
            length,
            came: 0,
            limit,
            stored: None,
            file: None,
        })
    }

    /// Opens a file that was named on the command line, as [`Source::open`] does; `length` is known of a plain one. Where it
    /// is not encrypted, it can be held without memory for it.
    pub fn open_file(
        name: impl Into<String>,
        file: File,
        length: Option<u64>,
        unlock: Option<Unlock<'_>>,
    ) -> Result<Source, Error> {
        let name = name.into();
        let again = file.try_clone().map_err(|error| Error::Read {
            name: name.clone(),
            error,
        })?;
        let source = Source::open(name, file, length, unlock)?;
        let is_plain = matches!(source.bytes, Bytes::Plain(_));
        Ok(Source {
            file: is_plain.then_some(again),
            ..source
        })
    }

    /// Opens the object of a backup, as [`Source::open`] does, and holds its stored bytes to the digest that was recorded
    /// of them: that they differ shows at their end, if nothing else did before.
    pub fn open_stored(
        name: impl Into<String>,
        reader: impl Read + Send + 'static,
        length: u64,
        unlock: Option<Unlock<'_>>,
        recorded: Digest,
    ) -> Result<Source, Error> {
        let (reader, seen) = stored::hashing(reader);
        let source = Source::open(name, reader, Some(length), unlock)?;
        Ok(Source {
            stored: Some(Stored { seen, recorded }),
            ..source
        })
    }

    /// Says how long the plain bytes are, and holds them to it: that they go on beyond is damage, found before the disk
    /// is full. That they end before is for a digest to find.
    pub fn with_length(self, length: u64) -> Self {
        let recorded = Limit {
            bytes: length,
            by: "that were recorded",
        };
        Source {
            length: Some(length),
            limit: Some(match self.limit {
                Some(limit) if limit.bytes < length => limit,
                Some(_) | None => recorded,
            }),
            ..self
        }
    }

    /// Whether its end vouches for the stored bytes: they were hashed before they were opened.
    pub fn is_held_to_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The length of the plain bytes, where it is known beforehand.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// How long the database in it is: what its header says, and no more than there is. A digest may follow, or a tail
    /// that is not in use.
    pub fn database_bytes(&self) -> u64 {
        self.length.map_or(self.database, |length| length.min(self.database))
    }

    /// The next bytes in `block`, in place of what it holds, at most a block of the pipeline; `false` at the end.
    ///
    /// After the end of a stored object all of it has been authenticated.
    pub fn next_block(&mut self, block: &mut Vec<u8>) -> Result<bool, Error> {
        match self.first.take() {
            Some(first) => *block = first,
            None => self.bytes.next_block(&self.name, block)?,
        }
        self.came = self.came.saturating_add(block.len() as u64);
        match self.limit {
            Some(limit) if self.came > limit.bytes => Err(self.overlong(limit)),
            Some(_) | None if block.is_empty() => self.check_stored().map(|()| false),
            Some(_) | None => Ok(true),
        }
    }

    fn check_stored(&self) -> Result<(), Error> {
        let Some(Stored { seen, recorded }) = &self.stored else {
            return Ok(());
        };
        let reason = match seen.digest() {
            Some(seen) if seen == *recorded => return Ok(()),
            Some(seen) => format!("their SHA-256 is {seen} instead of {recorded}"),
            None => "they go on behind their end".to_owned(),
        };
        Err(self.damaged("stored bytes", reason))
    }

    fn damaged(&self, stage: &'static str, reason: String) -> Error {
        Error::Decode {
            name: self.name.clone(),
            error: DecodeError::Damaged { stage, reason },
        }
    }

    fn overlong(&self, limit: Limit) -> Error {
        let Limit { bytes, by } = limit;
        self.damaged("plain bytes", format!("they are longer than the {bytes} bytes {by}"))
    }
}

/// Whether what begins with these bytes is an age file.
pub fn is_encrypted(head: &[u8]) -> bool {
    head.starts_with(AGE_MAGIC)
}

/// The length of the database that begins with the bytes of `first`, as its header has it.
pub fn database_bytes(first: &[u8]) -> Result<u64, bbolt::Error> {
    match bbolt::File::open(first) {
        Ok(whole) => Ok(whole.pages().saturating_mul(u64::from(whole.page_size()))),
        Err(bbolt::Error::Truncated { expected, .. }) => Ok(expected),
        Err(error) => Err(error),
    }
}

/// How many bytes a stream may have whose database is so long.
pub fn longest(database: u64) -> u64 {
    database.saturating_add(DIGEST_BYTES + UNUSED_TAIL_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bbolt::empty_database as database;

    /// A database that goes on with zeros.
    fn going_on(bytes: u64) -> impl Read + Send + 'static {
        Cursor::new(database()).chain(io::repeat(0).take(bytes))
    }

    fn read_all(source: &mut Source) -> Result<u64, Error> {
        let (mut block, mut bytes) = (Vec::new(), 0);
        while source.next_block(&mut block)? {
            bytes += block.len() as u64;
        }
        Ok(bytes)
    }

    #[track_caller]
    fn assert_damaged(answer: Result<u64, Error>) {
        let error = answer.unwrap_err();
        let is_damage = matches!(
            error,
            Error::Decode {
                error: DecodeError::Damaged { .. },
                ..
            }
        );
        assert!(is_damage, "{error}");
    }

    #[test]
    fn what_goes_on_without_end_is_damage_and_not_a_full_disk() {
        let bomb = || Source::open("bomb", going_on(u64::MAX), None, None).unwrap();
        assert_damaged(read_all(&mut bomb()));
        assert_damaged(read_all(&mut bomb().with_length(5 << 20)));
        // A record may lie too: what the database says of itself counts.
        assert_damaged(read_all(&mut bomb().with_length(u64::MAX)));
    }

    #[test]
    fn a_digest_and_an_unused_tail_may_follow() {
        let length = database().len() as u64;
        for tail in [0, DIGEST_BYTES, 16 << 20, DIGEST_BYTES + UNUSED_TAIL_BYTES] {
            let mut source = Source::open("it", going_on(tail), None, None).unwrap();
            assert_eq!(source.database_bytes(), length);
            assert_eq!(read_all(&mut source).unwrap(), length + tail);
        }
        assert_damaged(read_all(
            &mut Source::open("it", going_on(DIGEST_BYTES + UNUSED_TAIL_BYTES + 1), None, None).unwrap(),
        ));
        // What is on a disk already is as long as it is.
        let known = length + 2 * UNUSED_TAIL_BYTES;
        let mut source = Source::open("file", going_on(2 * UNUSED_TAIL_BYTES), Some(known), None).unwrap();
        assert_eq!(
            (source.database_bytes(), read_all(&mut source).unwrap()),
            (length, known)
        );
    }

    #[test]
    fn what_is_no_database_is_refused_before_any_of_it_is_used() {
        for (bytes, says) in [
            (Vec::new(), "it is empty"),
            (vec![7; 3 << 20], "it is not an etcd snapshot: "),
            (
                b"\x1f\x8b\x08".to_vec(),
                "it is a file compressed with gzip, not an etcd snapshot",
            ),
        ] {
            let refused = Source::open("it", Cursor::new(bytes), None, None).err().unwrap();
            assert!(refused.to_string().starts_with(says), "{refused}");
        }
    }

    #[test]
    fn a_database_that_claims_more_than_there_is_needs_no_more_room() {
        let mut claims = database();
        // Of what its header says there is only the first half.
        let half = claims.len() / 2;
        claims.truncate(half);
        let length = Some(half as u64);
        let source = Source::open("it", Cursor::new(claims), length, None).unwrap();
        assert_eq!(source.database_bytes(), half as u64);
    }

    #[test]
    fn a_promised_length_is_borne_to_the_byte() {
        for tail in [0, 1, 1 << 20, (1 << 20) + 1] {
            let bytes = database().len() as u64 + tail;
            let open = || Source::open("it", going_on(tail), None, None).unwrap();
            assert_eq!(read_all(&mut open().with_length(bytes)).unwrap(), bytes);
            assert_eq!(read_all(&mut open().with_length(bytes + 1)).unwrap(), bytes);
            assert_eq!(read_all(&mut open()).unwrap(), bytes);
            assert!(read_all(&mut open().with_length(bytes - 1)).is_err());
        }
    }
}
