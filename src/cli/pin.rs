//! `lifeboat pin` and `lifeboat unpin`: excludes a backup from retention, and lets it back in.

use std::time::Duration;

use super::arguments::duration;
use super::{Context, Exit, Failure, host};
use crate::jobs::pin::{Change, carry_out};
use crate::json;
use crate::terminal::Format;

/// Exclude a backup from retention, in every destination that has it
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat pin 20261120T101530Z-9f3c4a1b --note 'before the upgrade'")]
pub struct PinArgs {
    /// The backup's ID, a unique beginning or the last 8 digits of it, or `latest`
    #[arg(value_name = "ID")]
    id: String,
    /// Words to keep with it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Wait this long for another run, or a restore, to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
}

/// Let retention judge a pinned backup again
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat unpin 9f3c4a1b")]
pub struct UnpinArgs {
    /// The backup's ID, a unique beginning or the last 8 digits of it, or `latest`
    #[arg(value_name = "ID")]
    id: String,
    /// Wait this long for another run, or a restore, to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
}

pub(super) fn pin(context: &Context, args: PinArgs) -> Result<Exit, Failure> {
    change(context, &args.id, args.wait, Change::Pin { note: args.note })
}

pub(super) fn unpin(context: &Context, args: UnpinArgs) -> Result<Exit, Failure> {
    change(context, &args.id, args.wait, Change::Unpin)
}

fn change(context: &Context, id: &str, wait: Duration, change: Change) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    let changed = carry_out(&config, id, wait, &change, &context.output)?;
    match context.output.format {
        Format::Json => context.output.json(&json::pin::Document::of(&changed)),
        Format::Text => {
            let verb = if changed.pinned { "pinned" } else { "unpinned" };
            let places = changed.destinations.join(", ");
            context.output.line(format!("{verb} {} in {places}", changed.id));
        }
    }
    for error in &changed.errors {
        context.output.problem(error);
    }
    match (changed.errors.is_empty(), changed.destinations.is_empty()) {
        (true, _) => Ok(Exit::Done),
        (false, false) => Ok(Exit::Partly),
        (false, true) => Ok(Exit::Failed),
    }
}
