//! The recipients that the operator means: `recipients.json`.
//!
//! Who changes them on the way can read every backup from then on, or make them unreadable for everybody else. So this
//! host remembers those that it has begun with, or was told to go on with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Error, FILE_MODE, FOLDER_MODE, State, read_record, to_bytes};
use crate::durable;

const FORMAT: u64 = 1;

#[derive(Serialize, Deserialize)]
struct Accepted {
    format: u64,
    recipients: Vec<String>,
}

impl State {
    /// The recipients that are meant; none where nothing was remembered yet.
    pub fn accepted_recipients(&self) -> Result<Option<Vec<String>>, Error> {
        let path = self.recipients_path();
        let Some(bytes) = read_record(&path)? else {
            return Ok(None);
        };
        let accepted: Accepted = serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
            path: path.clone(),
            detail: error.to_string(),
        })?;
        match accepted.format {
            FORMAT => Ok(Some(accepted.recipients)),
            newer => Err(Error::Corrupt {
                path,
                detail: format!("format {newer} is of a newer lifeboat"),
            }),
        }
    }

    /// Remembers that these are meant.
    pub fn accept_recipients(&self, recipients: &[String]) -> Result<(), Error> {
        let accepted = Accepted {
            format: FORMAT,
            recipients: recipients.to_vec(),
        };
        durable::create_dirs(self.folder(), FOLDER_MODE)?;
        Ok(durable::replace(
            &self.recipients_path(),
            &to_bytes(&accepted),
            FILE_MODE,
        )?)
    }

    fn recipients_path(&self) -> PathBuf {
        self.folder().join("recipients.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_is_remembered_and_what_cannot_be_read_is_not_guessed() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        assert_eq!(state.accepted_recipients().unwrap(), None);
        let recipients = ["age1a".to_owned(), "age1b".to_owned()];
        state.accept_recipients(&recipients).unwrap();
        assert_eq!(state.accepted_recipients().unwrap(), Some(recipients.to_vec()));
        std::fs::write(state.recipients_path(), "{}").unwrap();
        assert!(matches!(state.accepted_recipients(), Err(Error::Corrupt { .. })));
    }
}
