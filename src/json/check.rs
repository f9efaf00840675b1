//! `check`.

use serde::Serialize;

use crate::jobs::Exit;
use crate::jobs::check::{Checked, Findings, MemberRow};
use crate::jobs::probe_destinations::StoreRow;
use crate::jobs::unit_access::Judgement;

/// What was found of the configuration, and of what it names.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    ok: bool,
    #[serde(flatten)]
    findings: &'a Findings,
    members: &'a [MemberRow],
    destinations: &'a [StoreRow],
    sandbox: &'a Judgement,
}

impl Document<'_> {
    /// The document of a check.
    pub fn of(checked: &Checked) -> Document<'_> {
        Document {
            schema: 1,
            ok: checked.exit == Exit::Done,
            findings: &checked.findings,
            members: &checked.members,
            destinations: &checked.stores,
            sandbox: &checked.sandbox,
        }
    }
}
