//! Who takes the first backup of what was restored: until there is one, it is in no store.

use std::path::Path;

use crate::config::Config;
use crate::jobs::{configuration, host};

/// Whose work the first backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBackup {
    /// The agent takes it at once: it captures changes, and those of the new cluster need a full backup before them.
    ByAgent,
    /// The operator should; the agent, where one runs, would only at the next slot of a schedule.
    ByHand,
}

impl FirstBackup {
    /// Looks at the configuration, and whether an agent runs for its cluster. What cannot be read leaves it to the operator.
    pub(super) fn after(configuration: &Path) -> FirstBackup {
        let config = configuration::last_good(configuration);
        let agent_runs =
            |config: &Config| host::state_to_read(&config.cluster.name).is_ok_and(|state| state.agent_runs());
        match config {
            Some(config) if config.deltas.enabled && agent_runs(&config) => FirstBackup::ByAgent,
            Some(_) | None => FirstBackup::ByHand,
        }
    }

    /// What is left to do, as a line of what comes next.
    pub fn next_step(self) -> &'static str {
        match self {
            FirstBackup::ByAgent => "the agent takes the first backup of it by itself; `lifeboat list` shows it",
            FirstBackup::ByHand => "take the first backup of it: `lifeboat backup --wait 5m`",
        }
    }
}
