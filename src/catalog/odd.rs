//! What of a listing is no whole backup, and none of what belongs to one.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::{ChainPath, Listed, ListedObject, ObjectName};

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

/// The odd ones of a listing, in the order of their paths.
pub(super) fn of_listing(destination: &str, objects: &[ListedObject]) -> Vec<Odd> {
    let chains = |is_meant: fn(&ObjectName) -> bool| -> BTreeSet<&ChainPath> {
        let names = super::ours(objects).map(|(name, _)| name);
        names
            .filter(|name| is_meant(name))
            .filter_map(ObjectName::chain)
            .collect()
    };
    let with_manifest = chains(ObjectName::is_manifest);
    let with_data = chains(|name| matches!(name, ObjectName::Full(_)));
    let odd = objects.iter().filter_map(|object| {
        Some(match &object.name {
            Listed::Foreign(path) => (Oddity::Strange, path.clone()),
            Listed::Partial { path, .. } => (Oddity::Unfinished, path.clone()),
            Listed::Ours(name) => {
                let chain = name.chain()?;
                match (name, with_manifest.contains(chain)) {
                    (ObjectName::FullManifest(..), _) if !with_data.contains(chain) => {
                        (Oddity::Missing, ObjectName::Full(chain.clone()).to_string())
                    }
                    (ObjectName::Full(_), false) => (Oddity::Unfinished, name.to_string()),
                    (ObjectName::Pin(_) | ObjectName::Check(..), false) => (Oddity::Orphaned, name.to_string()),
                    (_, _) => return None,
                }
            }
            // The one hides nothing, the other is told of as what cannot be read.
            Listed::EmptyFolder { .. } | Listed::Unreadable { .. } => return None,
        })
    });
    let mut odd: Vec<Odd> = odd
        .map(|(oddity, path)| Odd {
            destination: destination.to_owned(),
            oddity,
            path,
        })
        .collect();
    odd.sort_by(|a, b| a.path.cmp(&b.path));
    odd
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::manifest::tests::manifest;

    fn listed(name: Listed) -> ListedObject {
        ListedObject {
            name,
            bytes: 1,
            modified: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_kind_is_told_by_its_name_and_a_whole_backup_is_none() {
        let backup = |id: &str| manifest(0xab, id, 10);
        let (whole, lost) = (backup("20261120T101530Z-00000001"), backup("20261120T111530Z-00000002"));
        let (gone, begun) = (backup("20261120T121530Z-00000003"), backup("20261120T131530Z-00000004"));
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
        let odd = of_listing("local", &objects);
        let found: Vec<_> = odd.iter().map(|odd| (odd.oddity, odd.path.clone())).collect();
        assert_eq!(
            found,
            [
                (Oddity::Missing, lost.object_name().to_string()),
                (Oddity::Orphaned, ObjectName::Pin(gone.chain_path()).to_string()),
                (Oddity::Unfinished, begun.object_name().to_string()),
                (Oddity::Strange, "notes.txt".to_owned()),
            ]
        );
    }
}
