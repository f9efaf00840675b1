//! One call of the operator's program and one heartbeat, to see whether they get through.

use super::{heartbeat, hook};
use crate::config::{HeartbeatUrl, OnFailure};
use crate::health::{Event, Notice};

/// Runs `program` as it is run when something is wrong, with the event `test`.
pub async fn hook(program: &OnFailure, cluster: &str) -> Result<(), String> {
    let notice = Notice::new(Event::Test, "a test by `lifeboat notify --test`: nothing is wrong");
    hook::once(program, &notice, cluster).await
}

/// Sends one heartbeat.
pub async fn heartbeat(url: &HeartbeatUrl) -> Result<(), String> {
    heartbeat::once(url.clone()).await
}
