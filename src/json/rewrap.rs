//! `rewrap`: its fields are those of `jobs::rewrap::Results`.

use super::Document;
use crate::jobs::rewrap::Results;

/// The document of what was made anew.
pub fn document(results: &Results) -> Document<'_, Results> {
    Document::of(results)
}
