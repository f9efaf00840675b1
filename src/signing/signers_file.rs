//! `signers.json`: who may sign, by the word of a root key that is kept offline.
//!
//! ```text
//! {"format":1,"number":3,"issued_at":"…","signers":[{"key":"lifeboat-signer1…","name":"etcd-1"}],"signer":"lifeboat-root1…",…}
//! ```
//!
//! Of several the one with the highest number counts, so that a list from before a key was taken out does not bring that
//! key back where the newer one is known.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::key::{Role, SignerKey, SigningKey};
use super::message::{Found, signer_of};
use crate::layout::{FORMAT, MAX_BYTES, ObjectName, instant};
use crate::model::ClusterName;

/// One who may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The key.
    pub key: SignerKey,
    /// What people call it: its host.
    pub name: Option<String>,
}

/// The list of those who may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roll {
    format: u64,
    /// Each list has a higher one than those before.
    pub number: u64,
    /// When it was made.
    #[serde(with = "instant")]
    pub issued_at: Timestamp,
    /// They.
    pub signers: Vec<Signer>,
}

/// Why a list does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// No root that is trusted signed it.
    #[error("no root key that is trusted here signed it")]
    NotByRoot,
    /// It is not a list that this version reads.
    #[error("it cannot be parsed: {detail}")]
    Malformed {
        /// Why.
        detail: String,
    },
}

impl Roll {
    /// A list of these.
    pub fn new(number: u64, issued_at: Timestamp, signers: Vec<Signer>) -> Roll {
        Roll {
            format: FORMAT,
            number,
            issued_at,
            signers,
        }
    }

    /// The document to store, signed by the root.
    pub fn sign(&self, cluster: &ClusterName, root: &SigningKey) -> Vec<u8> {
        let bytes = serde_json::to_vec(self).expect("a list has only text keys");
        root.sign(cluster, &ObjectName::Signers, &bytes)
    }

    /// Reads the list of `cluster`, if one of the `roots` signed it.
    pub fn read(cluster: &ClusterName, roots: &BTreeSet<SignerKey>, bytes: &[u8]) -> Result<Roll, RollError> {
        let malformed = |detail: String| RollError::Malformed { detail };
        if bytes.len() > MAX_BYTES {
            return Err(malformed(format!("{} bytes are too many", bytes.len())));
        }
        match signer_of(cluster, &ObjectName::Signers, bytes) {
            Found::Signed(root) if root.role() == Role::Root && roots.contains(&root) => {}
            Found::Signed(_) | Found::Broken(_) | Found::Unsigned => return Err(RollError::NotByRoot),
        }
        let roll: Roll = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        match roll.format {
            FORMAT => Ok(roll),
            newer => Err(malformed(format!("format {newer} is of a newer lifeboat"))),
        }
    }

    /// The keys of those who may sign.
    pub fn keys(&self) -> impl Iterator<Item = SignerKey> {
        let keys = self.signers.iter().map(|signer| signer.key);
        keys.filter(|key| key.role() == Role::Signer)
    }
}
