//! The recipients that the operator means: `recipients.json`.
//!
//! Who changes them on the way can read every backup from then on, or make them unreadable for everybody else. So this
//! host remembers those that it has begun with, or was told to go on with.

use serde::{Deserialize, Serialize};

use super::{Error, State};

const RECIPIENTS: &str = "recipients.json";

#[derive(Serialize, Deserialize)]
struct Accepted {
    recipients: Vec<String>,
}

impl State {
    /// The recipients that are meant; none where nothing was remembered yet.
    pub fn accepted_recipients(&self) -> Result<Option<Vec<String>>, Error> {
        let read: Option<Accepted> = self.recall(RECIPIENTS)?;
        Ok(read.map(|accepted| accepted.recipients))
    }

    /// Remembers that these are meant.
    pub fn accept_recipients(&self, recipients: &[String]) -> Result<(), Error> {
        let recipients = recipients.to_vec();
        self.remember(RECIPIENTS, Accepted { recipients })
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
        std::fs::write(state.folder().join(RECIPIENTS), "{}").unwrap();
        assert!(matches!(state.accepted_recipients(), Err(Error::Corrupt { .. })));
    }
}
