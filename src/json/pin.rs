//! `pin` and `unpin`.

use serde::Serialize;

use crate::jobs::pin::Changed;
use crate::model::ChainId;

/// Whether retention passes a backup over, and where.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    id: &'a ChainId,
    pinned: bool,
    destinations: &'a [String],
}

impl Document<'_> {
    /// The document of a change.
    pub fn of(changed: &Changed) -> Document<'_> {
        Document {
            schema: 1,
            id: &changed.id,
            pinned: changed.pinned,
            destinations: &changed.destinations,
        }
    }
}
