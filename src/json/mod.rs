//! What programs read: one file a command, the document that `--json` prints, as `docs/json.md` describes it.
//!
//! What a job returned goes in, a value that can be serialised comes out: nothing is asked, decided or printed here.
//!
//! Invariant: a field that is renamed or dropped, or that means something else, raises `schema`.

pub mod accept_lineage;
pub mod backup;
pub mod check;
pub mod compact;
pub mod copy;
pub mod export;
pub mod failure;
pub mod follow;
pub mod inspect;
pub mod keygen;
pub mod list;
pub mod metrics;
pub mod notify;
pub mod pin;
pub mod prune;
pub mod rebuild;
pub mod recovery_sheet;
pub mod release;
pub mod restore;
pub mod rewrap;
pub mod rollback;
pub mod show;
pub mod status;
mod used;
pub mod verify;

use std::path::Path;

use serde::Serialize;

pub use used::Used;

/// A document whose fields are those of a job's own value, behind the version of the schema.
#[derive(Debug, Serialize)]
pub struct Document<'a, T> {
    schema: u32,
    #[serde(flatten)]
    content: &'a T,
}

impl<'a, T> Document<'a, T> {
    /// The document of `content`, in version 1 of its schema.
    fn of(content: &'a T) -> Document<'a, T> {
        Document { schema: 1, content }
    }
}

/// A path as text.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
