//! What a document of a store says, if it counts.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::Standing;
use crate::layout::{Acceptance, ChainPath, Check, Fault, Manifest, ObjectName, Outline, Proof};
use crate::model::Digest;
use crate::signing::{Authority, Distrust, SignerKey};

/// A document that was asked for by `Catalog::wanted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub name: ObjectName,
    /// Its bytes, or what is there instead. One that is gone since the listing is left out altogether.
    pub content: Result<Vec<u8>, Fault>,
}

/// A document, understood or not. Nothing of its bytes is left: there may be a hundred thousand.
#[derive(Debug)]
pub struct Understood {
    pub(super) name: ObjectName,
    pub(super) content: Result<Content, Refused>,
    pub(super) signer: Option<SignerKey>,
    /// The digest of its bytes, where they are of no use and were read all the same.
    pub(super) bytes: Option<Digest>,
}

/// Why a document is of no use.
#[derive(Debug)]
pub(super) enum Refused {
    Damaged(Fault),
    Stranger(Distrust),
}

impl Understood {
    /// Whether it counts for nothing: what it would have displaced counts in its place.
    pub fn is_strange(&self) -> bool {
        matches!(self.content, Err(Refused::Stranger(_)))
    }
}

/// What a document says.
#[derive(Debug)]
pub(super) enum Content {
    Manifest(Box<Outline>),
    Check(Checked),
    Acceptance(Acceptance),
    /// A document whose presence says all.
    Mark,
}

impl Document {
    /// Reads the document for what its name says it is, if it counts.
    pub fn understand(self, authority: &Authority) -> Understood {
        let Document { name, content } = self;
        let refused = |content, bytes: Option<&[u8]>| Understood {
            name: name.clone(),
            content: Err(content),
            signer: None,
            bytes: bytes.map(digest),
        };
        let bytes = match content {
            Ok(bytes) => bytes,
            Err(fault) => return refused(Refused::Damaged(fault), None),
        };
        // A stranger's is passed over, whatever is in it. Where nobody is named, a broken one is damaged, and said to be; but
        // what is wrong with its content is said first.
        let signed = match authority.judge(&name, &bytes) {
            Err(distrust) if authority.names_somebody() => return refused(Refused::Stranger(distrust), Some(&bytes)),
            judged => judged,
        };
        let content = parse(&name, &bytes).map_err(Refused::Damaged);
        match (content, signed) {
            (Ok(_), Err(forged)) => {
                let detail = forged.to_string();
                refused(Refused::Damaged(Fault::Forged { detail }), Some(&bytes))
            }
            (content, signed) => Understood {
                bytes: content.is_err().then(|| digest(&bytes)),
                name,
                content,
                signer: signed.ok().flatten(),
            },
        }
    }
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn parse(name: &ObjectName, bytes: &[u8]) -> Result<Content, Fault> {
    match name {
        ObjectName::FullManifest(chain, revision) => Manifest::read(chain, *revision, bytes)
            .map(|manifest| Content::Manifest(Box::new(Outline::of(manifest, bytes)))),
        ObjectName::Check(chain, ..) => {
            Check::from_bytes(bytes)
                .and_then(|check| belongs_to(chain, check))
                .map(|check| {
                    Content::Check(Checked {
                        at: check.checked_at,
                        behind: match check.ok {
                            true => check.faults.clone(),
                            false => Vec::new(),
                        },
                        standing: match check.ok {
                            true if check.proof == Proof::Acknowledged => Standing::Good(check.proof),
                            true => Standing::Good(check.proof.max(Proof::Stored)),
                            false => Standing::Bad(check.faults),
                        },
                    })
                })
        }
        ObjectName::Acceptance(_) => Acceptance::from_bytes(bytes).map(Content::Acceptance),
        ObjectName::StoreMarker
        | ObjectName::Signers
        | ObjectName::Full(_)
        | ObjectName::Epoch(..)
        | ObjectName::Delta(..)
        | ObjectName::Pack(..)
        | ObjectName::Mark(..)
        | ObjectName::Gap(..)
        | ObjectName::Pin(_)
        | ObjectName::Canary(_)
        | ObjectName::Claim(..) => Ok(Content::Mark),
    }
}

/// What the newest check of a copy said.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) at: Timestamp,
    pub(super) standing: Standing,
    /// What was wrong with what follows it.
    pub(super) behind: Vec<String>,
}

fn belongs_to(chain: &ChainPath, check: Check) -> Result<Check, Fault> {
    if check.chain == chain.chain {
        return Ok(check);
    }
    Err(Fault::Disagrees {
        field: "chain",
        content: check.chain.to_string(),
        expected: chain.chain.to_string(),
    })
}
