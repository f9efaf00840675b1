//! `lifeboat list`: what there is.

use clap::ValueHint;
use serde::{Serialize, Serializer};

use super::arguments::From;
use super::{Context, Exit, Failure, host};
use crate::catalog::{Backup, Catalog, LatestError, Lineage, RolledBack, Stranger};
use crate::destinations::Destinations;
use crate::jobs::named_backup::no_latest;
use crate::jobs::point::{KnownWindow, Stretch, stretches, windows};
use crate::jobs::stores::read_configured;
use crate::layout::Proof;
use crate::model::{ByteSize, ChainId, LineageId, Revision};
use crate::signing::SignerKey;
use crate::terminal::{Format, Output, Table};
use crate::text::{age, brief, clean, count, rfc3339};

/// List the backups in the order in which they were begun
///
/// Under a heading for each history (lineage), if there is more than one.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat list\n  lifeboat list --from /mnt/usb/lifeboat")]
pub struct Args {
    #[command(flatten)]
    pub(super) from: From,
    /// Only what this destination has
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other, conflicts_with = "from")]
    destination: Option<String>,
    /// Also what is no backup: unfinished ones, files of others, and what no trusted signer has signed
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    /// What is wrong with the configuration; the rest is by the last one that was right.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<serde_json::Value>,
    backups: Each<'a, BackupDocument>,
    windows: Vec<WindowDocument>,
    lineages: Vec<LineageDocument>,
    latest: Option<ChainId>,
    damaged: Vec<String>,
    unreadable: Vec<Unreadable>,
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
    document: fn(&Backup) -> Option<T>,
}

impl<T: Serialize> Serialize for Each<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.backups.iter().filter_map(self.document))
    }
}

/// One backup, as programs see it.
#[derive(Serialize)]
pub(super) struct BackupDocument {
    id: ChainId,
    kind: crate::layout::Kind,
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

#[derive(Serialize)]
struct WindowDocument {
    chain: ChainId,
    from_revision: Revision,
    to_revision: Revision,
    from_time: String,
    to_time: String,
    /// Why no more follows.
    ends: Option<String>,
}

#[derive(Serialize)]
struct LineageDocument {
    lineage: LineageId,
    backups: usize,
    highest_revision: Revision,
    accepted: bool,
}

#[derive(Serialize)]
struct StrangerDocument {
    destination: String,
    object: String,
    signer: Option<SignerKey>,
    error: String,
}

impl StrangerDocument {
    fn of(stranger: &Stranger) -> Self {
        StrangerDocument {
            destination: stranger.destination.clone(),
            object: stranger.object.to_string(),
            signer: stranger.why.signer(),
            error: stranger.why.to_string(),
        }
    }
}

#[derive(Serialize)]
struct RolledBackDocument {
    destination: String,
    seen: ChainId,
    seen_revision: Revision,
    newest: Option<ChainId>,
}

impl RolledBackDocument {
    fn of(back: &RolledBack) -> Self {
        RolledBackDocument {
            destination: back.destination.clone(),
            seen: back.seen.chain.clone(),
            seen_revision: back.seen.revision,
            newest: back.shows.as_ref().map(|shows| shows.chain.clone()),
        }
    }
}

#[derive(Serialize)]
struct Unreadable {
    destination: String,
    error: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let (places, broken) = if args.from.is_given() {
        (args.from.read(context)?, None)
    } else {
        let (config, broken) = host::last_configuration(context)?;
        (
            read_configured(&context.output, &config, args.destination.as_deref())?,
            broken,
        )
    };
    if let Some(broken) = &broken {
        context
            .output
            .problem(format!("{broken}\nshown is what the last valid configuration names"));
    }
    for damaged in places.catalog.damaged() {
        context.output.warn(format!("{damaged}: {}", damaged.fault));
    }
    match context.output.format {
        Format::Json => context.output.json(&document(&places, broken.as_ref(), args.all)),
        Format::Text => print(&context.output, &places, args.all),
    }
    match (places.unreadable.is_empty(), places.stores.is_empty()) {
        (true, _) if broken.is_some() => Ok(Exit::Failed),
        (true, _) => Ok(Exit::Done),
        (false, false) if broken.is_some() => Ok(Exit::Failed),
        (false, false) => Ok(Exit::Partly),
        (false, true) => {
            context.output.problem("no destination could be read");
            Ok(Exit::Failed)
        }
    }
}

fn print(output: &Output, places: &Destinations, all: bool) {
    let catalog = &places.catalog;
    let lineages = catalog.lineages();
    if catalog.backups().is_empty() && places.unreadable.is_empty() {
        output.sentence(format!("no backups of cluster {}", places.cluster));
    }
    let accepted = catalog.accepted_lineage();
    let known = windows(places);
    for (index, lineage) in lineages.iter().enumerate() {
        if lineages.len() > 1 {
            if index > 0 {
                output.line("");
            }
            output.sentence(heading(lineage, &accepted));
        }
        let backups = catalog.backups().iter().filter(|b| b.manifest().lineage == lineage.id);
        output.table(&table(backups));
        let of_lineage = known
            .iter()
            .filter(|known| known.backup.manifest().lineage == lineage.id);
        stretches(of_lineage)
            .iter()
            .filter(|stretch| stretch.from < stretch.to)
            .for_each(|stretch| output.sentence(every_point(stretch)));
    }
    for (backup, fault) in catalog
        .backups()
        .iter()
        .flat_map(|b| b.faults().into_iter().map(move |fault| (b, fault)))
    {
        output.alarm(format!("{} has a bad copy in {}", backup.id(), brief(&fault)));
    }
    for backup in catalog.backups() {
        for fault in backup.faults_behind() {
            output.alarm(format!("deltas of {} are bad in {}", backup.id(), brief(&fault)));
        }
    }
    if let Ok(latest) = catalog.latest() {
        output.sentence(format!(
            "latest: {}, {} ago",
            latest.id(),
            age(latest.manifest().first_byte_at, host::now())
        ));
    }
    for headless in catalog.headless() {
        output.sentence(format!(
            "no full backup before: {} of {} in {}, revisions {} to {} ({}): of no use there",
            count(headless.objects, "delta"),
            headless.chain,
            headless.destination,
            headless.span.from(),
            headless.span.to(),
            ByteSize(headless.bytes)
        ));
    }
    if all {
        for incomplete in catalog.incomplete() {
            let (path, size) = (&incomplete.chain, ByteSize(incomplete.bytes));
            output.sentence(format!(
                "unfinished: {path} in {} ({size}, since {})",
                incomplete.destination,
                rfc3339(incomplete.modified)
            ));
        }
        catalog
            .foreign()
            .for_each(|path| output.sentence(format!("not ours: {}", clean(path))));
        for stranger in catalog.strangers() {
            let (object, destination) = (&stranger.object, &stranger.destination);
            output.sentence(format!(
                "counts for nothing: {object} in {destination}: {}",
                stranger.why
            ));
        }
    }
    let strange = catalog.strangers().len();
    if strange > 0 && !all {
        output.alarm(format!(
            "{} without the signature of a trusted signer: ignored; `lifeboat list --all` shows each",
            count(strange as u64, "document")
        ));
    }
    for back in &places.rolled_back {
        output.alarm(back.to_string());
    }
    if let (Err(error), false) = (catalog.latest(), lineages.is_empty()) {
        output.alarm(format!("`latest` is refused: {}", no_latest(&error)));
    }
}

fn every_point(stretch: &Stretch) -> String {
    let ends = stretch
        .ends
        .as_ref()
        .map_or(String::new(), |why| format!("; then {why}"));
    format!(
        "every point: revisions {} to {}, {} to {}, in {}{ends}",
        stretch.from,
        stretch.to,
        rfc3339(stretch.from_time),
        rfc3339(stretch.to_time),
        count(stretch.chains as u64, "chain")
    )
}

fn heading(lineage: &Lineage, accepted: &Result<Lineage, LatestError>) -> String {
    let standing = match accepted {
        Ok(accepted) if accepted.id == lineage.id => ", accepted",
        Ok(_) => "",
        Err(LatestError::Unaccepted { accepted: Some(id), .. }) if *id == lineage.id => ", accepted before",
        Err(_) => ", not accepted",
    };
    format!(
        "lineage {}{standing} ({})",
        lineage.id,
        count(lineage.backups as u64, "backup")
    )
}

fn table<'a>(backups: impl Iterator<Item = &'a Backup>) -> Table {
    let table = Table::new(&["ID", ">REVISION", ">AGE", ">SIZE", ">STORED", ">KEYS", "PROOF", "IN"]);
    let mut table = table.may_go(&["SIZE", "KEYS", "STORED"]);
    let now = host::now();
    for backup in backups {
        let manifest = backup.manifest();
        let proof = match (backup.faults().is_empty(), backup.is_pinned()) {
            (true, false) => backup.proof().to_string(),
            (true, true) => format!("{}, pinned", backup.proof()),
            (false, _) if backup.proof() > Proof::None => format!("{}, a copy is bad", backup.proof()),
            (false, _) => "BAD".to_owned(),
        };
        table.row(vec![
            backup.id().to_string(),
            manifest.to_revision.to_string(),
            age(manifest.first_byte_at, now),
            ByteSize(manifest.plain.bytes).to_string(),
            ByteSize(manifest.stored.bytes).to_string(),
            manifest.keys.map_or_else(|| "?".to_owned(), |keys| keys.to_string()),
            proof,
            backup.destinations().collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}

fn document<'a>(places: &'a Destinations, broken: Option<&Failure>, all: bool) -> Document<'a> {
    let catalog: &Catalog = &places.catalog;
    let accepted = catalog.accepted_lineage().ok();
    let lineage = |lineage: Lineage| LineageDocument {
        accepted: accepted.as_ref().is_some_and(|accepted| accepted.id == lineage.id),
        lineage: lineage.id,
        backups: lineage.backups,
        highest_revision: lineage.highest,
    };
    let unreadable = places.unreadable.iter().map(|(destination, error)| Unreadable {
        destination: destination.clone(),
        error: error.clone(),
    });
    Document {
        schema: 1,
        error: broken.map(Failure::to_value),
        backups: Each {
            backups: catalog.backups(),
            document: |backup| Some(BackupDocument::new(backup)),
        },
        windows: windows(places).iter().map(WindowDocument::of).collect(),
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
        rolled_back: places.rolled_back.iter().map(RolledBackDocument::of).collect(),
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

impl BackupDocument {
    /// What programs see of `backup`.
    pub fn new(backup: &Backup) -> Self {
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
