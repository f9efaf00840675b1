//! The changes that follow a full backup, up to a point.

use std::fmt;

use super::Error;
use crate::layout::Span;
use crate::model::Revision;
use crate::pipeline::Buffer;

/// The records of one delta, decrypted and unpacked.
#[derive(Debug)]
pub struct DeltaRecords {
    /// The object, for messages.
    pub name: String,
    /// The revisions in it.
    pub span: Span,
    /// The records: see [`crate::layout::delta::Decoder`].
    pub plain: Buffer,
}

type Next = Box<dyn FnMut() -> Result<Option<DeltaRecords>, Error> + Send>;

/// Deltas in order, without a hole between them, up to a revision. They may begin before the full backup's revision and end
/// behind the point: whoever applies them takes what is in between.
pub struct Changes {
    to: Revision,
    stored_bytes: u64,
    next: Next,
}

impl Changes {
    /// The changes up to `to`, the end included, as `next` gives them out; none behind the last.
    pub fn new(to: Revision, next: impl FnMut() -> Result<Option<DeltaRecords>, Error> + Send + 'static) -> Changes {
        Changes {
            to,
            stored_bytes: 0,
            next: Box::new(next),
        }
    }

    /// Says how large the objects are that they come from.
    pub fn of_stored_bytes(self, stored_bytes: u64) -> Changes {
        Changes { stored_bytes, ..self }
    }

    /// How large the objects are that they come from, as far as that was said: what they are unpacked is more.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// The revision that is meant.
    pub fn to(&self) -> Revision {
        self.to
    }

    /// The next delta; none behind the last.
    ///
    /// Fails where it cannot be read, or is not what was stored.
    pub fn next_delta(&mut self) -> Result<Option<DeltaRecords>, Error> {
        (self.next)()
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("to", &self.to).finish_non_exhaustive()
    }
}
