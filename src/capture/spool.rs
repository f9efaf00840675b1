//! What is finished and not everywhere yet: files on this host, as they will be stored, until every destination has them.
//!
//! Invariant: what [`Spool::keep`] has taken survives a kill and a power cut, and goes only when all have confirmed it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::writer::Finished;
use crate::durable;
use crate::layout::ObjectName;
use crate::model::ByteSize;

/// The largest file that is read back: a delta, its header and what encryption adds.
const LARGEST: u64 = (crate::layout::delta::PLAIN_MAX * 2) + (1 << 20);
const MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no more room for it.
    #[error("{waiting} wait already for destinations, and `deltas.spool` is {most}")]
    Full {
        /// How much waits.
        waiting: ByteSize,
        /// How much may.
        most: ByteSize,
    },
    /// The file system refused.
    #[error(transparent)]
    Files(#[from] durable::Error),
    /// What was kept cannot be read.
    #[error("read `{}`", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The files, in the order in which they are to be stored.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    most: ByteSize,
    destinations: BTreeSet<String>,
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    files: BTreeMap<u64, File>,
    next: u64,
    bytes: u64,
}

#[derive(Debug)]
struct File {
    name: ObjectName,
    bytes: u64,
    /// Who does not have it yet.
    lacking: BTreeSet<String>,
}

/// A file that waits for a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    place: u64,
    /// Its name.
    pub name: ObjectName,
}

impl Spool {
    /// Opens the spool in `folder`, with what an earlier run has left there: it may lack in any of `destinations`.
    pub fn open(folder: &Path, most: ByteSize, destinations: BTreeSet<String>) -> Result<Spool, Error> {
        durable::create_dirs(folder, FOLDER_MODE)?;
        let mut left = Vec::new();
        find(folder, folder, &mut left).map_err(|source| Error::Unreadable {
            path: folder.to_owned(),
            source,
        })?;
        // The names of epochs come before those of deltas, and those in the order of their revisions.
        left.sort();
        let mut waiting = Waiting::default();
        for (name, bytes) in left {
            waiting.add(name, bytes, destinations.clone());
        }
        Ok(Spool {
            folder: folder.to_owned(),
            most,
            destinations,
            waiting: Mutex::new(waiting),
            news: Condvar::new(),
        })
    }

    /// Keeps a finished object until all have it. One that is kept already stays as it is.
    pub fn keep(&self, finished: &Finished) -> Result<(), Error> {
        let bytes = finished.bytes.len() as u64;
        let waits = self.waiting().bytes;
        // The word that there is no more room finds room.
        let is_word = matches!(finished.name, ObjectName::Gap(..) | ObjectName::Epoch(..));
        if !is_word && waits.saturating_add(bytes) > self.most.0 {
            return Err(Error::Full {
                waiting: ByteSize(waits),
                most: self.most,
            });
        }
        let path = self.path_of(&finished.name);
        if let Some(parent) = path.parent() {
            durable::create_dirs(parent, FOLDER_MODE)?;
        }
        match durable::create_new(&path, &finished.bytes, MODE) {
            Err(durable::Error::Exists { .. }) => return Ok(()),
            written => written?,
        }
        let mut waiting = self.waiting();
        waiting.add(finished.name.clone(), bytes, self.destinations.clone());
        self.news.notify_all();
        Ok(())
    }

    /// Gives up, for the room that is missing, on those destinations that lack what another has: what they do not get of these
    /// chains they will not have. Returns their names; none where nobody has more than others.
    pub fn give_up_on_laggards(&self) -> BTreeSet<String> {
        let mut waiting = self.waiting();
        let has_some = |file: &File| file.lacking.len() < self.destinations.len();
        let laggards: BTreeSet<String> = waiting
            .files
            .values()
            .filter(|file| has_some(file))
            .flat_map(|file| file.lacking.clone())
            .collect();
        let mut gone = Vec::new();
        for file in waiting.files.values_mut() {
            file.lacking.retain(|name| !laggards.contains(name));
        }
        waiting.files.retain(|_, file| {
            let stays = !file.lacking.is_empty();
            if !stays {
                gone.push((file.name.clone(), file.bytes));
            }
            stays
        });
        let freed: u64 = gone.iter().map(|(_, bytes)| bytes).sum();
        waiting.bytes = waiting.bytes.saturating_sub(freed);
        drop(waiting);
        for (name, _) in gone {
            std::fs::remove_file(self.path_of(&name)).ok();
        }
        laggards
    }

    /// What a destination lacks first; waits so long for it.
    pub fn next_for(&self, destination: &str, wait: Duration) -> Option<Next> {
        let find = |waiting: &Waiting| {
            let mut files = waiting.files.iter();
            files.find_map(|(place, file)| {
                file.lacking.contains(destination).then(|| Next {
                    place: *place,
                    name: file.name.clone(),
                })
            })
        };
        let waiting = self.waiting();
        if let Some(next) = find(&waiting) {
            return Some(next);
        }
        let woken = self.news.wait_timeout(waiting, wait);
        let (waiting, _) = woken.unwrap_or_else(PoisonError::into_inner);
        find(&waiting)
    }

    /// The bytes of a file that waits.
    pub fn read(&self, next: &Next) -> Result<Vec<u8>, Error> {
        let path = self.path_of(&next.name);
        durable::read_plain(&path, LARGEST).map_err(|source| Error::Unreadable { path, source })
    }

    /// Takes note that a destination has a file, or is not to have it. Once all do, the file goes.
    pub fn confirm(&self, next: &Next, destination: &str) {
        let mut waiting = self.waiting();
        let Some(file) = waiting.files.get_mut(&next.place) else {
            return;
        };
        file.lacking.remove(destination);
        if !file.lacking.is_empty() {
            return;
        }
        let bytes = file.bytes;
        waiting.files.remove(&next.place);
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        drop(waiting);
        // What stays is stored once more by the next run, which does no harm.
        std::fs::remove_file(self.path_of(&next.name)).ok();
        self.news.notify_all();
    }

    /// The names of all that waits.
    pub fn names(&self) -> Vec<ObjectName> {
        self.waiting().files.values().map(|file| file.name.clone()).collect()
    }

    /// How much waits.
    pub fn bytes(&self) -> ByteSize {
        ByteSize(self.waiting().bytes)
    }

    /// Whether nothing waits for a destination.
    pub fn is_done_for(&self, destination: &str) -> bool {
        let waiting = self.waiting();
        !waiting.files.values().any(|file| file.lacking.contains(destination))
    }

    /// Wakes whoever waits for news.
    pub fn wake(&self) {
        self.news.notify_all();
    }

    fn path_of(&self, name: &ObjectName) -> PathBuf {
        self.folder.join(name.to_string())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing is changed by halves.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, name: ObjectName, bytes: u64, lacking: BTreeSet<String>) {
        let file = File { name, bytes, lacking };
        self.files.insert(self.next, file);
        self.next += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Finds the files with names of ours below `folder`; what a run that was killed had begun is removed.
fn find(root: &Path, folder: &Path, found: &mut Vec<(ObjectName, u64)>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if metadata.is_dir() {
            find(root, &path, found)?;
            // Where nothing is left of a chain, neither is its folder.
            std::fs::remove_dir(&path).ok();
            continue;
        }
        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
        match name.and_then(|name| name.parse().ok()) {
            Some(name) => found.push((name, metadata.len())),
            None => {
                let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if durable::target_of(file).is_some() {
                    std::fs::remove_file(&path)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::writer::tests::{batch, scribe};
    use super::*;
    use crate::capture::writer::Issue;
    use crate::signing::Authority;

    fn delta(from: i64, to: i64, body: usize) -> Finished {
        let issue = Issue {
            at: "2026-11-20T10:15:41Z".parse().unwrap(),
            next_by: "2026-11-20T10:16:41Z".parse().unwrap(),
        };
        let authority = Authority::anybody(&"prod".parse().unwrap());
        scribe()
            .delta(&batch(from, to), &vec![7; body], issue, &authority)
            .unwrap()
    }

    fn open(folder: &Path) -> Spool {
        let destinations = ["near", "far"].map(ToOwned::to_owned).into();
        Spool::open(folder, ByteSize(20_000), destinations).unwrap()
    }

    #[test]
    fn a_file_goes_once_all_have_it_and_is_found_again_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path());
        let (first, second) = (delta(7, 9, 100), delta(10, 12, 100));
        for finished in [&first, &second, &first] {
            spool.keep(finished).unwrap();
        }
        assert_eq!(spool.names().len(), 2);
        let next = spool.next_for("near", Duration::ZERO).unwrap();
        assert_eq!((&next.name, &spool.read(&next).unwrap()), (&first.name, &first.bytes));
        spool.confirm(&next, "near");
        assert_eq!(spool.next_for("near", Duration::ZERO).unwrap().name, second.name);
        assert_eq!(spool.next_for("far", Duration::ZERO).unwrap().name, first.name);
        // Killed while it wrote a third.
        let chain = folder.path().join(scribe().path().to_string());
        let partial = durable::Partial::create(&chain.join("x"), MODE).unwrap();
        std::mem::forget(partial);
        assert_eq!(std::fs::read_dir(&chain).unwrap().count(), 3);
        let spool = open(folder.path());
        assert_eq!(spool.names(), [first.name.clone(), second.name.clone()]);
        assert_eq!(std::fs::read_dir(&chain).unwrap().count(), 2);
        for destination in ["near", "far"] {
            while let Some(next) = spool.next_for(destination, Duration::ZERO) {
                spool.confirm(&next, destination);
            }
            assert!(spool.is_done_for(destination));
        }
        assert_eq!((spool.names().len(), spool.bytes()), (0, ByteSize(0)));
        assert_eq!(std::fs::read_dir(&chain).unwrap().count(), 0);
    }

    #[test]
    fn who_lacks_what_others_have_is_given_up_on_and_the_others_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path());
        let (first, second) = (delta(7, 9, 100), delta(10, 12, 100));
        spool.keep(&first).unwrap();
        assert!(spool.give_up_on_laggards().is_empty(), "nobody has it");
        spool.confirm(&spool.next_for("near", Duration::ZERO).unwrap(), "near");
        spool.keep(&second).unwrap();
        assert_eq!(spool.give_up_on_laggards(), ["far".to_owned()].into());
        assert_eq!(spool.names(), std::slice::from_ref(&second.name));
        assert_eq!(spool.next_for("near", Duration::ZERO).unwrap().name, second.name);
        assert_eq!(spool.next_for("far", Duration::ZERO), None);
        assert_eq!(spool.bytes().0, second.bytes.len() as u64);
    }

    #[test]
    fn what_there_is_no_room_for_is_refused_and_the_word_of_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path());
        spool.keep(&delta(7, 9, 15_000)).unwrap();
        let refused = spool.keep(&delta(10, 12, 15_000)).unwrap_err();
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        let why = (crate::layout::delta::GapReason::SpoolFull, "full".to_owned());
        let authority = Authority::anybody(&"prod".parse().unwrap());
        let now = "2026-11-20T10:15:41Z".parse().unwrap();
        spool
            .keep(&scribe().gap(batch(10, 12).from, why, now, &authority))
            .unwrap();
    }
}
