//! A host's word on a slot of a store that several hosts write to: the document, and how long it counts.
//!
//! ```text
//! slots/SCHEDULE/SLOT.1.json   a host claims the slot, until an instant of the store's clock
//! slots/SCHEDULE/SLOT.2.json   it claims it for longer, or gives it up, or says that it is done; or another takes over
//! ```
//!
//! Each is written once, create-if-absent; the highest number counts. A host that dies lets its claim run out. What the
//! claims of a slot mean for a host that wants to take it is decided in `slots`.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::host_name::HostName;
use super::instant;
use super::manifest::{FORMAT, Fault, read_document};
use super::records::document;
use crate::model::ChainId;

/// For how long a host claims a slot, by the store's clock. It claims it again three times within that while its work goes on.
pub const CLAIM_HOLDS: SignedDuration = SignedDuration::from_secs(60);

/// A claim is of no use to anybody so long after it was written.
pub const SWEPT_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// `slots/SCHEDULE/SLOT.N.json`: a host's word on a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    format: u64,
    /// The host.
    pub host: String,
    /// The run, as in the manifest and the log.
    pub run: String,
    /// The backup to be; of a run that takes none, only a name of it.
    pub chain: ChainId,
    /// What the host says.
    pub state: State,
    /// Until when the slot is its own, by the store's clock.
    #[serde(with = "instant")]
    pub expires_at: Timestamp,
}

/// What a host says of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It takes it.
    Taking,
    /// The backup is stored, or what else was to be done is done.
    Done,
    /// It could not; whoever can may take it.
    GivenUp,
}

/// A claim as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub number: u32,
    /// When it was written, by the store's clock.
    pub written_at: Timestamp,
    /// What stands in it.
    pub claim: Result<Claim, Fault>,
}

impl Claim {
    /// A claim of `host` that says `state` at `now` of the store's clock.
    pub fn new(host: &HostName, run: &str, chain: &ChainId, state: State, now: Timestamp) -> Claim {
        let expires_at = match state {
            State::Taking => now.saturating_add(CLAIM_HOLDS).unwrap_or(now),
            State::Done | State::GivenUp => now,
        };
        Claim {
            format: FORMAT,
            host: host.to_string(),
            run: run.to_owned(),
            chain: chain.clone(),
            state,
            expires_at,
        }
    }

    /// The document to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        document(self)
    }

    /// Reads the document.
    pub fn from_bytes(bytes: &[u8]) -> Result<Claim, Fault> {
        read_document(bytes)
    }
}

impl Found {
    /// Until when nobody else may take the slot. One that cannot be read, or that claims more than anybody may, holds as
    /// long as the longest.
    pub fn holds_until(&self) -> Timestamp {
        let longest = self.written_at.saturating_add(CLAIM_HOLDS).unwrap_or(self.written_at);
        match &self.claim {
            Ok(claim) => match claim.state {
                State::Taking => claim.expires_at.min(longest),
                State::Done | State::GivenUp => self.written_at,
            },
            Err(_) => longest,
        }
    }

    /// Whether somebody works on it at `now` of the store's clock.
    pub fn is_live(&self, now: Timestamp) -> bool {
        // One from the future: the store's clock was set back, and nothing tells how long ago it was written.
        self.written_at <= now.saturating_add(CLAIM_HOLDS).unwrap_or(now) && now < self.holds_until()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_of_a_claim_is_these_bytes() {
        let text = "{\"format\":1,\"host\":\"h1\",\"run\":\"1a2b\",\"chain\":\"20261120T100001Z-9f3c4a1b\",\
            \"state\":\"taking\",\"expires_at\":\"2027-01-15T08:01:00Z\"}\n";
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let chain = "20261120T100001Z-9f3c4a1b".parse().unwrap();
        let claim = Claim::new(&HostName::nearest("h1"), "1a2b", &chain, State::Taking, at);
        assert_eq!(claim.to_bytes(), text.as_bytes());
        assert_eq!(Claim::from_bytes(text.as_bytes()), Ok(claim));
    }
}
