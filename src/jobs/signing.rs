//! By which key this host signs, and whose documents count for it.

use std::sync::Arc;

use age::secrecy::ExposeSecret;

use super::{Exit, Failure, failed};
use crate::config::Config;
use crate::durable;
use crate::error_chain::with_causes;
use crate::signing::{Authority, Role, SigningKey};
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
