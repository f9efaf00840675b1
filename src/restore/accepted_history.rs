//! The word that a restore leaves for whoever takes backups: which cluster it has made, so that its history is accepted by
//! the first backup of it, and nobody has to say so. Once the restore is taken back, the word says that: then the history
//! that goes on again is accepted by its next backup.
//!
//! ```text
//! /var/lib/lifeboat-restored/    root's, 0755
//!   CLUSTER_ID.json              for everybody to read
//! ```
//!
//! Invariant: it is written by root alone, and root never acts on it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ledger::LedgerPaths;
use crate::durable;
use crate::model::{ClusterId, Revision};

/// The version of the document.
const FORMAT: u64 = 1;
/// Two ids and a number.
const MOST_BYTES: u64 = 4 << 10;

/// What is said of a restored cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    format: u64,
    /// The cluster.
    pub cluster: ClusterId,
    /// The revision that it began with: an etcd of that id that is below has lost what was restored.
    pub revision: Revision,
    /// What has made it, for people.
    pub by: String,
    /// Whether that was taken back, and what was there before runs again.
    #[serde(default)]
    pub taken_back: bool,
}

impl Word {
    /// The word of who has made a cluster that begins with a revision.
    pub fn new(cluster: ClusterId, revision: Revision, by: impl Into<String>) -> Word {
        Word {
            format: FORMAT,
            cluster,
            revision,
            by: by.into(),
            taken_back: false,
        }
    }

    /// Leaves it, on the disk when this returns.
    pub fn leave(&self, ledger_paths: &LedgerPaths) -> Result<(), durable::Error> {
        durable::create_dirs(&folder(ledger_paths), 0o755)?;
        let mut bytes = serde_json::to_vec(self).expect("it has only text keys");
        bytes.push(b'\n');
        durable::replace(&path(ledger_paths, self.cluster), &bytes, 0o644)
    }
}

/// Says of a cluster that its restore was taken back, if there is a word of it.
pub(super) fn take_back(ledger_paths: &LedgerPaths, cluster: ClusterId) -> Result<(), durable::Error> {
    match read(ledger_paths, cluster) {
        Some(word) => Word {
            taken_back: true,
            ..word
        }
        .leave(ledger_paths),
        None => Ok(()),
    }
}

/// What a restore on this host has said of a cluster; nothing where it has not, was taken back, or cannot be understood.
pub fn word_for(ledger_paths: &LedgerPaths, cluster: ClusterId) -> Option<Word> {
    read(ledger_paths, cluster).filter(|word| !word.taken_back)
}

/// The same of a restore that was taken back.
pub fn taken_back(ledger_paths: &LedgerPaths, cluster: ClusterId) -> Option<Word> {
    read(ledger_paths, cluster).filter(|word| word.taken_back)
}

fn read(ledger_paths: &LedgerPaths, cluster: ClusterId) -> Option<Word> {
    let bytes = durable::read_plain(&path(ledger_paths, cluster), MOST_BYTES).ok()?;
    let word: Word = serde_json::from_slice(&bytes).ok()?;
    (word.format == FORMAT && word.cluster == cluster).then_some(word)
}

fn folder(ledger_paths: &LedgerPaths) -> PathBuf {
    let mut name = ledger_paths.folder.as_os_str().to_owned();
    name.push("d");
    name.into()
}

fn path(ledger_paths: &LedgerPaths, cluster: ClusterId) -> PathBuf {
    folder(ledger_paths).join(format!("{cluster}.json"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_word_is_read_by_everybody_for_its_own_cluster_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let ledger_paths = LedgerPaths {
            folder: dir.path().join("restore"),
            notice: dir.path().join("open"),
        };
        let revision = Revision::new(1_000_000_042).unwrap();
        let word = Word::new(ClusterId(0xab), revision, "restore X");
        assert_eq!(word_for(&ledger_paths, word.cluster), None);
        word.leave(&ledger_paths).unwrap();
        assert_eq!(word_for(&ledger_paths, word.cluster), Some(word.clone()));
        assert_eq!(word_for(&ledger_paths, ClusterId(0xcd)), None);
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(folder(&ledger_paths)), mode(path(&ledger_paths, word.cluster))),
            (0o755, 0o644)
        );
        assert_eq!(taken_back(&ledger_paths, word.cluster), None);
        for _ in 0..2 {
            take_back(&ledger_paths, word.cluster).unwrap();
            assert_eq!(word_for(&ledger_paths, word.cluster), None);
            let back = taken_back(&ledger_paths, word.cluster).unwrap();
            assert_eq!((back.revision, &back.by), (word.revision, &word.by));
        }
        take_back(&ledger_paths, ClusterId(0xcd)).unwrap();
        assert_eq!(taken_back(&ledger_paths, ClusterId(0xcd)), None);
        // Restored once more.
        word.leave(&ledger_paths).unwrap();
        assert_eq!(word_for(&ledger_paths, word.cluster), Some(word.clone()));
    }
}
