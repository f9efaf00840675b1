//! Since when destinations lack backups that others have: `behind.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, FILE_MODE, FOLDER_MODE, State, read_record, to_bytes};
use crate::durable;

const FORMAT: u64 = 1;

/// By destination and schedule.
pub type BehindSince = BTreeMap<String, BTreeMap<String, Timestamp>>;

#[derive(Serialize, Deserialize)]
struct Record {
    format: u64,
    since: BehindSince,
}

impl State {
    /// What was remembered; none where nothing was yet.
    pub fn behind_since(&self) -> Result<Option<BehindSince>, Error> {
        let path = self.behind_path();
        let Some(bytes) = read_record(&path)? else {
            return Ok(None);
        };
        let corrupt = |detail: String| Error::Corrupt {
            path: path.clone(),
            detail,
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        match record.format {
            FORMAT => Ok(Some(record.since)),
            newer => Err(corrupt(format!("format {newer} is of a newer lifeboat"))),
        }
    }

    /// Remembers this, and nothing else of it.
    pub fn remember_behind(&self, since: &BehindSince) -> Result<(), Error> {
        let record = Record {
            format: FORMAT,
            since: since.clone(),
        };
        durable::create_dirs(self.folder(), FOLDER_MODE)?;
        Ok(durable::replace(&self.behind_path(), &to_bytes(&record), FILE_MODE)?)
    }

    fn behind_path(&self) -> PathBuf {
        self.folder().join("behind.json")
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
        std::fs::write(state.behind_path(), "{}").unwrap();
        assert!(matches!(state.behind_since(), Err(Error::Corrupt { .. })));
    }
}
