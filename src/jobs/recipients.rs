//! Whether backups are encrypted to those that this host was told to go on with.

use super::Listener;
use crate::catalog::Backup;
use crate::config::Config;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::health::{Event, Notice, OtherRecipients};
use crate::state::State;

/// How the recipients of `config` differ from those that are meant: the ones that were accepted on this host, or else those
/// of the newest backup in `destinations`.
pub fn changed(config: &Config, state: &State, destinations: Option<&Destinations>) -> Result<Option<String>, String> {
    let accepted = state.accepted_recipients().map_err(|error| with_causes(&error))?;
    let meant = accepted.or_else(|| destinations.and_then(of_newest));
    let other = meant.and_then(|meant| OtherRecipients::between(&meant, &present(config)));
    Ok(other.map(|other| other.to_string()))
}

/// The same for a backup that begins: from then on the present ones are remembered as meant, where nothing is known yet.
pub fn changed_since(
    listener: &dyn Listener,
    config: &Config,
    state: &State,
    destinations: &Destinations,
) -> Option<String> {
    let found = changed(config, state, Some(destinations));
    if let Ok(None) = state.accepted_recipients() {
        let meant = of_newest(destinations).unwrap_or_else(|| present(config));
        if let Err(error) = state.accept_recipients(&meant) {
            listener.warn(&format!("the recipients are not remembered: {}", with_causes(&error)));
        }
    }
    found.unwrap_or_else(|error| Some(format!("whether the recipients have changed is not known: {error}")))
}

/// The same, for the verdict.
pub fn notice(config: &Config, state: &State, destinations: Option<&Destinations>) -> Option<Notice> {
    let message = changed(config, state, destinations).ok()??;
    Some(Notice::new(Event::RecipientsChanged, message))
}

/// Those that new backups are encrypted to.
pub fn present(config: &Config) -> Vec<String> {
    config.encryption.recipients.iter().map(ToString::to_string).collect()
}

fn of_newest(destinations: &Destinations) -> Option<Vec<String>> {
    let catalog = &destinations.catalog;
    let newest: Option<&Backup> = catalog.latest().ok().or_else(|| catalog.backups().last());
    Some(destinations.manifest(newest?).ok()?.0.recipients)
}
