//! `metrics`.

use serde::Serialize;

use crate::agent::Sample;

/// The metrics once.
#[derive(Debug, Serialize)]
pub struct Document {
    schema: u32,
    metrics: Vec<Sample>,
}

impl Document {
    /// The document of these samples.
    pub fn of(metrics: Vec<Sample>) -> Document {
        Document { schema: 1, metrics }
    }
}
