//! A backup and its copies, and what is known of their worth.

use jiff::Timestamp;

use crate::layout::{Listed, ListedObject, ObjectName, Outline, Proof};
use crate::model::{ChainId, Revision};
use crate::signing::SignerKey;
use crate::text::clean;

/// How new a backup is among those of its history: of two the greater is the newer. The revision decides, whatever the
/// clocks said; of one that was made anew for other recipients the later form is the newer, whatever its id ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Newness<'a> {
    revision: Revision,
    started_at: Timestamp,
    generation: u32,
    chain: &'a ChainId,
}

impl<'a> Newness<'a> {
    /// That of a backup with this revision, made anew so many times.
    pub fn of(chain: &'a ChainId, revision: Revision, generation: u32) -> Newness<'a> {
        Newness {
            revision,
            started_at: chain.started_at(),
            generation,
            chain,
        }
    }
}

/// A backup: a manifest, and where its object lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub(super) manifest: Outline,
    pub(super) signer: Option<SignerKey>,
    /// At least one, in the order of the destinations.
    pub copies: Vec<BackupCopy>,
}

impl Backup {
    /// What is kept of the manifest.
    pub fn manifest(&self) -> &Outline {
        &self.manifest
    }

    /// Who signed its manifest, if somebody has.
    pub fn signer(&self) -> Option<SignerKey> {
        self.signer
    }

    /// The id: that of the chain.
    pub fn id(&self) -> &ChainId {
        &self.manifest().chain
    }

    /// The revision that it holds.
    pub fn revision(&self) -> Revision {
        self.manifest().to_revision
    }

    /// How new it is among those of its history.
    pub fn newness(&self) -> Newness<'_> {
        Newness::of(self.id(), self.revision(), self.generation())
    }

    /// How often it was made anew for other recipients.
    pub fn generation(&self) -> u32 {
        self.manifest.rewrapped.as_ref().map_or(0, |made| made.generation)
    }

    /// The chain of the backup that was taken of etcd: its own, unless it was made anew of another one.
    pub fn original(&self) -> &ChainId {
        let made_of = self.manifest.rewrapped.as_ref().map(|made| &made.original);
        made_of.unwrap_or(self.id())
    }

    /// How far the best copy is proven.
    pub fn proof(&self) -> Proof {
        self.copies
            .iter()
            .map(|copy| copy.standing.proof())
            .max()
            .unwrap_or(Proof::None)
    }

    /// Whether a copy of it is proven as far as its destination asks.
    pub fn is_good(&self) -> bool {
        self.copies.iter().any(BackupCopy::is_good)
    }

    /// Whether retention passes it over in at least one destination.
    pub fn is_pinned(&self) -> bool {
        self.copies.iter().any(|copy| copy.pinned == Pinned::Yes)
    }

    /// The names of the destinations that have it.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        self.copies.iter().map(|copy| copy.destination.as_str())
    }

    /// What is known to be wrong with copies of it.
    pub fn faults(&self) -> Vec<String> {
        let faults = self.copies.iter().flat_map(|copy| match &copy.standing {
            Standing::Good(_) => Vec::new(),
            Standing::Bad(faults) => faults
                .iter()
                .map(|fault| format!("{}: {}", copy.destination, clean(fault)))
                .collect(),
        });
        faults.collect()
    }

    /// What the last check of each copy found to be wrong with what follows it in its chain. The backup is none the worse for it.
    pub fn faults_behind(&self) -> Vec<String> {
        let faults = self.copies.iter().flat_map(|copy| {
            let there = copy.faults_behind.iter();
            there.map(|fault| format!("{}: {}", copy.destination, clean(fault)))
        });
        faults.collect()
    }
}

impl Link {
    /// Those among what a listing of a chain shows.
    pub fn listed(objects: Vec<ListedObject>) -> Vec<Link> {
        let links = objects.into_iter().filter_map(|object| match object.name {
            Listed::Ours(name) if name.is_link() => Some(Link {
                name,
                bytes: object.bytes,
                written_at: object.modified,
            }),
            Listed::Ours(_)
            | Listed::Partial { .. }
            | Listed::EmptyFolder { .. }
            | Listed::Foreign(_)
            | Listed::Unreadable { .. } => None,
        });
        links.collect()
    }
}

/// A backup in one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupCopy {
    /// The destination's name.
    pub destination: String,
    /// What is known of its worth.
    pub standing: Standing,
    /// When its object was written, by the store's clock; none if there is none.
    pub written_at: Option<Timestamp>,
    /// When it was last checked by itself; none if not since it was written, or if what was said then is not known.
    pub checked_at: Option<Timestamp>,
    /// What the last check said, as far as `standing` knows it.
    pub last_check: LastCheck,
    /// What it found to be wrong with what follows the backup in its chain there.
    pub faults_behind: Vec<String>,
    /// Whether it is excluded from retention there.
    pub pinned: Pinned,
    /// What the destination asks for.
    pub asked: Asked,
    /// What follows it in its chain there, in the order of the names; only the names were read.
    pub links: Vec<Link>,
}

/// A delta, a pack, a mark, a gap or an epoch, as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: ObjectName,
    /// How large it is.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub written_at: Timestamp,
}

impl BackupCopy {
    /// Whether it is proven as far as its destination asks.
    pub fn is_good(&self) -> bool {
        self.standing.proof() >= self.asked.least()
    }
}

/// How far a copy in a destination must be proven to be called good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// As all are: it was read back.
    ReadBack,
    /// The destination says that nothing is read back.
    Acknowledged,
}

impl Asked {
    /// The proof below which a copy is not good.
    pub fn least(self) -> Proof {
        match self {
            Asked::ReadBack => Proof::Stored,
            Asked::Acknowledged => Proof::Acknowledged,
        }
    }
}

/// Whether it is known what the last check of a copy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastCheck {
    /// It is, or there was none.
    Known,
    /// It is not: it may have found the copy to be bad, so that nothing may go because this one is there.
    Unknown,
}

/// What is known of the worth of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Proven so far.
    Good(Proof),
    /// Known to be bad, and why.
    Bad(Vec<String>),
}

impl Standing {
    /// How far the copy is proven; not at all if it is bad.
    pub fn proof(&self) -> Proof {
        match self {
            Standing::Good(proof) => *proof,
            Standing::Bad(_) => Proof::None,
        }
    }
}

/// Whether a copy is excluded from retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// It is.
    Yes,
    /// It is not.
    No,
}
