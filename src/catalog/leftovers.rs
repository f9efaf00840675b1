//! What of a listing is no whole backup, and none of what belongs to one: put together when it is asked for.

use std::fmt;

use serde::Serialize;

use super::{Catalog, ChainPath, Link, ObjectName};
use crate::layout::Span;

/// What is odd about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// It is not there, although a manifest says so: that backup is lost here.
    Missing,
    /// It is none of ours.
    Strange,
    /// A pin or a result of a check, and the backup that it belongs to is gone.
    Orphaned,
    /// It has no manifest: a backup that is being made, or did not end, or one that is being removed.
    Unfinished,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Oddity::Missing => "missing",
            Oddity::Strange => "not ours",
            Oddity::Orphaned => "orphaned",
            Oddity::Unfinished => "unfinished",
        })
    }
}

/// An object that is odd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Odd {
    /// The destination's name.
    pub destination: String,
    /// What is odd about it.
    pub oddity: Oddity,
    /// Its path in the store.
    pub path: String,
}

/// Deltas and packs of a chain whose full backup a destination does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headless {
    /// The destination's name.
    pub destination: String,
    /// The chain.
    pub chain: ChainPath,
    /// From their first to their last revision.
    pub span: Span,
    /// How many there are.
    pub objects: u64,
    /// How large they are.
    pub bytes: u64,
}

impl Headless {
    /// What these links are, where no full backup is before them; nothing where none of them holds a change.
    pub(super) fn of(destination: &str, chain: &ChainPath, links: &[Link]) -> Option<Headless> {
        let changes = || links.iter().filter_map(|link| Some((link.name.span()?, link.bytes)));
        let from = changes().map(|(span, _)| span.from()).min()?;
        let to = changes().map(|(span, _)| span.to()).max()?;
        Some(Headless {
            destination: destination.to_owned(),
            chain: chain.clone(),
            span: Span::new(from, to)?,
            objects: changes().count() as u64,
            bytes: changes().fold(0, |sum, (_, bytes)| sum.saturating_add(bytes)),
        })
    }
}

impl Catalog {
    /// What is no whole backup, and none of what belongs to one. Not what is missing: the listing of a backup that was removed
    /// meanwhile looks the same, and only the store tells them apart.
    pub fn odd(&self) -> Vec<Odd> {
        let odd = |destination: &str, oddity, path: String| Odd {
            destination: destination.to_owned(),
            oddity,
            path,
        };
        let strange = self.foreign.iter();
        let strange = strange.map(|found| odd(&found.destination, Oddity::Strange, found.path.clone()));
        let unfinished = self.incomplete.iter().map(|left| {
            let object = ObjectName::Full(left.chain.clone());
            odd(&left.destination, Oddity::Unfinished, object.to_string())
        });
        let loose = self.loose.iter().cloned();
        let mut all: Vec<Odd> = loose.chain(strange).chain(unfinished).collect();
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Document, Listed, ListedObject, PinsCount};
    use super::*;
    use crate::layout::manifest::tests::manifest;
    use crate::signing::Authority;

    #[test]
    fn each_kind_is_told_and_a_whole_backup_is_none() {
        let backup = |id: &str, revision| manifest(0xab, id, revision);
        let whole = backup("20261120T101530Z-00000001", 10);
        let lost = backup("20261120T111530Z-00000002", 11);
        let (gone, begun) = (
            backup("20261120T121530Z-00000003", 12),
            backup("20261120T131530Z-00000004", 13),
        );
        let listed = |name: Listed| ListedObject {
            name,
            bytes: whole.stored.bytes,
            modified: jiff::Timestamp::UNIX_EPOCH,
        };
        let ours = |name: ObjectName| listed(Listed::Ours(name));
        let objects = [
            ours(whole.object_name()),
            ours(whole.name()),
            ours(ObjectName::Pin(whole.chain_path())),
            ours(lost.name()),
            ours(ObjectName::Pin(gone.chain_path())),
            ours(begun.object_name()),
            ours(ObjectName::StoreMarker),
            listed(Listed::Foreign("notes.txt".to_owned())),
        ];
        let authority = Authority::anybody(&"prod".parse().unwrap());
        let documents = [&whole, &lost].map(|manifest| {
            let document = Document {
                name: manifest.name(),
                content: Ok(manifest.to_bytes()),
            };
            document.understand(&authority)
        });
        let catalog = Catalog::of_destination("local", &objects, PinsCount::ByPresence, documents);
        let odd = catalog.odd();
        let found: Vec<_> = odd.iter().map(|odd| (odd.oddity, odd.path.clone())).collect();
        assert_eq!(
            found,
            [
                (Oddity::Strange, "notes.txt".to_owned()),
                (Oddity::Orphaned, ObjectName::Pin(gone.chain_path()).to_string()),
                (Oddity::Unfinished, begun.object_name().to_string()),
            ]
        );
    }
}
