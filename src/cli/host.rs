//! What commands need of this host: the configuration, and what jobs need too.

use super::{Context, Failure};
use crate::config::Config;
use crate::jobs::configuration;
pub(super) use crate::jobs::failed;
pub(super) use crate::jobs::host::{
    agent_lock, host_name, jobs_lock, now, settle, spare_memory, state, state_to_read, tell_agent,
};

/// The configuration.
pub(super) fn configuration(context: &Context) -> Result<Config, Failure> {
    configuration::read(&context.config, &context.output)
}

/// The same for whoever takes backups by it: what is doubtful is printed.
pub(super) fn configuration_and_doubts(context: &Context) -> Result<Config, Failure> {
    configuration::read_and_warn(&context.config, &context.output)
}

/// The configuration; while it is broken, the last one that was right, and what is wrong. For commands that only look.
pub(super) fn last_configuration(context: &Context) -> Result<(Config, Option<Failure>), Failure> {
    configuration::read_last(&context.config, &context.output)
}
