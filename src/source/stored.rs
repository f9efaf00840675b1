//! Whether the bytes that were read are those that were stored.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

use crate::model::Digest;

/// Hashes what is read, and tells the digest when its end was seen.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    seen: Arc<OnceLock<Digest>>,
}

/// The digest of everything that a [`Hashing`] read, once it has read all.
pub(super) struct Seen(Arc<OnceLock<Digest>>);

impl Seen {
    /// The digest; nothing while the end was not seen.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.0.get().copied()
    }
}

/// Has all that is read from `inner` hashed.
pub(super) fn hashing<R: Read>(inner: R) -> (Hashing<R>, Seen) {
    let seen = Arc::new(OnceLock::new());
    let hashing = Hashing {
        inner,
        hasher: Sha256::new(),
        seen: seen.clone(),
    };
    (hashing, Seen(seen))
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read > 0 {
            self.hasher.update(&buffer[..read]);
        } else if !buffer.is_empty() {
            self.seen.get_or_init(|| Digest(self.hasher.clone().finalize().into()));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::bbolt::empty_database;
    use crate::source::{Error, Source};

    fn read_to_end(mut source: Source) -> Result<(), Error> {
        let mut block = Vec::new();
        while source.next_block(&mut block)? {}
        Ok(())
    }

    #[test]
    fn bytes_that_are_not_those_stored_are_damage_at_their_end() {
        let stored = empty_database();
        let recorded = Digest(Sha256::digest(&stored).into());
        let open = |bytes: Vec<u8>| {
            let length = bytes.len() as u64;
            Source::open_stored("it", Cursor::new(bytes), length, None, recorded).unwrap()
        };
        assert!(open(stored.clone()).is_held_to_stored());
        read_to_end(open(stored.clone())).unwrap();
        for at in [stored.len() / 2, stored.len() - 1] {
            let mut other = stored.clone();
            other[at] ^= 1;
            let error = read_to_end(open(other)).unwrap_err().to_string();
            assert!(
                error.starts_with("it: the stored bytes are damaged: their SHA-256 is "),
                "{error}"
            );
        }
    }

    #[test]
    fn the_digest_is_told_only_once_the_end_was_seen() {
        let (mut reader, seen) = hashing(Cursor::new(b"all of it"));
        let mut part = [0; 4];
        assert_eq!(reader.read(&mut part).unwrap(), 4);
        // A read into nothing says nothing about the end.
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        assert_eq!(seen.digest(), None);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(seen.digest(), Some(Digest(Sha256::digest(b"all of it").into())));
    }
}
