//! `lifeboat recovery-sheet`: one page for the day on which nothing else is left.

use std::path::PathBuf;

use clap::ValueHint;

use super::{Context, Exit, Failure, host};
use crate::durable;
use crate::error_chain::with_causes;
use crate::jobs::recovery_sheet::{Made, members_without_peer_urls, sheet};
use crate::json;
use crate::terminal::Format;

/// Who may read the file: there is no secret in it.
const FILE_MODE: u32 = 0o644;

/// Print one page with all that is needed to restore where nothing is left
///
/// Members, stores, recipients and the commands to type on new hosts, from the configuration. There is no secret on it, but
/// where the secrets are kept: what `identity_note` and `credentials_note` say, or a line to fill in by hand. Keep it where
/// the keys are.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat recovery-sheet\n  lifeboat recovery-sheet --html recovery-sheet.html")]
pub struct Args {
    /// Write it to this file, as one page of HTML to print
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    html: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    let host = host::host_name().to_string();
    let made = Made {
        at: host::now(),
        version: env!("CARGO_PKG_VERSION"),
        host: &host,
    };
    let sheet = sheet(&config, made);
    for name in members_without_peer_urls(&config) {
        context.output.problem(format!(
            "`members.{name}.peer_urls` is not configured: nobody can restore by this sheet before it says them"
        ));
    }
    if let Some(path) = &args.html {
        durable::replace(path, sheet.html().as_bytes(), FILE_MODE).map_err(|error| {
            let message = format!("cannot write {}: {}", path.display(), with_causes(&error));
            Failure::new(Exit::Failed, message)
        })?;
    }
    match (context.output.format, &args.html) {
        (Format::Json, html) => {
            let document = json::recovery_sheet::Document::of(&sheet, &config.cluster.name, made, html.as_deref());
            context.output.json(&document);
        }
        (Format::Text, Some(path)) => context.output.detail(format!("{} is written", path.display())),
        (Format::Text, None) => context.output.page(&sheet.text()),
    }
    Ok(Exit::Done)
}
