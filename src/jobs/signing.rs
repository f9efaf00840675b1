//! By which key this host signs, and whose documents count for it.

use std::path::Path;
use std::sync::Arc;

use age::secrecy::ExposeSecret;

use super::stores::{open_to_write, store_failure};
use super::{Exit, Failure, failed, host};
use crate::config::Config;
use crate::durable;
use crate::error_chain::with_causes;
use crate::layout::{MAX_BYTES, ObjectName};
use crate::signing::{Authority, Role, Roll, SigningKey};
use crate::state::State;

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

/// Writes a list of signers to every destination; where, in words. One that no trusted root has signed, or that is older
/// than one which is there, is refused.
pub fn publish(config: &Config, file: &Path) -> Result<Vec<String>, Failure> {
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
    let mut told = Vec::new();
    for destination in open_to_write(config, &state, &[])? {
        let at = &destination.name;
        let store = destination.store.map_err(store_failure)?;
        let there = store.read_small(&ObjectName::Signers, MAX_BYTES as u64).ok();
        let there = there.and_then(|document| Roll::read(cluster, roots, &document).ok());
        if let Some(newer) = there.filter(|there| there.number > list.number) {
            let message = format!(
                "destination {at} has list {} already, {name} is list {}",
                newer.number, list.number
            );
            return Err(Failure::new(Exit::Refused, message).next("sign one with a higher `--number`"));
        }
        store.put_signers(&document).map_err(store_failure)?;
        told.push(format!(
            "destination {at}: list {} names {} signers",
            list.number,
            list.keys().count()
        ));
    }
    state.note_list_of_signers(&document).map_err(failed)?;
    Ok(told)
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
