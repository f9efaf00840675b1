//! The destinations of a configuration, opened as a job needs them, and what is said of those that cannot be read.

use super::host::{now, state_to_read};
use super::{Exit, Failure, Listener, last_seen, signing};
use crate::catalog::Backup;
use crate::config::Config;
use crate::destinations::{Destination, Destinations, ManifestError, open};
use crate::error_chain::with_causes;
use crate::layout::Manifest;
use crate::signing::Unsigned;
use crate::state::State;
use crate::store::{self, Access, Limits};

/// Reads the configured destinations, or `only` one of them.
pub fn read_within(config: &Config, only: Option<&str>, limits: Limits) -> Result<Destinations, Failure> {
    read_with(config, only, limits, Unsigned::CountsForNothing)
}

fn read_with(config: &Config, only: Option<&str>, limits: Limits, unsigned: Unsigned) -> Result<Destinations, Failure> {
    if let Some(name) = only {
        known_destination(config, name)?;
    }
    let state = state_to_read(&config.cluster.name);
    let mut addresses = config.addresses();
    addresses.retain(|address| only.is_none_or(|only| only == address.name));
    let cluster = &config.cluster.name;
    let authority = signing::authority(config, state.as_ref().ok()).with(unsigned);
    let opened = open(addresses, authority, state.as_ref().ok(), Access::Read, limits);
    let mut read = Destinations::read(cluster.clone(), &opened, None);
    match state {
        Ok(state) => last_seen::hold_against(&mut read, &state),
        Err(failure) => read.unremembered = Some(failure.message().to_owned()),
    }
    Ok(read)
}

/// Opens the configured destinations to write to them, those named in `only` if it names any. One that cannot be opened,
/// or hangs, is none the less in the list, with the reason.
pub fn open_to_write(config: &Config, state: &State, only: &[String]) -> Result<Vec<Destination>, Failure> {
    only.iter().try_for_each(|name| known_destination(config, name))?;
    let mut addresses = config.addresses();
    addresses.retain(|address| only.is_empty() || only.contains(&address.name));
    if addresses.is_empty() {
        return Err(Failure::new(Exit::Configuration, "no destination is configured")
            .next("add `[destinations.local]` with `url = \"file:///var/backups/lifeboat\"`"));
    }
    let access = Access::Write { now: now() };
    Ok(open(
        addresses,
        signing::authority_to_write(config, state)?,
        Some(state),
        access,
        Limits::default(),
    ))
}

/// Opens those that [`open_to_write`] was not asked for, to read them.
pub fn open_the_others(config: &Config, state: &State, opened: &[Destination]) -> Vec<Destination> {
    let mut addresses = config.addresses();
    addresses.retain(|address| opened.iter().all(|opened| opened.name != address.name));
    open(
        addresses,
        signing::authority(config, Some(state)),
        Some(state),
        Access::Read,
        Limits::default(),
    )
}

/// Refuses a destination that is not configured.
pub fn known_destination(config: &Config, name: &str) -> Result<(), Failure> {
    if config.destinations.contains_key(name) {
        return Ok(());
    }
    let known: Vec<String> = config.destinations.keys().map(ToString::to_string).collect();
    let message = format!("no destination `{name}` is configured");
    Err(Failure::new(Exit::Usage, message).next(format!("one of: {}", known.join(", "))))
}

/// Reads the configured destinations, or `only` one of them. Those that cannot be read are warned of.
pub fn read_configured(listener: &dyn Listener, config: &Config, only: Option<&str>) -> Result<Destinations, Failure> {
    let read = read_within(config, only, Limits::default())?;
    warn_of_unreadable(listener, &read, &[]);
    Ok(read)
}

/// The same for a backup that the operator has named, with his word on what nobody has signed.
pub fn read_for_one(
    listener: &dyn Listener,
    config: &Config,
    only: Option<&str>,
    unsigned: Unsigned,
) -> Result<Destinations, Failure> {
    let read = read_with(config, only, Limits::default(), unsigned)?;
    warn_of_unreadable(listener, &read, &[]);
    Ok(read)
}

/// Names the destinations that could not be read, but for those of which it is told elsewhere.
pub fn warn_of_unreadable(listener: &dyn Listener, read: &Destinations, told: &[String]) {
    let untold = read.unreadable.iter().filter(|(name, _)| !told.contains(name));
    for (name, error) in untold {
        listener.warn(&format!("destination {name}: {error}"));
    }
}

/// The failure to report when a backup is not found and not every destination could be read. Where none could be,
/// nobody knows that it is not there.
pub fn blame(read: &Destinations, mut failure: Failure) -> Failure {
    if read.unreadable.is_empty() {
        return failure;
    }
    if read.stores.is_empty() && failure.exit == Exit::NotFound {
        failure.exit = Exit::Failed;
    }
    let unread: Vec<&str> = read.unreadable.iter().map(|(name, _)| name.as_str()).collect();
    failure.next(format!("it may be in what could not be read: {}", unread.join(", ")))
}

/// The whole manifest of a backup, and its bytes.
pub fn manifest(read: &Destinations, backup: &Backup) -> Result<(Manifest, Vec<u8>), Failure> {
    read.manifest(backup).map_err(|error| match error {
        ManifestError::Gone { .. } => Failure::new(Exit::NotFound, error),
        ManifestError::Damaged { .. } | ManifestError::Changed { .. } => {
            Failure::new(Exit::Damaged, with_causes(&error))
        }
        ManifestError::Store(error) => store_failure(error),
    })
}

/// A failure of a store that was asked for by name.
pub fn store_failure(error: store::Error) -> Failure {
    Failure::new(Exit::of_store(&error), with_causes(&error))
}
