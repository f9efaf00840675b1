//! What old data consists of: names and sizes, taken when nothing writes to it any more, and compared before it comes back.
//!
//! The inode of a directory stays what it was, whatever becomes of what is in it. etcd that finds a log gone begins an
//! empty cluster, and one that finds its database cut short may serve what is left.
//!
//! Invariant: more in it than there was is no fault; less is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::datadir;
use crate::durable::{self, Dir};

/// etcd has a few dozen files. Of data with more than this no inventory is made: see [`Inventory::take`].
const MOST_FILES: usize = 10_000;
/// etcd has two.
const MOST_DEPTH: usize = 16;
/// A bbolt file has at least four pages, and a page at least this many bytes.
const LEAST_DATABASE: u64 = 4 * 4096;

/// Files by their names below a directory, with their sizes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inventory(BTreeMap<String, u64>);

/// What is less than it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// A file is not there.
    Gone {
        /// Its name.
        name: String,
    },
    /// A file has another size.
    Resized {
        /// Its name.
        name: String,
        /// The size that it had.
        had: u64,
        /// The size that it has.
        has: u64,
    },
    /// A file that cannot be what etcd had, whatever that was.
    Implausible {
        /// Its name.
        name: String,
        /// The size that it has.
        has: u64,
    },
    /// There is no log.
    NoLog,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Gone { name } => write!(f, "`{name}` is gone"),
            Lack::Resized { name, had, has } => write!(f, "`{name}` has {has} bytes, and had {had}"),
            Lack::Implausible { name, has } => write!(f, "`{name}` has {has} bytes, too few for etcd to have used it"),
            Lack::NoLog => f.write_str("there is no log (`.wal`)"),
        }
    }
}

impl Inventory {
    /// What is in a directory and below, as far as `is_meant` has it of the entries of the directory itself; `None` if that
    /// is more than a restore keeps a list of.
    pub fn take(dir: &Dir, is_meant: impl Fn(&OsStr, u64) -> bool) -> Result<Option<Inventory>, durable::Error> {
        let mut inventory = Inventory::default();
        let is_whole = inventory.add(dir, "", MOST_DEPTH, &is_meant)?;
        Ok(is_whole.then_some(inventory))
    }

    /// Adds what is in a directory; false if it is too much.
    fn add(
        &mut self,
        dir: &Dir,
        above: &str,
        depth: usize,
        is_meant: &dyn Fn(&OsStr, u64) -> bool,
    ) -> Result<bool, durable::Error> {
        let Some(names) = dir.names_up_to(MOST_FILES)? else {
            return Ok(false);
        };
        for name in names {
            let Some(found) = dir.look(&name)? else { continue };
            if !is_meant(&name, found.inode) {
                continue;
            }
            let path = format!("{above}{}", name.to_string_lossy());
            if found.is_dir {
                let below = dir.dir(&name)?;
                let is_whole = match below {
                    Some(below) if depth > 0 => self.add(&below, &format!("{path}/"), depth - 1, &|_, _| true)?,
                    Some(_) => false,
                    None => true,
                };
                if !is_whole {
                    return Ok(false);
                }
                continue;
            }
            self.0.insert(path, found.bytes);
            if self.0.len() > MOST_FILES {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Both.
    #[must_use]
    pub fn with(mut self, other: Inventory) -> Inventory {
        self.0.extend(other.0);
        self
    }

    /// What is less in `found` than it is here.
    pub fn lack(&self, found: &Inventory) -> Option<Lack> {
        self.0.iter().find_map(|(name, had)| match found.0.get(name) {
            None => Some(Lack::Gone { name: name.clone() }),
            Some(has) if has != had => Some(Lack::Resized {
                name: name.clone(),
                had: *had,
                has: *has,
            }),
            Some(_) => None,
        })
    }

    /// What shows, without an earlier inventory, that a `member` is not whole.
    pub fn implausible_member(&self) -> Option<Lack> {
        let name = format!("snap/{}", datadir::DB);
        match self.0.get(&name) {
            None => Some(Lack::Gone { name }),
            Some(has) if *has < LEAST_DATABASE => Some(Lack::Implausible { name, has: *has }),
            Some(_) => None,
        }
    }

    /// The same of a log whose files are in the folder `below`.
    pub fn implausible_log(&self, below: &str) -> Option<Lack> {
        let mut logs = self.0.iter().filter(|(name, _)| {
            let name = name.strip_prefix(below);
            name.is_some_and(|name| name.ends_with(".wal") && !name.contains('/'))
        });
        match logs.next() {
            None => Some(Lack::NoLog),
            Some((name, 0)) => Some(Lack::Implausible {
                name: name.clone(),
                has: 0,
            }),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn member() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for folder in ["snap", "wal"] {
            fs::create_dir(place.path().join(folder)).unwrap();
        }
        fs::write(place.path().join("snap/db"), vec![0; 20_480]).unwrap();
        fs::write(place.path().join("wal/0.wal"), "log").unwrap();
        place
    }

    fn taken(path: &Path) -> Inventory {
        let dir = Dir::open(path).unwrap();
        Inventory::take(&dir, |_, _| true).unwrap().unwrap()
    }

    #[test]
    fn whatever_goes_or_changes_its_size_is_named_and_what_comes_is_not() {
        let place = member();
        let before = taken(place.path());
        fs::write(place.path().join("snap/new"), "").unwrap();
        assert_eq!(before.lack(&taken(place.path())), None);
        fs::write(place.path().join("wal/0.wal"), "longer").unwrap();
        let lack = before.lack(&taken(place.path())).unwrap();
        assert_eq!(lack.to_string(), "`wal/0.wal` has 6 bytes, and had 3");
        fs::remove_dir_all(place.path().join("wal")).unwrap();
        let lack = before.lack(&taken(place.path())).unwrap();
        assert_eq!(lack.to_string(), "`wal/0.wal` is gone");
    }

    #[test]
    fn without_one_it_is_seen_whether_database_and_log_are_there() {
        let place = member();
        let now = || taken(place.path());
        assert_eq!(
            (now().implausible_member(), now().implausible_log("wal/")),
            (None, None)
        );
        assert_eq!(now().implausible_log(""), Some(Lack::NoLog), "it is not there");
        fs::write(place.path().join("wal/0.wal"), "").unwrap();
        assert!(matches!(
            now().implausible_log("wal/"),
            Some(Lack::Implausible { has: 0, .. })
        ));
        fs::remove_file(place.path().join("wal/0.wal")).unwrap();
        assert_eq!(now().implausible_log("wal/"), Some(Lack::NoLog));
        fs::write(place.path().join("snap/db"), "").unwrap();
        assert!(matches!(
            now().implausible_member(),
            Some(Lack::Implausible { has: 0, .. })
        ));
        fs::remove_file(place.path().join("snap/db")).unwrap();
        assert!(matches!(now().implausible_member(), Some(Lack::Gone { .. })));
    }

    #[test]
    fn only_what_is_meant_of_the_directory_is_taken_in_and_of_too_much_nothing() {
        let place = member();
        let dir = Dir::open(place.path()).unwrap();
        let some = Inventory::take(&dir, |name, _| name == "wal").unwrap().unwrap();
        assert_eq!(some.0.keys().collect::<Vec<_>>(), ["wal/0.wal"]);
        let deep = "a/".repeat(MOST_DEPTH + 2);
        fs::create_dir_all(place.path().join(deep)).unwrap();
        assert_eq!(Inventory::take(&dir, |_, _| true).unwrap(), None);
    }
}
