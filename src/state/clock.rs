//! The highest time that this host has seen: `clock.json`.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::{Error, State};
use crate::schedule::HighestTime;

const CLOCK: &str = "clock.json";
/// What is written again only when so much has gone by.
const WRITTEN_EVERY: SignedDuration = SignedDuration::from_mins(1);

impl State {
    /// The highest time that was seen; none where nobody has looked yet.
    pub fn highest_time(&self) -> Result<Option<HighestTime>, Error> {
        self.recall(CLOCK)
    }

    /// Takes note of what the clock shows.
    pub fn note_time(&self, now: Timestamp) -> Result<(), Error> {
        let kept = self.highest_time()?;
        let time = match &kept {
            Some(kept) => kept.after(now),
            None => HighestTime::first(now),
        };
        if kept.is_some_and(|kept| time.is_as_good_as(&kept, WRITTEN_EVERY)) {
            return Ok(());
        }
        self.remember(CLOCK, time)
    }

    /// Where it stands.
    pub fn clock_path(&self) -> PathBuf {
        self.folder().join(CLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_time_is_kept_and_what_cannot_be_read_is_not_guessed() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        assert_eq!(state.highest_time().unwrap(), None);
        let ten: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let hour = SignedDuration::from_hours(1);
        state.note_time(ten).unwrap();
        state.note_time(ten - hour).unwrap();
        let highest = state.highest_time().unwrap().unwrap();
        assert_eq!(highest.set_back(ten - hour).map(|back| back.highest), Some(ten));
        // Each minute, and not each time.
        let written = std::fs::read(state.clock_path()).unwrap();
        state.note_time(ten - hour + SignedDuration::from_secs(50)).unwrap();
        assert_eq!(std::fs::read(state.clock_path()).unwrap(), written);
        state.note_time(ten - hour + SignedDuration::from_secs(70)).unwrap();
        assert_ne!(std::fs::read(state.clock_path()).unwrap(), written);
        assert!(written.len() < 300, "it has a bound");
        std::fs::write(state.clock_path(), "{}").unwrap();
        assert!(matches!(state.highest_time(), Err(Error::Corrupt { .. })));
        assert!(matches!(state.note_time(ten), Err(Error::Corrupt { .. })));
    }
}
