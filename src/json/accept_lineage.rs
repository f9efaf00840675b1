//! `accept-lineage`.

use serde::Serialize;

use crate::jobs::accept_lineage::{Accepted, Missed};
use crate::model::LineageId;

/// Which history is meant, and who knows it.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    accepted: &'a LineageId,
    changed: bool,
    destinations: &'a [String],
    failed: &'a [Missed],
}

impl Document<'_> {
    /// The document of the operator's word.
    pub fn of(word: &Accepted) -> Document<'_> {
        Document {
            schema: 1,
            accepted: &word.lineage.id,
            changed: word.has_changed(),
            destinations: &word.destinations,
            failed: &word.failed,
        }
    }
}
