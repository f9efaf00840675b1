//! Since when this host feeds each destination: `destinations.json`. What was taken before that is not owed to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, State};
use crate::store::StoreId;

const FED_SINCE: &str = "destinations.json";
/// How many are remembered, those of the configuration first: one that comes back owes what it missed.
const MOST: usize = 64;

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fed {
    /// Its name in the configuration.
    pub name: String,
    /// Which store it is; none as long as it could not be read.
    pub store_id: Option<StoreId>,
    /// Since when.
    pub since: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct FedSince {
    destinations: Vec<Fed>,
}

impl State {
    /// What was remembered; nothing where no destination was seen yet.
    pub fn fed_since(&self) -> Result<Vec<Fed>, Error> {
        let read: Option<FedSince> = self.recall(FED_SINCE)?;
        Ok(read.map(|read| read.destinations).unwrap_or_default())
    }

    /// Changes what is remembered, of which the first are kept; whoever does so at the same time waits for the other. Gives what is
    /// remembered then.
    pub fn update_fed_since(&self, change: impl FnOnce(&[Fed]) -> Vec<Fed>) -> Result<Vec<Fed>, Error> {
        let _lock = self.lock_of_what_was_seen()?;
        let before = self.fed_since()?;
        let mut destinations = change(&before);
        destinations.truncate(MOST);
        if before != destinations {
            let destinations = destinations.clone();
            self.remember(FED_SINCE, FedSince { destinations })?;
        }
        Ok(destinations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_destinations_are_fed_is_remembered_with_a_bound() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        assert_eq!(state.fed_since().unwrap(), []);
        let fed = |number: usize| Fed {
            name: format!("n{number}"),
            store_id: (number > 0).then(|| format!("{number:032x}").parse().unwrap()),
            since: Timestamp::UNIX_EPOCH,
        };
        let all: Vec<Fed> = (0..100).map(fed).collect();
        let kept = state.update_fed_since(|_| all.clone()).unwrap();
        assert_eq!(kept, all[..MOST]);
        assert_eq!(state.fed_since().unwrap(), kept);
        let one = state.update_fed_since(|before| before[..1].to_vec()).unwrap();
        assert_eq!(one, [fed(0)]);
        std::fs::write(state.folder().join(FED_SINCE), "{}").unwrap();
        assert!(matches!(state.fed_since(), Err(Error::Corrupt { .. })));
        assert!(
            state.update_fed_since(<[Fed]>::to_vec).is_err(),
            "what cannot be read stays"
        );
    }
}
