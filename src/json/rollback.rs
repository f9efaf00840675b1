//! `rollback`.

use std::path::Path;

use serde::Serialize;

use super::shown;
use crate::jobs::restore::Ended;
use crate::restore::{Ledger, Outcome, made_path};

/// The data from before a restore, as it comes back.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    id: String,
    outcome: &'static str,
    data_dir: String,
    set_aside: Option<String>,
    warnings: &'a [String],
}

impl Document<'_> {
    /// The document of what would be done.
    pub fn planned(ledger: &Ledger) -> Document<'_> {
        let host = &ledger.plan.host;
        let aside = made_path(&host.site.data_dir, &host.id);
        Document::new(ledger, "planned", Some(&aside), &[])
    }

    /// The document of a restore that was taken back; what was written since lies in `set_aside`.
    pub fn of<'a>(ended: &'a Ended, set_aside: Option<&Path>) -> Document<'a> {
        let outcome = match ended.outcome {
            Outcome::Undone { .. } => "undone",
            Outcome::Restored => "restored",
            Outcome::Waiting { .. } => "waiting",
        };
        Document::new(&ended.ledger, outcome, set_aside, &ended.notes)
    }

    fn new<'a>(
        ledger: &Ledger,
        outcome: &'static str,
        set_aside: Option<&Path>,
        warnings: &'a [String],
    ) -> Document<'a> {
        let host = &ledger.plan.host;
        Document {
            schema: 1,
            id: host.id.to_string(),
            outcome,
            data_dir: shown(&host.site.data_dir),
            set_aside: set_aside.map(shown),
            warnings,
        }
    }
}
