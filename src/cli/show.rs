//! `lifeboat show`: one backup in full.

use serde::Serialize;
use serde_json::value::RawValue;

use super::arguments::From;
use super::list::BackupDocument;
use super::{Context, Exit, Failure};
use crate::catalog::{Backup, FindError, PieceKind};
use crate::destinations::Destinations;
use crate::jobs::headless::Headless;
use crate::jobs::named_backup::chosen;
use crate::jobs::point::{KnownWindow, window_of};
use crate::jobs::source::described;
use crate::jobs::stores;
use crate::layout::delta::GapReason;
use crate::layout::{Manifest, Origin, Proof, Span};
use crate::model::{ByteSize, ChainId, Revision};
use crate::terminal::{Format, Output};
use crate::text::{clean, compacted, count, rfc3339};

/// Show one backup in full: its manifest, where it lies, how far it is proven
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat show 20261120T101530Z")]
pub struct Args {
    /// The backup's ID, a unique beginning or the last 8 digits of it, or `latest`
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    pub(super) from: From,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    backup: BackupDocument,
    window: WindowDocument,
    /// To the byte as it is stored.
    manifest: &'a RawValue,
}

#[derive(Serialize)]
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

#[derive(Serialize)]
struct HoleDocument {
    from_revision: Revision,
    to_revision: Revision,
}

impl HoleDocument {
    fn of(span: &Span) -> HoleDocument {
        HoleDocument {
            from_revision: span.from(),
            to_revision: span.to(),
        }
    }
}

#[derive(Serialize)]
struct GapDocument {
    from_revision: Revision,
    reason: Option<GapReason>,
    detail: Option<String>,
    found_at: Option<String>,
}

impl WindowDocument {
    fn of(known: &KnownWindow<'_>) -> WindowDocument {
        let pieces = known.following.pieces();
        let of_kind = |kind| pieces.iter().filter(|piece| piece.kind == kind).count();
        let gaps = known.gaps.iter().map(|gap| GapDocument {
            from_revision: gap.from,
            reason: gap.said.as_ref().map(|said| said.reason),
            detail: gap.said.as_ref().map(|said| said.detail.clone()),
            found_at: gap.said.as_ref().map(|said| rfc3339(said.found_at)),
        });
        WindowDocument {
            from_revision: known.window.from,
            to_revision: known.window.to,
            from_time: rfc3339(known.from_time),
            to_time: rfc3339(known.to_time),
            deltas: of_kind(PieceKind::Delta),
            packs: of_kind(PieceKind::Pack),
            marks: known.following.marks(),
            epochs: known.following.epochs().iter().map(|epoch| epoch.0).collect(),
            stored_bytes: pieces.iter().map(|piece| piece.bytes).sum(),
            holes: known.window.holes.iter().map(HoleDocument::of).collect(),
            gaps: gaps.collect(),
        }
    }
}

/// What programs see of a chain without its full backup.
#[derive(Serialize)]
struct HeadlessDocument {
    schema: u32,
    backup: Option<()>,
    window: Option<()>,
    manifest: Option<()>,
    headless: Remains,
}

#[derive(Serialize)]
struct PointDocument {
    id: ChainId,
    from_revision: Revision,
    to_revision: Revision,
}

#[derive(Serialize)]
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

impl Remains {
    fn of(headless: &Headless) -> Remains {
        let pieces = headless.following.pieces();
        let of_kind = |kind| pieces.iter().filter(|piece| piece.kind == kind).count();
        let there = headless.destinations.iter().filter(|(_, left)| left.objects > 0);
        Remains {
            chain: headless.chain.chain.clone(),
            stretches: headless.stretches.iter().map(HoleDocument::of).collect(),
            deltas: of_kind(PieceKind::Delta),
            packs: of_kind(PieceKind::Pack),
            marks: headless.following.marks(),
            stored_bytes: pieces.iter().map(|piece| piece.bytes).sum(),
            destinations: there.map(|(name, _)| name.clone()).collect(),
            elsewhere: headless
                .elsewhere
                .iter()
                .map(|(id, span)| PointDocument {
                    id: id.clone(),
                    from_revision: span.from(),
                    to_revision: span.to(),
                })
                .collect(),
            reason: headless.why(),
            next: headless.next(),
        }
    }
}

/// Shows what is there of a chain without its full backup; the exit code is that of one that is not found.
fn show_headless(context: &Context, headless: &Headless) -> Result<Exit, Failure> {
    let (output, remains) = (&context.output, Remains::of(headless));
    let failure = Failure::new(Exit::NotFound, &remains.reason).next(&remains.next);
    match output.format {
        Format::Json => output.json(&HeadlessDocument {
            schema: 1,
            backup: None,
            window: None,
            manifest: None,
            headless: remains,
        }),
        Format::Text => print_headless(output, headless, &remains),
    }
    failure.after_result(output)
}

fn print_headless(output: &Output, headless: &Headless, remains: &Remains) {
    let field = |name: &str, value: String| output.field(name, value);
    field(
        "backup",
        format!("{}: the full backup is not there, only what follows it", remains.chain),
    );
    for (name, left) in &headless.destinations {
        match (&left.unlisted, left.objects) {
            (Some(error), _) => field("not listed", format!("{name}: {}", clean(error))),
            (None, 0) => {}
            (None, objects) => field(
                "stored in",
                format!("{name}: {}, {}", count(objects, "object"), ByteSize(left.bytes)),
            ),
        }
        if let Some(path) = &left.without_manifest {
            field("no manifest", format!("{name}: {path}"));
        }
    }
    let stretches = remains.stretches.iter();
    stretches.for_each(|stretch| {
        let HoleDocument {
            from_revision,
            to_revision,
        } = stretch;
        field("changes", format!("of revisions {from_revision} to {to_revision}"));
    });
    field(
        "in",
        format!(
            "{}, {}, {}: {}",
            count(remains.deltas as u64, "delta"),
            count(remains.packs as u64, "pack"),
            count(remains.marks as u64, "mark"),
            ByteSize(remains.stored_bytes)
        ),
    );
    for (_, from) in headless.following.gaps() {
        field("ends before", format!("revision {from}"));
    }
    for (backup, span) in &headless.elsewhere {
        field(
            "points also in",
            format!("{backup}: revisions {} to {}", span.from(), span.to()),
        );
    }
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let places = args.from.read(context)?;
    if let (Err(FindError::NotFound { .. }), [chain]) = (
        places.catalog.find(&args.id),
        places.catalog.headless_called(&args.id).as_slice(),
    ) {
        return show_headless(context, &Headless::find(&places, chain));
    }
    let backup = chosen(&context.output, &places, &args.id)?;
    let (manifest, bytes) = stores::manifest(&places, backup)?;
    let window = window_of(&places, backup);
    match context.output.format {
        Format::Json => {
            let manifest = serde_json::from_slice(&bytes).expect("it has just been parsed");
            let backup = BackupDocument::new(backup);
            context.output.json(&Document {
                schema: 1,
                backup,
                window: WindowDocument::of(&window),
                manifest,
            });
        }
        Format::Text => {
            print(&context.output, backup, &manifest, &places);
            print_window(&context.output, &WindowDocument::of(&window), &window);
        }
    }
    Ok(Exit::Done)
}

/// What follows the full backup, where anything does.
fn print_window(output: &Output, document: &WindowDocument, known: &KnownWindow<'_>) {
    let field = |name: &str, value: String| output.field(name, value);
    if known.following.pieces().is_empty() && known.gaps.is_empty() {
        return;
    }
    field(
        "every point",
        format!(
            "revisions {} to {}, {} to {}",
            document.from_revision, document.to_revision, document.from_time, document.to_time
        ),
    );
    field(
        "by",
        format!(
            "{}, {}, {}: {}; {}",
            count(document.deltas as u64, "delta"),
            count(document.packs as u64, "pack"),
            count(document.marks as u64, "mark"),
            ByteSize(document.stored_bytes),
            count(document.epochs.len() as u64, "epoch"),
        ),
    );
    for hole in &document.holes {
        field(
            "missing",
            format!("revisions {} to {}", hole.from_revision, hole.to_revision),
        );
    }
    for gap in &known.gaps {
        field("ends before", format!("revision {}: {}", gap.from, gap.words()));
    }
}

fn print(output: &Output, backup: &Backup, manifest: &Manifest, places: &Destinations) {
    let field = |name: &str, value: String| output.field(name, value);
    let optional = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            field(name, value);
        }
    };
    field("backup", described(manifest));
    for copy in &backup.copies {
        let store = places.stores.get(&copy.destination);
        let path = store.map(|store| store.address_of(&manifest.object_name()));
        field(
            "stored in",
            format!("{}: {}", copy.destination, path.unwrap_or_default()),
        );
    }
    field("proof", proof(backup.proof()).to_owned());
    let short_of = manifest.proof_reason.as_deref().map(clean);
    optional("no further", short_of.filter(|_| backup.proof() < Proof::HashKv));
    for copy in &backup.copies {
        let checked = copy
            .checked_at
            .map(|at| format!("{}: {}", copy.destination, rfc3339(at)));
        optional("checked", checked);
    }
    backup.faults().into_iter().for_each(|fault| field("fault", fault));
    let behind = backup.faults_behind().into_iter();
    behind.for_each(|fault| field("bad deltas", fault));
    optional("doubt", manifest.doubt().map(clean));
    field("pinned", if backup.is_pinned() { "yes" } else { "no" }.to_owned());
    optional("note", manifest.note.as_deref().map(clean));
    field(
        "size",
        format!(
            "{}, stored as {}",
            ByteSize(manifest.plain.bytes),
            ByteSize(manifest.stored.bytes)
        ),
    );
    optional("keys", manifest.keys.map(|keys| keys.to_string()));
    field(
        "cluster",
        format!("{}, id {}", manifest.cluster.name, manifest.cluster.id),
    );
    let member = &manifest.member;
    field(
        "member",
        format!(
            "{}, id {}, etcd {}",
            clean(&member.name),
            member.id,
            clean(&manifest.etcd_version)
        ),
    );
    let compacted_at = manifest
        .compact_revision
        .scheduled
        .max(manifest.compact_revision.finished);
    optional("compacted at", compacted_at.map(|revision| revision.to_string()));
    let hash = manifest
        .hash_kv
        .map(|hash| format!("{} ({})", hash.hash, compacted(hash)));
    let reason = manifest
        .hash_kv_reason
        .as_deref()
        .map(|reason| format!("none: {}", clean(reason)));
    optional("HashKV", hash.or(reason));
    field(
        "taken",
        format!(
            "{} to {} by {} of {}, lifeboat {}",
            rfc3339(manifest.started_at),
            rfc3339(manifest.finished_at),
            match (manifest.origin, &manifest.slot) {
                (Origin::Schedule, None) => "the agent",
                (origin, _) => by(origin),
            },
            clean(&manifest.writer.host),
            clean(&manifest.writer.version)
        ),
    );
    let signer = backup
        .signer()
        .map(|signer| format!("{} ({signer})", signer.fingerprint()));
    field("signed by", signer.unwrap_or_else(|| "nobody".to_owned()));
    for recipient in &manifest.recipients {
        field("opens with", format!("the identity of {}", clean(recipient)));
    }
    field("SHA-256", format!("{} plain", manifest.plain.sha256));
    field("", format!("{} stored", manifest.stored.sha256));
}

fn proof(proof: Proof) -> &'static str {
    match proof {
        Proof::None => "none: no copy is good",
        Proof::Acknowledged => {
            "acknowledged: etcd's digest matched, and so did the store's own checksum; nothing was read back"
        }
        Proof::Stored => "stored: etcd's digest matched, and the stored bytes were read back",
        Proof::Content => "content: its structure is whole",
        Proof::HashKv => "hash_kv: it equals what the member reported",
    }
}

fn by(origin: Origin) -> &'static str {
    match origin {
        Origin::Schedule => "the schedule",
        Origin::Manual => "hand",
        Origin::Synthetic => "synthesis",
        Origin::Copy => "copy",
        Origin::Rewrap => "rewrap",
    }
}
