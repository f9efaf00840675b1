//! What is finished and not everywhere yet: files on this host, as they will be stored, until every destination has them.
//!
//! Invariant: what [`Spool::keep`] has taken survives a kill and a power cut, and goes only when of each destination is known that
//! it has it, or will not have it.
//! Invariant: what one destination cannot have yet keeps nothing else from it, and nobody else from anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::told;
use super::writer::Finished;
use crate::durable;
use crate::layout::delta::{EpochWord, Gap, Head};
use crate::layout::{ChainPath, ObjectName};
use crate::model::{ByteSize, ChainId, Digest};

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
    /// What was kept is not there any more, or is not what was kept.
    #[error("`{}` in the spool is lost: {why}", .path.display())]
    Lost {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
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
    lost: Vec<Error>,
}

#[derive(Debug, Default)]
struct Waiting {
    files: BTreeMap<u64, File>,
    next: u64,
    bytes: u64,
    /// Who does not take what follows a backup, for now.
    held: BTreeSet<(String, ChainPath)>,
    /// The chain that is gone on with.
    followed: Option<ChainPath>,
}

#[derive(Debug)]
struct File {
    name: ObjectName,
    bytes: u64,
    /// Who does not have it yet.
    lacking: BTreeSet<String>,
    /// Whether one of them is known to have it.
    is_stored: bool,
}

/// A file that waits for a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    place: u64,
    /// Its name.
    pub name: ObjectName,
}

impl Spool {
    /// Opens the spool in `folder`, with what an earlier run has left there: it may lack in any of `destinations`. Each file is held to
    /// its name, its head and its checksum; one that is torn is removed, and named by [`Spool::lost`].
    pub fn open(folder: &Path, most: ByteSize, destinations: BTreeSet<String>) -> Result<Spool, Error> {
        durable::create_dirs(folder, FOLDER_MODE)?;
        let mut left = Vec::new();
        find(folder, folder, &mut left).map_err(|source| Error::Unreadable {
            path: folder.to_owned(),
            source,
        })?;
        // The names of epochs come before those of deltas, and those in the order of their revisions.
        left.sort();
        let (mut waiting, mut lost) = (Waiting::default(), Vec::new());
        for (name, bytes) in left {
            let path = folder.join(name.to_string());
            match read_whole(&name, path.clone()) {
                Ok(_) => waiting.add(name, bytes, destinations.clone()),
                Err(error @ Error::Lost { .. }) => {
                    std::fs::remove_file(&path).map_err(|source| Error::Unreadable { path, source })?;
                    lost.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Spool {
            folder: folder.to_owned(),
            most,
            destinations,
            waiting: Mutex::new(waiting),
            news: Condvar::new(),
            lost,
        })
    }

    /// What an earlier run had kept and was not whole any more when this was opened.
    pub fn lost(&self) -> &[Error] {
        &self.lost
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
            Err(durable::Error::Exists { .. }) if self.waiting().has(&finished.name) => return Ok(()),
            // It got its name, and whether that survives a power cut was not known then: nobody took note of it.
            Err(durable::Error::Exists { .. }) => durable::replace(&path, &finished.bytes, MODE)?,
            written => written?,
        }
        let mut waiting = self.waiting();
        waiting.add(finished.name.clone(), bytes, self.destinations.clone());
        self.news.notify_all();
        Ok(())
    }

    /// Makes room, where some are to have what they cannot have: first of what waits only for destinations without its backup, as
    /// others have it or nobody follows its chain; then by giving up on those destinations that lack what another has: what they do
    /// not get of these chains they will not have. Returns their names; none where there is nothing of the kind.
    pub fn make_room(&self) -> BTreeSet<String> {
        let mut waiting = self.waiting();
        let waits_for_backup: BTreeSet<u64> = waiting
            .files
            .iter()
            .filter(|(_, file)| {
                let Some(chain) = file.name.chain() else { return false };
                let mut lacking = file.lacking.iter();
                lacking.all(|name| waiting.is_held(name, chain))
                    && (file.is_stored || waiting.followed.as_ref() != Some(chain))
            })
            .map(|(place, _)| *place)
            .collect();
        let given_up: BTreeMap<u64, BTreeSet<String>> = match waits_for_backup.is_empty() {
            false => {
                let places = waits_for_backup.iter();
                places
                    .filter_map(|place| Some((*place, waiting.files.get(place)?.lacking.clone())))
                    .collect()
            }
            true => {
                let stored = waiting.files.values().filter(|file| file.is_stored);
                let laggards: BTreeSet<String> = stored.flat_map(|file| file.lacking.clone()).collect();
                waiting.files.keys().map(|place| (*place, laggards.clone())).collect()
            }
        };
        let names = given_up.values().flatten().cloned().collect();
        let gone = waiting.give_up(&given_up);
        drop(waiting);
        self.remove(&gone);
        names
    }

    /// What a destination lacks first, of chains that it takes; waits so long for it.
    pub fn next_for(&self, destination: &str, wait: Duration) -> Option<Next> {
        let find = |waiting: &Waiting| {
            let (place, file) = waiting.first_for(destination)?;
            Some(Next {
                place: *place,
                name: file.name.clone(),
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

    /// Has what follows this backup wait, for a destination that does not have it: whatever else there is goes on.
    pub fn hold(&self, destination: &str, chain: &ChainPath) {
        self.waiting().held.insert((destination.to_owned(), chain.clone()));
    }

    /// Ends that: it comes in its order.
    pub fn release(&self, destination: &str, chain: &ChainPath) {
        self.waiting().held.remove(&(destination.to_owned(), chain.clone()));
    }

    /// Takes note that a destination is not to have what waits of a chain.
    pub fn give_up(&self, destination: &str, chain: &ChainPath) {
        let mut waiting = self.waiting();
        let of_chain = waiting
            .files
            .iter()
            .filter(|(_, file)| file.name.chain() == Some(chain));
        let given_up = of_chain
            .map(|(place, _)| (*place, [destination.to_owned()].into()))
            .collect();
        let gone = waiting.give_up(&given_up);
        waiting.held.remove(&(destination.to_owned(), chain.clone()));
        drop(waiting);
        self.remove(&gone);
    }

    /// Takes note of the chain that is gone on with.
    pub fn follow(&self, chain: Option<ChainPath>) {
        self.waiting().followed = chain;
    }

    /// Whether this chain is gone on with.
    pub fn follows(&self, chain: &ChainPath) -> bool {
        self.waiting().followed.as_ref() == Some(chain)
    }

    /// The bytes of a file that waits. `Lost` where it is gone or torn.
    pub fn read(&self, next: &Next) -> Result<Vec<u8>, Error> {
        read_whole(&next.name, self.path_of(&next.name))
    }

    /// Takes note that a file is lost: nobody waits for it any more.
    pub fn forget(&self, next: &Next) {
        let mut waiting = self.waiting();
        let gone = waiting.give_up(&[(next.place, self.destinations.clone())].into());
        drop(waiting);
        self.remove(&gone);
        self.news.notify_all();
    }

    /// Takes note that a destination has a file. Once all do, it goes.
    pub fn confirm(&self, next: &Next, destination: &str) {
        let mut waiting = self.waiting();
        let Some(file) = waiting.files.get_mut(&next.place) else {
            return;
        };
        file.is_stored = true;
        let gone = waiting.give_up(&[(next.place, [destination.to_owned()].into())].into());
        drop(waiting);
        self.remove(&gone);
        self.news.notify_all();
    }

    fn remove(&self, gone: &[ObjectName]) {
        for name in gone {
            // What stays is stored once more by the next run, which does no harm.
            std::fs::remove_file(self.path_of(name)).ok();
        }
    }

    /// The names of all that waits.
    pub fn names(&self) -> Vec<ObjectName> {
        self.waiting().files.values().map(|file| file.name.clone()).collect()
    }

    /// How much waits.
    pub fn bytes(&self) -> ByteSize {
        ByteSize(self.waiting().bytes)
    }

    /// Whether nothing waits for a destination that it takes.
    pub fn is_done_for(&self, destination: &str) -> bool {
        self.waiting().first_for(destination).is_none()
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
        let file = File {
            name,
            bytes,
            lacking,
            is_stored: false,
        };
        self.files.insert(self.next, file);
        self.next += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn has(&self, name: &ObjectName) -> bool {
        self.files.values().any(|file| file.name == *name)
    }

    fn is_held(&self, destination: &str, chain: &ChainPath) -> bool {
        // Hardly ever more than one.
        let mut held = self.held.iter();
        held.any(|(of, held)| of == destination && held == chain)
    }

    fn first_for(&self, destination: &str) -> Option<(&u64, &File)> {
        let mut files = self.files.iter();
        files.find(|(_, file)| {
            let is_held = || file.name.chain().is_some_and(|chain| self.is_held(destination, chain));
            file.lacking.contains(destination) && !is_held()
        })
    }

    /// Takes destinations out of those that lack files; gives the names of the files that nobody lacks any more.
    fn give_up(&mut self, by: &BTreeMap<u64, BTreeSet<String>>) -> Vec<ObjectName> {
        let mut gone = Vec::new();
        for (place, destinations) in by {
            let Some(file) = self.files.get_mut(place) else {
                continue;
            };
            file.lacking.retain(|name| !destinations.contains(name));
            if file.lacking.is_empty()
                && let Some(file) = self.files.remove(place)
            {
                self.bytes = self.bytes.saturating_sub(file.bytes);
                gone.push(file.name);
            }
        }
        gone
    }
}

/// The bytes of a file, which are those that its name and its head tell of.
fn read_whole(name: &ObjectName, path: PathBuf) -> Result<Vec<u8>, Error> {
    let bytes = match durable::read_plain(&path, LARGEST) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            let why = "it is not there any more".to_owned();
            return Err(Error::Lost { path, why });
        }
        Err(source) => return Err(Error::Unreadable { path, source }),
    };
    match is_whole(name, &bytes) {
        Ok(()) => Ok(bytes),
        Err(why) => Err(Error::Lost { path, why }),
    }
}

/// Whether these bytes are all of the object of that name; if not, why.
fn is_whole(name: &ObjectName, bytes: &[u8]) -> Result<(), String> {
    let of_chain = |chain: &ChainId| match name.chain().is_some_and(|path| path.chain == *chain) {
        true => Ok(()),
        false => Err(format!("it is of chain {chain}")),
    };
    match name {
        ObjectName::Epoch(..) => of_chain(&EpochWord::from_bytes(bytes).map_err(|fault| told(&fault))?.chain),
        ObjectName::Gap(..) => of_chain(&Gap::from_bytes(bytes).map_err(|fault| told(&fault))?.chain),
        _ => {
            let head = Head::read(name, bytes).map_err(|fault| told(&fault))?;
            let start = usize::try_from(head.body).unwrap_or(usize::MAX);
            let body = bytes.get(start..).unwrap_or_default();
            let recorded = head.header.stored.map(|stored| (stored.bytes, stored.sha256));
            let found = (body.len() as u64, Digest(Sha256::digest(body).into()));
            match recorded {
                Some(recorded) if recorded != found => Err(format!(
                    "its head tells of {} bytes with SHA-256 {}, there are {} with {}",
                    recorded.0, recorded.1, found.0, found.1
                )),
                None if !body.is_empty() => Err("something stands behind its head".to_owned()),
                Some(_) | None => Ok(()),
            }
        }
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
    fn a_torn_file_is_named_and_never_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path());
        let all = [delta(7, 9, 100), delta(10, 12, 100), delta(13, 15, 100)];
        all.iter().for_each(|finished| spool.keep(finished).unwrap());
        let path = |finished: &Finished| folder.path().join(finished.name.to_string());
        // A power cut: the length is right, and the last block is empty.
        let mut torn = all[1].bytes.clone();
        torn[all[1].bytes.len() - 50..].fill(0);
        std::fs::write(path(&all[1]), &torn).unwrap();
        let next = spool.next_for("near", Duration::ZERO).unwrap();
        spool.confirm(&next, "near");
        let next = spool.next_for("near", Duration::ZERO).unwrap();
        let read = spool.read(&next).unwrap_err();
        assert!(
            matches!(&read, Error::Lost { why, .. } if why.contains("SHA-256")),
            "{read}"
        );
        let again = open(folder.path());
        assert_eq!(again.names(), [all[0].name.clone(), all[2].name.clone()]);
        let lost = again.lost().first().unwrap().to_string();
        assert!(
            lost.contains(&all[1].name.to_string()) && again.lost().len() == 1,
            "{lost}"
        );
        assert!(!path(&all[1]).exists());
        // One that is empty, one that is of another name, and a word.
        std::fs::write(path(&all[0]), "").unwrap();
        std::fs::write(path(&all[2]), &all[0].bytes).unwrap();
        let word = ObjectName::Epoch(scribe().path(), crate::layout::Epoch(9));
        std::fs::create_dir_all(folder.path().join(word.to_string()).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(word.to_string()), "{").unwrap();
        let none = open(folder.path());
        assert_eq!((none.names().len(), none.lost().len()), (0, 3));
    }

    #[test]
    fn a_file_whose_folder_was_not_synced_when_it_got_its_name_is_kept_by_the_next_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path());
        let (first, again) = (delta(7, 9, 100), delta(7, 9, 120));
        // As it lies there after the sync of its folder has failed: no run has taken note of it.
        let path = folder.path().join(first.name.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &first.bytes).unwrap();
        spool.keep(&again).unwrap();
        assert_eq!(spool.names(), std::slice::from_ref(&again.name));
        let next = spool.next_for("near", Duration::ZERO).unwrap();
        assert_eq!(spool.read(&next).unwrap(), again.bytes);
    }

    #[test]
    fn who_lacks_what_others_have_is_given_up_on_and_the_others_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path());
        let (first, second) = (delta(7, 9, 100), delta(10, 12, 100));
        spool.keep(&first).unwrap();
        assert!(spool.make_room().is_empty(), "nobody has it");
        spool.confirm(&spool.next_for("near", Duration::ZERO).unwrap(), "near");
        spool.keep(&second).unwrap();
        assert_eq!(spool.make_room(), ["far".to_owned()].into());
        assert_eq!(spool.names(), std::slice::from_ref(&second.name));
        assert_eq!(spool.next_for("near", Duration::ZERO).unwrap().name, second.name);
        assert_eq!(spool.next_for("far", Duration::ZERO), None);
        assert_eq!(spool.bytes().0, second.bytes.len() as u64);
    }

    #[test]
    fn what_waits_for_a_backup_keeps_nothing_else_waiting_and_goes_first_where_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let spool = open(folder.path());
        let (first, second) = (delta(7, 9, 100), delta(10, 12, 100));
        let path = scribe().path();
        let other = Finished {
            name: ObjectName::Epoch(path.clone(), crate::layout::Epoch(9)),
            bytes: vec![7; 10],
        };
        let is_next = |destination: &str, finished: &Finished| {
            spool.next_for(destination, Duration::ZERO).map(|next| next.name) == Some(finished.name.clone())
        };
        spool.keep(&first).unwrap();
        spool.keep(&second).unwrap();
        spool.follow(Some(path.clone()));
        spool.hold("far", &path);
        assert!(spool.is_done_for("far") && is_next("near", &first));
        spool.release("far", &path);
        assert!(is_next("far", &first));
        spool.hold("far", &path);
        // Nobody has it, and its chain is gone on with.
        assert!(spool.make_room().is_empty());
        spool.confirm(&spool.next_for("near", Duration::ZERO).unwrap(), "near");
        assert_eq!(spool.make_room(), ["far".to_owned()].into());
        assert_eq!(spool.names(), std::slice::from_ref(&second.name));
        spool.follow(None);
        spool.hold("near", &path);
        assert_eq!(spool.make_room(), ["far", "near"].map(ToOwned::to_owned).into());
        assert_eq!((spool.names().len(), spool.bytes()), (0, ByteSize(0)));
        // Not the word of one that nobody is known to have.
        spool.keep(&first).unwrap();
        spool.keep(&other).unwrap();
        spool.release("near", &path);
        spool.give_up("far", &path);
        assert!(spool.make_room().is_empty(), "whoever was given up on does not have it");
        assert_eq!(spool.names().len(), 2);
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
