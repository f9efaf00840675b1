//! When systemd's watchdog is fed: as long as the loop turns and the job, where there is one, gets on with its work.
//!
//! Invariant: a job without any sign of life for [`HANGS_AFTER`] ends the feeding, so that systemd ends the agent and
//! starts it anew; what the job leaves is swept by the next.

use std::time::{Duration, Instant};

/// How long a job may give no sign of life. Longer than all that is legitimate: HashKV of a large database, the listing of
/// a slow store, the last sync of a slow disk.
pub const HANGS_AFTER: Duration = Duration::from_secs(15 * 60);

/// How long the loop sleeps at most: clocks are set and machines sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What was seen of the job.
#[derive(Debug, Default)]
pub struct Watchdog {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    signs: u64,
    since: Instant,
    hangs: bool,
}

impl Watchdog {
    /// Whether the job hung when it was last looked at.
    pub fn hangs(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.hangs)
    }

    /// Judges whether it may be fed; `signs` are those of life that the job has given so far, none if there is no job.
    pub fn look(&mut self, signs: Option<u64>, now: Instant) -> bool {
        self.seen = match (self.seen.take(), signs) {
            (_, None) => None,
            (Some(seen), Some(signs)) if seen.signs == signs => Some(Seen {
                hangs: now.saturating_duration_since(seen.since) >= HANGS_AFTER,
                ..seen
            }),
            (_, Some(signs)) => Some(Seen {
                signs,
                since: now,
                hangs: false,
            }),
        };
        !self.hangs()
    }
}

/// Short enough for the watchdog, if there is one.
pub(super) fn longest_sleep() -> Duration {
    match sd_notify::watchdog_enabled() {
        Some(bound) => LONGEST_SLEEP.min(bound / 3),
        None => LONGEST_SLEEP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_job_that_does_nothing_for_long_ends_the_feeding_and_any_sign_of_it_begins_anew() {
        let (start, mut watchdog) = (Instant::now(), Watchdog::default());
        let mut look = |signs, after| watchdog.look(signs, start + after);
        let minute = Duration::from_secs(60);
        assert!(look(Some(0), Duration::ZERO));
        assert!(look(Some(1), 14 * minute));
        assert!(look(Some(1), 28 * minute));
        assert!(!look(Some(1), 29 * minute));
        assert!(!look(Some(1), 30 * minute));
        assert!(look(Some(2), 31 * minute));
        assert!(look(None, 32 * minute));
        assert!(look(None, 99 * minute), "no job hangs");
        assert!(look(Some(2), 100 * minute), "another job");
    }
}
