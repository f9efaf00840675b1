//! `lifeboat rewrap`: kept backups, made anew for the present recipients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueHint;

use super::arguments::{IdentityArgs, duration};
use super::{Context, Exit, Failure, host};
use crate::jobs::backup::read_and_sweep;
use crate::jobs::give_way_to_restore::stop_for_restore;
use crate::jobs::rewrap::{Results, Run, carry_out, refuse_unproven, wanted};
use crate::jobs::stores::{open_to_write, read_configured};
use crate::json;
use crate::terminal::{Bar, Format};
use crate::text::count;

/// Encrypt kept backups anew, to the present recipients
///
/// After recipients were changed in the configuration: each backup that is for others is opened, made anew as one of its own
/// (same snapshot, time, revision and pin) in every destination that has it, read back and opened there; then the old one is
/// removed. Also with `read_back = "never"` all is read, so credentials that may only write do not suffice. It needs an identity
/// that opens the old ones and one that opens the new ones. What is cut off goes on with the next run. As long as it runs, this
/// host takes no backup: name some IDs at a time, or run it on a host that takes none.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat rewrap --identity backup-key.txt --dry-run\n  \
    lifeboat rewrap --identity old-key.txt --identity new-key.txt\n  \
    lifeboat rewrap 20261120T101530Z --identity backup-key.txt")]
pub struct Args {
    /// These backups: IDs, or unique beginnings; without any all
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Only what this destination has
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other)]
    destination: Option<String>,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait this long for another run, or a restore, to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    let identities = refuse_unproven(&config, args.identity.or_configured(Some(&config))?)?;
    if !args.dry_run {
        host::settle()?;
    }
    let state = host::state(&config.cluster.name)?;
    let stop = super::interrupted_flag(context);
    let (_lock, destinations) = match args.dry_run {
        true => (
            None,
            read_configured(&context.output, &config, args.destination.as_deref())?,
        ),
        false => {
            let lock = host::jobs_lock(&state, "rewrap", args.wait)?;
            let opened = open_to_write(&config, &state, args.destination.as_slice())?;
            (
                Some(lock),
                read_and_sweep(&context.output, &config, &state, &opened, &|| {}),
            )
        }
    };
    let run = Run {
        config: &config,
        destinations: &destinations,
        identities: &identities,
        state: &state,
        runtime: context.runtime.handle(),
        stop: &stop,
        dry_run: args.dry_run,
    };
    let snapshots = wanted(&destinations, &args.ids)?;
    let mut results = Results::default();
    for (name, error) in &destinations.unreadable {
        results.errors.push(format!("destination {name}: {error}"));
    }
    let total = snapshots.iter().map(|snapshot| snapshot.work()).sum();
    let (bar, done) = (Bar::new(&context.output, "rewrap"), AtomicU64::new(0));
    let each = |bytes: u64| {
        bar.at((done.fetch_add(bytes, Ordering::Relaxed) + bytes).min(total), total);
        stop_for_restore(&stop);
    };
    carry_out(&run, &context.output, &snapshots, &each, &mut results)?;
    drop(bar);
    match context.output.format {
        Format::Json => context.output.json(&json::rewrap::document(&results)),
        Format::Text => print(context, &results),
    }
    let rows = &results.rewrapped;
    let mut has_failed = !results.errors.is_empty();
    results.errors.iter().for_each(|error| context.output.problem(error));
    for row in rows {
        has_failed |= !row.errors.is_empty();
        row.errors
            .iter()
            .for_each(|error| context.output.problem(format!("{}: {error}", row.old)));
    }
    if results.stopped_before > 0 {
        let left = count(results.stopped_before as u64, "backup");
        return Failure::new(Exit::Failed, format!("stopped before {left}; the same command goes on"))
            .after_result(&context.output);
    }
    match (has_failed, rows.iter().any(|row| !row.destinations.is_empty())) {
        (false, _) => Ok(Exit::Done),
        (true, true) => Ok(Exit::Partly),
        (true, false) => Ok(Exit::Failed),
    }
}

fn print(context: &Context, results: &Results) {
    for row in &results.rewrapped {
        let (old, places) = (&row.old, row.destinations.join(", "));
        match (&row.new, results.dry_run) {
            (None, true) => context.output.sentence(format!("would make {old} anew in {places}")),
            (Some(new), true) => context
                .output
                .sentence(format!("would go on to replace {old} by {new} in {places}")),
            (Some(new), false) if !row.removed.is_empty() => context
                .output
                .sentence(format!("{old} is {new} now, in {}", row.removed.join(", "))),
            (Some(new), false) => context.output.sentence(format!("{new} is made of {old}, which stays")),
            (None, false) => {}
        }
        row.remarks.iter().for_each(|remark| context.output.sentence(remark));
    }
    if results.rewrapped.is_empty() && results.errors.is_empty() {
        context.output.sentence(match results.up_to_date {
            0 => "there is no backup".to_owned(),
            all => format!("{} for the present recipients already", count(all, "backup")),
        });
    }
}
