//! `lifeboat notify --test`: does whoever is to be told hear of it?

use serde::Serialize;

use super::host;
use super::{Context, Exit, Failure};
use crate::agent::notify_once;
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

#[derive(Serialize)]
struct Document {
    schema: u32,
    tried: Vec<Tried>,
}

#[derive(Serialize)]
struct Tried {
    /// `on_failure` or `heartbeat`.
    key: &'static str,
    ok: bool,
    error: Option<String>,
}

pub(super) fn run(context: &Context, _: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    host::settle()?;
    let (notify, cluster) = (&config.notify, config.cluster.name.as_str());
    let tried = context.runtime.block_on(async {
        let mut tried = Vec::new();
        if let Some(program) = &notify.on_failure {
            tried.push(("on_failure", notify_once::hook(program, cluster).await));
        }
        if let Some(url) = &notify.heartbeat {
            tried.push(("heartbeat", notify_once::heartbeat(url).await));
        }
        tried
    });
    if tried.is_empty() {
        return Err(Failure::new(
            Exit::Configuration,
            "neither `notify.on_failure` nor `notify.heartbeat` is configured",
        )
        .next("see `[notify]` in config.example.toml"));
    }
    let tried: Vec<Tried> = tried
        .into_iter()
        .map(|(key, outcome)| Tried {
            key,
            ok: outcome.is_ok(),
            error: outcome.err(),
        })
        .collect();
    let failures = tried.iter().filter(|tried| !tried.ok).count();
    let exit = match failures {
        0 => Exit::Done,
        failures if failures == tried.len() => Exit::Failed,
        _ => Exit::Partly,
    };
    match context.output.format {
        Format::Json => context.output.json(&Document { schema: 1, tried }),
        Format::Text => {
            for Tried { key, error, .. } in &tried {
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
