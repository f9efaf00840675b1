//! `copy`.

use serde::Serialize;

use crate::jobs::copy::by_hand::{Copied, Failed};
use crate::model::ChainId;

/// What one destination has got from another.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    from: &'a str,
    to: &'a str,
    copied: &'a [ChainId],
    completed: &'a [ChainId],
    had: &'a [ChainId],
    failed: Vec<FailedDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct FailedDocument<'a> {
    id: &'a ChainId,
    error: &'a str,
}

impl Document<'_> {
    /// The document of a copy.
    pub fn of(copied: &Copied) -> Document<'_> {
        Document {
            schema: 1,
            from: &copied.from,
            to: &copied.to,
            copied: &copied.copied,
            completed: &copied.completed,
            had: &copied.had,
            failed: copied.failed.iter().map(FailedDocument::of).collect(),
        }
    }
}

impl FailedDocument<'_> {
    fn of(failed: &Failed) -> FailedDocument<'_> {
        FailedDocument {
            id: &failed.id,
            error: &failed.error,
        }
    }
}
