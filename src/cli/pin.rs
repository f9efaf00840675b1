//! `lifeboat pin` and `lifeboat unpin`: excludes a backup from retention, and lets it back in.

use std::time::Duration;

use serde::Serialize;

use super::arguments::duration;
use super::{Context, Exit, Failure, host};
use crate::error_chain::with_causes;
use crate::jobs::choice::chosen;
use crate::jobs::stores::read_configured;
use crate::layout::{ChainPath, ObjectName, Pin};
use crate::model::ChainId;
use crate::store::{self, FileStore};
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

#[derive(Serialize)]
struct Document {
    schema: u32,
    id: ChainId,
    pinned: bool,
    destinations: Vec<String>,
}

pub(super) fn pin(context: &Context, args: PinArgs) -> Result<Exit, Failure> {
    let document = Pin::new(host::now(), &host::host_name(), args.note).to_bytes();
    change(context, &args.id, args.wait, true, |store, path| {
        match store.put_new(&ObjectName::Pin(path.clone()), &document) {
            Ok(()) | Err(store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    })
}

pub(super) fn unpin(context: &Context, args: UnpinArgs) -> Result<Exit, Failure> {
    change(context, &args.id, args.wait, false, |store, path| {
        match store.remove(&ObjectName::Pin(path.clone())) {
            Ok(()) | Err(store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    })
}

/// Does it in each destination that has the backup.
fn change(
    context: &Context,
    id: &str,
    wait: Duration,
    pinned: bool,
    act: impl Fn(&FileStore, &ChainPath) -> Result<(), store::Error>,
) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    host::settle()?;
    let state = host::state(&config.cluster.name)?;
    let _lock = host::jobs_lock(&state, if pinned { "pin" } else { "unpin" }, wait)?;
    let places = read_configured(&context.output, &config, None)?;
    let backup = chosen(&context.output, &places, id)?;
    let path = backup.manifest().chain_path();
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for name in backup.destinations() {
        let store = places.stores.get(name).expect("what was listed was opened");
        match act(store, &path) {
            Ok(()) => done.push(name.to_owned()),
            Err(error) => errors.push(format!("destination {name}: {}", with_causes(&error))),
        }
    }
    let document = Document {
        schema: 1,
        id: backup.id().clone(),
        pinned,
        destinations: done,
    };
    match context.output.format {
        Format::Json => context.output.json(&document),
        Format::Text => {
            let verb = if pinned { "pinned" } else { "unpinned" };
            let places = document.destinations.join(", ");
            context.output.line(format!("{verb} {} in {places}", document.id));
        }
    }
    for error in &errors {
        context.output.problem(error);
    }
    match (errors.is_empty(), document.destinations.is_empty()) {
        (true, _) => Ok(Exit::Done),
        (false, false) => Ok(Exit::Partly),
        (false, true) => Ok(Exit::Failed),
    }
}
