//! What happens outside of the agent and may change its verdict at once: something is mounted or unmounted on the way to a
//! destination; a command has changed something and says so; a restore begins or ends; a destination takes no more deltas,
//! or takes them again.
//!
//! The kernel tells of the table of mounts and of the word that a command leaves. Both are looked at now and then all the
//! same: a unit whose view of a mount ceases to follow the host's is told nothing.
//!
//! Invariant: it is woken by nothing that the agent does itself. Invariant: no destination is touched here, which may hang.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::config::{Config, StoreUrl};
use crate::durable;
use crate::health::LaneState;
use crate::mounts::{LARGEST_TABLE, Mounts, TABLE};
use crate::restore::LedgerPaths;
use crate::state::{LastNews, NEWS, State};

/// How often it is looked what is mounted though nobody says that it has changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often at most: a host that starts containers mounts all the time.
const LOOK_APART: Duration = Duration::from_secs(1);
/// How long it is waited for a change before it is looked whether anybody still wants to know.
const WAIT: u16 = 60_000;

/// What is watched, and how it was at the last look.
pub(super) struct Outside {
    /// Whether something was mounted or unmounted since the last look.
    has_moved: Arc<AtomicBool>,
    looked_at: Option<Instant>,
    /// By the folder of a destination: what is mounted on the way to it.
    ways: BTreeMap<PathBuf, Vec<(u64, PathBuf)>>,
    state: State,
    news: LastNews,
    /// Dropped, it watches no more.
    _watcher: Option<RecommendedWatcher>,
    is_restoring: bool,
    /// Lanes and destinations that take no deltas.
    troubled: BTreeSet<(String, String)>,
}

/// What a look has found.
#[derive(Debug)]
pub(super) struct Seen {
    /// Whether the destinations are to be looked at.
    pub has_happened: bool,
    /// What is mounted, where it was looked at.
    pub mounts: Option<Mounts>,
    /// For how long to sleep at most until the next look.
    pub again_within: Duration,
}

impl Outside {
    /// Watches. `woken` is told where something was mounted or unmounted, and where a command has left word.
    pub(super) fn watch(state: &State, woken: Arc<Notify>) -> Outside {
        let has_moved = watch_table(woken.clone());
        let told = move |event: Result<notify::Event, notify::Error>| {
            let is_news = |event: notify::Event| event.paths.iter().any(|path| path.ends_with(NEWS));
            if event.is_ok_and(is_news) {
                woken.notify_one();
            }
        };
        // Where it cannot be watched, it is looked at now and then.
        let watcher = notify::recommended_watcher(told).ok().and_then(|mut watcher| {
            let watches = watcher.watch(state.folder(), RecursiveMode::NonRecursive);
            watches.is_ok().then_some(watcher)
        });
        Outside {
            has_moved,
            looked_at: None,
            ways: BTreeMap::new(),
            state: state.clone(),
            news: state.last_news(),
            _watcher: watcher,
            is_restoring: false,
            troubled: BTreeSet::new(),
        }
    }

    /// Looks at all of it; `lanes` is how capture is.
    pub(super) fn look(&mut self, config: &Config, lanes: &[LaneState], now: Instant) -> Seen {
        let (mounts, again_within) = self.look_at_mounts(config, now);
        let is_elsewhere = mounts
            .as_ref()
            .is_some_and(|mounts| self.lead_elsewhere(config, mounts));
        let news = self.state.last_news();
        let is_told = std::mem::replace(&mut self.news, news) != news;
        let is_restoring = LedgerPaths::default().noticed().is_some();
        let was_restoring = std::mem::replace(&mut self.is_restoring, is_restoring);
        let troubled: BTreeSet<_> = lanes.iter().flat_map(troubled_of).collect();
        let were_troubled = std::mem::replace(&mut self.troubled, troubled);
        Seen {
            has_happened: is_elsewhere || is_told || is_restoring != was_restoring || were_troubled != self.troubled,
            mounts,
            again_within,
        }
    }

    /// What is mounted, if it is time to look, and when it is again.
    fn look_at_mounts(&mut self, config: &Config, now: Instant) -> (Option<Mounts>, Duration) {
        if folders(config).next().is_none() {
            return (None, Duration::MAX);
        }
        let pause = match self.has_moved.load(Ordering::Relaxed) {
            true => LOOK_APART,
            false => LOOK_EVERY,
        };
        let since = self.looked_at.map(|at| now.saturating_duration_since(at));
        if let Some(since) = since.filter(|since| *since < pause) {
            return (None, pause - since);
        }
        self.looked_at = Some(now);
        // Before it is read: what moves meanwhile is looked at again.
        self.has_moved.store(false, Ordering::Relaxed);
        let table = durable::read_linked(Path::new(TABLE), LARGEST_TABLE);
        // Where it cannot be read nothing is known, and all goes on as it is.
        let mounts = table.and_then(|table| Mounts::parse(&table)).ok();
        (mounts, LOOK_EVERY)
    }

    /// Whether the way to a destination is another than at the last look. Of one that was not there then nothing is known.
    fn lead_elsewhere(&mut self, config: &Config, mounts: &Mounts) -> bool {
        let ways = folders(config).map(|folder| (folder.to_owned(), mounts.way_to(folder)));
        let before = std::mem::replace(&mut self.ways, ways.collect());
        let mut ways = self.ways.iter();
        ways.any(|(folder, way)| before.get(folder).is_some_and(|before| before != way))
    }
}

/// The destinations that are folders of this host.
pub(super) fn folders(config: &Config) -> impl Iterator<Item = &Path> {
    let destinations = config.destinations.values();
    destinations.filter_map(|destination| match &destination.url {
        StoreUrl::File(root) => Some(root.as_path()),
        StoreUrl::Bucket { .. } | StoreUrl::Server { .. } => None,
    })
}

/// Has a thread wait for changes of the table: whether there was one. Where it cannot, there is none.
fn watch_table(woken: Arc<Notify>) -> Arc<AtomicBool> {
    let has_moved = Arc::new(AtomicBool::new(false));
    let wanted = Arc::downgrade(&has_moved);
    if let Ok(table) = durable::open_linked(Path::new(TABLE)) {
        std::thread::spawn(move || {
            while wanted.strong_count() > 0 {
                let mut asked = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
                match poll(&mut asked, PollTimeout::from(WAIT)) {
                    Ok(0) | Err(Errno::EINTR) => continue,
                    Ok(_) => {}
                    Err(_) => return,
                }
                let Some(has_moved) = wanted.upgrade() else { return };
                has_moved.store(true, Ordering::Relaxed);
                woken.notify_one();
                std::thread::sleep(LOOK_APART);
            }
        });
    }
    has_moved
}

fn troubled_of(lane: &LaneState) -> impl Iterator<Item = (String, String)> {
    let there = lane.destinations.iter().filter(|there| there.trouble.is_some());
    there.map(|there| (lane.lane.clone(), there.destination.clone()))
}
