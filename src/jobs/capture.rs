//! The capture of changes, as a configuration asks for it: one lane for the destinations of this host alone, one for those
//! that several hosts write to.

mod seen;
mod turn;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use self::seen::{sight, written_last_beside};
use self::turn::Turn;
use super::backup::{Request, wanted};
use super::backup_now::{Asked, First, take_now};
use super::clock_error::clock_uncertainty_ms;
use super::stores::open_to_write;
use super::{Exit, Failure, Listener, failed, host, last_seen, signing};
use crate::backup::HashKvPolicy;
use crate::capture::{
    Board, Cutting, Known, Lane, Need, Now, Others, Place, Proofs, Proven, Settings, Sight, SnapshotFrom, Surroundings,
    WrittenBeside, run,
};
use crate::catalog::{Link, Pinned};
use crate::config::Config;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::etcd::{self, Ahead, survey};
use crate::health::Level;
use crate::layout::claim::State as ClaimState;
use crate::layout::{ChainPath, Listed, ObjectName, Origin, Outline, Writer};
use crate::model::ChainId;
use crate::pipeline::Encoding;
use crate::process::Interrupt;
use crate::restore::LedgerPaths;
use crate::slots::{APART, Claimant, HeldClaim, hosts_before};
use crate::state::State;
use crate::store::Store;

/// How long a store that hangs, or a job that is active, keeps a look waiting.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// What hears of a lane: how grave it is, which lane, and what.
pub type Say = Arc<dyn Fn(Level, &str, &str) + Send + Sync>;

/// The capture that is asked for.
pub struct CaptureOrder {
    /// The configuration.
    pub config: Arc<Config>,
    /// Raised when it is to stop.
    pub stop: watch::Receiver<bool>,
    /// Changed when there may be a new full backup.
    pub news: watch::Receiver<u64>,
    /// The lanes, as [`lanes`] gives them.
    pub lanes: Vec<OneLane>,
    /// Who hears of it.
    pub say: Say,
    /// What was said already that is not said again while the agent runs.
    pub said: Arc<Said>,
}

/// What was said once.
#[derive(Debug, Default)]
pub struct Said(Mutex<BTreeSet<String>>);

impl Said {
    /// Whether this was not said yet; it counts as said then.
    fn is_news(&self, what: &str) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(what.to_owned())
    }
}

/// A lane of a configuration.
#[derive(Debug, Clone)]
pub struct OneLane {
    others: Others,
    destinations: BTreeSet<String>,
    /// How it is.
    pub board: Arc<Board>,
}

/// The lanes of a configuration: none where no changes are captured. `turned` is told when what keeps one, or a destination of
/// one, from going on comes or goes.
pub fn lanes(config: &Config, turned: &Arc<Notify>) -> Vec<OneLane> {
    if !config.deltas.enabled {
        return Vec::new();
    }
    let names = config.deltas.destinations.iter().map(ToString::to_string);
    let (shared, own): (BTreeSet<String>, BTreeSet<String>) = names.partition(|name| config.is_shared(name));
    let lanes = [(Others::None, own), (Others::Hosts, shared)];
    let lanes = lanes.into_iter().filter(|(_, destinations)| !destinations.is_empty());
    let lanes = lanes.map(|(others, destinations)| OneLane {
        board: Arc::new(Board::new(
            (name_of(others), turned.clone()),
            config.deltas.every,
            config.deltas.spool,
            destinations.iter().cloned(),
        )),
        others,
        destinations,
    });
    lanes.collect()
}

fn name_of(others: Others) -> &'static str {
    match others {
        Others::None => "own",
        Others::Hosts => "shared",
    }
}

/// Captures on all lanes until it is told to stop. Blocks.
pub fn capture(order: &CaptureOrder, runtime: &Handle) {
    let lanes: Vec<_> = order.lanes.iter().collect();
    std::thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| capture_lane(order, lane, runtime));
        }
    });
    // Where there is no lane, or none can be, it is for the operator to change that.
    let mut stop = order.stop.clone();
    drop(runtime.block_on(async { stop.wait_for(|stop| *stop).await.map(|_| ()) }));
}

fn capture_lane(order: &CaptureOrder, lane: &OneLane, runtime: &Handle) {
    let name = name_of(lane.others);
    let around = match around_of(order, lane, runtime) {
        Ok(around) => around,
        Err(failure) => return (order.say)(Level::Error, name, failure.message()),
    };
    let settings = match settings_of(order, lane, &around.state) {
        Ok(settings) => settings,
        Err(failure) => return (order.say)(Level::Error, name, failure.message()),
    };
    let signals = Lane {
        stop: order.stop.clone(),
        news: order.news.clone(),
    };
    runtime.block_on(run(settings, Arc::new(around), lane.board.clone(), signals));
}

fn settings_of(order: &CaptureOrder, lane: &OneLane, state: &State) -> Result<Settings, Failure> {
    let config = &*order.config;
    let deltas = &config.deltas;
    let hash_kv_every = match config.backup.hash_kv {
        HashKvPolicy::Auto | HashKvPolicy::Always => Some(deltas.hash_kv_every),
        HashKvPolicy::Never => None,
    };
    Ok(Settings {
        name: name_of(lane.others),
        others: lane.others,
        cluster: config.cluster.name.clone(),
        destinations: lane.destinations.clone(),
        cutting: Cutting {
            every: deltas.every,
            max_bytes: deltas.max_bytes,
        },
        mark_every: deltas.mark_every,
        pack_after: deltas.pack_after,
        hash_kv_every,
        snapshot_from: SnapshotFrom::MEASURED,
        spool: state.folder().join("deltas").join(name_of(lane.others)),
        spool_most: deltas.spool,
        members: host::endpoints(config),
        wanted: wanted(config, None)?,
        encoding: Encoding {
            level: config.compression.level,
            threads: config.compression.threads,
            recipients: config.encryption.recipients.clone(),
            stall_limit: STALL_LIMIT,
        },
        authority: signing::authority_to_write(config, state)?,
        writer: Writer {
            host: host::host_name().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run: format!("{:08x}", getrandom::u32().map_err(failed)?),
        },
    })
}

fn around_of(order: &CaptureOrder, lane: &OneLane, runtime: &Handle) -> Result<Around, Failure> {
    Ok(Around {
        name: name_of(lane.others),
        others: lane.others,
        config: order.config.clone(),
        state: host::state(&order.config.cluster.name)?,
        destinations: lane.destinations.iter().cloned().collect(),
        stop: order.stop.clone(),
        say: order.say.clone(),
        said: order.said.clone(),
        runtime: runtime.clone(),
        proofs: Mutex::default(),
    })
}

/// What a lane asks for.
struct Around {
    name: &'static str,
    others: Others,
    config: Arc<Config>,
    state: State,
    destinations: Vec<String>,
    stop: watch::Receiver<bool>,
    say: Say,
    said: Arc<Said>,
    runtime: Handle,
    proofs: Mutex<Proofs>,
}

impl Surroundings for Around {
    fn now(&self) -> Now {
        Now {
            time: host::now(),
            uncertainty_ms: clock_uncertainty_ms(),
            instant: Instant::now(),
        }
    }

    fn look(&self) -> Result<Sight, String> {
        let opened = open_to_write(&self.config, &self.state, &self.destinations).map_err(in_words)?;
        let mut read = Destinations::read(self.config.cluster.name.clone(), &opened, None);
        last_seen::hold_against(&mut read, &self.state);
        if read.stores.is_empty() {
            // Why is told by whoever looks at the destinations.
            let names: Vec<&str> = read.unreadable.iter().map(|(name, _)| name.as_str()).collect();
            return Err(format!("no destination can be read ({})", names.join(", ")));
        }
        Ok(sight(&read.catalog, |backup| {
            self.proofs().weigh(backup.manifest(), &Place::of(backup, &read.stores))
        }))
    }

    fn written_last_beside(&self, full: &Outline) -> Result<WrittenBeside, String> {
        let opened = open_to_write(&self.config, &self.state, &self.destinations).map_err(in_words)?;
        let read = Destinations::read(self.config.cluster.name.clone(), &opened, None);
        written_last_beside(&read.catalog, full, |backup| {
            let proven = self
                .proofs()
                .prove(backup.manifest(), &Place::of(backup, &read.stores))?;
            Ok(proven.known)
        })
    }

    fn look_at(&self, full: &Outline) -> Result<Known, String> {
        let mut why = "no destination is configured".to_owned();
        for destination in &self.destinations {
            let looked = self
                .links_in(destination, &full.chain_path())
                .and_then(|(store, links)| {
                    let place = Place {
                        destination,
                        store: &store,
                        links,
                    };
                    self.proofs().prove(full, &[place])
                });
            match looked {
                Ok(proven) => return Ok(proven.known),
                Err(error) => why = format!("{destination}: {error}"),
            }
        }
        Err(why)
    }

    fn prove(&self, full: &Outline) -> Result<Option<Proven>, String> {
        let manifest = ObjectName::FullManifest(full.chain_path(), full.to_revision);
        let (mut stores, mut reasons) = (Vec::new(), Vec::new());
        for destination in &self.destinations {
            let listed = self.open(destination).and_then(|store| {
                let listed = store.list_chain(&full.chain_path());
                Ok((store, listed.map_err(|error| with_causes(&error))?))
            });
            match listed {
                Ok((store, listed)) => {
                    if listed
                        .iter()
                        .any(|object| object.name == Listed::Ours(manifest.clone()))
                    {
                        stores.push((destination, store, Link::listed(listed)));
                    }
                }
                Err(error) => reasons.push(format!("{destination}: {error}")),
            }
        }
        if stores.is_empty() {
            return match reasons.is_empty() {
                true => Ok(None),
                false => Err(reasons.join("; ")),
            };
        }
        let places = stores.iter().map(|(destination, store, links)| Place {
            destination,
            store,
            links: links.clone(),
        });
        let places: Vec<Place<'_>> = places.collect();
        self.proofs().prove(full, &places).map(Some)
    }

    fn open(&self, destination: &str) -> Result<Store, String> {
        let opened = open_to_write(&self.config, &self.state, &[destination.to_owned()]).map_err(in_words)?;
        let opened = opened.into_iter().next().ok_or("it is not configured")?;
        opened.store.map_err(|error| with_causes(&error))
    }

    fn fed_since(&self, destination: &str) -> Option<Timestamp> {
        let known = self.state.fed_since().ok()?;
        let found = known.into_iter().find(|fed| fed.name == destination);
        found.map(|fed| fed.since)
    }

    fn access(&self) -> Result<etcd::Access, String> {
        host::access(&self.config).map_err(in_words)
    }

    fn turn_after(&self) -> Duration {
        let (Ok(access), Ok(this_host)) = (host::access(&self.config), host::this_host()) else {
            return Duration::ZERO;
        };
        let members = host::endpoints(&self.config);
        let surveyed = self.runtime.block_on(survey(&members, &access, Ahead::Far));
        let candidates: Vec<_> = surveyed.into_iter().map(|surveyed| surveyed.candidate).collect();
        let local = self.config.local_member(&this_host);
        let name = local.name().map(|name| name.as_str());
        let apart = APART.unsigned_abs();
        // Those without a member are all the last: each waits for another while.
        let among_the_last = match (name, getrandom::u32()) {
            (None, Ok(random)) => apart.mul_f64(f64::from(random) / f64::from(u32::MAX)),
            (Some(_), _) | (None, Err(_)) => Duration::ZERO,
        };
        let before = u32::try_from(hosts_before(&candidates, name)).unwrap_or(u32::MAX);
        apart.saturating_mul(before).saturating_add(among_the_last)
    }

    fn take_full(&self, why: &str, need: Need) -> Result<(), String> {
        let held = self.claim_full(need)?;
        let asked = Asked {
            request: Request {
                origin: Origin::Schedule,
                schedule: None,
                slot: None,
                member: None,
                pace: None,
                pinned: Pinned::No,
                note: Some(why.chars().filter(|c| !c.is_control()).take(MOST_NOTED).collect()),
            },
            to: self.destinations.clone(),
            wait: Duration::ZERO,
            first: First::WasClaimed,
        };
        let listen = || Interrupt::of(&self.runtime, self.stop.clone());
        let show = |_| self.runtime.spawn(std::future::ready(()));
        let (outcome, _) = take_now(&self.config, asked, (self, &self.runtime), listen, show).map_err(|failure| {
            match failure.exit {
                Exit::Locked => "another run is active".to_owned(),
                _ => failure.message().to_owned(),
            }
        })?;
        let stored = outcome.destinations.iter().any(|written| written.result.is_ok());
        held.into_iter().for_each(|claim| claim.end(ClaimState::Done));
        match stored && outcome.manifest.faults.is_empty() {
            true => Ok(()),
            false => Err("it is not good, or nowhere".to_owned()),
        }
    }

    fn restoring(&self) -> Option<String> {
        LedgerPaths::default().noticed()
    }

    fn say(&self, level: Level, what: &str) {
        (self.say)(level, self.name, what);
    }

    fn say_once(&self, level: Level, what: &str) {
        if self.said.is_news(what) {
            (self.say)(level, self.name, what);
        }
    }
}

impl Around {
    fn proofs(&self) -> MutexGuard<'_, Proofs> {
        // What is not in it is found out once more.
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a destination has of a chain.
    fn links_in(&self, destination: &str, chain: &ChainPath) -> Result<(Store, Vec<Link>), String> {
        let store = self.open(destination)?;
        let listed = store.list_chain(chain).map_err(|error| with_causes(&error))?;
        Ok((store, Link::listed(listed)))
    }

    /// Claims a full backup where others write as well; says who takes one, or that the first one has come, where that is so.
    fn claim_full(&self, need: Need) -> Result<Vec<HeldClaim>, String> {
        let mut held = Vec::new();
        if self.others == Others::None {
            return Ok(held);
        }
        let random = getrandom::u32().map_err(|error| error.to_string())?;
        let claimant = Claimant {
            host: host::host_name(),
            run: format!("{random:08x}"),
            // Of no backup: it only tells this run from others.
            chain: ChainId::new(host::now(), random),
        };
        for destination in open_to_write(&self.config, &self.state, &self.destinations).map_err(in_words)? {
            let store = destination.store.as_ref();
            // What keeps anybody from claiming there keeps the backup out of it, and is told with that.
            let Some(Ok(turn)) = store.ok().map(|store| turn::claim(store, need, &claimant, host::now())) else {
                continue;
            };
            match turn {
                Turn::Held(claims) => held.extend(claims),
                Turn::Others(host) => return Err(format!("host {host} takes one in destination {}", destination.name)),
            }
        }
        match need {
            Need::Another => Ok(held),
            // It may have been taken between the last look and the claim.
            Need::First => match self.look()? {
                Sight::None(_) => Ok(held),
                Sight::Full(full, _) => Err(format!("{} has come meanwhile", full.chain)),
                Sight::Undecided(why) | Sight::Unaccepted(why, _) => Err(why),
            },
        }
    }
}

/// How many characters of a reason stand in the note of a backup.
const MOST_NOTED: usize = 300;

impl Listener for Around {
    fn warn(&self, text: &str) {
        Surroundings::say(self, Level::Warning, text);
    }

    fn detail(&self, _: &str) {}
}

fn in_words(failure: Failure) -> String {
    failure.message().to_owned()
}
