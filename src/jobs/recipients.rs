//! Whether backups are encrypted to those that this host was told to go on with.

use super::Listener;
use crate::catalog::Backup;
use crate::config::Config;
use crate::destinations::{Destinations, ManifestError};
use crate::error_chain::with_causes;
use crate::health::{Event, Notice, OtherRecipients};
use crate::state::State;

/// How the recipients of `config` differ from those that are meant: the ones that were accepted on this host, or else those
/// of the newest backup in `destinations`.
pub fn changed(config: &Config, state: &State, destinations: Option<&Destinations>) -> Result<Option<String>, String> {
    let accepted = state.accepted_recipients().map_err(|error| with_causes(&error))?;
    let meant = match (accepted, destinations) {
        (Some(accepted), _) => Some(accepted),
        (None, Some(destinations)) => of_newest(destinations)?,
        (None, None) => None,
    };
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
    // While it is not known who was meant before, the present ones are not taken for meant.
    if let Ok(None) = state.accepted_recipients()
        && let Ok(of_newest) = of_newest(destinations)
    {
        let meant = of_newest.unwrap_or_else(|| present(config));
        if let Err(error) = state.accept_recipients(&meant) {
            listener.warn(&format!("the recipients are not remembered: {}", with_causes(&error)));
        }
    }
    found.unwrap_or_else(|error| Some(not_known(&error)))
}

/// The same, for the verdict.
pub fn notice(config: &Config, state: &State, destinations: Option<&Destinations>) -> Option<Notice> {
    match changed(config, state, destinations) {
        Ok(message) => Some(Notice::new(Event::RecipientsChanged, message?)),
        Err(error) => Some(unknown(&error)),
    }
}

/// The same where `error` keeps it from being known.
pub fn unknown(error: &str) -> Notice {
    Notice::new(Event::RecipientsChanged, not_known(error))
}

/// In words, for people.
pub fn not_known(error: &str) -> String {
    format!("whether the recipients have changed is not known: {error}")
}

/// Those that new backups are encrypted to.
pub fn present(config: &Config) -> Vec<String> {
    config.encryption.recipients.iter().map(ToString::to_string).collect()
}

/// Those of the newest backup; none if there is no backup.
fn of_newest(destinations: &Destinations) -> Result<Option<Vec<String>>, String> {
    let catalog = &destinations.catalog;
    let newest: Option<&Backup> = catalog.latest().ok().or_else(|| catalog.backups().last());
    match newest.map(|newest| destinations.manifest(newest)) {
        Some(Ok((manifest, _))) => Ok(Some(manifest.recipients)),
        // Removed since it was listed.
        Some(Err(ManifestError::Gone { .. })) | None => Ok(None),
        Some(Err(error)) => Err(with_causes(&error)),
    }
}
