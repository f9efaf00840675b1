//! Whose documents count in the stores of a cluster, and who signs what is written there.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::key::{Role, SignerKey, SigningKey};
use super::message::{Found, signer_of};
use super::signers_file::Roll;
use crate::layout::ObjectName;
use crate::model::ClusterName;

/// Why a document counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Nobody signed it, and signers are named.
    #[error("nobody signed it")]
    Unsigned,
    /// It is of somebody who is not named.
    #[error("{} signed it, who is not trusted here", .0.fingerprint())]
    Stranger(SignerKey),
    /// Its signature is not of these bytes, or not under this name.
    #[error("it was altered, moved or forged: its signature does not match{}", claimed(.0))]
    Broken(Option<SignerKey>),
}

fn claimed(signer: &Option<SignerKey>) -> String {
    signer.map_or(String::new(), |signer| format!(" (it names {})", signer.fingerprint()))
}

impl Distrust {
    /// The key that the document names.
    pub fn signer(&self) -> Option<SignerKey> {
        match self {
            Distrust::Unsigned => None,
            Distrust::Stranger(signer) => Some(*signer),
            Distrust::Broken(claimed) => *claimed,
        }
    }
}

/// The keys that the operator has named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Those of hosts.
    pub signers: BTreeSet<SignerKey>,
    /// Those that name hosts in lists.
    pub roots: BTreeSet<SignerKey>,
}

impl Trust {
    /// What is named by these keys, each for what it is.
    pub fn of(keys: impl IntoIterator<Item = SignerKey>) -> Trust {
        let mut trust = Trust::default();
        for key in keys {
            match key.role() {
                Role::Signer => trust.signers.insert(key),
                Role::Root => trust.roots.insert(key),
            };
        }
        trust
    }

    /// Whether nobody is named: a document counts whoever wrote it, if it is what was signed.
    pub fn names_nobody(&self) -> bool {
        self.signers.is_empty() && self.roots.is_empty()
    }
}

/// What becomes of a document that nobody has signed, where signers are named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unsigned {
    /// It counts for nothing.
    #[default]
    CountsForNothing,
    /// It counts: the operator has said so of the one backup that he named.
    Counts,
}

/// Whose documents count in the stores of one cluster, and who signs what is written there.
#[derive(Clone)]
pub struct Authority {
    cluster: ClusterName,
    trust: Trust,
    /// Whom a root has named.
    listed: BTreeSet<SignerKey>,
    unsigned: Unsigned,
    /// What this host has written counts for itself, whoever is named.
    own: Option<SignerKey>,
    key: Option<Arc<SigningKey>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Authority {
            cluster, trust, own, ..
        } = self;
        write!(f, "Authority({cluster}, {trust:?}, {own:?})")
    }
}

impl Authority {
    /// Whoever wrote to the stores of `cluster` counts, and nothing is signed.
    pub fn anybody(cluster: &ClusterName) -> Authority {
        Authority {
            cluster: cluster.clone(),
            trust: Trust::default(),
            listed: BTreeSet::new(),
            unsigned: Unsigned::CountsForNothing,
            own: None,
            key: None,
        }
    }

    /// The same where these are named.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Authority {
        Authority { trust, ..self }
    }

    /// The same with those who are in the list of a root.
    #[must_use]
    pub fn with_list(self, list: &Roll) -> Authority {
        Authority {
            listed: list.keys().collect(),
            ..self
        }
    }

    /// The same with that word on what nobody has signed.
    #[must_use]
    pub fn with(self, unsigned: Unsigned) -> Authority {
        Authority { unsigned, ..self }
    }

    /// The same on the host whose key this is.
    #[must_use]
    pub fn of_host(self, own: Option<SignerKey>) -> Authority {
        Authority { own, ..self }
    }

    /// The same with the key that signs what is written.
    #[must_use]
    pub fn signing(self, key: Arc<SigningKey>) -> Authority {
        Authority {
            own: Some(key.public()),
            key: Some(key),
            ..self
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The keys that the operator has named.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whether signers are named.
    pub fn names_somebody(&self) -> bool {
        !self.trust.names_nobody()
    }

    /// Whether this one may sign.
    pub fn names(&self, signer: &SignerKey) -> bool {
        self.trust.signers.contains(signer) || self.listed.contains(signer)
    }

    /// The key of this host.
    pub fn own(&self) -> Option<SignerKey> {
        self.own
    }

    /// This host's own key, if signers are named and it is not one of them: other hosts pass over what it writes.
    pub fn unnamed_own(&self) -> Option<SignerKey> {
        self.own.filter(|own| self.names_somebody() && !self.names(own))
    }

    /// The document as it is to be stored under that name: signed, where there is a key.
    pub fn sign(&self, name: &ObjectName, document: &[u8]) -> Vec<u8> {
        match &self.key {
            Some(key) => key.sign(&self.cluster, name, document),
            None => document.to_vec(),
        }
    }

    /// Whether the document that is stored under that name counts, and who signed it. Where nobody is named, one without a
    /// signature does.
    ///
    /// What a refusal means is for whoever asks to say, with [`Authority::names_somebody`], and is not the same for all. Where
    /// somebody is named, the document is a stranger's, and is passed over. Where nobody is, it can only be broken: a backup
    /// and a claim are damaged then (`catalog::document`, `store::claims`), a pin holds all the same (`is_pinned` of a store),
    /// and `counts` there reads nothing.
    pub fn judge(&self, name: &ObjectName, document: &[u8]) -> Result<Option<SignerKey>, Distrust> {
        match signer_of(&self.cluster, name, document) {
            Found::Broken(claimed) => Err(Distrust::Broken(claimed)),
            Found::Unsigned => match (self.names_somebody(), self.unsigned) {
                (true, Unsigned::CountsForNothing) => Err(Distrust::Unsigned),
                (true, Unsigned::Counts) | (false, _) => Ok(None),
            },
            Found::Signed(signer) if !self.names_somebody() || self.names(&signer) || self.own == Some(signer) => {
                Ok(Some(signer))
            }
            Found::Signed(signer) => Err(Distrust::Stranger(signer)),
        }
    }
}
