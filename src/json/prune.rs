//! `prune`: its fields are those of `jobs::prune::Pruned`.

use super::Document;
use crate::jobs::prune::Pruned;

/// The document of what was kept and removed.
pub fn document(pruned: &Pruned) -> Document<'_, Pruned> {
    Document::of(pruned)
}
