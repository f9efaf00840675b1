//! `notify`.

use serde::Serialize;

use crate::agent::notify_once::Tried;

/// What was tried of `[notify]`.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    tried: Vec<TriedDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct TriedDocument<'a> {
    key: &'static str,
    ok: bool,
    error: Option<&'a str>,
}

impl Document<'_> {
    /// The document of what was tried.
    pub fn of(tried: &[Tried]) -> Document<'_> {
        Document {
            schema: 1,
            tried: tried.iter().map(TriedDocument::of).collect(),
        }
    }
}

impl TriedDocument<'_> {
    fn of(tried: &Tried) -> TriedDocument<'_> {
        TriedDocument {
            key: tried.key,
            ok: tried.error.is_none(),
            error: tried.error.as_deref(),
        }
    }
}
