//! The destinations of a configuration, tried: whether they can be written to, and what they enforce.

use serde::Serialize;

use super::check::Findings;
use super::stores::open_to_write;
use super::{Failure, host};
use crate::config::{Config, Sharing};
use crate::destinations::{Destination, side_by_side};
use crate::error_chain::with_causes;
use crate::model::ByteSize;
use crate::store::{Answer, Enforces, ReadingBack};

/// A destination, and what it enforces.
#[derive(Debug, Serialize)]
pub struct StoreRow {
    /// Its name in the configuration.
    pub name: String,
    /// What it enforces.
    #[serde(flatten)]
    pub enforces: Enforces,
}

/// Writes a canary to each, side by side: those that hang cost one deadline.
pub(super) fn try_destinations(config: &Config, findings: &mut Findings) -> Result<Vec<StoreRow>, Failure> {
    if config.destinations.is_empty() {
        return Ok(Vec::new());
    }
    let state = host::state(&config.cluster.name)?;
    let opened = open_to_write(config, &state, &[])?;
    let tried = side_by_side(opened.into_iter(), |destination| {
        let store = destination.store.as_ref().map_err(|error| with_causes(error))?;
        let tried = store.probe(&host::host_name()).and_then(|enforces| {
            let space = store.free_space()?;
            Ok((enforces, space))
        });
        tried.map_err(|error| with_causes(&error))
    });
    let mut rows = Vec::new();
    for (Destination { name, .. }, tried) in tried {
        match tried {
            Ok((enforces, space)) => {
                let free = space.map(|space| (ByteSize(space.available), ByteSize(space.total)));
                let free = free.map(|(available, total)| format!(", {available} of {total} free"));
                let free = free.unwrap_or_default();
                let note = format!("destination {name}: a canary was written and read back{free}");
                findings.notes.push(note);
                judge(config, &name, &enforces, findings);
                rows.push(StoreRow { name, enforces });
            }
            Err(error) => findings.problems.push(format!("destination {name}: {error}")),
        }
    }
    Ok(rows)
}

/// What follows from what a destination does not enforce.
fn judge(config: &Config, name: &str, enforces: &Enforces, findings: &mut Findings) {
    let Some(destination) = config.destinations.get(name) else {
        return;
    };
    if enforces.new_only == Answer::No && destination.sharing == Sharing::Shared {
        findings.notes.push(format!(
            "destination {name} takes a name twice: two hosts may take a backup of one slot, and neither harms the other"
        ));
    }
    if enforces.lists_uploads == Answer::No {
        findings.notes.push(format!(
            "destination {name} does not list open uploads to this user: what a killed run had sent stays until a rule of \
             the bucket removes it"
        ));
    }
    if enforces.kind.acknowledges == Answer::No && destination.options.read_back == ReadingBack::Never {
        findings.problems.push(format!(
            "destination {name}: `read_back = \"never\"`, and the store tells no checksum of what it took: set it to \"always\""
        ));
    }
    if destination.options.object_lock.is_some() && enforces.kind.object_lock == Answer::No {
        findings.problems.push(format!(
            "destination {name}: `object_lock` is set, and the bucket has no object lock: it is given to a bucket when that is made"
        ));
    }
    if enforces.removes == Answer::No && destination.retention.is_some() {
        findings.warnings.push(format!(
            "destination {name} lets this user remove nothing, so its retention does nothing: allow it, or remove \
             `[destinations.{name}.retention]` and leave it to the store"
        ));
    }
}
