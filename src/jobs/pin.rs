//! Excludes a backup from retention in every destination that has it, and lets it back in.

use std::time::Duration;

use super::named_backup::chosen;
use super::stores::read_configured;
use super::{Failure, Listener, host, signing};
use crate::config::Config;
use crate::error_chain::with_causes;
use crate::layout::{ChainPath, ObjectName, Pin};
use crate::model::ChainId;
use crate::store::{self, Store};

/// What is asked for.
#[derive(Debug)]
pub enum Change {
    /// Retention passes it over.
    Pin {
        /// Words to keep with it.
        note: Option<String>,
    },
    /// Retention judges it again.
    Unpin,
}

/// What came of it.
#[derive(Debug)]
pub struct Changed {
    /// The backup.
    pub id: ChainId,
    /// Whether retention passes it over now.
    pub pinned: bool,
    /// The destinations where it is so now.
    pub destinations: Vec<String>,
    /// Why it is not elsewhere.
    pub errors: Vec<String>,
}

/// Does it in each destination that has the backup.
pub fn carry_out(
    config: &Config,
    id: &str,
    wait: Duration,
    change: &Change,
    listener: &dyn Listener,
) -> Result<Changed, Failure> {
    let words = match change {
        Change::Pin { note } => Some(Pin::new(host::now(), &host::host_name(), note.clone())),
        Change::Unpin => None,
    };
    host::settle()?;
    let state = host::state(&config.cluster.name)?;
    let command = match change {
        Change::Pin { .. } => "pin",
        Change::Unpin => "unpin",
    };
    let _lock = host::jobs_lock(&state, command, wait)?;
    signing::prepare(config, &state)?;
    let places = read_configured(listener, config, None)?;
    let backup = chosen(listener, &places, id)?;
    let path = backup.manifest().chain_path();
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for name in backup.destinations() {
        let store = places.stores.get(name).expect("what was listed was opened");
        let acted = match &words {
            Some(words) => store.pin(&path, words),
            None => unpin(store, &path),
        };
        match acted {
            Ok(()) => done.push(name.to_owned()),
            Err(error) => errors.push(format!("destination {name}: {}", with_causes(&error))),
        }
    }
    Ok(Changed {
        id: backup.id().clone(),
        pinned: words.is_some(),
        destinations: done,
        errors,
    })
}

fn unpin(store: &Store, path: &ChainPath) -> Result<(), store::Error> {
    match store.remove(&ObjectName::Pin(path.clone())) {
        Ok(()) | Err(store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
