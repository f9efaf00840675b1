//! `lifeboat show`: one backup in full.

use super::arguments::From;
use super::{Context, Exit, Failure};
use crate::catalog::{Backup, FindError};
use crate::destinations::Destinations;
use crate::jobs::headless::Headless;
use crate::jobs::named_backup::chosen;
use crate::jobs::point::{Counted, KnownWindow, window_of};
use crate::jobs::source::described;
use crate::jobs::stores;
use crate::json::show::{Document, HeadlessDocument};
use crate::layout::{Manifest, Origin, Proof};
use crate::model::ByteSize;
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

/// Shows what is there of a chain without its full backup; the exit code is that of one that is not found.
fn show_headless(context: &Context, headless: &Headless) -> Result<Exit, Failure> {
    let output = &context.output;
    let failure = Failure::new(Exit::NotFound, headless.why()).next(headless.next());
    match output.format {
        Format::Json => output.json(&HeadlessDocument::of(headless)),
        Format::Text => print_headless(output, headless),
    }
    failure.after_result(output)
}

fn print_headless(output: &Output, headless: &Headless) {
    let field = |name: &str, value: String| output.field(name, value);
    field(
        "backup",
        format!(
            "{}: the full backup is not there, only what follows it",
            headless.chain.chain
        ),
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
    for stretch in &headless.stretches {
        field(
            "changes",
            format!("of revisions {} to {}", stretch.from(), stretch.to()),
        );
    }
    field("in", objects(Counted::of(&headless.following)));
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
            context.output.json(&Document::of(backup, &window, manifest));
        }
        Format::Text => {
            print(&context.output, backup, &manifest, &places);
            print_window(&context.output, &window);
        }
    }
    Ok(Exit::Done)
}

/// What follows the full backup, where anything does.
fn print_window(output: &Output, known: &KnownWindow<'_>) {
    let field = |name: &str, value: String| output.field(name, value);
    if known.following.pieces().is_empty() && known.gaps.is_empty() {
        return;
    }
    let window = &known.window;
    field(
        "every point",
        format!(
            "revisions {} to {}, {} to {}",
            window.from,
            window.to,
            rfc3339(known.from_time),
            rfc3339(known.to_time)
        ),
    );
    let epochs = count(known.following.epochs().len() as u64, "epoch");
    field("by", format!("{}; {epochs}", objects(Counted::of(&known.following))));
    for hole in &window.holes {
        field("missing", format!("revisions {} to {}", hole.from(), hole.to()));
    }
    for gap in &known.gaps {
        field("ends before", format!("revision {}: {}", gap.from, gap.words()));
    }
}

/// What follows a full backup, in numbers.
fn objects(counted: Counted) -> String {
    format!(
        "{}, {}, {}: {}",
        count(counted.deltas as u64, "delta"),
        count(counted.packs as u64, "pack"),
        count(counted.marks as u64, "mark"),
        ByteSize(counted.stored_bytes)
    )
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
