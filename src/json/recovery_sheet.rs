//! `recovery-sheet`.

use std::path::Path;

use serde::Serialize;

use crate::jobs::recovery_sheet::{Made, Sheet};
use crate::model::ClusterName;
use crate::text::rfc3339;

/// The sheet, and the file that it was written to.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    cluster: &'a str,
    made_at: String,
    version: &'a str,
    html: Option<&'a Path>,
    text: String,
}

impl<'a> Document<'a> {
    /// The document of the sheet of a cluster.
    pub fn of(sheet: &Sheet, cluster: &'a ClusterName, made: Made<'a>, html: Option<&'a Path>) -> Document<'a> {
        Document {
            schema: 1,
            cluster: cluster.as_str(),
            made_at: rfc3339(made.at),
            version: made.version,
            html,
            text: sheet.text(),
        }
    }
}
