//! What keeps the bytes of a store enforces, as far as a trial shows it: on the canary's name alone, which is free again
//! afterwards.

use std::io::Write as _;

use serde::Serialize;

use super::Error;
use super::backend::Backend;
use super::over_backend::Inner;
use crate::durable;
use crate::layout::{HostName, ObjectName};

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// The store does not tell, or not to this user.
    Unknown,
    /// There is no such thing in stores of this kind.
    None,
}

impl Answer {
    /// As it stands in a table.
    pub fn word(self) -> &'static str {
        match self {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Unknown => "?",
            Answer::None => "-",
        }
    }
}

impl From<bool> for Answer {
    fn from(is_so: bool) -> Answer {
        match is_so {
            true => Answer::Yes,
            false => Answer::No,
        }
    }
}

/// What a store enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enforces {
    /// A small object is written only where there is none.
    pub new_only: Answer,
    /// So is one that is sent in parts.
    pub parts_new_only: Answer,
    /// Besides.
    #[serde(flatten)]
    pub kind: OfKind,
    /// Who asks may remove.
    pub removes: Answer,
    /// It lists uploads that were begun and not ended.
    pub lists_uploads: Answer,
}

/// What only some kinds of stores have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfKind {
    /// The checksums that it refuses bytes by which are not as they were sent: `crc32c`, `md5`; none where that is not known.
    pub checksums: Option<Vec<&'static str>>,
    /// What it says of an object tells what it took.
    pub acknowledges: Answer,
    /// Objects can be locked.
    pub object_lock: Answer,
    /// What is replaced or removed is kept as a version.
    pub versioning: Answer,
}

impl OfKind {
    /// Of a kind that has none of it.
    pub const NOTHING: OfKind = OfKind {
        checksums: None,
        acknowledges: Answer::None,
        object_lock: Answer::None,
        versioning: Answer::None,
    };

    /// Of a kind that may have it, and is not asked.
    #[cfg(feature = "opendal")]
    pub(super) const NOT_ASKED: OfKind = OfKind {
        checksums: None,
        acknowledges: Answer::Unknown,
        object_lock: Answer::Unknown,
        versioning: Answer::Unknown,
    };
}

impl Inner {
    /// Writes a canary for `host` and reads it back, and tries what else can be tried with it. `Altered` if it came back
    /// different. Nothing of it is left where it may be removed.
    pub fn probe(&self, host: &HostName, sign: &dyn Fn()) -> Result<Enforces, Error> {
        self.try_canary(host)?;
        sign();
        let object = ObjectName::Canary(host.clone());
        let tried = self.try_with(&object, sign);
        let removed = match self.backend().remove(&object) {
            Ok(()) | Err(Error::NotFound { .. }) => Answer::Yes,
            Err(Error::Refused { .. } | Error::Denied { .. }) => Answer::No,
            Err(error) => return Err(tried.err().unwrap_or(error)),
        };
        Ok(Enforces {
            removes: removed,
            ..tried?
        })
    }

    /// With a canary that is there.
    fn try_with(&self, object: &ObjectName, sign: &dyn Fn()) -> Result<Enforces, Error> {
        let backend = self.backend();
        let another: [u8; 64] =
            durable::random().map_err(|source| Error::at("get random bytes for", self.address_of(object), source))?;
        let new_only = is_refused(backend.put_new(object, &another))?;
        sign();
        let parts_new_only = match backend.parts_from() {
            None => Answer::None,
            Some(bytes) => is_refused(written(backend, object, bytes, sign))?,
        };
        sign();
        let kind = backend.of_kind(object)?;
        sign();
        let lists_uploads = backend.lists_uploads()?;
        Ok(Enforces {
            new_only,
            parts_new_only,
            kind,
            removes: Answer::Unknown,
            lists_uploads,
        })
    }
}

/// Writes so much in the place of what is there.
fn written(backend: &dyn Backend, object: &ObjectName, bytes: u64, sign: &dyn Fn()) -> Result<(), Error> {
    static BLOCK: [u8; 64 << 10] = [0; 64 << 10];
    let mut upload = backend.begin(object)?;
    let mut left = bytes;
    while left > 0 {
        let block = BLOCK.get(..usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK.len()));
        let block = block.unwrap_or(&BLOCK);
        upload
            .write_all(block)
            .map_err(|source| Error::at("write", backend.address(&object.to_string()), source))?;
        left -= block.len() as u64;
        sign();
    }
    upload.commit()
}

/// Whether what was written where something is was refused.
fn is_refused(written: Result<(), Error>) -> Result<Answer, Error> {
    match written {
        Ok(()) => Ok(Answer::No),
        Err(Error::AlreadyExists { .. }) => Ok(Answer::Yes),
        Err(error) => Err(error),
    }
}
