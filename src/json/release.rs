//! `release`.

use serde::Serialize;

use crate::jobs::restore::{KeptOf, Releasing};

/// What is given up for good.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    dry_run: bool,
    released: &'a [KeptOf],
}

impl Document<'_> {
    /// The document of what is given up, or would be.
    pub fn of(releasing: &Releasing, dry_run: bool) -> Document<'_> {
        Document {
            schema: 1,
            dry_run,
            released: &releasing.kept,
        }
    }
}
