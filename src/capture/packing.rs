//! Deltas become packs, in one destination: of the chain that this host writes, as they come there.
//!
//! Invariant: only who holds the newest epoch packs and removes.

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
use crate::pack::{self, By, FAN, Piece, next_pack, pack, remove_superseded};
use crate::store::Store;

/// How often it is looked whether there is something to pack.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether something has become superfluous, at the least.
const REMOVE_EVERY: Duration = Duration::from_secs(600);
/// How long it waits after a failure.
const PAUSE: Duration = Duration::from_secs(60);

/// What this host writes at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// Where it lies.
    pub path: ChainPath,
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

/// The packing in one destination.
pub(super) struct Packing {
    pub destination: String,
    pub settings: Arc<Settings>,
    pub around: Arc<dyn Surroundings>,
    pub writing: Arc<Writing>,
    pub arrived: Arc<Arrived>,
    pub stop: Arc<AtomicBool>,
}

/// What is known of a chain in the destination.
struct Pieces {
    chain: Chain,
    store: Store,
    /// One after the other, from the full on.
    in_order: Vec<Piece>,
    removed_at: Option<Instant>,
}

impl Packing {
    /// Packs until it is stopped. Blocks.
    pub fn run(&self) {
        let mut pieces: Option<Pieces> = None;
        let mut said = None;
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_EVERY.min(Duration::from_millis(250)));
            if Instant::now() < next {
                continue;
            }
            next = Instant::now() + LOOK_EVERY;
            let Some(chain) = self.writing.now() else { continue };
            if let Err(why) = self.look(chain, &mut pieces) {
                if said.as_ref() != Some(&why) && !self.stop.load(Ordering::Relaxed) {
                    let what = format!("destination {}: deltas are not packed: {why}", self.destination);
                    self.around.say(Level::Warning, &what);
                    said = Some(why);
                }
                pieces = None;
                next = Instant::now() + PAUSE;
            }
        }
    }

    fn look(&self, chain: Chain, known: &mut Option<Pieces>) -> Result<(), String> {
        let pieces = match known {
            Some(pieces) if pieces.chain == chain => pieces,
            _ => {
                self.arrived.take();
                known.insert(self.begin(chain)?)
            }
        };
        if pieces.store.locks() {
            // What is packed could not be removed.
            self.arrived.take();
            return Ok(());
        }
        for (name, bytes) in self.arrived.take() {
            if let ObjectName::Delta(path, span, _) = &name
                && *path == pieces.chain.path
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
            let made = pack(&pieces.store, taken, &by, &|| self.go_on()).map_err(|error| with_causes(&error))?;
            pieces.in_order.splice(range, [made]);
        }
        if pieces
            .removed_at
            .is_none_or(|at| at.elapsed() >= REMOVE_EVERY.min(self.settings.pack_after))
        {
            let links = links(&pieces.store, &pieces.chain.path)?;
            let is_outdone = links
                .iter()
                .any(|link| matches!(&link.name, ObjectName::Epoch(_, epoch) if *epoch > pieces.chain.epoch));
            if !is_outdone {
                let grace = SignedDuration::try_from(self.settings.pack_after).unwrap_or(SignedDuration::MAX);
                remove_superseded(&pieces.store, &links, grace, &|| self.go_on())
                    .map_err(|error| with_causes(&error))?;
            }
            pieces.removed_at = Some(Instant::now());
        }
        Ok(())
    }

    fn begin(&self, chain: Chain) -> Result<Pieces, String> {
        let store = self.around.open(&self.destination)?;
        let links = links(&store, &chain.path)?;
        let following = Following::of_links(chain.base, links.iter().map(|link| (self.destination.as_str(), link)));
        let reached = following.window().to;
        let planned = match reached > chain.base {
            true => following.plan(reached).map_err(|hole| format!("{hole:?}"))?,
            false => Vec::new(),
        };
        let mut in_order = Vec::new();
        for piece in planned {
            let link = links.iter().find(|link| link.name == piece.name);
            let piece = link.map(|link| pack::piece(&store, link)).transpose();
            in_order.extend(piece.map_err(|error| with_causes(&error))?);
        }
        Ok(Pieces {
            chain,
            store,
            in_order,
            removed_at: None,
        })
    }

    fn go_on(&self) -> std::ops::ControlFlow<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => std::ops::ControlFlow::Break(()),
            false => std::ops::ControlFlow::Continue(()),
        }
    }
}

fn links(store: &Store, path: &ChainPath) -> Result<Vec<Link>, String> {
    let listed = store.list_chain(path).map_err(|error| with_causes(&error))?;
    let links = listed.into_iter().filter_map(|object| match object.name {
        Listed::Ours(name) => Some(Link {
            name,
            bytes: object.bytes,
            written_at: object.modified,
        }),
        _ => None,
    });
    Ok(links.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;

    use super::super::{Cutting, Now, Others, Sight};
    use super::*;
    use crate::capture::Known;
    use crate::etcd::{self, choose::Wanted};
    use crate::layout::delta::tests::header;
    use crate::model::ByteSize;
    use crate::pack::tests::delta;
    use crate::pipeline::Encoding;
    use crate::signing::Authority;
    use crate::store::tests::store;

    /// A host whose only destination is this store.
    struct Alone(Store);

    impl Surroundings for Alone {
        fn now(&self) -> Now {
            Now {
                time: Timestamp::now(),
                uncertainty_ms: None,
                instant: Instant::now(),
            }
        }

        fn look(&self) -> Result<Sight, String> {
            Err("nobody looks".to_owned())
        }

        fn look_at(&self, _: &ChainPath) -> Result<Known, String> {
            Err("nobody looks".to_owned())
        }

        fn open(&self, _: &str) -> Result<Store, String> {
            Ok(self.0.clone())
        }

        fn access(&self) -> Result<etcd::Access, String> {
            Err("nobody asks etcd".to_owned())
        }

        fn take_full(&self, _: &str) -> Result<(), String> {
            Err("nobody takes one".to_owned())
        }

        fn say(&self, _: Level, what: &str) {
            panic!("{what}");
        }
    }

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
            around: Arc::new(Alone(store.clone())),
            writing: Arc::default(),
            arrived: Arc::default(),
            stop: Arc::default(),
        }
    }

    fn names(store: &Store, path: &ChainPath) -> (usize, usize) {
        let links = links(store, path).unwrap();
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
        let (_home, store) = store();
        let packing = packing(&store, Duration::from_secs(3600));
        let add = |i: i64| delta(&store, 10 * i + 1, 10 * i + 10).0;
        let there: Vec<Piece> = (0..10).map(add).collect();
        let path = there[0].name.chain().unwrap().clone();
        let chain = Chain {
            path: path.clone(),
            base: Revision::new(0).unwrap(),
            epoch: Epoch(2),
        };
        let mut known = None;
        packing.look(chain.clone(), &mut known).unwrap();
        assert_eq!(names(&store, &path), (10, 0));
        for i in 10..40 {
            let piece = add(i);
            packing.arrived.add(&piece.name, piece.bytes);
            packing.look(chain.clone(), &mut known).unwrap();
        }
        assert_eq!(names(&store, &path), (40, 2));
        // Another run finds the same.
        let mut again = None;
        packing.look(chain.clone(), &mut again).unwrap();
        let in_order = |known: &Option<Pieces>| known.as_ref().unwrap().in_order.clone();
        assert_eq!(in_order(&again), in_order(&known));
        assert_eq!(in_order(&again).len(), 2 + 8);

        let later = tests::packing(&store, Duration::ZERO);
        let mut third = None;
        later.look(chain.clone(), &mut third).unwrap();
        assert_eq!(names(&store, &path), (8, 2));
        // Who has been outdone removes nothing.
        store
            .put_new(&ObjectName::Epoch(path.clone(), Epoch(3)), b"{}")
            .unwrap();
        (40..48).for_each(|i| {
            let piece = add(i);
            later.arrived.add(&piece.name, piece.bytes);
        });
        later.look(chain, &mut third).unwrap();
        assert_eq!(names(&store, &path), (16, 3));
    }
}
