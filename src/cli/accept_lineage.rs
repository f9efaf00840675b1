//! `lifeboat accept-lineage`: the operator's word on which history is meant.

use super::{Context, Exit, Failure, host};
use crate::error_chain::with_causes;
use crate::jobs::accept_lineage::{Accepted, accept};
use crate::jobs::signing;
use crate::jobs::stores::read_configured;
use crate::json;
use crate::terminal::Format;

/// Say that a new history is meant: an etcd that started afresh, or was restored by other means
///
/// An etcd that lost its data comes back empty under the same ids. Its backups open a new lineage, and `latest` refuses
/// to choose until this command has said which lineage goes on. What `lifeboat restore` has opened is accepted by its first
/// backup, without this. Nothing is removed: `lifeboat prune --lineage` does that. It can be said again at any time: a
/// destination that has the word already is left as it is.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat accept-lineage                              # the new one\n  \
    lifeboat accept-lineage cdf818194e3a8c32-9f3c4a1b    # as `lifeboat list` prints it"
)]
pub struct Args {
    /// The lineage that is meant, or a unique part of its id; without it the new one, if only one has keys
    #[arg(value_name = "LINEAGE")]
    lineage: Option<String>,
    /// Words to keep with it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    host::settle()?;
    let state = host::state(&config.cluster.name)?;
    signing::prepare(&config, &state)?;
    let places = read_configured(&context.output, &config, None)?;
    let accepted = accept(&places, args.lineage, args.note)?;
    // A destination that is away may be the only one that is left when it is asked for.
    if accepted.has_changed()
        && let Err(error) = state.remember_word(&accepted.word)
    {
        context.output.problem(format!(
            "that it is accepted is not remembered on this host: {}",
            with_causes(&error)
        ));
    }
    host::tell_agent(&state, "accept-lineage");
    let Accepted { lineage, failed, .. } = &accepted;
    let exit = match (
        failed.is_empty(),
        failed.len() == places.stores.len() + places.unreadable.len(),
    ) {
        (true, _) => Exit::Done,
        (false, false) => Exit::Partly,
        (false, true) => Exit::Failed,
    };
    for missed in failed {
        context.output.problem(format!(
            "destination {} did not record it: {}; run this again once the destination works",
            missed.destination, missed.error
        ));
    }
    match (context.output.format, exit) {
        (Format::Json, _) => context.output.json(&json::accept_lineage::Document::of(&accepted)),
        (Format::Text, Exit::Failed) => {}
        (Format::Text, _) if accepted.has_changed() => context.output.sentence(format!("accepted lineage {lineage}")),
        (Format::Text, _) => context
            .output
            .sentence(format!("lineage {lineage} is the accepted one already")),
    }
    Ok(exit)
}
