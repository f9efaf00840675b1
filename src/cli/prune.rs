//! `lifeboat prune`: what retention keeps and removes, and why.

use std::time::Duration;

use super::arguments::duration;
use super::{Context, Exit, Failure, host};
use crate::jobs::clock_set_back;
use crate::jobs::prune::{Pruned, Row, abandoned};
use crate::jobs::stores::read_configured;
use crate::json;
use crate::prune::ByAge;
use crate::terminal::{Format, Output, ask, need_somebody};
use crate::text::brief;

/// Apply the retention of each destination; print each keep and each removal with its reason
///
/// The newest good backup of each history and pinned backups always stay. A destination without retention keeps
/// everything. A backup that is known to be bad stays as long as a good one in its place would, unless it is named with
/// --damaged. What would shorten `pitr_window` is refused (exit code 7), `max_bytes` too.
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
    if !args.dry_run {
        clock_set_back::note(&context.output, &state);
    }
    let places = read_configured(&context.output, &config, None)?;
    let mut pruned = Pruned::new(args.dry_run);
    let by_age = match args.yes {
        true => ByAge::Confirmed,
        false => ByAge::IfClocksAgree,
    };
    match (&args.lineage, args.damaged.is_empty()) {
        (Some(named), _) => {
            let lineage = abandoned(&places, named)?;
            if !args.yes && !args.dry_run {
                ask(&format!("remove lineage {lineage} for good?"))?;
            }
            pruned.give_up_lineage(&places, &lineage);
        }
        (None, true) => {
            for name in places.stores.keys() {
                pruned.apply(&context.output, &config, &places, name, by_age);
            }
        }
        (None, false) => pruned.give_up(&places, &args.damaged)?,
    }
    let unread = places.unreadable.iter();
    pruned
        .errors
        .extend(unread.map(|(name, error)| format!("destination {name}: {error}")));
    match context.output.format {
        Format::Json => context.output.json(&json::prune::document(&pruned)),
        Format::Text => print(&context.output, &pruned),
    }
    if !args.damaged.is_empty() && pruned.remove.is_empty() && pruned.errors.is_empty() {
        return Failure::new(Exit::Refused, "nothing was removed: see the reasons above")
            .next("`lifeboat verify ID` checks it; good backups are removed by retention only")
            .after_result(&context.output);
    }
    if pruned.errors.is_empty() && !pruned.refused.is_empty() {
        return Failure::new(Exit::Refused, pruned.refused.join("; "))
            .next("raise `max_bytes` of that destination, or have a shorter `pitr_window` there")
            .after_result(&context.output);
    }
    pruned
        .refused
        .iter()
        .for_each(|refused| context.output.problem(refused));
    match (pruned.errors.is_empty(), places.stores.is_empty()) {
        (true, _) => Ok(Exit::Done),
        (false, false) => Ok(Exit::Partly),
        (false, true) => Failure::new(Exit::Failed, "no destination could be read").after_result(&context.output),
    }
}

fn print(output: &Output, pruned: &Pruned) {
    let line = |verb: &str, row: &Row| {
        output.sentence(format!(
            "{verb} {} in {}: {}",
            row.id,
            row.destination,
            brief(&row.reasons.join("; "))
        ));
    };
    pruned.keep.iter().for_each(|row| line("keep  ", row));
    pruned.remove.iter().for_each(|row| line("remove", row));
    for error in &pruned.errors {
        output.problem(error);
    }
    if pruned.dry_run {
        output.line("nothing was removed (--dry-run)");
    }
}
