//! `lifeboat notify --test`: does whoever is to be told hear of it?

use super::host;
use super::{Context, Exit, Failure};
use crate::agent::notify_once::{Tried, try_all};
use crate::json;
use crate::terminal::Format;

/// Try the program and the address of [notify]
///
/// Runs the program of `notify.on_failure` with the event `test`, and asks once for the address of `notify.heartbeat`, as the
/// agent does: the program gets nothing but the variables of the event, and has 30 s. As root it is done as user lifeboat; the
/// agent's program runs in the sandbox of its unit as well.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat notify --test")]
pub struct Args {
    /// Do it; without, nothing is done
    #[arg(long, required = true)]
    test: bool,
}

pub(super) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    host::settle()?;
    let (notify, cluster) = (&config.notify, config.cluster.name.as_str());
    let tried = context.runtime.block_on(try_all(notify, cluster));
    if tried.is_empty() {
        return Err(Failure::new(
            Exit::Configuration,
            "neither `notify.on_failure` nor `notify.heartbeat` is configured",
        )
        .next("see `[notify]` in config.example.toml"));
    }
    let failures = tried.iter().filter(|tried| tried.error.is_some()).count();
    let exit = match failures {
        0 => Exit::Done,
        failures if failures == tried.len() => Exit::Failed,
        _ => Exit::Partly,
    };
    match context.output.format {
        Format::Json => context.output.json(&json::notify::Document::of(&tried)),
        Format::Text => {
            for Tried { key, error } in &tried {
                let line = match error {
                    None => format!("notify.{key}: ok"),
                    Some(error) => format!("notify.{key}: failed: {error}"),
                };
                context.output.line(line);
            }
        }
    }
    Ok(exit)
}
