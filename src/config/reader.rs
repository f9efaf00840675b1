//! From the merged tree to a checked [`Config`]: every value is parsed and bounded here, and every fault is reported
//! at the place of the value.
//!
//! Leaves shape and unknown keys to `keys`. Invariant: a `Config` comes out only if no problem was found.

use std::collections::BTreeSet;

use super::Config;
use super::file::{Table, Value};
use super::problem::Problems;
use super::section::Section;

/// Reads the merged tree. Defaults stand in for what is not written; doubts go to `warnings`.
pub(super) fn config(root: &Table, problems: &mut Problems, warnings: &mut Problems) -> Option<Config> {
    let root = Section::root(root);
    let mut reader = Reader {
        problems,
        warnings,
        switched_off: BTreeSet::new(),
    };
    let members = reader.members(&root);
    let cluster = reader.cluster(&root, &members);
    let host = reader.host(&root, &members);
    let encryption = reader.encryption(&root);
    let signing = reader.signing(&root);
    let compression = reader.compression(&root);
    let backup = reader.backup(&root, &members);
    let restore = reader.restore(&root);
    let destinations = reader.destinations(&root);
    let schedules = reader.schedules(&root, &destinations);
    let deltas = reader.deltas(&root, &destinations);
    let notify = reader.notify(&root);
    let metrics = reader.metrics(&root);
    let switched_off = reader.switched_off;
    let cluster = cluster.filter(|_| problems.is_empty())?;
    Some(Config {
        cluster,
        members,
        host,
        encryption,
        signing,
        compression,
        backup,
        deltas,
        restore,
        schedules,
        destinations,
        notify,
        metrics,
        switched_off,
    })
}

pub(super) struct Reader<'p> {
    pub(super) problems: &'p mut Problems,
    pub(super) warnings: &'p mut Problems,
    pub(super) switched_off: BTreeSet<String>,
}

impl Reader<'_> {
    /// The operator's words for people.
    pub(super) fn note(&mut self, section: &Section<'_>, name: &str) -> Option<String> {
        let given = section.text(name)?;
        let fits = given.value.chars().count() <= LONGEST_NOTE && !given.value.contains(char::is_control);
        match fits && !given.value.trim().is_empty() {
            true => Some(given.value.trim().to_owned()),
            false => self.refuse(section, name, &given),
        }
    }

    /// Whether a table that has a name is switched on; notes it if not.
    pub(super) fn is_on(&mut self, section: &Section<'_>) -> bool {
        let given = section.given("enabled");
        let is_off = given.is_some_and(|given| matches!(given.value.value, Value::Boolean(false)));
        if is_off {
            self.switched_off.insert(section.path.clone());
        }
        !is_off
    }
}

/// How long the operator's words for people may be: what a page has room for.
const LONGEST_NOTE: usize = 400;
