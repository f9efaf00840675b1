//! `compact`, and `export --compact` of a whole backup.

use std::path::Path;

use serde::Serialize;

use super::Used;
use crate::jobs::compact::{Compacted, Extent};
use crate::layout::Manifest;
use crate::model::{Digest, HashKv, Revision};

/// The smaller snapshot that was written.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    backup: Option<Used>,
    file: &'a Path,
    bytes: u64,
    sha256: Digest,
    revision: Revision,
    compact_revision: i64,
    hash_kv: HashKv,
    live_keys: u64,
    before: ExtentDocument,
    after: ExtentDocument,
}

#[derive(Debug, Serialize)]
struct ExtentDocument {
    bytes: u64,
    pages: u64,
    versions: u64,
}

impl<'a> Document<'a> {
    /// The document of a snapshot that was written to `file`, of the backup of `manifest` if it was one.
    pub fn of(made: &Compacted, file: &'a Path, manifest: Option<&Manifest>) -> Document<'a> {
        Document {
            schema: 1,
            backup: manifest.map(Used::of),
            file,
            bytes: made.bytes,
            sha256: made.sha256,
            revision: made.revision,
            compact_revision: made.compacted.map_or(-1, Revision::get),
            hash_kv: made.hash_kv,
            live_keys: made.live_keys,
            before: ExtentDocument::of(made.before),
            after: ExtentDocument::of(made.after),
        }
    }
}

impl ExtentDocument {
    fn of(extent: Extent) -> ExtentDocument {
        ExtentDocument {
            bytes: extent.bytes,
            pages: extent.pages,
            versions: extent.versions,
        }
    }
}
