//! Looks at the destinations, for the verdict: what is in them, whether they can be written to, which secrets are missing.
//!
//! Judged is in `health`.

use std::collections::BTreeMap;
use std::time::Duration;

use age::secrecy::ExposeSecret;
use jiff::Timestamp;

use super::behind::{self, Memory};
use super::stores::{open_to_write, read_within};
use super::{host, last_seen};
use crate::config::{Config, DestinationName, Kind, Unread};
use crate::destinations::{Destinations, side_by_side};
use crate::error_chain::with_causes;
use crate::etcd::Certificate;
use crate::health::{CertificateState, Destination, Event, Look, Notice, Stores, proof_within};
use crate::jobs::recipients;
use crate::store::{Limits, Store};

/// Looks at the recipients, every secret and every destination, as the agent is to go by.
pub fn look(config: &Config) -> Look {
    match read_within(config, None, Limits::default()) {
        Ok(places) => {
            let unwritable = unwritable(config);
            seen(config, &places, &unwritable)
        }
        Err(failure) => with_the_host(config, nothing(failure.message()), None),
    }
}

/// What there is now that a job is done, by what it has read and changed.
pub(super) fn after(config: &Config, destinations: &Destinations) -> Look {
    let tried = side_by_side(destinations.stores.iter(), |(_, store)| trial(store)).into_iter();
    let unwritable = tried.filter_map(|((name, _), tried)| Some((name.clone(), tried.err()?)));
    seen(config, destinations, &unwritable.collect())
}

/// What `places` hold, and why some cannot be written to.
fn seen(config: &Config, places: &Destinations, unwritable: &BTreeMap<String, String>) -> Look {
    let mut stores = read(config, places, host::now(), Memory::IsKept);
    for destination in &mut stores.destinations {
        destination.unwritable = unwritable.get(&destination.name).cloned();
    }
    with_the_host(config, Look::at(&stores), Some(places))
}

/// A look at the stores, and what this host knows beside them. One look replaces another, so each has all of it: what one
/// leaves out would be told to be over.
fn with_the_host(config: &Config, mut look: Look, places: Option<&Destinations>) -> Look {
    let recipients = match host::state(&config.cluster.name) {
        Ok(state) => recipients::notice(config, &state, places),
        Err(failure) => Some(recipients::unknown(failure.message())),
    };
    look.problems.extend(recipients);
    if let (Some(places), Ok(state)) = (places, host::state(&config.cluster.name)) {
        look.problems.extend(last_seen::notices(places));
        if let Err(message) = last_seen::remember(&state, places) {
            look.problems.push(Notice::new(Event::StateUnwritable, message));
        }
    }
    look.problems.extend(unread_secrets(config));
    look.state.certificates = certificates(config);
    look
}

/// What `places` hold, as the verdict is made from.
pub fn read<'a>(config: &Config, places: &'a Destinations, now: Timestamp, memory: Memory) -> Stores<'a> {
    let mut behind = behind::behind(config, places, now, memory);
    let destinations = config.destinations.keys().map(|name| {
        let unreadable = places.unreadable.iter();
        let unreadable = unreadable.filter(|(unread, _)| unread == name.as_str());
        let credentials = places.stores.get(name.as_str()).map(Store::credentials);
        let credentials = credentials.unwrap_or_default();
        let free = places
            .stores
            .get(name.as_str())
            .and_then(|store| store.free_space().ok().flatten());
        Destination {
            name: name.to_string(),
            unreadable: unreadable.map(|(_, error)| error.clone()).collect(),
            unwritable: None,
            proof_within: proof_within(verifies(config, name), now),
            free_and_total_bytes: free.map(|free| (free.available, free.total)),
            credentials_expire_at: credentials.expires_at,
            credentials_trouble: credentials.trouble,
            behind: behind.remove(name.as_str()),
        }
    });
    Stores {
        catalog: &places.catalog,
        destinations: destinations.collect(),
        rolled_back: &places.rolled_back,
        required: config.backup.require,
        read_at: now,
    }
}

/// The schedules that verify the backups of a destination, and how long after a slot that must be done.
fn verifies<'a>(
    config: &'a Config,
    destination: &'a DestinationName,
) -> impl Iterator<Item = (&'a crate::schedule::When, Duration)> {
    let schedules = config.schedules.values();
    let verifies =
        schedules.filter(move |schedule| schedule.kind == Kind::Verify && schedule.destinations.contains(destination));
    verifies.map(|schedule| (&schedule.when, schedule.jitter + schedule.late_after))
}

/// A look at nothing, because the configuration does not let it.
fn nothing(why: &str) -> Look {
    let nowhere = crate::catalog::Catalog::default();
    let mut look = Look::at(&Stores {
        catalog: &nowhere,
        destinations: Vec::new(),
        rolled_back: &[],
        required: crate::layout::Proof::None,
        read_at: host::now(),
    });
    look.problems = vec![Notice::new(Event::DestinationDisabled, why)];
    look
}

/// When the certificates expire that the configuration names. What cannot be read is told elsewhere.
fn certificates(config: &Config) -> Vec<CertificateState> {
    let tls = &config.cluster.tls;
    let files = [
        ("cluster.tls.ca", tls.ca.as_ref()),
        ("cluster.tls.cert", tls.client.as_ref().map(|client| &client.cert)),
    ];
    let states = files.into_iter().filter_map(|(key, secret)| {
        let pem = secret?.read().ok()?;
        Some(CertificateState {
            key: key.to_owned(),
            expires_at: Certificate::first_expiry(pem.expose_secret().as_bytes())?,
        })
    });
    states.collect()
}

/// The secrets that the agent goes on without.
fn unread_secrets(config: &Config) -> Vec<Notice> {
    let secrets = config.check_secrets();
    let unread = secrets.problems.into_iter().chain(secrets.unloaded);
    let notice = |unread: Unread| {
        let message = format!("the agent works without it: {}", unread.problem);
        Notice::new(Event::SecretUnreadable, message)
    };
    unread.filter(|unread| !unread.is_needed).map(notice).collect()
}

/// The destinations that cannot be written to, each tried with a file: the agent's unit may allow it less than the owner
/// and the mode of a folder do.
fn unwritable(config: &Config) -> BTreeMap<String, String> {
    if config.destinations.is_empty() {
        return BTreeMap::new();
    }
    let all = |why: String| {
        let names = config.destinations.keys();
        names.map(|name| (name.to_string(), why.clone())).collect()
    };
    let opened = host::state(&config.cluster.name).and_then(|state| open_to_write(config, &state, &[]));
    let destinations = match opened {
        Ok(destinations) => destinations,
        Err(failure) => return all(failure.message().to_owned()),
    };
    let tried = destinations.into_iter();
    tried
        .filter_map(|destination| {
            let tried = destination.store.as_ref().map_err(|error| with_causes(error));
            Some((destination.name.clone(), tried.and_then(trial).err()?))
        })
        .collect()
}

/// Writes to a store, and removes it again.
fn trial(store: &Store) -> Result<(), String> {
    store.now().map(drop).map_err(|error| with_causes(&error))
}
