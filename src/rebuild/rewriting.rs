//! The landed database written anew, in the order of its keys and without free pages, before it becomes that of a new
//! cluster. The first one goes once the second is proven to hold the same, so there is room for both.
//!
//! What comes of it follows from the source and the wish alone. Members of one cluster may still differ in it, as they
//! do when one of them is defragmented: which revisions are there, HashKV of each, leases and marks are alike.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::database::Sound;
use super::staging::Staging;
use super::{Error, Wish, target_dirs};
use crate::bbolt;
use crate::datadir;
use crate::durable::Dir;
use crate::keyspace::{CompactionMarks, History, RewrittenSize};
use crate::model::Revision;

/// The second database, as long as there are two.
const NEW: &str = "db.new";

/// Whether the pages of a source are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rewrite {
    /// They are.
    #[default]
    Not,
    /// The database is written anew, without free pages.
    Defragmented,
    /// It is, and without what its compaction gave up; where revisions jump, that is all history.
    Compacted,
    /// The same, but only where it would be too long otherwise, and is not then.
    ToFit {
        /// The first length that is too long.
        below: u64,
    },
}

/// How a database was written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// How long it was before.
    pub bytes_before: u64,
    /// Whether what its compaction gave up is gone too.
    pub is_compacted: bool,
}

impl Rewrite {
    /// The room that a source of `bytes` takes at most.
    pub fn needed_bytes(self, bytes: u64) -> u64 {
        match self {
            Rewrite::Not | Rewrite::ToFit { .. } => bytes,
            Rewrite::Defragmented | Rewrite::Compacted => bytes.saturating_mul(2),
        }
    }

    /// What finds out how long a database would be, where that decides.
    pub(super) fn size<'a>(
        self,
        source: &bbolt::File<'a>,
        bump: Option<NonZeroU64>,
    ) -> Result<Option<RewrittenSize<'a>>, bbolt::Error> {
        let bytes = source.pages().saturating_mul(source.page_size().into());
        // Where revisions jump an entry comes behind the last one.
        let grows = match (self, bump) {
            (Rewrite::ToFit { .. }, Some(_)) => match source.bucket(b"key")? {
                Some(log) => log.bytes_to_extend()?,
                None => 0,
            },
            (_, _) => 0,
        };
        match self {
            Rewrite::ToFit { below } if bytes.saturating_add(grows) >= below => {
                let last = Revision::new(i64::MAX).expect("it is not negative");
                let history = history(CompactionMarks::read(source), last, bump);
                RewrittenSize::new(source, history).map(Some)
            }
            Rewrite::ToFit { .. } | Rewrite::Not | Rewrite::Defragmented | Rewrite::Compacted => Ok(None),
        }
    }
}

/// What a compacted database has of the log: where revisions jump, all that is before is marked as compacted anyway.
fn history(marks: CompactionMarks, last: Revision, bump: Option<NonZeroU64>) -> History {
    match bump {
        Some(_) => History::CompactedAt(last),
        None => History::asked_by(marks),
    }
}

/// The database in `folder` as it is wished.
pub(super) fn rewritten(sound: Sound, wish: &Wish, data: &mut Staging, folder: &Dir) -> Result<Sound, Error> {
    let compacted = history(sound.marks(), sound.revision(), wish.bump);
    let history = match (wish.rewrite, sound.compacted_bytes()) {
        (Rewrite::Not, _) | (Rewrite::ToFit { .. }, None) => return Ok(sound),
        (Rewrite::Defragmented, _) => History::Whole,
        (Rewrite::Compacted, _) => compacted,
        (Rewrite::ToFit { below }, Some(bytes)) => match bytes < below && target_dirs::has_room(folder, bytes)? {
            true => compacted,
            false => return Ok(sound),
        },
    };
    let file = data.create(folder, NEW)?;
    let sound = sound.rewritten(history, file)?;
    data.replace(folder, datadir::DB, NEW)?;
    Ok(sound)
}
