//! Deltas become packs, in one destination: of the chain that this host writes, as they come there. Of the chains before it,
//! which nobody writes any more, what packs hold is removed, too.
//!
//! Invariant: only who holds the newest epoch of the newest chain packs and removes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::{Settings, Surroundings};
use crate::catalog::{Following, Link};
use crate::error_chain::with_causes;
use crate::health::Level;
use crate::layout::{ChainPath, Epoch, Listed, ObjectName};
use crate::model::Revision;
use crate::pack::{self, By, FAN, Holders, Piece, next_pack, pack, remove_superseded, superseded};
use crate::source::delta::Belongs;
use crate::store::{self, Store};

/// How often it is looked whether there is something to pack.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether something has become superfluous, at the least.
const REMOVE_EVERY: Duration = Duration::from_secs(600);
/// How soon it stops when it is told to.
const STOPS_WITHIN: Duration = Duration::from_millis(250);
/// How long it waits after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// For how long an object that could not be read, or is of no use, is passed over.
const BELIEVED_FOR: Duration = Duration::from_secs(600);

/// What this host writes at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// Where it lies, and of which history it is.
    pub belongs: Belongs,
    /// The revision of its full backup.
    pub base: Revision,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// The same, as those who pack it may ask at any time.
#[derive(Debug, Default)]
pub(super) struct Writing(Mutex<Option<Chain>>);

impl Writing {
    pub fn set(&self, chain: Option<Chain>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = chain;
    }

    fn now(&self) -> Option<Chain> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What has come to a destination and was not packed yet, in its order.
#[derive(Debug, Default)]
pub(super) struct Arrived(Mutex<Vec<(ObjectName, u64)>>);

impl Arrived {
    pub fn add(&self, name: &ObjectName, bytes: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((name.clone(), bytes));
    }

    fn take(&self) -> Vec<(ObjectName, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why nothing is packed for now.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The destination cannot be opened.
    #[error("{0}")]
    Closed(String),
    /// It refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There is no pack.
    #[error(transparent)]
    Pack(#[from] pack::Error),
    /// There are packs, and what they hold was not removed.
    #[error("what packs hold is not removed: {}", with_causes(.0))]
    Removal(pack::Error),
}

/// The packing in one destination.
pub(super) struct Packing {
    pub destination: String,
    pub settings: Arc<Settings>,
    pub around: Arc<dyn Surroundings>,
    pub writing: Arc<Writing>,
    pub arrived: Arc<Arrived>,
    pub stop: Arc<AtomicBool>,
}

/// What is known of objects beyond one look, so that they are read once.
#[derive(Default)]
struct Memory {
    /// Packs that were read as a whole.
    holders: Holders,
    /// What is of no use, or could not be read, and until when that is believed.
    useless: BTreeMap<ObjectName, Instant>,
}

impl Memory {
    fn is_useless(&self, name: &ObjectName, now: Instant) -> bool {
        self.useless.get(name).is_some_and(|until| *until > now)
    }

    fn passes_over(&mut self, name: ObjectName, now: Instant) {
        self.useless.insert(name, now + BELIEVED_FOR);
    }

    /// When something that is passed over may be of use again.
    fn next(&self, now: Instant) -> Option<Instant> {
        self.useless.values().filter(|until| **until > now).min().copied()
    }
}

/// What is known of a chain in the destination.
struct Pieces {
    chain: Chain,
    store: Store,
    /// One after the other, from the full on.
    in_order: Vec<Piece>,
    /// Chains of which what packs hold was not all removed when this one took their place.
    before: Vec<Belongs>,
    removed_at: Option<Instant>,
    /// When it is looked again at what was passed over.
    again_at: Option<Instant>,
}

impl Packing {
    /// Packs until it is stopped. Blocks.
    pub fn run(&self) {
        let (mut pieces, mut memory) = (None, Memory::default());
        let mut said = None;
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(STOPS_WITHIN);
            if Instant::now() < next {
                continue;
            }
            next = Instant::now() + LOOK_EVERY;
            let Some(chain) = self.writing.now() else { continue };
            let Err(error) = self.look(chain, &mut pieces, &mut memory) else {
                continue;
            };
            let why = with_causes(&error);
            if said.as_ref() != Some(&why) && !self.stop.load(Ordering::Relaxed) {
                let what = format!("destination {}: deltas are not packed: {why}", self.destination);
                self.around.say(Level::Warning, &what);
                said = Some(why);
            }
            match error {
                // What there is stays known; that it cannot be removed now changes nothing.
                Error::Removal(_) => {}
                Error::Pack(pack::Error::Unread { object, .. }) => {
                    memory.passes_over(object, self.around.now().instant);
                    pieces = None;
                }
                Error::Closed(_) | Error::Store(_) | Error::Pack(_) => pieces = None,
            }
            next = Instant::now() + PAUSE;
        }
    }

    fn look(&self, chain: Chain, known: &mut Option<Pieces>, memory: &mut Memory) -> Result<(), Error> {
        let now = self.around.now().instant;
        let pieces = match known {
            Some(pieces) if pieces.chain == chain && pieces.again_at.is_none_or(|at| at > now) => pieces,
            _ => {
                self.arrived.take();
                known.insert(self.begin(chain, memory)?)
            }
        };
        if pieces.store.locks() {
            // What is packed could not be removed.
            self.arrived.take();
            return Ok(());
        }
        for (name, bytes) in self.arrived.take() {
            if let ObjectName::Delta(path, span, _) = &name
                && *path == pieces.chain.belongs.chain
                && pieces.in_order.iter().all(|piece| piece.name != name)
            {
                pieces.in_order.push(Piece {
                    span: *span,
                    name,
                    bytes,
                    deltas: 1,
                });
            }
        }
        while pieces.in_order.len() as u64 >= FAN
            && let Some(range) = next_pack(&pieces.in_order)
        {
            let by = By {
                epoch: pieces.chain.epoch,
                writer: self.settings.writer.clone(),
                now: self.around.now().time,
            };
            let taken = pieces.in_order.get(range.clone()).unwrap_or_default();
            let made = pack(&pieces.store, &pieces.chain.belongs, taken, &by, &|| self.go_on())?;
            pieces.in_order.splice(range, [made]);
        }
        if pieces
            .removed_at
            .is_none_or(|at| at.elapsed() >= REMOVE_EVERY.min(self.settings.pack_after))
        {
            // Also where it is refused: it is tried again when it is time.
            pieces.removed_at = Some(Instant::now());
            let belongs = &pieces.chain.belongs;
            let links = links(&pieces.store, belongs)?;
            if !is_outdone(&pieces.store, &links, pieces.chain.epoch)? {
                let (known, grace) = (&mut memory.holders, self.grace());
                remove_superseded(&pieces.store, belongs, &links, known, grace, &|| self.go_on())
                    .map_err(Error::Removal)?;
                self.tidy_up_before(pieces, known)?;
            }
        }
        Ok(())
    }

    /// For how long somebody may be reading what a pack holds.
    fn grace(&self) -> SignedDuration {
        SignedDuration::try_from(self.settings.pack_after).unwrap_or(SignedDuration::MAX)
    }

    /// Removes what packs hold of the chains before, until there is no more of it.
    fn tidy_up_before(&self, pieces: &mut Pieces, known: &mut Holders) -> Result<(), Error> {
        let (mut left, mut refused) = (Vec::new(), None);
        for belongs in std::mem::take(&mut pieces.before) {
            let links = links(&pieces.store, &belongs)?;
            match remove_superseded(&pieces.store, &belongs, &links, known, self.grace(), &|| self.go_on()) {
                Ok(removed) => {
                    if removed.len() < superseded(&links, pieces.store.now()?, SignedDuration::ZERO).len() {
                        left.push(belongs);
                    }
                }
                // A pack that is damaged, or of another history: what it should hold stays. `verify` tells of it.
                Err(pack::Error::Unread { .. }) => {}
                Err(error) => {
                    left.push(belongs);
                    refused.get_or_insert(error);
                }
            }
        }
        pieces.before = left;
        refused.map_or(Ok(()), |error| Err(Error::Removal(error)))
    }

    /// What there is, as it is read one after the other; what is of no use is passed over.
    fn begin(&self, chain: Chain, memory: &mut Memory) -> Result<Pieces, Error> {
        let now = self.around.now().instant;
        let store = self.around.open(&self.destination).map_err(Error::Closed)?;
        let mut pieces = Pieces {
            chain,
            store,
            in_order: Vec::new(),
            before: Vec::new(),
            removed_at: None,
            again_at: None,
        };
        // Nothing is packed there, so nothing is to be known.
        if pieces.store.locks() {
            return Ok(pieces);
        }
        let (store, belongs, base) = (&pieces.store, &pieces.chain.belongs, pieces.chain.base);
        let links = links(store, belongs)?;
        let following = Following::of_links(base, links.iter().map(|link| (self.destination.as_str(), link)));
        let by_name: BTreeMap<&ObjectName, &Link> = links.iter().map(|link| (&link.name, link)).collect();
        let mut made: BTreeMap<&ObjectName, Piece> = BTreeMap::new();
        let mut to = following.window().to;
        pieces.in_order = 'planned: loop {
            let planned = match following.plan_from(base, to, |piece| !memory.is_useless(&piece.name, now)) {
                Err(hole) => {
                    to = hole.reached;
                    continue;
                }
                Ok(planned) => planned,
            };
            for piece in &planned {
                let Some(link) = by_name.get(&piece.name).filter(|_| !made.contains_key(&piece.name)) else {
                    continue;
                };
                match pack::piece(store, belongs, link) {
                    Ok(piece) => made.extend(piece.map(|piece| (&link.name, piece))),
                    Err(pack::Error::Unread { object, .. }) => {
                        memory.passes_over(object, now);
                        continue 'planned;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            break planned
                .iter()
                .filter_map(|piece| made.get(&piece.name).cloned())
                .collect();
        };
        pieces.before = chains_with_packs(store, belongs)?;
        pieces.again_at = memory.next(now);
        Ok(pieces)
    }

    fn go_on(&self) -> ControlFlow<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Whether somebody who counts has begun a later epoch.
fn is_outdone(store: &Store, links: &[Link], own: Epoch) -> Result<bool, store::Error> {
    for link in links {
        if matches!(&link.name, ObjectName::Epoch(_, epoch) if *epoch > own) && store.counts(&link.name)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn links(store: &Store, belongs: &Belongs) -> Result<Vec<Link>, Error> {
    Ok(Link::listed(store.list_chain(&belongs.chain)?))
}

/// The other chains of the same cluster that have packs.
fn chains_with_packs(store: &Store, newest: &Belongs) -> Result<Vec<Belongs>, Error> {
    let listed = store.list()?;
    let paths: BTreeSet<ChainPath> = listed
        .into_iter()
        .filter_map(|object| match object.name {
            Listed::Ours(ObjectName::Pack(path, ..)) => Some(path),
            _ => None,
        })
        .filter(|path| path.cluster == newest.chain.cluster && *path != newest.chain)
        .collect();
    let of_the_same_history = |chain| Belongs {
        chain,
        lineage: newest.lineage.clone(),
    };
    Ok(paths.into_iter().map(of_the_same_history).collect())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::test_host::Alone;
    use super::super::{Cutting, Others, SnapshotFrom};
    use super::*;
    use crate::etcd::choose_member::Wanted;
    use crate::layout::delta::tests::header;
    use crate::model::ByteSize;
    use crate::pack::tests::delta;
    use crate::pipeline::Encoding;
    use crate::signing::Authority;
    use crate::source::test_objects::Maker;
    use crate::store::tests::store;

    fn packing(store: &Store, pack_after: Duration) -> Packing {
        let writer = header(1, 1).writer;
        let settings = Settings {
            name: "own",
            others: Others::None,
            cluster: header(1, 1).cluster.name,
            destinations: BTreeSet::from(["local".to_owned()]),
            cutting: Cutting {
                every: Duration::from_secs(1),
                max_bytes: ByteSize(1 << 20),
            },
            mark_every: Duration::from_secs(60),
            pack_after,
            hash_kv_every: None,
            snapshot_from: SnapshotFrom::MEASURED,
            spool: "nowhere".into(),
            spool_most: ByteSize(1),
            members: Vec::new(),
            wanted: Wanted::Any { near: None },
            encoding: Encoding {
                recipients: Vec::new(),
                level: 3,
                threads: 1,
                stall_limit: Duration::from_secs(1),
            },
            authority: Authority::anybody(&header(1, 1).cluster.name),
            writer,
        };
        Packing {
            destination: "local".to_owned(),
            settings: Arc::new(settings),
            around: Arc::new(Alone::with(store)),
            writing: Arc::default(),
            arrived: Arc::default(),
            stop: Arc::default(),
        }
    }

    fn names(store: &Store, belongs: &Belongs) -> (usize, usize) {
        let links = links(store, belongs).unwrap();
        let of = |suffix| {
            links
                .iter()
                .filter(|link| link.name.to_string().ends_with(suffix))
                .count()
        };
        (of(".delta"), of(".pack"))
    }

    #[test]
    fn what_is_there_and_what_comes_is_packed_and_goes_later() {
        let ((_home, store), maker) = (store(), Maker::new());
        let packing = packing(&store, Duration::from_secs(3600));
        let add = |i: i64| delta(&store, &maker, 10 * i + 1, 10 * i + 10).0;
        let there: Vec<Piece> = (0..10).map(add).collect();
        let path = there[0].name.chain().unwrap().clone();
        let chain = Chain {
            belongs: maker.belongs(),
            base: Revision::new(0).unwrap(),
            epoch: Epoch(2),
        };
        let (mut known, mut memory) = (None, Memory::default());
        packing.look(chain.clone(), &mut known, &mut memory).unwrap();
        assert_eq!(names(&store, &maker.belongs()), (10, 0));
        for i in 10..40 {
            let piece = add(i);
            packing.arrived.add(&piece.name, piece.bytes);
            packing.look(chain.clone(), &mut known, &mut memory).unwrap();
        }
        assert_eq!(names(&store, &maker.belongs()), (40, 2));
        // Another run finds the same.
        let mut again = None;
        packing.look(chain.clone(), &mut again, &mut memory).unwrap();
        let in_order = |known: &Option<Pieces>| known.as_ref().unwrap().in_order.clone();
        assert_eq!(in_order(&again), in_order(&known));
        assert_eq!(in_order(&again).len(), 2 + 8);

        let later = tests::packing(&store, Duration::ZERO);
        let mut third = None;
        later.look(chain.clone(), &mut third, &mut memory).unwrap();
        assert_eq!(names(&store, &maker.belongs()), (8, 2));
        // Who has been outdone removes nothing.
        store
            .put_new(&ObjectName::Epoch(path.clone(), Epoch(3)), b"{}")
            .unwrap();
        (40..48).for_each(|i| {
            let piece = add(i);
            later.arrived.add(&piece.name, piece.bytes);
        });
        later.look(chain, &mut third, &mut memory).unwrap();
        assert_eq!(names(&store, &maker.belongs()), (16, 3));
    }

    #[test]
    fn what_packs_of_the_chain_before_hold_goes_when_another_has_taken_its_place() {
        let ((_home, store), maker) = (store(), Maker::new());
        let chain = |belongs: Belongs| Chain {
            belongs,
            base: Revision::new(0).unwrap(),
            epoch: Epoch(2),
        };
        let mut next = maker.belongs();
        next.chain.chain = "20261121T101530Z-00000002".parse().unwrap();
        let patient = packing(&store, Duration::from_secs(3600));
        for i in 0..18 {
            delta(&store, &maker, 10 * i + 1, 10 * i + 10);
        }
        let (mut known, mut memory) = (None, Memory::default());
        patient.look(chain(maker.belongs()), &mut known, &mut memory).unwrap();
        assert_eq!(names(&store, &maker.belongs()), (18, 1));
        patient.look(chain(next.clone()), &mut known, &mut memory).unwrap();
        assert_eq!(names(&store, &maker.belongs()), (18, 1));
        let before = |known: &Option<Pieces>| known.as_ref().unwrap().before.clone();
        assert_eq!(before(&known), [maker.belongs()], "it is not time yet");
        // Another run, an hour later.
        let later = packing(&store, Duration::ZERO);
        let mut known = None;
        later.look(chain(next.clone()), &mut known, &mut memory).unwrap();
        assert_eq!(names(&store, &maker.belongs()), (2, 1));
        assert_eq!(before(&known), []);
    }

    #[test]
    fn a_damaged_delta_keeps_none_of_those_before_it_from_being_packed() {
        let ((_home, store), maker) = (store(), Maker::new());
        let packing = packing(&store, Duration::from_secs(3600));
        let chain = Chain {
            belongs: maker.belongs(),
            base: Revision::new(0).unwrap(),
            epoch: Epoch(2),
        };
        let pieces: Vec<Piece> = (0..20)
            .map(|i| delta(&store, &maker, 10 * i + 1, 10 * i + 10).0)
            .collect();
        let path = store.path_of(&pieces[17].name);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (mut known, mut memory) = (None, Memory::default());
        memory.passes_over(pieces[18].name.clone(), Instant::now());
        packing.look(chain.clone(), &mut known, &mut memory).unwrap();
        assert_eq!(names(&store, &maker.belongs()), (20, 1));
        // It is met once more deltas are there.
        let found = pack(&store, &chain.belongs, &pieces[10..18], &by(&packing), &|| {
            ControlFlow::Continue(())
        });
        assert!(matches!(found, Err(pack::Error::Unread { object, .. }) if object == pieces[17].name));
    }

    #[test]
    fn what_cannot_be_read_is_passed_over_for_a_while_and_looked_at_again() {
        let ((_home, store), maker) = (store(), Maker::new());
        let mut packing = packing(&store, Duration::from_secs(3600));
        let alone = Arc::new(Alone::with(&store));
        packing.around = alone.clone();
        let chain = Chain {
            belongs: maker.belongs(),
            base: Revision::new(0).unwrap(),
            epoch: Epoch(2),
        };
        // A pack of three, which is in the way of nothing but of its own.
        let all: Vec<_> = (0..3).map(|i| maker.delta(10 * i + 1, 10 * i + 10, 1)).collect();
        let (name, bytes) = maker.pack(&all);
        store.put_new(&name, &bytes).unwrap();
        let path = store.path_of(&name);
        let head = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        std::fs::write(&path, &bytes[..head / 2]).unwrap();
        let (mut known, mut memory) = (None, Memory::default());
        packing.look(chain.clone(), &mut known, &mut memory).unwrap();
        let in_order = |known: &Option<Pieces>| known.as_ref().unwrap().in_order.len();
        assert_eq!(in_order(&known), 0);
        std::fs::write(&path, &bytes).unwrap();
        packing.look(chain.clone(), &mut known, &mut memory).unwrap();
        assert_eq!(in_order(&known), 0, "it is not looked at each time");
        alone.pass(BELIEVED_FOR);
        packing.look(chain, &mut known, &mut memory).unwrap();
        assert_eq!(in_order(&known), 1);
    }

    fn by(packing: &Packing) -> By {
        By {
            epoch: Epoch(2),
            writer: packing.settings.writer.clone(),
            now: Timestamp::now(),
        }
    }
}
