//! `lifeboat status`: is everything well, and if not, what is not. `text` prints it for people.
//!
//! What the agent says of itself is read from its file; whether there are backups is read from the destinations, so that
//! the answer is true without the agent too.

mod text;

use super::{Context, Exit, Failure};
use crate::json;
use crate::status::gather;
use crate::terminal::Format;

/// Say in one line whether everything is well, then what there is to say
///
/// Exit code 1 if anything is wrong: a schedule that is late or fails, a backup that is not good or not proven as far as
/// it must be, a history that nobody has accepted, a destination that cannot be read or written to, a member that
/// reports an alarm, most members without an answer, a configuration that is refused, an agent that does not run, a restore
/// that is open.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat status\n  lifeboat --json status")]
pub struct Args {}

pub(super) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let status = gather(&context.config, &context.output, context.runtime.handle())?;
    let exit = match status.ok {
        true => Exit::Done,
        false => Exit::Failed,
    };
    match context.output.format {
        Format::Json => context.output.json(&json::status::Document::of(&status)),
        Format::Text => text::print(&context.output, &status),
    }
    Ok(exit)
}
