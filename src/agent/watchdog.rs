//! When systemd's watchdog is fed: as long as the loop turns and the job, where there is one, gets on with its work.
//!
//! Invariant: a job without any sign of life for [`HANGS_AFTER`] ends the feeding, so that systemd ends the agent and
//! starts it anew; what the job leaves is swept by the next.

use std::time::{Duration, Instant};

/// How long a job may give no sign of life. Longer than all that is legitimate: HashKV of a large database, the listing of
/// a slow store, the last sync of a slow disk.
pub const HANGS_AFTER: Duration = Duration::from_secs(15 * 60);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Feed it.
    Feed,
    /// Do not, and say so: it is so since just now.
    Hangs,
    /// Do not.
    StillHangs,
}

/// What was seen of the job.
#[derive(Debug, Default)]
pub struct Watchdog {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    signs: u64,
    since: Instant,
    was_said: bool,
}

impl Watchdog {
    /// Whether the job hung when it was last looked at.
    pub fn hangs(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.was_said)
    }

    /// Judges; `signs` are those of life that the job has given so far, none if there is no job.
    pub fn look(&mut self, signs: Option<u64>, now: Instant) -> Verdict {
        let Some(signs) = signs else {
            self.seen = None;
            return Verdict::Feed;
        };
        match &mut self.seen {
            Some(seen) if seen.signs == signs => {
                if now.saturating_duration_since(seen.since) < HANGS_AFTER {
                    return Verdict::Feed;
                }
                match std::mem::replace(&mut seen.was_said, true) {
                    false => Verdict::Hangs,
                    true => Verdict::StillHangs,
                }
            }
            Some(_) | None => {
                self.seen = Some(Seen {
                    signs,
                    since: now,
                    was_said: false,
                });
                Verdict::Feed
            }
        }
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
        assert_eq!(look(Some(0), Duration::ZERO), Verdict::Feed);
        assert_eq!(look(Some(1), 14 * minute), Verdict::Feed);
        assert_eq!(look(Some(1), 28 * minute), Verdict::Feed);
        assert_eq!(look(Some(1), 29 * minute), Verdict::Hangs);
        assert_eq!(look(Some(1), 30 * minute), Verdict::StillHangs);
        assert_eq!(look(Some(2), 31 * minute), Verdict::Feed);
        assert_eq!(look(None, 32 * minute), Verdict::Feed);
        assert_eq!(look(None, 99 * minute), Verdict::Feed, "no job hangs");
        assert_eq!(look(Some(2), 100 * minute), Verdict::Feed, "another job");
    }
}
