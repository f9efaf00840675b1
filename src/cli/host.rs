//! What commands need of this host: the configuration, and what jobs need too. Its destinations are `stores`.

use std::path::Path;

use super::{Context, Exit, Failure};
use crate::config::{self, Config};
use crate::error_chain::with_causes;
pub(super) use crate::jobs::failed;
pub(super) use crate::jobs::host::{
    access, endpoints, host_name, jobs_lock, login, now, settle, spare_memory, state, this_host, tls,
};
use crate::state;

/// Reads the configuration. What is doubtful in it is for `check` to say, and for those below: somebody who lists backups
/// at 3 a.m. is not to read it before each table.
pub(super) fn configuration(context: &Context) -> Result<Config, Failure> {
    load(context).map(|loaded| loaded.config)
}

/// The same for whoever takes backups by it: what is doubtful is printed.
pub(super) fn configuration_and_doubts(context: &Context) -> Result<Config, Failure> {
    let loaded = load(context)?;
    for warning in &loaded.warnings {
        context.output.warn(warning.to_string());
    }
    Ok(loaded.config)
}

fn load(context: &Context) -> Result<config::Loaded, Failure> {
    let loaded = config::load(&context.config).map_err(invalid)?;
    remember(context, &loaded);
    Ok(loaded)
}

/// The configuration; while it is broken, the last one that was right, and what is wrong. For commands that only look.
pub(super) fn last_configuration(context: &Context) -> Result<(Config, Option<Failure>), Failure> {
    let failure = match configuration(context) {
        Ok(config) => return Ok((config, None)),
        Err(failure) => failure,
    };
    let kept = state::base_folder().and_then(|base| state::remembered_configuration(&base, &context.config));
    match kept.ok().flatten().and_then(|record| config::recall(&record)) {
        Some(config) => Ok((config, Some(failure))),
        None => Err(failure),
    }
}

/// Keeps a configuration that is right. That it cannot be kept keeps nobody from working.
fn remember(context: &Context, loaded: &config::Loaded) {
    if let (Ok(base), Some(record)) = (state::base_folder(), loaded.to_record())
        && let Err(error) = state::remember_configuration(&base, &context.config, &record)
    {
        let path = context.config.display();
        context
            .output
            .detail(format!("{path} is not remembered: {}", with_causes(&error)));
    }
}

/// A failure of the configuration.
pub(super) fn invalid(error: config::Error) -> Failure {
    let next = match error {
        config::Error::Missing { .. } | config::Error::Blank { .. } => {
            format!("{}; to read a store without it: `--from DIR`", error.next_step())
        }
        config::Error::Unreadable { .. } | config::Error::Invalid { .. } => error.next_step(),
    };
    Failure::new(Exit::Configuration, with_causes(&error)).next(next)
}

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// What can still be written.
    pub available: u64,
    /// How large it is.
    pub total: u64,
}

/// The space where `path` is or will be, if the system says.
pub(super) fn room_at(path: &Path) -> Option<Room> {
    let there = path.ancestors().find(|path| path.exists())?;
    let found = nix::sys::statvfs::statvfs(there).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Some(Room {
        available: bytes(found.blocks_available()),
        total: bytes(found.blocks()),
    })
}
