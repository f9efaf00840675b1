//! `show`: one backup, or what is left of a chain without its full backup.

use serde::Serialize;
use serde_json::value::RawValue;

use super::list::BackupDocument;
use crate::catalog::Backup;
use crate::jobs::headless::Headless;
use crate::jobs::point::{Counted, KnownWindow};
use crate::layout::Span;
use crate::layout::delta::GapReason;
use crate::model::{ChainId, Revision};
use crate::text::rfc3339;

/// One backup in full.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    schema: u32,
    backup: BackupDocument,
    window: WindowDocument,
    /// To the byte as it is stored.
    manifest: &'a RawValue,
}

/// What can be restored of its chain, and what that is made of.
#[derive(Debug, Serialize)]
struct WindowDocument {
    from_revision: Revision,
    to_revision: Revision,
    from_time: String,
    to_time: String,
    deltas: usize,
    packs: usize,
    marks: usize,
    epochs: Vec<u32>,
    stored_bytes: u64,
    /// Revisions that are missing before others that are there.
    holes: Vec<HoleDocument>,
    gaps: Vec<GapDocument>,
}

#[derive(Debug, Serialize)]
struct HoleDocument {
    from_revision: Revision,
    to_revision: Revision,
}

#[derive(Debug, Serialize)]
struct GapDocument {
    from_revision: Revision,
    reason: Option<GapReason>,
    detail: Option<String>,
    found_at: Option<String>,
}

/// A chain without its full backup.
#[derive(Debug, Serialize)]
pub struct HeadlessDocument {
    schema: u32,
    backup: Option<()>,
    window: Option<()>,
    manifest: Option<()>,
    headless: Remains,
}

#[derive(Debug, Serialize)]
struct Remains {
    chain: ChainId,
    /// The revisions that are there, and cannot be restored.
    stretches: Vec<HoleDocument>,
    deltas: usize,
    packs: usize,
    marks: usize,
    stored_bytes: u64,
    destinations: Vec<String>,
    /// Good backups with points among those revisions.
    elsewhere: Vec<PointDocument>,
    reason: String,
    next: String,
}

#[derive(Debug, Serialize)]
struct PointDocument {
    id: ChainId,
    from_revision: Revision,
    to_revision: Revision,
}

impl<'a> Document<'a> {
    /// The document of a backup; `manifest` as it is stored.
    pub fn of(backup: &Backup, known: &KnownWindow<'_>, manifest: &'a RawValue) -> Document<'a> {
        Document {
            schema: 1,
            backup: BackupDocument::of(backup),
            window: WindowDocument::of(known),
            manifest,
        }
    }
}

impl WindowDocument {
    fn of(known: &KnownWindow<'_>) -> WindowDocument {
        let gaps = known.gaps.iter().map(|gap| GapDocument {
            from_revision: gap.from,
            reason: gap.said.as_ref().map(|said| said.reason),
            detail: gap.said.as_ref().map(|said| said.detail.clone()),
            found_at: gap.said.as_ref().map(|said| rfc3339(said.found_at)),
        });
        let counted = Counted::of(&known.following);
        WindowDocument {
            from_revision: known.window.from,
            to_revision: known.window.to,
            from_time: rfc3339(known.from_time),
            to_time: rfc3339(known.to_time),
            deltas: counted.deltas,
            packs: counted.packs,
            marks: counted.marks,
            epochs: known.following.epochs().iter().map(|epoch| epoch.0).collect(),
            stored_bytes: counted.stored_bytes,
            holes: known.window.holes.iter().map(HoleDocument::of).collect(),
            gaps: gaps.collect(),
        }
    }
}

impl HoleDocument {
    fn of(span: &Span) -> HoleDocument {
        HoleDocument {
            from_revision: span.from(),
            to_revision: span.to(),
        }
    }
}

impl HeadlessDocument {
    /// The document of a chain without its full backup.
    pub fn of(headless: &Headless) -> HeadlessDocument {
        HeadlessDocument {
            schema: 1,
            backup: None,
            window: None,
            manifest: None,
            headless: Remains::of(headless),
        }
    }
}

impl Remains {
    fn of(headless: &Headless) -> Remains {
        let counted = Counted::of(&headless.following);
        let there = headless.destinations.iter().filter(|(_, left)| left.objects > 0);
        let elsewhere = headless.elsewhere.iter().map(|(id, span)| PointDocument {
            id: id.clone(),
            from_revision: span.from(),
            to_revision: span.to(),
        });
        Remains {
            chain: headless.chain.chain.clone(),
            stretches: headless.stretches.iter().map(HoleDocument::of).collect(),
            deltas: counted.deltas,
            packs: counted.packs,
            marks: counted.marks,
            stored_bytes: counted.stored_bytes,
            destinations: there.map(|(name, _)| name.clone()).collect(),
            elsewhere: elsewhere.collect(),
            reason: headless.why(),
            next: headless.next(),
        }
    }
}
