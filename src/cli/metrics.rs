//! `lifeboat metrics`: the metrics once, as the agent serves them.

use super::{Context, Exit, Failure, host};
use crate::agent::{Flavour, Report, render, samples};
use crate::json;
use crate::terminal::Format;

/// Print the metrics once, as the agent serves them
///
/// What the agent last computed, in the text format of Prometheus: no store and no member is asked. Where no agent runs,
/// `lifeboat_agent_up` is 0 and the rest is what the last one said. `[metrics] listen` serves the same to a scrape,
/// `[metrics] textfile` writes it for node_exporter.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat metrics\n  lifeboat metrics | promtool check metrics")]
pub struct Args {
    /// Print the OpenMetrics format instead
    #[arg(long)]
    openmetrics: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let (config, _) = host::last_configuration(context)?;
    let state = host::state_to_read(&config.cluster.name)?;
    let report = Report::read(state.folder()).map_err(|error| Failure::new(Exit::Failed, error))?;
    let (report, is_up, now) = (report.as_ref(), state.agent_runs(), host::now());
    match context.output.format {
        Format::Json => {
            let samples = samples(report, is_up, now);
            context.output.json(&json::metrics::Document::of(samples));
        }
        Format::Text => {
            let flavour = match args.openmetrics {
                true => Flavour::OpenMetrics,
                false => Flavour::Prometheus,
            };
            let text = render(report, is_up, now, flavour);
            text.lines().for_each(|line| context.output.line(line));
        }
    }
    Ok(Exit::Done)
}
