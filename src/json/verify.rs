//! `verify`: its fields are those of `jobs::verify::Results`.

use super::Document;
use crate::jobs::verify::Results;

/// The document of what was read back.
pub fn document(results: &Results) -> Document<'_, Results> {
    Document::of(results)
}
