//! `used`: which backup a command worked on.

use serde::Serialize;

use crate::layout::Manifest;
use crate::model::{ChainId, LineageId, Revision};
use crate::text::rfc3339;

/// Which backup was used; there is none for a file.
#[derive(Debug, Serialize)]
pub struct Used {
    id: ChainId,
    time: String,
    lineage: LineageId,
    revision: Revision,
}

impl Used {
    /// The backup of `manifest`.
    pub fn of(manifest: &Manifest) -> Used {
        Used {
            id: manifest.chain.clone(),
            time: rfc3339(manifest.first_byte_at),
            lineage: manifest.lineage.clone(),
            revision: manifest.to_revision,
        }
    }
}
