//! `lifeboat list`: what there is.

use clap::ValueHint;

use super::arguments::From;
use super::{Context, Exit, Failure, host};
use crate::catalog::{Backup, LatestError, Lineage};
use crate::destinations::Destinations;
use crate::jobs::named_backup::no_latest;
use crate::jobs::point::{KnownWindow, Stretch, stretches, windows};
use crate::jobs::stores::read_configured;
use crate::json;
use crate::layout::Proof;
use crate::model::ByteSize;
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
    let known = windows(&places);
    match context.output.format {
        Format::Json => {
            let document = json::list::Document::of(&places, &known, broken.as_ref(), args.all);
            context.output.json(&document);
        }
        Format::Text => print(&context.output, &places, &known, args.all),
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

fn print(output: &Output, places: &Destinations, known: &[KnownWindow<'_>], all: bool) {
    let catalog = &places.catalog;
    let lineages = catalog.lineages();
    if catalog.backups().is_empty() && places.unreadable.is_empty() {
        output.sentence(format!("no backups of cluster {}", places.cluster));
    }
    let accepted = catalog.accepted_lineage();
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
