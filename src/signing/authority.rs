//! Whose documents count in the stores of a cluster, and who signs what is written there.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::key::{SignerKey, SigningKey};
use super::message::{Found, signer_of};
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

/// Who may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// Nobody is named: a document counts whoever wrote it, if it is what was signed.
    Nobody,
    /// These, and no others.
    These(BTreeSet<SignerKey>),
}

/// Whose documents count in the stores of one cluster, and who signs what is written there.
#[derive(Clone)]
pub struct Authority {
    cluster: ClusterName,
    named: Named,
    /// What this host has written counts for itself, whoever is named.
    own: Option<SignerKey>,
    key: Option<Arc<SigningKey>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Authority {
            cluster, named, own, ..
        } = self;
        write!(f, "Authority({cluster}, {named:?}, {own:?})")
    }
}

impl Authority {
    /// Whoever wrote to the stores of `cluster` counts, and nothing is signed.
    pub fn anybody(cluster: &ClusterName) -> Authority {
        Authority {
            cluster: cluster.clone(),
            named: Named::Nobody,
            own: None,
            key: None,
        }
    }

    /// The same where these may sign.
    #[must_use]
    pub fn naming(self, named: Named) -> Authority {
        Authority { named, ..self }
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

    /// Who may sign.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// Whether signers are named.
    pub fn names_somebody(&self) -> bool {
        match self.named {
            Named::Nobody => false,
            Named::These(_) => true,
        }
    }

    /// The key of this host.
    pub fn own(&self) -> Option<SignerKey> {
        self.own
    }

    /// Whether this host's own key is not among those that are named: other hosts pass over what it writes.
    pub fn passes_over_itself(&self) -> bool {
        match (&self.named, &self.own) {
            (Named::These(named), Some(own)) => !named.contains(own),
            (Named::Nobody, _) | (_, None) => false,
        }
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
    pub fn judge(&self, name: &ObjectName, document: &[u8]) -> Result<Option<SignerKey>, Distrust> {
        match (signer_of(&self.cluster, name, document), &self.named) {
            (Found::Unsigned, Named::Nobody) => Ok(None),
            (Found::Unsigned, Named::These(_)) => Err(Distrust::Unsigned),
            (Found::Broken(claimed), _) => Err(Distrust::Broken(claimed)),
            (Found::Signed(signer), Named::Nobody) => Ok(Some(signer)),
            (Found::Signed(signer), Named::These(named)) => match named.contains(&signer) || self.own == Some(signer) {
                true => Ok(Some(signer)),
                false => Err(Distrust::Stranger(signer)),
            },
        }
    }
}
