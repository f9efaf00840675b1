//! By which key this host signs, and whose documents count for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use age::secrecy::ExposeSecret;

use super::stores::open_to_write;
use super::{Exit, Failure, failed, host};
use crate::config::Config;
use crate::destinations::{Destination, list_in, note_list, remembered_list, side_by_side};
use crate::durable;
use crate::error_chain::with_causes;
use crate::layout::MAX_BYTES;
use crate::signing::{Authority, Role, Roll, SigningKey};
use crate::state::State;
use crate::text::count;

/// Whose documents count, and the key that signs, as far as this user may have it. Nothing is made.
pub fn authority(config: &Config, state: Option<&State>) -> Authority {
    let authority = Authority::anybody(&config.cluster.name).trusting(config.signing.trust.clone());
    let key = match &config.signing.key {
        Some(_) => configured(config).ok().flatten(),
        None => state.and_then(|state| state.signing_key().ok().flatten()),
    };
    match (key, state) {
        (Some(key), _) => authority.signing(Arc::new(key)),
        (None, Some(state)) => authority.of_host(state.own_signer().ok().flatten()),
        (None, None) => authority,
    }
}

/// The same for whoever writes: there is a key from now on, and this host remembers which.
pub fn authority_to_write(config: &Config, state: &State) -> Result<Authority, Failure> {
    let key = match configured(config)? {
        Some(key) => key,
        None => {
            let seed = durable::random().map_err(failed)?;
            state.make_signing_key(seed).map_err(|error| {
                failed(error).next("the key by which this host signs is in the state; a copy of it can be put back")
            })?
        }
    };
    state.note_own_signer(key.public()).map_err(failed)?;
    let authority = Authority::anybody(&config.cluster.name).trusting(config.signing.trust.clone());
    Ok(authority.signing(Arc::new(key)))
}

/// Sees to it that there is a key, for a job that writes documents to stores that it opens to read.
pub fn prepare(config: &Config, state: &State) -> Result<(), Failure> {
    authority_to_write(config, state).map(drop)
}

/// How long it is waited for another job before a list of signers is written.
const LOCK_WITHIN: Duration = Duration::from_secs(10);

/// Writes a list of signers to every destination; where, in words, and how it ended. One that no trusted root has signed, or
/// that is older than one which is known anywhere, is refused.
pub fn publish(config: &Config, file: &Path) -> Result<(Vec<String>, Result<(), Failure>), Failure> {
    let name = file.display();
    let document = durable::read_given(file, MAX_BYTES as u64)
        .map_err(|error| Failure::new(Exit::Failed, format!("read {name}: {error}")))?;
    let (cluster, roots) = (&config.cluster.name, &config.signing.trust.roots);
    let list = Roll::read(cluster, roots, &document).map_err(|error| {
        Failure::new(Exit::Damaged, format!("{name}: {}", with_causes(&error)))
            .next("name the root key in [signing] trusted; a list is for one cluster name")
    })?;
    // The file is read as whoever it belongs to.
    host::settle()?;
    let state = host::state(cluster)?;
    let _lock = host::jobs_lock(&state, "check", LOCK_WITHIN).map_err(|failure| match failure.exit {
        Exit::Locked => failure.next("try again when it is done"),
        _ => failure,
    })?;
    let authority = Authority::anybody(cluster).trusting(config.signing.trust.clone());
    let stores = open_to_write(config, &state, &[])?;
    let found = side_by_side(stores.into_iter(), |destination| match &destination.store {
        Ok(store) => list_in(store, &authority)
            .map(|found| (store.clone(), found))
            .map_err(|error| with_causes(&error)),
        Err(error) => Err(with_causes(error)),
    });
    let remembered = remembered_list(&state, &authority).map_err(failed)?;
    let there = found.iter().filter_map(|(destination, found)| {
        let (_, list) = found.as_ref().ok()?;
        Some((format!("destination {} has", destination.name), list.as_ref()?))
    });
    let here = remembered.iter().map(|list| ("this host has seen".to_owned(), list));
    for (who, (known, bytes)) in here.chain(there) {
        if known.number > list.number || (known.number == list.number && *bytes != document) {
            let message = format!("{who} another list {}, {name} is list {}", known.number, list.number);
            return Err(Failure::new(Exit::Refused, message).next("sign one with a higher `--number`"));
        }
    }
    // From here on this host goes by it, whatever becomes of the destinations.
    note_list(&state, &authority, &document).map_err(failed)?;
    let mut told = Vec::new();
    let mut undone = Vec::new();
    for (Destination { name: at, .. }, found) in found {
        let written = found.and_then(|(store, _)| store.put_signers(&document).map_err(|error| with_causes(&error)));
        match written {
            Ok(()) => {
                let signers = count(list.keys().count() as u64, "signer");
                told.push(format!("destination {at}: list {} names {signers}", list.number));
            }
            Err(why) => undone.push(format!("destination {at} does not have list {}: {why}", list.number)),
        }
    }
    let exit = match told.is_empty() {
        true => Exit::Failed,
        false => Exit::Partly,
    };
    let ended = match undone.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(exit, undone.join("; ")).next("the same again, when it can be written to")),
    };
    Ok((told, ended))
}

/// The key that the configuration names.
fn configured(config: &Config) -> Result<Option<SigningKey>, Failure> {
    const NAME: &str = "`signing.key`";
    let Some(secret) = &config.signing.key else {
        return Ok(None);
    };
    let unusable = |why: String| Failure::new(Exit::Configuration, why);
    let text = secret
        .read()
        .map_err(|error| unusable(format!("{NAME}: {}", with_causes(&error))))?;
    let key = SigningKey::parse(Role::Signer, text.expose_secret(), NAME);
    key.map(Some)
        .map_err(|error| unusable(error.to_string()).next("`lifeboat keygen --signing FILE` makes one"))
}
