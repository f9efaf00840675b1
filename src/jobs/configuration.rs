//! Reads the configuration, and remembers the last one that was right.

use std::path::Path;

use super::{Exit, Failure, Listener};
use crate::config::{self, Config};
use crate::error_chain::with_causes;
use crate::state;

/// Reads the configuration at `path`. What is doubtful in it is for `check` to say, and for those below: somebody who lists
/// backups at 3 a.m. is not to read it before each table.
pub fn read(path: &Path, listener: &dyn Listener) -> Result<Config, Failure> {
    load(path, listener).map(|loaded| loaded.config)
}

/// The same for whoever takes backups by it: what is doubtful is told.
pub fn read_and_warn(path: &Path, listener: &dyn Listener) -> Result<Config, Failure> {
    let loaded = load(path, listener)?;
    for warning in &loaded.warnings {
        listener.warn(&warning.to_string());
    }
    Ok(loaded.config)
}

fn load(path: &Path, listener: &dyn Listener) -> Result<config::Loaded, Failure> {
    let loaded = config::load(path).map_err(invalid)?;
    remember(path, &loaded, listener);
    Ok(loaded)
}

/// The configuration; while it is broken, the last one that was right, and what is wrong. For commands that only look.
pub fn read_last(path: &Path, listener: &dyn Listener) -> Result<(Config, Option<Failure>), Failure> {
    let failure = match read(path, listener) {
        Ok(config) => return Ok((config, None)),
        Err(failure) => failure,
    };
    match remembered(path) {
        Some(config) => Ok((config, Some(failure))),
        None => Err(failure),
    }
}

/// The same; nothing where there is none.
pub fn read_last_if_any(path: &Path, listener: &dyn Listener) -> Result<Option<(Config, Option<Failure>)>, Failure> {
    match config::load(path) {
        Err(config::Error::Missing { .. } | config::Error::Blank { .. }) => Ok(None),
        _ => read_last(path, listener).map(Some),
    }
}

/// The same, for whoever goes on without one: the steps of a restore that has begun.
pub fn last_good(path: &Path) -> Option<Config> {
    match config::load(path) {
        Ok(loaded) => Some(loaded.config),
        Err(config::Error::Missing { .. } | config::Error::Blank { .. }) => None,
        Err(config::Error::Unreadable { .. } | config::Error::Invalid { .. }) => remembered(path),
    }
}

fn remembered(path: &Path) -> Option<Config> {
    let kept = state::base_folder().and_then(|base| state::remembered_configuration(&base, path));
    kept.ok().flatten().and_then(|record| config::recall(&record))
}

/// Keeps a configuration that is right. That it cannot be kept keeps nobody from working.
fn remember(path: &Path, loaded: &config::Loaded, listener: &dyn Listener) {
    if let (Ok(base), Some(record)) = (state::base_folder(), loaded.to_record())
        && let Err(error) = state::remember_configuration(&base, path, &record)
    {
        let path = path.display();
        listener.detail(&format!("{path} is not remembered: {}", with_causes(&error)));
    }
}

/// A failure of the configuration.
pub fn invalid(error: config::Error) -> Failure {
    let next = match error {
        config::Error::Missing { .. } | config::Error::Blank { .. } => {
            format!("{}; to read a store without it: `--from DIR`", error.next_step())
        }
        config::Error::Unreadable { .. } | config::Error::Invalid { .. } => error.next_step(),
    };
    Failure::new(Exit::Configuration, with_causes(&error)).next(next)
}

/// What no backup can be taken with, though it can be read; in the agent's unit, with its credentials.
pub fn faults(config: &Config, with_credentials: bool) -> Vec<String> {
    let secrets = config.check_secrets();
    let unloaded = secrets.unloaded.iter().filter(|_| with_credentials);
    let unread = secrets.problems.iter().chain(unloaded);
    let needed = unread.filter(|unread| unread.is_needed);
    let mut faults: Vec<String> = needed.map(|unread| unread.problem.to_string()).collect();
    if config.has_sample_recipient() {
        faults.push("the recipient is the sample's: nobody could open the backups".to_owned());
    }
    faults
}
