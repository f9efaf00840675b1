//! `export`.

use std::path::Path;

use serde::Serialize;

use super::Used;
use crate::jobs::export::Exported;
use crate::layout::Manifest;
use crate::model::Digest;

/// The plain snapshot that was written.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    backup: Option<Used>,
    file: &'a Path,
    bytes: u64,
    sha256: Digest,
}

impl<'a> Document<'a> {
    /// The document of a snapshot that was written to `file`, of the backup of `manifest` if it was one.
    pub fn of(exported: &Exported, file: &'a Path, manifest: Option<&Manifest>) -> Document<'a> {
        Document {
            schema: 1,
            backup: manifest.map(Used::of),
            file,
            bytes: exported.bytes,
            sha256: exported.sha256,
        }
    }
}
