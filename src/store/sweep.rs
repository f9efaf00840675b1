//! Removing what backups left behind that did not end.
//!
//! Invariant: an object is removed only if nothing shows it (it has no manifest, or is itself still being written) and
//! if its run is known to be dead, or it has not been written to for 24 hours by the store's clock. Nothing of a chain
//! that holds a foreign object is touched, and nothing of one that a live claim names: another host may be copying the
//! backup of a dead run. Only the claim of the dead run itself keeps nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::Error;
use super::backend::Under;
use super::claims::Claimed;
use super::over_backend::Inner;
use crate::layout::claim::SWEPT_AFTER;
use crate::layout::{ChainPath, Folder, Listed, ListedObject, ObjectName, SlotPath};
use crate::model::ChainId;

/// How long an object that nobody answers for is left alone.
pub const ABANDONED_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// After how many removals in a chain it is asked again whether that has become a backup since: a listing of a chain with a day
/// of deltas is long.
const ASKED_AGAIN_AFTER: usize = 1000;

/// How long a sweep goes on: a backup may be waiting for it. The next one removes what is left.
const LONGEST: Duration = Duration::from_secs(600);

/// The chains that this host began and has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Begun {
    /// Those whose run goes on.
    pub live: BTreeSet<ChainId>,
    /// Those whose run is gone.
    pub dead: BTreeSet<ChainId>,
    /// The name of this host, by which its claims are known.
    pub host: String,
}

/// What a sweep removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Its path in the store.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Sweep {
    /// What it removed.
    pub swept: Vec<Swept>,
    /// The chains of dead runs of which it has passed something over: it was written too lately, or somebody uses it; or the
    /// listing may not show it yet; or there was too much of all.
    pub passed_over: BTreeSet<ChainId>,
}

impl Inner {
    /// Removes the leavings of backups that did not end. One that cannot be removed keeps none of the others, and is the
    /// error.
    pub fn sweep(&self, begun: &Begun, sign: &dyn Fn()) -> Result<Vec<Swept>, Error> {
        let sweep = self.sweep_listed(&self.list(sign)?, begun, self.backend().now(), sign)?;
        Ok(sweep.swept)
    }

    #[cfg(test)]
    pub(super) fn sweep_at(&self, begun: &Begun, now: Timestamp, sign: &dyn Fn()) -> Result<Vec<Swept>, Error> {
        Ok(self.sweep_listed(&self.list(sign)?, begun, Ok(now), sign)?.swept)
    }

    /// The same by a listing that was made before; what has become a backup since stays.
    pub(super) fn sweep_listed(
        &self,
        objects: &[ListedObject],
        begun: &Begun,
        now: Result<Timestamp, Error>,
        sign: &dyn Fn(),
    ) -> Result<Sweep, Error> {
        let now = now?;
        let (mut swept, mut stuck) = (Vec::new(), None);
        let claimed = self.claimed_chains(objects, now, sign)?;
        let objects = match self.backend().unfinished(Some(objects), sign) {
            Ok(None) => Cow::Borrowed(objects),
            Ok(Some(uploads)) if uploads.is_empty() => Cow::Borrowed(objects),
            Ok(Some(uploads)) => Cow::Owned([objects, &uploads].concat()),
            Err(error) => {
                stuck = Some(error);
                Cow::Borrowed(objects)
            }
        };
        let delay = self.backend().listing_delay();
        let (leavings, mut passed_over) = leavings(&objects, begun, &claimed, now, delay);
        let (mut known, started) = (BTreeMap::new(), Instant::now());
        for (object, path) in leavings {
            sign();
            if started.elapsed() >= LONGEST {
                passed_over.extend(dead_run_of(object, begun).cloned());
                continue;
            }
            if let Listed::Ours(name) = &object.name
                && self.has_become_a_backup(&mut known, name, sign)?
            {
                continue; // it came after the listing
            }
            match self.backend().remove_leaving(&object.name) {
                Ok(()) => {}
                // Another was faster, or has just put something into the folder.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => {
                    stuck.get_or_insert(error);
                    continue;
                }
            }
            let bytes = object.bytes;
            swept.push(Swept { path, bytes });
        }
        match stuck {
            None => Ok(Sweep { swept, passed_over }),
            Some(error) => Err(error),
        }
    }

    /// Whether the chain of a leaving has a manifest by now. It is asked when its first object is to go, every so often after
    /// that, and before what a manifest would name goes.
    fn has_become_a_backup<'a>(
        &self,
        known: &mut BTreeMap<&'a ChainPath, (bool, usize)>,
        leaving: &'a ObjectName,
        sign: &dyn Fn(),
    ) -> Result<bool, Error> {
        let Some(chain) = leaving.chain() else {
            return Ok(false);
        };
        match known.get_mut(chain) {
            Some((true, _)) => return Ok(true),
            Some((false, since)) if *since < ASKED_AGAIN_AFTER && !matches!(leaving, ObjectName::Full(_)) => {
                *since += 1;
                return Ok(false);
            }
            Some(_) | None => {}
        }
        let has_manifest = self.has_manifest(chain, sign)?;
        known.insert(chain, (has_manifest, 0));
        Ok(has_manifest)
    }

    pub(super) fn has_manifest(&self, chain: &ChainPath, sign: &dyn Fn()) -> Result<bool, Error> {
        let objects = self.list_all(&Under::Chain(chain.clone()), sign)?;
        let is_manifest = |object: &Listed| matches!(object, Listed::Ours(ObjectName::FullManifest(..)));
        Ok(objects.iter().any(|object| is_manifest(&object.name)))
    }
}

/// The run that has left an object, if it is one of this host that is dead.
fn dead_run_of<'a>(object: &'a ListedObject, begun: &Begun) -> Option<&'a ChainId> {
    let (Listed::Ours(name) | Listed::Partial { of: name, .. }) = &object.name else {
        return None;
    };
    let chain = &name.chain()?.chain;
    begun.dead.contains(chain).then_some(chain)
}

/// What of a listing nobody will ever use, with its path; and the chains of dead runs of which there is more.
fn leavings<'a>(
    objects: &'a [ListedObject],
    begun: &Begun,
    claimed: &Claimed,
    now: Timestamp,
    listing_delay: SignedDuration,
) -> (Vec<(&'a ListedObject, String)>, BTreeSet<ChainId>) {
    let chains = Chains::of(objects);
    let is_old = |modified: Timestamp| now.duration_since(modified) > ABANDONED_AFTER;
    let is_settled = |modified| listing_delay.is_zero() || now.duration_since(modified) > listing_delay;
    let is_anothers = |chain: &ChainPath| {
        let mut hosts = claimed.get(&chain.chain).into_iter().flatten();
        hosts.any(|host| *host != begun.host)
    };
    let of_dead_run = |chain: &ChainPath| {
        begun.dead.contains(&chain.chain) && !chains.complete.contains(chain) && !is_anothers(chain)
    };
    let is_left = |chain: Option<&ChainPath>, modified: Timestamp| match chain {
        Some(chain) if begun.live.contains(&chain.chain) || chains.has_foreign(chain) => false,
        // What a dead run wrote last may be a manifest that the listing does not show yet.
        Some(chain) => {
            (of_dead_run(chain) && is_settled(modified)) || (is_old(modified) && !claimed.contains_key(&chain.chain))
        }
        None => is_old(modified),
    };
    let left = |object: &'a ListedObject| match &object.name {
        // A pin is written before the manifest, so a run may have died between the two. A check may have been written
        // while the chain was being removed.
        Listed::Ours(name) if let Some(chain) = name.chain() => {
            let modified = chains.last_written.get(chain).copied().unwrap_or(object.modified);
            (!chains.complete.contains(chain) && is_left(Some(chain), modified)).then(|| name.to_string())
        }
        Listed::Partial { path, of } => is_left(of.chain(), object.modified).then(|| path.clone()),
        Listed::EmptyFolder { path, folder } => {
            let chain = match folder {
                Folder::Shared => None,
                Folder::OfChain(chain) => Some(chain),
            };
            is_left(chain, object.modified).then(|| path.clone())
        }
        // All of a slot's at once: a number that is free again could be taken by somebody who listed them before.
        Listed::Ours(name @ ObjectName::Claim(slot, _)) => {
            let last = chains.last_claimed.get(slot).copied().unwrap_or(object.modified);
            (now.duration_since(last) > SWEPT_AFTER).then(|| name.to_string())
        }
        Listed::Ours(_) | Listed::Foreign(_) | Listed::Unreadable { .. } => None,
    };
    let unfinished_of = |name: &'a Listed| match name {
        Listed::Ours(name) | Listed::Partial { of: name, .. } => {
            name.chain().filter(|chain| !chains.complete.contains(chain))
        }
        Listed::EmptyFolder { .. } | Listed::Foreign(_) | Listed::Unreadable { .. } => None,
    };
    let (mut found, mut passed_over) = (Vec::new(), BTreeSet::new());
    for object in objects {
        match (left(object), unfinished_of(&object.name)) {
            (Some(path), _) => found.push((object, path)),
            (None, Some(chain)) if begun.dead.contains(&chain.chain) => {
                passed_over.insert(chain.chain.clone());
            }
            (None, _) => {}
        }
    }
    // What the listing does not show yet may turn up.
    if !listing_delay.is_zero() {
        let is_complete = |dead: &ChainId| chains.complete.iter().any(|chain| chain.chain == *dead);
        let late = begun
            .dead
            .iter()
            .filter(|dead| !is_old(dead.started_at()) && !is_complete(dead));
        passed_over.extend(late.cloned());
    }
    (found, passed_over)
}

/// What a listing says of chains.
struct Chains<'a> {
    complete: BTreeSet<&'a ChainPath>,
    last_written: BTreeMap<&'a ChainPath, Timestamp>,
    last_claimed: BTreeMap<&'a SlotPath, Timestamp>,
    foreign: Vec<&'a str>,
}

impl<'a> Chains<'a> {
    fn of(objects: &'a [ListedObject]) -> Self {
        let mut chains = Chains {
            complete: BTreeSet::new(),
            last_written: BTreeMap::new(),
            last_claimed: BTreeMap::new(),
            foreign: Vec::new(),
        };
        for object in objects {
            let name = match &object.name {
                Listed::Ours(name) | Listed::Partial { of: name, .. } => name,
                Listed::Foreign(path) => {
                    chains.foreign.push(path);
                    continue;
                }
                Listed::EmptyFolder { .. } | Listed::Unreadable { .. } => continue,
            };
            if let Some(chain) = name.chain() {
                let last = chains.last_written.entry(chain).or_insert(object.modified);
                *last = object.modified.max(*last);
            }
            if let ObjectName::Claim(slot, _) = name {
                let last = chains.last_claimed.entry(slot).or_insert(object.modified);
                *last = object.modified.max(*last);
            }
            if let Listed::Ours(ObjectName::FullManifest(chain, _)) = &object.name {
                chains.complete.insert(chain);
            }
        }
        chains.foreign.sort_unstable();
        chains
    }

    fn has_foreign(&self, chain: &ChainPath) -> bool {
        let folder = format!("{chain}/");
        let next = self.foreign.partition_point(|path| *path < folder.as_str());
        self.foreign.get(next).is_some_and(|path| path.starts_with(&folder))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::layout::{Epoch, Span};
    use crate::model::{ClusterId, Revision};
    use crate::store::backend::{Backend, Cache, FreeSpace, NewObject, Opened};
    use crate::store::folder::Folder;
    use crate::store::over_backend::Access;
    use crate::store::{Limits, Store};

    type Act = Box<dyn FnMut(usize) + Send>;

    /// A folder that counts how often a chain of it is listed, and does something before each removal.
    struct Counting {
        folder: Folder,
        listed: AtomicUsize,
        removed: AtomicUsize,
        before: Mutex<Act>,
    }

    impl std::fmt::Debug for Counting {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.folder.fmt(f)
        }
    }

    impl Backend for Counting {
        fn address(&self, path: &str) -> String {
            self.folder.address(path)
        }

        fn begin(&self, object: &ObjectName) -> Result<Box<dyn NewObject>, Error> {
            self.folder.begin(object)
        }

        fn put_new(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
            self.folder.put_new(object, bytes)
        }

        fn replace(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
            self.folder.replace(object, bytes)
        }

        fn read(&self, object: &ObjectName, most: u64) -> Result<Vec<u8>, Error> {
            self.folder.read(object, most)
        }

        fn open(&self, object: &ObjectName, cache: Cache) -> Result<Opened, Error> {
            self.folder.open(object, cache)
        }

        fn list(&self, under: &Under, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
            if matches!(under, Under::Chain(_)) {
                self.listed.fetch_add(1, Ordering::Relaxed);
            }
            self.folder.list(under, sign)
        }

        fn listing_delay(&self) -> SignedDuration {
            self.folder.listing_delay()
        }

        fn folders(&self) -> Result<Vec<String>, Error> {
            self.folder.folders()
        }

        fn remove(&self, object: &ObjectName) -> Result<(), Error> {
            self.folder.remove(object)
        }

        fn remove_leaving(&self, leaving: &Listed) -> Result<(), Error> {
            let before = self.removed.fetch_add(1, Ordering::Relaxed);
            (self.before.lock().unwrap())(before);
            self.folder.remove_leaving(leaving)
        }

        fn now(&self) -> Result<Timestamp, Error> {
            self.folder.now()
        }

        fn free_space(&self) -> Result<Option<FreeSpace>, Error> {
            self.folder.free_space()
        }
    }

    const DEAD: &str = "20261120T101530Z-00000001";

    fn chain() -> ChainPath {
        ChainPath {
            cluster: ClusterId(0xab),
            chain: DEAD.parse().unwrap(),
        }
    }

    fn delta(at: i64) -> ObjectName {
        let revision = Revision::new(at).unwrap();
        ObjectName::Delta(chain(), Span::new(revision, revision).unwrap(), Epoch(1))
    }

    /// A store of which the removal of a chain with so many deltas was cut off, and a run that answers for it.
    fn cut_off(deltas: i64, before: Act) -> (tempfile::TempDir, Arc<Counting>, Store, Begun) {
        let root = tempfile::tempdir().unwrap();
        let backend = Arc::new(Counting {
            folder: Folder::at(&root.path().join("prod")),
            listed: AtomicUsize::new(0),
            removed: AtomicUsize::new(0),
            before: Mutex::new(before),
        });
        let access = Access::Write {
            now: Timestamp::UNIX_EPOCH,
        };
        let whom = root.path().display().to_string();
        let store = Store::over(backend.clone(), access, &whom, Limits::default()).unwrap();
        for at in 1..=deltas {
            backend.put_new(&delta(at), b"delta").unwrap();
        }
        backend.put_new(&ObjectName::Full(chain()), b"full").unwrap();
        let begun = Begun {
            dead: [chain().chain].into(),
            ..Begun::default()
        };
        (root, backend, store, begun)
    }

    #[test]
    fn a_chain_of_many_objects_is_not_listed_anew_for_each_of_them() {
        let (_root, backend, store, begun) = cut_off(50, Box::new(|_| {}));
        assert_eq!(store.sweep(&begun).unwrap().len(), 51);
        // Before the first, and before what a manifest would name.
        assert_eq!(backend.listed.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_becomes_a_backup_while_its_leavings_are_swept_keeps_its_object() {
        let manifest = ObjectName::FullManifest(chain(), Revision::new(7).unwrap());
        let place = Arc::new(Mutex::new(None::<Folder>));
        let (of_it, name) = (place.clone(), manifest.clone());
        let before: Act = Box::new(move |removed| {
            if removed == 1 {
                let folder = of_it.lock().unwrap().clone().unwrap();
                folder.put_new(&name, b"{}").unwrap();
            }
        });
        let (_root, backend, store, begun) = cut_off(5, before);
        *place.lock().unwrap() = Some(backend.folder.clone());
        store.sweep(&begun).unwrap();
        let left = store.list_chain(&chain()).unwrap();
        for name in [manifest, ObjectName::Full(chain())] {
            assert!(
                left.iter().any(|object| object.name == Listed::Ours(name.clone())),
                "{left:?}"
            );
        }
    }

    #[test]
    fn who_waits_for_a_sweep_hears_that_it_gets_on() {
        let slow: Act = Box::new(|_| std::thread::sleep(Duration::from_millis(30)));
        let (_root, _, store, begun) = cut_off(30, slow);
        let heard = AtomicUsize::new(0);
        let contents = store.read_while("local", Some(&begun), || {
            heard.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(contents.unwrap().swept.unwrap().unwrap().swept.len(), 31);
        assert!(heard.load(Ordering::Relaxed) > 0);
    }
}
