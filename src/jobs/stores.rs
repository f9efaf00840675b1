//! The destinations of a configuration, opened as a job needs them.

use super::host::{now, state};
use super::{Exit, Failure};
use crate::config::Config;
use crate::destinations::{Destination, Destinations, open};
use crate::state::State;
use crate::store::{Access, Limits};

/// Reads the configured destinations, or `only` one of them.
pub fn read_within(config: &Config, only: Option<&str>, limits: Limits) -> Result<Destinations, Failure> {
    if let Some(name) = only {
        known_destination(config, name)?;
    }
    let state = state(&config.cluster.name).ok();
    let mut addresses = config.addresses();
    addresses.retain(|address| only.is_none_or(|only| only == address.name));
    let cluster = &config.cluster.name;
    let opened = open(addresses, cluster, state.as_ref(), Access::Read, limits);
    Ok(Destinations::read(cluster.clone(), &opened, None))
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
        &config.cluster.name,
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
        &config.cluster.name,
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
