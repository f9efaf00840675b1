//! `list`, and the record of one backup, which `show` prints too.

use serde::{Serialize, Serializer};

use super::failure;
use crate::catalog::{Backup, Lineage, RolledBack, Stranger};
use crate::destinations::Destinations;
use crate::jobs::Failure;
use crate::jobs::point::KnownWindow;
use crate::layout::{Kind, Proof};
use crate::model::{ChainId, LineageId, Revision};
use crate::signing::SignerKey;
use crate::text::rfc3339;

/// What there is.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: u32,
    /// What is wrong with the configuration; the rest is by the last one that was right.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<serde_json::Value>,
    backups: Each<'a, BackupDocument>,
    windows: Vec<WindowDocument>,
    lineages: Vec<LineageDocument>,
    latest: Option<ChainId>,
    damaged: Vec<String>,
    unreadable: Vec<Unreadable<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    foreign: Option<Vec<String>>,
    /// What counts for nothing, because no trusted signer has signed it.
    strangers: Vec<StrangerDocument>,
    rolled_back: Vec<RolledBackDocument>,
}

/// A document for each backup, made while it is written: there may be a hundred thousand.
struct Each<'a, T> {
    backups: &'a [Backup],
    document: fn(&Backup) -> T,
}

impl<T: Serialize> Serialize for Each<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.backups.iter().map(self.document))
    }
}

/// One backup.
#[derive(Debug, Serialize)]
pub struct BackupDocument {
    id: ChainId,
    kind: Kind,
    chain: ChainId,
    lineage: LineageId,
    from_revision: Revision,
    to_revision: Revision,
    time: String,
    bytes: u64,
    stored_bytes: u64,
    etcd_version: String,
    keys: Option<u64>,
    pinned: bool,
    proof: Proof,
    /// When a copy of it was last checked by itself.
    checked_at: Option<String>,
    destinations: Vec<String>,
    note: Option<String>,
    faults: Vec<String>,
    signer: Option<SignerKey>,
}

#[derive(Debug, Serialize)]
struct WindowDocument {
    chain: ChainId,
    from_revision: Revision,
    to_revision: Revision,
    from_time: String,
    to_time: String,
    /// Why no more follows.
    ends: Option<String>,
}

#[derive(Debug, Serialize)]
struct LineageDocument {
    lineage: LineageId,
    backups: usize,
    highest_revision: Revision,
    accepted: bool,
}

#[derive(Debug, Serialize)]
struct StrangerDocument {
    destination: String,
    object: String,
    signer: Option<SignerKey>,
    error: String,
}

#[derive(Debug, Serialize)]
struct RolledBackDocument {
    destination: String,
    seen: ChainId,
    seen_revision: Revision,
    newest: Option<ChainId>,
}

#[derive(Debug, Serialize)]
struct Unreadable<'a> {
    destination: &'a str,
    error: &'a str,
}

impl<'a> Document<'a> {
    /// The document of what lies in the destinations and of the points there, with `all` of what is no backup too; `broken` says
    /// what is wrong with the configuration.
    pub fn of(
        destinations: &'a Destinations,
        windows: &[KnownWindow<'_>],
        broken: Option<&Failure>,
        all: bool,
    ) -> Document<'a> {
        let catalog = &destinations.catalog;
        let accepted = catalog.accepted_lineage().ok();
        let lineage = |lineage: Lineage| LineageDocument {
            accepted: accepted.as_ref().is_some_and(|accepted| accepted.id == lineage.id),
            lineage: lineage.id,
            backups: lineage.backups,
            highest_revision: lineage.highest,
        };
        let unreadable = destinations
            .unreadable
            .iter()
            .map(|(destination, error)| Unreadable { destination, error });
        Document {
            schema: 1,
            error: broken.map(failure::of),
            backups: Each {
                backups: catalog.backups(),
                document: BackupDocument::of,
            },
            windows: windows.iter().map(WindowDocument::of).collect(),
            lineages: catalog.lineages().into_iter().map(lineage).collect(),
            latest: catalog.latest().ok().map(|latest| latest.id().clone()),
            damaged: catalog
                .damaged()
                .iter()
                .map(|damaged| format!("{damaged}: {}", damaged.fault))
                .collect(),
            unreadable: unreadable.collect(),
            incomplete: all.then(|| catalog.incomplete().iter().map(|left| left.chain.to_string()).collect()),
            foreign: all.then(|| catalog.foreign().map(str::to_owned).collect()),
            strangers: catalog.strangers().iter().map(StrangerDocument::of).collect(),
            rolled_back: destinations.rolled_back.iter().map(RolledBackDocument::of).collect(),
        }
    }
}

impl BackupDocument {
    /// The record of a backup.
    pub fn of(backup: &Backup) -> BackupDocument {
        let manifest = backup.manifest();
        BackupDocument {
            id: backup.id().clone(),
            kind: manifest.kind,
            chain: manifest.chain.clone(),
            lineage: manifest.lineage.clone(),
            from_revision: manifest.from_revision,
            to_revision: manifest.to_revision,
            time: rfc3339(manifest.first_byte_at),
            bytes: manifest.plain.bytes,
            stored_bytes: manifest.stored.bytes,
            etcd_version: manifest.etcd_version.to_string(),
            keys: manifest.keys,
            pinned: backup.is_pinned(),
            proof: backup.proof(),
            checked_at: backup
                .copies
                .iter()
                .filter_map(|copy| copy.checked_at)
                .max()
                .map(rfc3339),
            destinations: backup.destinations().map(str::to_owned).collect(),
            note: manifest.note.as_deref().map(str::to_owned),
            faults: backup.faults(),
            signer: backup.signer(),
        }
    }
}

impl WindowDocument {
    fn of(known: &KnownWindow<'_>) -> WindowDocument {
        WindowDocument {
            chain: known.backup.id().clone(),
            from_revision: known.window.from,
            to_revision: known.window.to,
            from_time: rfc3339(known.from_time),
            to_time: rfc3339(known.to_time),
            ends: known.ends(),
        }
    }
}

impl StrangerDocument {
    fn of(stranger: &Stranger) -> StrangerDocument {
        StrangerDocument {
            destination: stranger.destination.clone(),
            object: stranger.object.to_string(),
            signer: stranger.why.signer(),
            error: stranger.why.to_string(),
        }
    }
}

impl RolledBackDocument {
    fn of(back: &RolledBack) -> RolledBackDocument {
        RolledBackDocument {
            destination: back.destination.clone(),
            seen: back.seen.chain.clone(),
            seen_revision: back.seen.revision,
            newest: back.shows.as_ref().map(|shows| shows.chain.clone()),
        }
    }
}
