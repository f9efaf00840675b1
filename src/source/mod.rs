//! The plain bytes of one snapshot, from wherever it is: a stored object, a snapshot file, a database file, a pipe.
//!
//! What kind it is, is told by its first bytes. Whether the bytes are a sound database is not judged here.

mod digest;

use std::io::{self, Cursor, Read};

use crate::pipeline::{DecodeError, Decoded, Identities, decode, fill};

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
    /// How many plain bytes may still come, where their number was promised.
    allowance: Option<u64>,
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
        let mut head = Vec::with_capacity(AGE_MAGIC.len());
        let read = (&mut reader).take(AGE_MAGIC.len() as u64).read_to_end(&mut head);
        read.map_err(|error| Error::Read {
            name: name.clone(),
            error,
        })?;
        let encrypted = head == AGE_MAGIC;
        let whole = Cursor::new(head).chain(reader);
        let (bytes, length) = match (encrypted, identities) {
            (false, _) => (Bytes::Plain(Box::new(whole)), length),
            (true, None) => return Err(Error::NoIdentity { name }),
            (true, Some(identities)) => match decode(whole, identities) {
                Ok(decoded) => (Bytes::Encoded(decoded), None),
                Err(error) => return Err(Error::Decode { name, error }),
            },
        };
        Ok(Source {
            name,
            bytes,
            length,
            allowance: None,
        })
    }

    /// Says how long the plain bytes are, and holds them to it: that they go on beyond is damage, found before the disk
    /// is full. That they end before is for a digest to find.
    pub fn with_length(self, length: u64) -> Self {
        Source {
            length: Some(length),
            allowance: Some(length),
            ..self
        }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The length of the plain bytes, where it is known beforehand.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes in `block`, in place of what it holds, at most a block of the pipeline; `false` at the end.
    ///
    /// After the end of a stored object all of it has been authenticated.
    pub fn next_block(&mut self, block: &mut Vec<u8>) -> Result<bool, Error> {
        match &mut self.bytes {
            Bytes::Plain(reader) => fill(reader, block).map_err(|error| Error::Read {
                name: self.name.clone(),
                error,
            })?,
            Bytes::Encoded(decoded) => {
                let next = decoded.next_block(block).map_err(|error| Error::Decode {
                    name: self.name.clone(),
                    error,
                })?;
                debug_assert_eq!(next, !block.is_empty());
            }
        }
        if let Some(left) = self.allowance {
            self.allowance = Some(left.checked_sub(block.len() as u64).ok_or_else(|| self.overlong())?);
        }
        Ok(!block.is_empty())
    }

    fn overlong(&self) -> Error {
        Error::Decode {
            name: self.name.clone(),
            error: DecodeError::Damaged {
                stage: "plain bytes",
                reason: format!("they go on beyond the {} that were recorded", self.length.unwrap_or(0)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(source: &mut Source) -> Result<u64, Error> {
        let (mut block, mut bytes) = (Vec::new(), 0);
        while source.next_block(&mut block)? {
            bytes += block.len() as u64;
        }
        Ok(bytes)
    }

    #[test]
    fn what_goes_on_without_end_is_damage_and_not_a_full_disk() {
        let mut source = Source::open("bomb", io::repeat(7), None, None)
            .unwrap()
            .with_length(5 << 20);
        let error = read_all(&mut source).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Decode {
                    error: DecodeError::Damaged { .. },
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_promised_length_is_borne_to_the_byte() {
        for bytes in [0, 1, 21, 22, 1 << 20, (1 << 20) + 1] {
            let content = vec![7; bytes];
            let open = || Source::open("it", Cursor::new(content.clone()), None, None).unwrap();
            let bytes = bytes as u64;
            assert_eq!(read_all(&mut open().with_length(bytes)).unwrap(), bytes);
            assert_eq!(read_all(&mut open().with_length(bytes + 1)).unwrap(), bytes);
            assert_eq!(read_all(&mut open()).unwrap(), bytes);
            if bytes > 0 {
                assert!(read_all(&mut open().with_length(bytes - 1)).is_err());
            }
        }
    }
}
