//! The plain bytes of one snapshot, from wherever it is: a stored object, a snapshot file, a database file, a pipe.
//!
//! What kind it is, is told by its first bytes. Whether the bytes are a sound database is not judged here.

mod digest;

use std::io::{self, Cursor, Read};

use crate::pipeline::{BLOCK_BYTES, DecodeError, Decoded, Identities, decode};

pub use digest::{Hashed, SnapshotHasher, TrailingDigest};

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
    /// Reading failed.
    #[error("cannot read {name}: {error}")]
    Read {
        /// What the source is called.
        name: String,
        /// What the system said.
        error: io::Error,
    },
}

/// A snapshot that is read once, from front to back.
#[must_use]
pub struct Source {
    name: String,
    bytes: Bytes,
    /// The length of the plain bytes, where it is known beforehand.
    length: Option<u64>,
}

enum Bytes {
    Plain(Box<dyn Read + Send>),
    Encoded(Decoded),
}

impl Source {
    /// Opens `reader`, called `name` in errors; `length` is that of what `reader` gives.
    pub fn open(
        name: impl Into<String>,
        mut reader: impl Read + Send + 'static,
        length: Option<u64>,
        identities: Option<&Identities>,
    ) -> Result<Source, Error> {
        let name = name.into();
        let mut head = [0; AGE_MAGIC.len()];
        let filled = fill(&mut reader, &mut head).map_err(|error| Error::Read {
            name: name.clone(),
            error,
        })?;
        let encrypted = head == *AGE_MAGIC;
        let whole = Cursor::new(head).take(filled as u64).chain(reader);
        if !encrypted {
            let bytes = Bytes::Plain(Box::new(whole));
            return Ok(Source { name, bytes, length });
        }
        let Some(identities) = identities else {
            return Err(Error::NoIdentity { name });
        };
        match decode(whole, identities) {
            Ok(decoded) => Ok(Source {
                name,
                bytes: Bytes::Encoded(decoded),
                length: None,
            }),
            Err(error) => Err(Error::Decode { name, error }),
        }
    }

    /// Says how long the plain bytes are, for a source that cannot know by itself.
    pub fn with_length(self, length: u64) -> Self {
        let length = Some(length);
        Source { length, ..self }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The length of the plain bytes, where it is known beforehand.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes in `block`, which is emptied first and filled up to [`BLOCK_BYTES`]; `false` at the end.
    ///
    /// After the end of a stored object all of it has been authenticated.
    pub fn next_block(&mut self, block: &mut Vec<u8>) -> Result<bool, Error> {
        match &mut self.bytes {
            Bytes::Plain(reader) => {
                block.resize(BLOCK_BYTES, 0);
                let filled = fill(reader, block).map_err(|error| Error::Read {
                    name: self.name.clone(),
                    error,
                })?;
                block.truncate(filled);
            }
            Bytes::Encoded(decoded) => {
                let next = decoded.next_block().map_err(|error| Error::Decode {
                    name: self.name.clone(),
                    error,
                })?;
                *block = next.unwrap_or_default();
            }
        }
        Ok(!block.is_empty())
    }
}

/// Reads until `buffer` is full or there is no more.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
