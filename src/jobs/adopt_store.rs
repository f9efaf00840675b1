//! The operator's word that a store without `store.json` is the right one.

use super::stores::known_destination;
use super::{Exit, Failure, failed, host};
use crate::config::Config;
use crate::error_chain::with_causes;
use crate::store::{Adopted, Error, Store};
use crate::text::count;

/// Gives the store of the destination `name` its marker again, and remembers it on this host; what came of it, in words.
pub fn adopt(config: &Config, name: &str) -> Result<String, Failure> {
    let state = host::state(&config.cluster.name)?;
    known_destination(config, name)?;
    let mut addresses = config.addresses().into_iter();
    let address = addresses.find(|address| address.name == name);
    let address = address.ok_or_else(|| Failure::new(Exit::Usage, format!("no destination `{name}` is configured")))?;
    let known = state.seen_store(name, &address.url).map_err(failed)?;
    let adopted = Store::adopt(&address.location, &config.cluster.name, known.as_ref(), host::now());
    let Adopted { id, had_it, backups } = adopted.map_err(|error| refused(name, &error))?;
    state.remember_store(name, &address.url, &id).map_err(failed)?;
    host::tell_agent(&state, "check");
    let backups = count(backups as u64, "backup");
    Ok(match had_it {
        true => format!("destination {name}: store {id} has its store.json, with {backups}"),
        false => format!("destination {name}: adopted as store {id}, with {backups}"),
    })
}

fn refused(name: &str, error: &Error) -> Failure {
    let message = format!("destination {name}: {}", with_causes(error));
    match error {
        Error::NotAdopted { at, .. } => Failure::new(Exit::Refused, message).next(match at.contains("://") {
            true => "look at the address of the store, and at what its credentials may read",
            false => "mount the store that holds the backups, or let user lifeboat read all of it",
        }),
        Error::WrongStore { .. } => Failure::new(Exit::Refused, message),
        Error::MarkerDamaged { at, .. } => Failure::new(Exit::Refused, message).next(match at.contains("://") {
            true => "if that object is lost: remove it, then this again".to_owned(),
            false => format!("if that file is lost: `mv {at} {at}.damaged`, then this again"),
        }),
        _ => Failure::new(Exit::Failed, message),
    }
}
