//! From the spool to one destination: in order, each until it is there, however long that takes.
//!
//! What follows a backup is of no use where the backup is not: it may be on its way (to the others it was quicker), or come later, made
//! of deltas or by `copy`, or never. When that backup was taken tells nothing of it. So its chain is stepped over, and looked for again
//! and again: only within a chain does the order count, and no destination loses what it is going to need. That ends
//! - when the backup comes: all of it follows then;
//! - for a chain that is not gone on with any more, when it has not come within [`BACKUP_COMES_WITHIN`] of the moment from which on this
//!   agent has waited for it. Of what an agent before this one has left nobody knows how long it has waited;
//! - when the spool has no room for what others are to have ([`Spool::make_room`]).
//!
//! Who copies the backup after that finds all in the destination that it comes from.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::Surroundings;
use super::packing::Arrived;
use super::spool::{self, Next, Spool};
use super::status::Board;
use crate::error_chain::with_causes;
use crate::health::Level;
use crate::layout::delta::{HEAD_MAX, Head};
use crate::layout::{ChainPath, Listed, MAX_BYTES, ObjectName};
use crate::model::Digest;
use crate::source::delta::{self, Belongs};
use crate::store::{self, ReadBack, Store};

/// How long it waits for something to store before it looks whether it is to stop.
const WAIT: Duration = Duration::from_millis(500);
/// How long it waits after a failure, and before it looks for a backup again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// For how long the backup of a chain that is not gone on with may come.
const BACKUP_COMES_WITHIN: Duration = Duration::from_secs(900);
/// How long a backup that was there is believed to be there.
const BELIEVED_FOR: Duration = Duration::from_secs(15);

/// The delivery to one destination.
pub struct Delivery {
    /// Its name.
    pub destination: String,
    /// Where everything comes from.
    pub spool: Arc<Spool>,
    /// What it may ask for.
    pub around: Arc<dyn Surroundings>,
    /// Where it says how it is.
    pub board: Arc<Board>,
    /// Where it leaves word of what is there now.
    pub arrived: Arc<Arrived>,
    /// Told where a backup that was there is there no more.
    pub gone: Arc<Notify>,
    /// Told where what was kept is lost.
    pub lost: Arc<Notify>,
    /// Raised when it is to end. What it does after that changes nothing in the spool: another run may have it.
    pub stop: Arc<AtomicBool>,
}

/// What is known of the backups in the destination.
#[derive(Debug, Default)]
struct Backups {
    /// The manifests that are there, and when that was seen.
    there: BTreeMap<ChainPath, (ObjectName, Instant)>,
    /// Those that it lacks.
    lacking: BTreeMap<ChainPath, Lacking>,
}

/// A backup that is waited for.
#[derive(Debug, Clone, Copy)]
struct Lacking {
    /// Since when, while its chain is not gone on with.
    since: Instant,
    /// Whether it was there before.
    was_there: bool,
    look_at: Instant,
    pause: Duration,
}

impl Delivery {
    /// Delivers until it is stopped. Blocks.
    pub fn run(&self) {
        let (mut store, mut backups) = (None, Backups::default());
        let mut pause = PAUSES.0;
        while !self.is_stopped() {
            match self.go_on(&mut store, &mut backups) {
                Ok(()) => pause = PAUSES.0,
                Err(error) => {
                    store = None;
                    self.board.not_stored(&self.destination, error, self.around.now().time);
                    self.rest(pause);
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Stores the next object, or steps over its chain.
    fn go_on(&self, store: &mut Option<Store>, backups: &mut Backups) -> Result<(), String> {
        self.look_for_backups(store, backups)?;
        let Some(next) = self.spool.next_for(&self.destination, WAIT) else {
            return Ok(());
        };
        let store = self.opened(store)?;
        if let Some(chain) = next.name.chain() {
            let was_there = backups.there.contains_key(chain);
            if !self.has_backup(store, backups, chain)? {
                let now = self.around.now().instant;
                self.spool.hold(&self.destination, chain);
                backups.lacking.insert(chain.clone(), Lacking::begun(was_there, now));
                return Ok(());
            }
        }
        self.put(store, &next)
    }

    fn opened<'a>(&self, store: &'a mut Option<Store>) -> Result<&'a Store, String> {
        match store {
            Some(store) => Ok(store),
            None => Ok(store.insert(self.around.open(&self.destination)?)),
        }
    }

    fn put(&self, store: &Store, next: &Next) -> Result<(), String> {
        let bytes = match self.spool.read(next) {
            Ok(bytes) => bytes,
            Err(lost @ spool::Error::Lost { .. }) if !self.is_stopped() => return self.see_to_lost(store, next, &lost),
            Err(error) => return Err(with_causes(&error)),
        };
        put(store, &next.name, &bytes).map_err(|error| with_causes(&error))?;
        if self.is_stopped() {
            return Ok(());
        }
        let stored = bytes.len() as u64;
        self.arrived.add(&next.name, stored);
        self.spool.confirm(next, &self.destination);
        let now = self.around.now().time;
        self.board.stored(&self.destination, next.name.span(), stored, now);
        self.board.spool(self.spool.bytes());
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sees to a file that is not there any more, or torn: a run before this one may have stored it. What is not stored is captured anew.
    fn see_to_lost(&self, store: &Store, next: &Next, lost: &spool::Error) -> Result<(), String> {
        let is_there = match next.name.chain() {
            Some(_) if next.name.span().is_some() => {
                is_stored(store, &next.name).map_err(|error| with_causes(&error))?
            }
            Some(_) | None => false,
        };
        if is_there {
            self.spool.confirm(next, &self.destination);
            return Ok(());
        }
        self.spool.forget(next);
        self.board.spool(self.spool.bytes());
        let message = format!(
            "{lost}; destination {} does not have it: what it held is captured anew, as far as etcd has it",
            self.destination
        );
        self.around.say(Level::Warning, &message);
        self.lost.notify_one();
        Ok(())
    }

    /// Whether the destination has the backup of a chain. What was there may have been removed: what follows it is of no use then.
    fn has_backup(&self, store: &Store, backups: &mut Backups, chain: &ChainPath) -> Result<bool, String> {
        let now = self.around.now().instant;
        if let Some((manifest, seen_at)) = backups.there.get_mut(chain) {
            if now.duration_since(*seen_at) < BELIEVED_FOR {
                return Ok(true);
            }
            match store.read_small(manifest, MAX_BYTES as u64) {
                Ok(_) => *seen_at = now,
                Err(store::Error::NotFound { .. }) => {
                    backups.there.remove(chain);
                    return Ok(false);
                }
                Err(error) => return Err(with_causes(&error)),
            }
            return Ok(true);
        }
        let listed = store.list_chain(chain).map_err(|error| with_causes(&error))?;
        let manifest = listed.into_iter().find_map(|object| match object.name {
            Listed::Ours(name) if name.is_manifest() => Some(name),
            _ => None,
        });
        let has_it = manifest.is_some();
        backups
            .there
            .extend(manifest.map(|manifest| (chain.clone(), (manifest, now))));
        Ok(has_it)
    }

    /// Looks for the backups that are waited for, each when it is time.
    fn look_for_backups(&self, store: &mut Option<Store>, backups: &mut Backups) -> Result<(), String> {
        let now = self.around.now().instant;
        let due = backups.lacking.iter().filter(|(_, lacking)| lacking.look_at <= now);
        let due: Vec<(ChainPath, Lacking)> = due.map(|(chain, lacking)| (chain.clone(), *lacking)).collect();
        for (chain, lacking) in due {
            if self.is_stopped() {
                return Ok(());
            }
            let store = self.opened(store)?;
            if self.has_backup(store, backups, &chain)? {
                backups.lacking.remove(&chain);
                self.spool.release(&self.destination, &chain);
                continue;
            }
            let is_followed = self.spool.follows(&chain);
            let fed_since = self.around.fed_since(&self.destination);
            let is_owed = fed_since.is_none_or(|since| chain.chain.started_at() >= since);
            if is_followed && !is_owed {
                let (name, chain) = (&self.destination, &chain.chain);
                let message = format!(
                    "destination {name} is new and gets deltas from the next full backup on; `lifeboat copy` brings {chain}, and what \
                     follows it comes then"
                );
                self.around.say_once(Level::Info, &message);
            }
            let why = format!("backup {} is not there", chain.chain);
            if is_followed && !is_owed {
                // Since when it is fed was not known at the look before.
                self.board.is_no_trouble(&self.destination, &why);
            }
            if is_followed && is_owed {
                // What is captured now does not reach it.
                self.board.not_stored(&self.destination, why, self.around.now().time);
            }
            if is_followed && lacking.was_there {
                self.gone.notify_one();
            }
            if let Some(next) = lacking.again(now, is_followed) {
                backups.lacking.insert(chain, next);
                continue;
            }
            backups.lacking.remove(&chain);
            self.spool.give_up(&self.destination, &chain);
            self.board.spool(self.spool.bytes());
            let (name, chain) = (&self.destination, &chain.chain);
            let message = format!(
                "destination {name} does not have the deltas of {chain}, as it does not have that backup: `lifeboat copy` brings both"
            );
            self.around.say(Level::Info, &message);
        }
        Ok(())
    }

    fn rest(&self, pause: Duration) {
        let step = Duration::from_millis(100);
        let mut left = pause;
        while !left.is_zero() && !self.is_stopped() {
            std::thread::sleep(step.min(left));
            left = left.saturating_sub(step);
        }
    }
}

impl Lacking {
    fn begun(was_there: bool, now: Instant) -> Lacking {
        Lacking {
            since: now,
            was_there,
            // At once where more follows from it.
            look_at: match was_there {
                true => now,
                false => now + PAUSES.0,
            },
            pause: PAUSES.0,
        }
    }

    /// When it is looked for again, where it is not there now; never where it is not waited for any more.
    fn again(self, now: Instant, is_followed: bool) -> Option<Lacking> {
        let since = match is_followed {
            true => now,
            false => self.since,
        };
        let pause = (self.pause * 2).min(PAUSES.1);
        (now.duration_since(since) < BACKUP_COMES_WITHIN).then(|| Lacking {
            since,
            look_at: now + pause,
            pause,
            ..self
        })
    }
}

/// Stores an object and, where the destination is read back, proves that it is there. One that is there already counts: a lost
/// reply is no failure, and what another run or host has written under the name is the same history.
fn put(store: &Store, name: &ObjectName, bytes: &[u8]) -> Result<(), store::Error> {
    let is_ours = match store.put_new(name, bytes) {
        // A word of who writes, or of where a chain ends, or a mark: whoever said it first, it holds, if he counts.
        Err(store::Error::AlreadyExists { .. }) if name.span().is_none() => match is_word_of_strangers(store, name)? {
            false => return Ok(()),
            true => {
                store.remove(name)?;
                return store.put_new(name, bytes);
            }
        },
        Err(store::Error::AlreadyExists { .. }) => false,
        Ok(()) => true,
        Err(error) => return Err(error),
    };
    store.lock_if_it_is_not(name)?;
    // That something has its name proves nothing, also where what is written is not read back.
    if is_ours && !store.reads_back() {
        return Ok(());
    }
    let expected = ReadBack {
        bytes: bytes.len() as u64,
        sha256: Digest(Sha256::digest(bytes).into()),
    };
    let read = match store.read_back(name) {
        // What may only be written there cannot be told.
        Err(error) if !store.reads_back() && !matches!(error, store::Error::NotFound { .. }) => return Ok(()),
        read => read?,
    };
    if read == expected || (!is_ours && is_whole(store, name, bytes)) {
        return Ok(());
    }
    // What a store has altered is no delta, and the right bytes are at hand: they are stored anew.
    store.remove(name)?;
    Err(store::Error::Altered {
        at: store.address_of(name),
    })
}

/// Whether what has the name of a word is none of anybody who counts.
fn is_word_of_strangers(store: &Store, name: &ObjectName) -> Result<bool, store::Error> {
    match name {
        ObjectName::Epoch(..) | ObjectName::Gap(..) => Ok(!store.counts(name)?),
        // Nothing is gone on from for a mark.
        _ => Ok(false),
    }
}

/// Whether a delta or a pack is in a store, whole and by somebody who counts, whatever history it is of.
fn is_stored(store: &Store, name: &ObjectName) -> Result<bool, store::Error> {
    let (mut object, _) = match store.open_object(name) {
        Ok(opened) => opened,
        Err(store::Error::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut first = BufReader::with_capacity(HEAD_MAX, &mut object);
    let bytes = delta::head_bytes(&mut first).unwrap_or_default();
    Ok(is_whole(store, name, &bytes))
}

/// Whether what has the name of these bytes is a delta of the same chain, whole and by somebody who counts.
fn is_whole(store: &Store, name: &ObjectName, bytes: &[u8]) -> bool {
    let Ok(head) = Head::read(name, bytes) else {
        return false;
    };
    let belongs = Belongs {
        chain: head.header.chain_path(),
        lineage: head.header.lineage,
    };
    delta::prove(store, &belongs, name, &|| ControlFlow::Continue(())).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;

    use super::super::test_host::Alone;
    use super::super::writer::tests::{batch, scribe};
    use super::super::{DeltaWriter, Finished, Issue};
    use super::*;
    use crate::layout::Span;
    use crate::model::{ByteSize, Revision};
    use crate::signing::Authority;
    use crate::source::test_objects::Maker;
    use crate::store::tests::store;

    const FAR: &str = "far";

    fn path(chain: u32) -> ChainPath {
        let text = format!("20261120T101530Z-{chain:08x}");
        ChainPath {
            chain: text.parse().unwrap(),
            ..Maker::new().belongs().chain
        }
    }

    fn revision(revision: i64) -> Revision {
        Revision::new(revision).unwrap()
    }

    fn delta(chain: u32, at: i64) -> Finished {
        let span = Span::new(revision(at), revision(at)).unwrap();
        let issue = Issue {
            at: "2026-11-20T10:15:41Z".parse().unwrap(),
            next_by: "2026-11-20T10:16:41Z".parse().unwrap(),
        };
        let mut writer = DeltaWriter {
            chain: path(chain).chain,
            ..scribe()
        };
        let authority = Authority::anybody(&writer.cluster.name);
        let (from, to) = (span.from().get(), span.to().get());
        writer.delta(&batch(from, to), b"body", issue, &authority).unwrap()
    }

    fn manifest(chain: u32) -> ObjectName {
        ObjectName::FullManifest(path(chain), revision(6))
    }

    /// A delivery to a store, and what it remembers.
    struct Delivering {
        _homes: [tempfile::TempDir; 2],
        alone: Arc<Alone>,
        delivery: Delivery,
        memory: (Option<Store>, Backups),
    }

    impl Delivering {
        fn begin() -> Delivering {
            let ((home, store), folder) = (store(), tempfile::tempdir().unwrap());
            let alone = Arc::new(Alone::with(&store));
            let destinations = [FAR.to_owned()];
            let board = Board::new(("own", Arc::default()), WAIT, ByteSize(1), destinations.iter().cloned());
            let delivery = Delivery {
                destination: FAR.to_owned(),
                spool: Arc::new(Spool::open(folder.path(), ByteSize(1 << 20), destinations.into()).unwrap()),
                around: alone.clone(),
                board: Arc::new(board),
                arrived: Arc::default(),
                gone: Arc::default(),
                lost: Arc::default(),
                stop: Arc::default(),
            };
            Delivering {
                _homes: [home, folder],
                alone,
                delivery,
                memory: Default::default(),
            }
        }

        fn store(&self) -> &Store {
            &self.alone.store
        }

        fn keep(&self, deltas: &[Finished]) {
            deltas.iter().for_each(|delta| self.delivery.spool.keep(delta).unwrap());
        }

        /// So much time passes, and all is done that is due then.
        fn after(&mut self, seconds: u64) {
            self.alone.pass(Duration::from_secs(seconds));
            while {
                let (store, backups) = &mut self.memory;
                self.delivery.go_on(store, backups).unwrap();
                !self.delivery.spool.is_done_for(FAR)
            } {}
        }

        fn has(&self, delta: &Finished) -> bool {
            self.store().path_of(&delta.name).exists()
        }

        fn waits(&self) -> usize {
            self.delivery.spool.names().len()
        }
    }

    #[test]
    fn what_follows_a_backup_that_comes_late_waits_for_it_and_for_nothing_else() {
        let mut far = Delivering::begin();
        let (first, second, other) = (delta(1, 7), delta(1, 8), delta(2, 7));
        far.store().put_new(&manifest(2), b"{}").unwrap();
        far.delivery.spool.follow(Some(path(1)));
        far.keep(&[first.clone(), other.clone(), second.clone()]);
        far.after(0);
        assert!(far.has(&other) && !far.has(&first));
        far.after(3600);
        assert_eq!(far.waits(), 2, "its chain is gone on with");
        let trouble = far.delivery.board.read().destinations.remove(0).trouble;
        assert_eq!(trouble, Some(format!("backup {} is not there", path(1).chain)));
        far.store().put_new(&manifest(1), b"{}").unwrap();
        far.after(30);
        assert!(far.has(&first) && far.has(&second));
        assert_eq!(far.waits(), 0);
        assert!(far.alone.said.lock().unwrap().is_empty());
    }

    #[test]
    fn a_new_destination_that_lacks_the_backup_is_no_trouble_and_is_told_once() {
        let mut far = Delivering::begin();
        let first = delta(1, 7);
        far.delivery.spool.follow(Some(path(1)));
        far.keep(std::slice::from_ref(&first));
        far.after(0);
        far.after(30);
        // It was looked at before anybody had taken note of it.
        assert!(far.delivery.board.read().destinations.remove(0).trouble.is_some());
        *far.alone.fed_since.lock().unwrap() = Some(Timestamp::now());
        far.after(3600);
        assert_eq!(far.delivery.board.read().destinations.remove(0).trouble, None);
        let said = far.alone.said.lock().unwrap().join("\n");
        assert!(
            said.contains("is new and gets deltas from the next full backup on"),
            "{said}"
        );
        far.store().put_new(&manifest(1), b"{}").unwrap();
        far.after(30);
        assert!(far.has(&first));
    }

    #[test]
    fn what_follows_a_backup_that_never_comes_goes_once_its_chain_is_not_gone_on_with() {
        let mut far = Delivering::begin();
        let left = delta(1, 7);
        far.keep(std::slice::from_ref(&left));
        for seconds in [0, 600, 299] {
            far.after(seconds);
            assert_eq!(far.waits(), 1);
        }
        far.after(31);
        assert_eq!(far.waits(), 0);
        assert!(!far.has(&left));
        let said = far.alone.said.lock().unwrap();
        assert!(said[0].contains("lifeboat copy"), "{said:?}");
    }

    #[test]
    fn a_backup_that_is_removed_is_missed_soon() {
        let mut far = Delivering::begin();
        far.delivery.spool.follow(Some(path(1)));
        far.store().put_new(&manifest(1), b"{}").unwrap();
        far.keep(&[delta(1, 7)]);
        far.after(0);
        far.store().remove(&manifest(1)).unwrap();
        let gone = far.delivery.gone.clone();
        let is_told = || {
            let told = async { tokio::time::timeout(Duration::ZERO, gone.notified()).await.is_ok() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(told)
        };
        far.keep(&[delta(1, 8)]);
        far.after(1);
        assert!(far.has(&delta(1, 8)), "it is believed to be there");
        assert!(!is_told());
        far.keep(&[delta(1, 9)]);
        far.after(15);
        far.after(0);
        assert!(!far.has(&delta(1, 9)) && is_told());
        // As it was, and more often than once.
        far.after(30);
        assert!(is_told());
        assert_eq!(far.waits(), 1);
    }

    #[test]
    fn a_delivery_that_outlives_its_run_takes_nothing_from_the_next_one() {
        let mut far = Delivering::begin();
        far.store().put_new(&manifest(1), b"{}").unwrap();
        far.keep(&[delta(1, 7)]);
        // It was at it when it was told to stop.
        let next = far.delivery.spool.next_for(FAR, Duration::ZERO).unwrap();
        far.delivery.stop.store(true, Ordering::Relaxed);
        far.delivery.put(&far.store().clone(), &next).unwrap();
        assert!(far.has(&delta(1, 7)));
        assert_eq!(far.waits(), 1, "the run that has the spool now sees to it");
        assert_eq!(far.delivery.spool.read(&next).unwrap(), delta(1, 7).bytes);
        far.delivery.stop.store(false, Ordering::Relaxed);
        far.after(0);
        assert_eq!(far.waits(), 0);
    }

    #[test]
    fn a_file_that_has_vanished_is_looked_for_where_it_should_be_and_keeps_nothing_waiting() {
        let mut far = Delivering::begin();
        far.store().put_new(&manifest(1), b"{}").unwrap();
        let all = [delta(1, 7), delta(1, 8), delta(1, 9)];
        far.keep(&all);
        let file = |delta: &Finished| far._homes[1].path().join(delta.name.to_string());
        // Of the first one a run before has stored what it removed, of the second it has not.
        far.store().put_new(&all[0].name, &all[0].bytes).unwrap();
        fs::remove_file(file(&all[0])).unwrap();
        fs::remove_file(file(&all[1])).unwrap();
        let lost = far.delivery.lost.clone();
        far.after(0);
        assert!(far.has(&all[0]) && !far.has(&all[1]) && far.has(&all[2]));
        assert_eq!(far.waits(), 0);
        let said = far.alone.said.lock().unwrap();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains(&all[1].name.to_string()) && said[0].contains("captured anew"),
            "{said:?}"
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let told = async { tokio::time::timeout(Duration::ZERO, lost.notified()).await };
        runtime.block_on(told).unwrap();
    }

    #[test]
    fn what_another_has_written_under_the_name_stays_and_what_is_damaged_is_stored_anew() {
        let ((_home, store), maker) = (store(), Maker::new());
        // Encrypted anew, it has other bytes.
        let ((name, ours), (_, others)) = (maker.delta(7, 9, 1), maker.delta(7, 9, 1));
        assert_ne!(ours, others);
        let there = || fs::read(store.path_of(&name)).unwrap();
        put(&store, &name, &others).unwrap();
        put(&store, &name, &ours).unwrap();
        assert!(there() == others);
        fs::write(store.path_of(&name), &others[..others.len() - 1]).unwrap();
        let altered = put(&store, &name, &ours);
        assert!(matches!(altered, Err(store::Error::Altered { .. })), "{altered:?}");
        put(&store, &name, &ours).unwrap();
        assert!(there() == ours);
    }
}
