//! Since when destinations lack backups that others have: `behind.json`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, State};

const BEHIND: &str = "behind.json";

/// By destination and schedule.
pub type BehindSince = BTreeMap<String, BTreeMap<String, Timestamp>>;

#[derive(Serialize, Deserialize)]
struct Behind {
    since: BehindSince,
}

impl State {
    /// What was remembered; none where nothing was yet.
    pub fn behind_since(&self) -> Result<Option<BehindSince>, Error> {
        let read: Option<Behind> = self.recall(BEHIND)?;
        Ok(read.map(|behind| behind.since))
    }

    /// Remembers this, and nothing else of it.
    pub fn remember_behind(&self, since: &BehindSince) -> Result<(), Error> {
        let since = since.clone();
        self.remember(BEHIND, Behind { since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_a_destination_is_behind_is_remembered() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        assert_eq!(state.behind_since().unwrap(), None);
        for since in [
            BehindSince::new(),
            BTreeMap::from([(
                "far".to_owned(),
                BTreeMap::from([("hourly".to_owned(), Timestamp::UNIX_EPOCH)]),
            )]),
        ] {
            state.remember_behind(&since).unwrap();
            assert_eq!(state.behind_since().unwrap(), Some(since));
        }
        std::fs::write(state.folder().join(BEHIND), "{}").unwrap();
        assert!(matches!(state.behind_since(), Err(Error::Corrupt { .. })));
    }
}
