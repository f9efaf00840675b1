//! One call of the operator's program and one heartbeat, to see whether they get through.

use super::{heartbeat, on_failure};
use crate::config::{Notify, OnFailure};
use crate::health::{Event, Notice};

/// What was tried, and how it ended.
#[derive(Debug)]
pub struct Tried {
    /// The key in `[notify]`: `on_failure` or `heartbeat`.
    pub key: &'static str,
    /// Why it did not get through.
    pub error: Option<String>,
}

/// Tries all that is configured.
pub async fn try_all(notify: &Notify, cluster: &str) -> Vec<Tried> {
    let mut tried = Vec::new();
    if let Some(program) = &notify.on_failure {
        tried.push(Tried {
            key: "on_failure",
            error: run(program, cluster).await.err(),
        });
    }
    if let Some(url) = &notify.heartbeat {
        tried.push(Tried {
            key: "heartbeat",
            error: heartbeat::once(url.clone()).await.err(),
        });
    }
    tried
}

/// Runs `program` as it is run when something is wrong, with the event `test`.
async fn run(program: &OnFailure, cluster: &str) -> Result<(), String> {
    let notice = Notice::new(Event::Test, "a test by `lifeboat notify --test`: nothing is wrong");
    on_failure::once(program, &notice, cluster).await
}
