//! When what has come becomes a delta: after a while, or when there is enough of it. How long and how much: `config::deltas`.

use std::time::{Duration, Instant};

use crate::model::ByteSize;

/// When what has come becomes a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutting {
    /// How long a change may wait.
    pub every: Duration,
    /// How many bytes may.
    pub max_bytes: ByteSize,
}

impl Cutting {
    /// Whether so many bytes are enough for a delta.
    pub fn is_enough(&self, bytes: u64) -> bool {
        bytes >= self.max_bytes.0
    }

    /// When so many bytes, the first of which came at `since`, become one if nothing more comes.
    pub fn due_at(&self, since: Instant, bytes: u64) -> Instant {
        match self.is_enough(bytes) {
            true => since,
            false => since + self.every,
        }
    }
}
