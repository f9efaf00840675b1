//! `status`: its fields are those of `status::Status`.

use serde::Serialize;

use crate::status::Status;

/// How everything is right now.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: u32,
    #[serde(flatten)]
    status: &'a Status,
}

impl Document<'_> {
    /// The document of how it is.
    pub fn of(status: &Status) -> Document<'_> {
        Document { schema: 2, status }
    }
}
