//! `lifeboat copy`: backups that one destination has, brought to another.

use std::time::Duration;

use clap::ValueHint;

use super::arguments::duration;
use super::{Context, Exit, Failure, host};
use crate::jobs::copy::by_hand::{Asked, Copied, Failed, carry_out};
use crate::json;
use crate::terminal::{Bar, Format, Output};

/// Copy backups from one destination to another, as they are
///
/// Nothing is decrypted and no key is needed. Each copy is compared with the digest in its manifest on its way and read
/// back. What is there already is not copied again, so that a copy that was cut off goes on where it was. Deltas come along,
/// and those that a chain has got since it was copied; those at the end of a chain that the agent is writing there it brings
/// itself. The agent does the same by itself for a destination that was away.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat copy --from local --to far\n  lifeboat copy --from local --to far 20261120T101530Z-9f3c4a1b"
)]
pub struct Args {
    /// The destination that has them
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other)]
    from: String,
    /// The destination that is to have them
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other)]
    to: String,
    /// These backups: IDs, or unique beginnings; without any all that are good and not there yet, or not with all that follows
    /// them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Wait this long for another run, or a restore, to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    let asked = Asked {
        from: args.from,
        to: args.to,
        ids: args.ids,
        wait: args.wait,
    };
    let (output, stop) = (&context.output, super::interrupted_flag(context));
    let bar = Bar::new(output, "copy");
    let copied = carry_out(&config, asked, output, &stop, &|done, total| bar.at(done, total));
    drop(bar);
    let copied = copied?;
    match output.format {
        Format::Json => output.json(&json::copy::Document::of(&copied)),
        Format::Text => print(output, &copied),
    }
    for Failed { id, error } in &copied.failed {
        output.problem(format!("{id} is not copied: {error}"));
    }
    match (copied.failed.is_empty(), copied.is_any_copied()) {
        (true, _) if copied.is_stopped => Failure::new(
            Exit::Failed,
            "stopped by a signal or by a restore; the same command goes on",
        )
        .after_result(output),
        (true, _) => Ok(Exit::Done),
        (false, true) => Ok(Exit::Partly),
        (false, false) => Ok(Exit::Failed),
    }
}

fn print(output: &Output, copied: &Copied) {
    let to = &copied.to;
    for id in &copied.copied {
        output.sentence(format!("copied {id} to {to}"));
    }
    for id in &copied.completed {
        output.sentence(format!("copied what follows {id} to {to}"));
    }
    for id in &copied.had {
        output.sentence(format!("{id} is in {to} already"));
    }
    if copied.is_nothing() && !copied.is_stopped {
        output.sentence(format!("{to} lacks nothing"));
    }
}
