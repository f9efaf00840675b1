//! `lifeboat rewrap`: kept backups, made anew for the present recipients.

use std::time::Duration;

use clap::ValueHint;

use super::arguments::{IdentityArgs, duration};
use super::{Context, Exit, Failure, host};
use crate::jobs::rewrap::Results;
use crate::jobs::rewrap::by_hand::{Asked, rewrap};
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
    let identities = args.identity.or_configured(Some(&config))?;
    let asked = Asked {
        ids: &args.ids,
        destination: args.destination.as_deref(),
        dry_run: args.dry_run,
        wait: args.wait,
    };
    let (output, runtime, stop) = (
        &context.output,
        context.runtime.handle(),
        super::interrupted_flag(context),
    );
    let bar = Bar::new(output, "rewrap");
    let at = |done, total| bar.at(done, total);
    let results = rewrap(&config, identities, &asked, (output, runtime), &stop, &at);
    drop(bar);
    let results = results?;
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
