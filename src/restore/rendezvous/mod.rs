//! How the members of a restored cluster agree on who founds it, before any of them starts.
//!
//! The identity of a cluster follows from its token, and an identity must live only once: a member of an earlier life that
//! comes back, or one that lost its log, would else be taken for one of this life, and serve other data or vote
//! acknowledged writes away. So each restore on each host draws a [`Nonce`], and the token is made from the nonces of all
//! members, the *founders*. While etcd is held down the hosts tell each other theirs, and take two steps, each of which
//! is in the ledger before it is told:
//!
//! 1. A host that has heard all others, and they each other, *commits* to these founders, and takes no others from then on.
//! 2. A host that has heard all others commit to the same founders lets etcd start.
//!
//! Pure. What a host does meanwhile, and for how long it waits before it goes on in the background, is in [`super::rendezvous_steps`]; how
//! the others are asked, in `gathering`.
//!
//! Example: m1 and m2 have committed to (a, b, c) and m3, with nonce c, has lost its disk. Restored again m3 draws d. Nobody
//! takes (a, b, d): m1 and m2 say that m3 has forgotten. If m1 serves already, its cluster knows c and not d.
//!
//! Pure. Who asks whom is in [`super::gathering`].
//!
//! ```text
//! SHA-256 over  PLAIN_SHA256 LF REVISION LF BUMP LF NAME=URL,NAME=URL… LF NONCE,NONCE… LF      (names and nonces sorted)
//! lifeboat-<the first 16 hexadecimal digits>
//! ```
//!
//! Invariant: no two sets of founders have the same token, and a member whose nonce is not in a set never starts in it.

mod meeting;

#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::datadir::{self, InitialCluster, Membership};
use crate::model::{ClusterId, Digest, Invalid, MemberId, Revision};

pub use meeting::{Heard, Meeting, Next, Presence, Stand};

/// The version of what hosts tell each other.
const FORMAT: u32 = 1;
/// The longest answer that is read: a dozen members with their URLs.
pub const MOST_BYTES: usize = 64 << 10;

/// Drawn once for each restore on each host, and never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; 16]);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Nonce {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new(text, "32 hexadecimal digits");
        let digits = (text.len() == 32 && text.is_ascii())
            .then_some(text)
            .ok_or_else(invalid)?;
        let mut bytes = [0; 16];
        for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Nonce(bytes))
    }
}

impl Serialize for Nonce {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// All members of a new cluster, by name, with the nonce of the restore that each founds it by.
pub type Founders = BTreeMap<String, Nonce>;

/// What all hosts must restore alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How the backup is called in messages; it may have another name on another host.
    pub backup: String,
    /// SHA-256 of the whole plain backup.
    pub sha256: Digest,
    /// The revision that is restored.
    pub revision: Revision,
    /// By how much revisions jump; 0 if they do not.
    pub bump: u64,
    /// The members of the new cluster with their sorted peer URLs.
    pub members: BTreeMap<String, Vec<String>>,
}

impl Terms {
    /// What is different in `other`, in words; empty where both restore the same.
    pub fn differences(&self, other: &Terms) -> Vec<String> {
        let mut found = Vec::new();
        if self.sha256 != other.sha256 || self.revision != other.revision {
            found.push(format!("{} (revision {})", plain(&other.backup), other.revision));
        }
        if self.bump != other.bump {
            found.push(format!("`bump_revision` {} instead of {}", other.bump, self.bump));
        }
        if self.members != other.members {
            let theirs = other.members.iter();
            let theirs = theirs.map(|(name, urls)| format!("{}={}", plain(name), plain(&urls.join("+"))));
            found.push(format!("members {}", theirs.collect::<Vec<_>>().join(", ")));
        }
        found
    }

    /// Whether both restore the same.
    pub fn agree(&self, other: &Terms) -> bool {
        self.differences(other).is_empty()
    }

    /// The token of the cluster that these founders make.
    pub fn token(&self, founders: &Founders) -> String {
        let members = self.members.iter();
        let members = members.flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
        let members = members.collect::<Vec<_>>().join(",");
        let mut nonces: Vec<String> = founders.values().map(Nonce::to_string).collect();
        nonces.sort_unstable();
        let (sha256, revision, bump, nonces) = (self.sha256, self.revision, self.bump, nonces.join(","));
        let digest = Sha256::digest(format!("{sha256}\n{revision}\n{bump}\n{members}\n{nonces}\n"));
        format!("lifeboat-{}", &Digest(digest.into()).to_string()[..16])
    }
}

/// Who a restored member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The new cluster's token.
    pub token: String,
    /// The new cluster's id.
    pub cluster_id: ClusterId,
    /// This member's id in it.
    pub member_id: MemberId,
}

impl Identity {
    /// The identity of member `own` under a token.
    pub fn new(members: &InitialCluster, own: &str, token: &str) -> Result<Identity, datadir::Error> {
        members.urls_of(own)?;
        let membership = Membership::new(members, token)?;
        let member = membership.member(own).expect("its URLs were found");
        Ok(Identity {
            token: token.to_owned(),
            cluster_id: membership.cluster_id(),
            member_id: member.id,
        })
    }
}

/// What a host tells whoever asks at its member's peer address. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    format: u32,
    /// The member that answers.
    pub member: String,
    /// What it restores.
    pub terms: Terms,
    /// Its nonce.
    pub nonce: Nonce,
    /// The others that it hears and that restore the same, with their nonces.
    pub seen: BTreeMap<String, Nonce>,
    /// What it has committed to.
    pub founders: Option<Founders>,
    /// Whether it has heard all others commit to the same.
    pub ready: bool,
}

impl Told {
    /// Reads an answer; `None` if it is no answer of a lifeboat that restores.
    pub fn parse(bytes: &[u8]) -> Option<Told> {
        let told: Told = serde_json::from_slice(bytes).ok()?;
        (told.format == FORMAT).then_some(told)
    }

    /// The answer as it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an answer has only text keys")
    }
}

/// Text of somebody else's, fit to be shown in a message.
fn plain(text: &str) -> String {
    let is_text = |sign: &char| {
        !sign.is_control()
            && !matches!(*sign, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(is_text).take(120).collect()
}
