//! `lifeboat prune`: what retention keeps and removes, and why.

use std::time::Duration;

use serde::Serialize;

use super::arguments::duration;
use super::{Context, Exit, Failure, host};
use crate::catalog::{FindError, LatestError};
use crate::config::Config;
use crate::destinations::Destinations;
use crate::jobs::choice::not_found;
use crate::jobs::stores::{blame, read_configured};
use crate::jobs::{self, accept};
use crate::layout::ObjectName;
use crate::model::{ByteSize, ChainId};
use crate::prune::{self, ByAge, Judged, Plan};
use crate::store::FileStore;
use crate::terminal::{Format, Output, ask, need_somebody};
use crate::text::brief;

/// Apply the retention of each destination; print each keep and each removal with its reason
///
/// The newest good backup of each history and pinned backups always stay. A destination without retention keeps
/// everything. A backup that is known to be bad stays as long as a good one in its place would, unless it is named with
/// --damaged.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat prune --dry-run\n  lifeboat prune\n  lifeboat prune --damaged 20261120T101530Z-9f3c4a1b\n  \
    lifeboat prune --lineage cdf818194e3a8c32-9f3c4a1b"
)]
pub struct Args {
    /// Instead, remove the bad copies of this backup, or one whose manifest is damaged: for good, a good or a pinned one
    /// stays. An ID, or the object as messages name it. May be given several times
    #[arg(long, value_name = "ID|OBJECT")]
    damaged: Vec<String>,
    /// Instead, remove all backups of this lineage but pinned ones, for good; the accepted one is refused
    #[arg(long, value_name = "LINEAGE", conflicts_with = "damaged")]
    lineage: Option<String>,
    /// With --lineage: do not ask. Otherwise: remove for their age although the clocks disagree, once you have checked them
    #[arg(long)]
    yes: bool,
    /// Remove nothing, only say what would be
    #[arg(long)]
    dry_run: bool,
    /// Wait this long for another run, or a restore, to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    keep: Vec<Row>,
    remove: Vec<Row>,
    dry_run: bool,
    errors: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    id: ChainId,
    destination: String,
    reasons: Vec<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    if !args.dry_run {
        if args.lineage.is_some() {
            need_somebody(args.yes, "prune --lineage")?;
        }
        host::settle()?;
    }
    let state = host::state(&config.cluster.name)?;
    let _lock = match args.dry_run {
        true => None,
        false => Some(host::jobs_lock(&state, "prune", args.wait)?),
    };
    let places = read_configured(&context.output, &config, None)?;
    let mut document = Document {
        schema: 1,
        keep: Vec::new(),
        remove: Vec::new(),
        dry_run: args.dry_run,
        errors: Vec::new(),
    };
    let by_age = match args.yes {
        true => ByAge::Confirmed,
        false => ByAge::IfClocksAgree,
    };
    match (&args.lineage, args.damaged.is_empty()) {
        (Some(lineage), _) => give_up_lineage(&places, lineage, args.yes, &mut document)?,
        (None, true) => {
            for name in places.stores.keys() {
                judge(context, &config, &places, name, by_age, &mut document);
            }
        }
        (None, false) => give_up(&places, &args.damaged, &mut document)?,
    }
    let unread = places.unreadable.iter();
    document
        .errors
        .extend(unread.map(|(name, error)| format!("destination {name}: {error}")));
    match context.output.format {
        Format::Json => context.output.json(&document),
        Format::Text => print(&context.output, &document),
    }
    if !args.damaged.is_empty() && document.remove.is_empty() && document.errors.is_empty() {
        return Failure::new(Exit::Refused, "nothing of it is known to be bad, or it is pinned")
            .next("`lifeboat verify ID` checks it; good backups are removed by retention only")
            .after_result(&context.output);
    }
    match (document.errors.is_empty(), places.stores.is_empty()) {
        (true, _) => Ok(Exit::Done),
        (false, false) => Ok(Exit::Partly),
        (false, true) => Failure::new(Exit::Failed, "no destination could be read").after_result(&context.output),
    }
}

fn judge(
    context: &Context,
    config: &Config,
    places: &Destinations,
    name: &str,
    by_age: ByAge,
    document: &mut Document,
) {
    let Some(store) = places.stores.get(name) else { return };
    let Some(plan) = jobs::prune::plan(config, places, name, store, by_age) else {
        let here = places.catalog.backups().iter();
        let here = here.filter(|backup| backup.destinations().any(|destination| destination == name));
        document.keep.extend(here.map(|backup| Row {
            id: backup.id().clone(),
            destination: name.to_owned(),
            reasons: vec!["the destination has no retention".to_owned()],
        }));
        return;
    };
    if let Some(held) = &plan.held {
        context.output.warn(format!("destination {name}: {held}"));
    }
    if plan.excess > ByteSize(0) {
        context.output.warn(format!(
            "destination {name}: backups that must stay exceed max_bytes by {}",
            plan.excess
        ));
    }
    document.carry_out(name, store, &plan);
}

/// Gives up the bad copies of the backups that are named.
fn give_up(places: &Destinations, named: &[String], document: &mut Document) -> Result<(), Failure> {
    let found = named.iter().map(|id| {
        // As messages name it.
        if let Ok(object) = id.parse::<ObjectName>()
            && let Some(chain) = object.chain()
        {
            return Ok(chain.clone());
        }
        match places.catalog.find(id) {
            Ok(found) => Ok(found.manifest().chain_path()),
            Err(FindError::Damaged { damaged, .. }) if damaged.object.chain().is_some() => {
                Ok(damaged.object.chain().expect("it was looked at").clone())
            }
            Err(error) => Err(blame(places, not_found(&error))),
        }
    });
    // All of them before the first is touched.
    let mut meant = found.collect::<Result<Vec<_>, Failure>>()?;
    meant.dedup();
    for path in &meant {
        for (name, store) in &places.stores {
            let plan = prune::plan_damaged(name, store, &places.catalog, path);
            document.carry_out(name, store, &plan);
        }
    }
    Ok(())
}

/// Gives up all backups of a history that goes on no more.
fn give_up_lineage(places: &Destinations, named: &str, yes: bool, document: &mut Document) -> Result<(), Failure> {
    let catalog = &places.catalog;
    let lineage = accept::meant(catalog, Some(named.to_owned()))?;
    let refused = |message: String| Failure::new(Exit::Refused, message);
    match catalog.accepted_lineage() {
        Ok(accepted) if accepted.id == lineage.id => {
            return Err(refused(format!(
                "lineage {lineage} is the accepted one: `latest` is taken from it"
            ))
            .next("first accept the one that continues: `lifeboat accept-lineage LINEAGE`"));
        }
        Err(LatestError::Unaccepted {
            accepted: Some(accepted),
            ..
        }) if accepted == lineage.id => {
            return Err(refused(format!(
                "lineage {lineage} was accepted last: first confirm which history continues"
            ))
            .next("run `lifeboat accept-lineage LINEAGE`"));
        }
        Ok(_) | Err(_) => {}
    }
    if let Some((name, error)) = places.unreadable.first() {
        return Err(Failure::new(Exit::Failed, format!("destination {name}: {error}"))
            .next("the history to continue may be in it: make it readable first"));
    }
    if !yes && !document.dry_run {
        ask(&format!("remove lineage {lineage} for good?"))?;
    }
    for (name, store) in &places.stores {
        let plan = prune::plan_lineage(name, store, catalog, &lineage.id);
        document.carry_out(name, store, &plan);
    }
    Ok(())
}

impl Document {
    /// Does what is planned for a destination, unless it is only to be shown, and takes it in.
    fn carry_out(&mut self, name: &str, store: &FileStore, plan: &Plan) {
        let row = |judged: &Judged| Row {
            id: judged.id.clone(),
            destination: name.to_owned(),
            reasons: judged.reasons.clone(),
        };
        self.keep.extend(plan.keep.iter().map(row));
        if self.dry_run {
            self.remove.extend(plan.remove.iter().map(row));
            return;
        }
        let done = prune::carry_out(plan, store, || {});
        let removed = plan.remove.iter().filter(|judged| done.gone.contains(&judged.id));
        self.remove.extend(removed.map(row));
        let stuck = jobs::prune::told(&done.stuck).into_iter();
        self.errors
            .extend(stuck.map(|why| format!("destination {name}: {why}")));
    }
}

fn print(output: &Output, document: &Document) {
    let line = |verb: &str, row: &Row| {
        output.line(format!(
            "{verb} {} in {}: {}",
            row.id,
            row.destination,
            brief(&row.reasons.join("; "))
        ));
    };
    document.keep.iter().for_each(|row| line("keep  ", row));
    document.remove.iter().for_each(|row| line("remove", row));
    for error in &document.errors {
        output.problem(error);
    }
    if document.dry_run {
        output.line("nothing was removed (--dry-run)");
    }
}
