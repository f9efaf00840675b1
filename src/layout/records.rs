//! The small documents beside the manifests: results of checks, pins, and the operator's word on lineages.
//!
//! Each is one JSON object with `"format":1`, written once under a new name and never changed; of several the newest
//! counts. What follows from them is left to `Catalog`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::host_name::HostName;
use super::instant;
use super::manifest::{FORMAT, Fault, Manifest, read_document};
use crate::model::{ChainId, LineageId, Revision};

/// How far a backup is proven to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Not at all, or known to be bad.
    None,
    /// etcd's digest matched, and the store's own checksum of what it took is that of what was sent.
    Acknowledged,
    /// etcd's digest matched, and the stored bytes were read back and equal.
    Stored,
    /// Decrypted, and its structure is whole.
    Content,
    /// Equal to what the live member reported for its revision.
    HashKv,
}

impl std::fmt::Display for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Proof::None => "none",
            Proof::Acknowledged => "acknowledged",
            Proof::Stored => "stored",
            Proof::Content => "content",
            Proof::HashKv => "hash_kv",
        })
    }
}

/// `checks/TIME-HOST.json`: what a check of one backup in one destination found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The version, 1.
    pub format: u64,
    /// The chain.
    pub chain: ChainId,
    /// The revision that was checked.
    pub revision: Revision,
    /// When.
    #[serde(with = "instant")]
    pub checked_at: Timestamp,
    /// Where.
    pub host: String,
    /// Whether the backup is good.
    pub ok: bool,
    /// How far it is proven.
    pub proof: Proof,
    /// What is wrong with it.
    pub faults: Vec<String>,
}

impl Check {
    /// What is known of a copy that `host` has just written, and that is not read back.
    pub fn acknowledged(manifest: &Manifest, host: &HostName) -> Check {
        Check {
            format: FORMAT,
            chain: manifest.chain.clone(),
            revision: manifest.to_revision,
            checked_at: manifest.finished_at,
            host: host.to_string(),
            ok: true,
            proof: Proof::Acknowledged,
            faults: Vec::new(),
        }
    }

    /// The document to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        document(self)
    }

    /// Reads the document.
    pub fn from_bytes(bytes: &[u8]) -> Result<Check, Fault> {
        read_document(bytes)
    }
}

/// `pin.json`: its presence excludes the chain from retention; its content tells who wanted that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    format: u64,
    /// When.
    #[serde(with = "instant")]
    pub pinned_at: Timestamp,
    /// On which host.
    pub host: String,
    /// Why.
    pub note: Option<String>,
}

impl Pin {
    /// A pin set now by `host`.
    pub fn new(now: Timestamp, host: &HostName, note: Option<String>) -> Pin {
        Pin {
            format: FORMAT,
            pinned_at: now,
            host: host.to_string(),
            note,
        }
    }

    /// The document to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        document(self)
    }
}

/// `lineages/NUMBER.json`: the operator's word on which history is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The version, 1.
    pub format: u64,
    /// The lineage that `latest` is taken from.
    pub accepted: LineageId,
    /// Every lineage that was known when the word was given; one that comes later has not been judged.
    pub known: Vec<LineageId>,
    /// When the word was given.
    #[serde(with = "instant")]
    pub accepted_at: Timestamp,
    /// On which host.
    pub host: String,
    /// Why.
    pub note: Option<String>,
}

impl Acceptance {
    /// The document to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        document(self)
    }

    /// Reads the document.
    pub fn from_bytes(bytes: &[u8]) -> Result<Acceptance, Fault> {
        read_document(bytes)
    }
}

pub(super) fn document<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("our documents have only text keys");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_in_order_and_print_as_they_are_stored() {
        let levels = [Proof::None, Proof::Stored, Proof::Content, Proof::HashKv];
        assert!(levels.is_sorted_by(|a, b| a < b));
        for level in levels {
            assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{level}\""));
        }
    }

    #[test]
    fn version_1_of_each_document_is_these_bytes() {
        let check = "{\"format\":1,\"chain\":\"20261120T101530Z-9f3c4a1b\",\"revision\":7,\
            \"checked_at\":\"2026-11-21T00:00:00Z\",\"host\":\"a\",\"ok\":false,\"proof\":\"none\",\"faults\":[\"x\"]}\n";
        assert_eq!(
            Check::from_bytes(check.as_bytes()).unwrap().to_bytes(),
            check.as_bytes()
        );

        let acceptance = "{\"format\":1,\"accepted\":\"cdf8-9f3c4a1b\",\"known\":[\"cdf8-9f3c4a1b\",\"1-00000000\"],\
            \"accepted_at\":\"2026-11-21T00:00:00Z\",\"host\":\"a\",\"note\":null}\n";
        assert_eq!(
            Acceptance::from_bytes(acceptance.as_bytes()).unwrap().to_bytes(),
            acceptance.as_bytes()
        );

        let pin = Pin::new("2026-11-21T00:00:00Z".parse().unwrap(), &HostName::nearest("a"), None);
        let text = "{\"format\":1,\"pinned_at\":\"2026-11-21T00:00:00Z\",\"host\":\"a\",\"note\":null}\n";
        assert_eq!(pin.to_bytes(), text.as_bytes());
    }

    #[test]
    fn later_formats_and_damage_are_told_apart() {
        assert_eq!(
            Check::from_bytes(b"{\"format\":9}"),
            Err(Fault::UnknownFormat { found: 9, known: 1 })
        );
        assert!(matches!(
            Acceptance::from_bytes(b"{\"format\":1}"),
            Err(Fault::Malformed { .. })
        ));
    }
}
