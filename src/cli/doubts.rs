//! What the destinations give to doubt of the backups in them, and what the agent must do without, for its notices.

use super::host;
use super::list::faults;
use super::status::unproven;
use super::stores::{open_to_write, read_within};
use crate::catalog::{Catalog, LatestError};
use crate::config::{Config, Unread};
use crate::health::{About, Event, Notice};
use crate::model::with_causes;
use crate::store::Limits;
use crate::store::{self, FileStore};

/// Looks at every secret and every destination.
pub(super) fn doubts(config: &Config) -> Vec<Notice> {
    let mut doubts = unread(config);
    doubts.extend(of_destinations(config));
    doubts
}

/// The secrets that the agent goes on without.
fn unread(config: &Config) -> Vec<Notice> {
    let secrets = config.check_secrets();
    let unread = secrets.problems.into_iter().chain(secrets.unloaded);
    let notice = |unread: Unread| Notice {
        event: Event::SecretUnreadable,
        about: About::default(),
        message: format!("the agent goes on without it: {}", unread.problem),
    };
    unread.filter(|unread| !unread.is_needed).map(notice).collect()
}

fn of_destinations(config: &Config) -> Vec<Notice> {
    let places = match read_within(config, None, Limits::default()) {
        Ok(places) => places,
        Err(failure) => {
            return vec![Notice {
                event: Event::DestinationDisabled,
                about: About::default(),
                message: failure.message().to_owned(),
            }];
        }
    };
    let unreadable = places.unreadable.iter().map(|(name, error)| Notice {
        event: Event::DestinationDisabled,
        about: About::destination(name),
        message: format!("destination {name}: {error}"),
    });
    let mut doubts: Vec<Notice> = unreadable.collect();
    let is_unread = |name: &str| places.unreadable.iter().any(|(unread, _)| unread == name);
    doubts.extend(
        unwritable(config)
            .into_iter()
            .filter(|notice| !notice.about.destination.as_deref().is_some_and(is_unread)),
    );
    doubts.extend(bad(&places.catalog));
    doubts.extend(
        unproven(config, &places, host::now())
            .into_iter()
            .map(|message| Notice {
                event: Event::BackupUnproven,
                about: About::default(),
                message,
            }),
    );
    let unaccepted = match places.catalog.latest() {
        Err(error @ LatestError::Unaccepted { .. }) => {
            let candidates: Vec<String> = error.candidates().map(ToString::to_string).collect();
            Some(format!("{}: {}", with_causes(&error), candidates.join(", or ")))
        }
        Ok(_) | Err(_) => None,
    };
    let astray = places.catalog.astray(host::now()).map(|astray| astray.to_string());
    doubts.extend(unaccepted.or(astray).map(|message| Notice {
        event: Event::NewLineage,
        about: About::default(),
        message,
    }));
    doubts
}

/// The destinations that cannot be written to, each tried with a file: the agent's unit may allow it less than the owner
/// and the mode of a folder do.
fn unwritable(config: &Config) -> Vec<Notice> {
    if config.destinations.is_empty() {
        return Vec::new();
    }
    let disabled = |about: About, message: String| Notice {
        event: Event::DestinationDisabled,
        about,
        message,
    };
    let opened = host::state(&config.cluster.name).and_then(|state| open_to_write(config, &state, &[]));
    let destinations = match opened {
        Ok(destinations) => destinations,
        Err(failure) => return vec![disabled(About::default(), failure.message().to_owned())],
    };
    let tried = destinations.into_iter().filter_map(|destination| {
        let why = trial(destination.store).err()?;
        let name = destination.name;
        let message = format!(
            "destination {name} cannot be written to by the agent, which goes on trying: {why} (`lifeboat check` says what is missing)"
        );
        Some(disabled(About::destination(&name), message))
    });
    tried.collect()
}

/// Writes to a store, and removes it again.
fn trial(store: Result<FileStore, store::Error>) -> Result<(), String> {
    let store = store.map_err(|error| with_causes(&error))?;
    store.now().map(drop).map_err(|error| with_causes(&error))
}

/// The newest backup that is not good; how many more there are is said with it.
fn bad(catalog: &Catalog) -> Option<Notice> {
    let bad: Vec<_> = catalog
        .backups()
        .iter()
        .filter(|backup| !faults(backup).is_empty())
        .collect();
    let mut of = About::default();
    let (what, more) = match bad.split_last() {
        Some((newest, others)) => {
            of.backup = Some(newest.id().to_string());
            let faults = faults(newest).join("; ");
            (
                format!("backup {} is not good in {faults}", newest.id()),
                others.len() + catalog.damaged().len(),
            )
        }
        None => {
            let (newest, others) = catalog.damaged().split_last()?;
            (format!("{newest}: {}", newest.fault), others.len())
        }
    };
    let message = match more {
        0 => what,
        more => format!("{what} (and {more} more: see `lifeboat status`)"),
    };
    Some(Notice {
        event: Event::BackupUnproven,
        about: of,
        message,
    })
}
