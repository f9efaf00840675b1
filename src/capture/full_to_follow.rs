//! Which full backup is followed; what becomes of a chain that cannot be gone on with is in `chain_ends`.

mod beginning;
mod chain_ends;
mod shared;
mod waiting;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};

use super::delivery::Delivery;
use super::follow::{Desk, Following, Signals, blocking, stopped};
use super::packing::{Arrived, Chain, Packing, Writing};
use super::set_aside::SetAside;
use super::spool::Spool;
use super::status::Board;
use super::unwatched::Memory;
use super::{Need, Others, Settings, Sight, Surroundings, told};
use crate::health::{Capturing, Level};
use crate::layout::ObjectName;
use crate::model::ChainId;
use crate::source::delta::Belongs;
use chain_ends::Before;

/// How often the destinations are looked at though nobody says that there is something new.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The same of those that are on a network, where a look costs more.
const LOOK_AT_SHARED_EVERY: Duration = Duration::from_secs(300);
/// The pauses after what may pass by itself, the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// The same before another full backup.
const FULL_PAUSES: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(600));
/// How long the last deltas may take to their destinations when it is to stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether they are there.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What reaches a lane from outside.
pub struct Lane {
    /// Raised when it is to stop.
    pub stop: watch::Receiver<bool>,
    /// Changed when there may be a new full backup.
    pub news: watch::Receiver<u64>,
}

/// Captures until it is stopped.
pub async fn run(settings: Settings, around: Arc<dyn Surroundings>, board: Arc<Board>, lane: Lane) {
    let settings = Arc::new(settings);
    let Some(spool) = open_spool(&settings, &around, &board, &lane.stop).await else {
        return;
    };
    board.spool(spool.bytes());
    let (beside, trouble) = Memory::of(&settings.spool, around.now().time);
    let (set_aside, unread) = SetAside::of(&settings.spool);
    for why in trouble.into_iter().chain(unread) {
        around.say(Level::Warning, &why);
    }
    let told_to_stop = Arc::new(AtomicBool::new(false));
    let writing = Arc::new(Writing::default());
    let (gone, lost) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let work = deliver(
        &settings,
        &spool,
        &around,
        &board,
        (&writing, &gone, &lost),
        &told_to_stop,
    );
    let (sender, sights) = mpsc::channel(1);
    let looking = look_now_and_then(settings.others, around.clone(), (lane.news, gone), sender);
    let looking = tokio::spawn(looking);
    let running = Running {
        signals: Signals {
            stop: lane.stop,
            sights,
        },
        pause: PAUSES.0,
        full_pause: FULL_PAUSES.0,
        ended: HashSet::new(),
        set_aside,
        told: HashSet::new(),
        has_claimed: false,
        is_its_turn: false,
        restored: None,
        owed: None,
        current: None,
        before: None,
        writing: writing.clone(),
        desk: Desk {
            settings: settings.clone(),
            spool: spool.clone(),
            around,
            board,
            beside: Arc::new(Mutex::new(beside)),
            lost,
            refused: HashSet::new(),
        },
    };
    running.go_on().await;
    looking.abort();
    let begun = Instant::now();
    let is_done = || settings.destinations.iter().all(|name| spool.is_done_for(name));
    while !is_done() && begun.elapsed() < DRAIN_WITHIN {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    told_to_stop.store(true, Ordering::Relaxed);
    spool.wake();
    // One that hangs in a store is not waited for.
    while work.iter().any(|delivery| !delivery.is_finished()) && begun.elapsed() < DRAIN_WITHIN * 2 {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

async fn open_spool(
    settings: &Arc<Settings>,
    around: &Arc<dyn Surroundings>,
    board: &Board,
    stop: &watch::Receiver<bool>,
) -> Option<Arc<Spool>> {
    loop {
        let settings = settings.clone();
        let opened = blocking(move || {
            Spool::open(&settings.spool, settings.spool_most, settings.destinations.clone())
                .map_err(|error| told(&error))
        });
        match opened.await {
            Ok(spool) => {
                for lost in spool.lost() {
                    let message = format!("{}: what it held is captured anew, as far as etcd has it", told(lost));
                    around.say(Level::Warning, &message);
                }
                return Some(Arc::new(spool));
            }
            Err(why) => {
                if board.trouble(&why, around.now().time) {
                    around.say(Level::Error, &format!("nothing is captured: {why}"));
                }
            }
        }
        if rest(PAUSES.1, stop).await {
            return None;
        }
    }
}

fn deliver(
    settings: &Arc<Settings>,
    spool: &Arc<Spool>,
    around: &Arc<dyn Surroundings>,
    board: &Arc<Board>,
    (writing, gone, lost): (&Arc<Writing>, &Arc<Notify>, &Arc<Notify>),
    stop: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    let destinations = settings.destinations.iter();
    let begun = destinations.flat_map(|destination| {
        let arrived = Arc::new(Arrived::default());
        let packing = Packing {
            destination: destination.clone(),
            settings: settings.clone(),
            around: around.clone(),
            writing: writing.clone(),
            arrived: arrived.clone(),
            stop: stop.clone(),
        };
        let delivery = Delivery {
            destination: destination.clone(),
            spool: spool.clone(),
            around: around.clone(),
            board: board.clone(),
            arrived,
            gone: gone.clone(),
            lost: lost.clone(),
            stop: stop.clone(),
        };
        [
            std::thread::spawn(move || delivery.run()),
            std::thread::spawn(move || packing.run()),
        ]
    });
    begun.collect()
}

async fn look_now_and_then(
    others: Others,
    around: Arc<dyn Surroundings>,
    (mut news, gone): (watch::Receiver<u64>, Arc<Notify>),
    sights: mpsc::Sender<Result<Sight, String>>,
) {
    let every = match others {
        Others::None => LOOK_EVERY,
        Others::Hosts => LOOK_AT_SHARED_EVERY,
    };
    loop {
        tokio::select! {
            changed = news.changed() => if changed.is_err() {
                return;
            },
            () = gone.notified() => {}
            () = tokio::time::sleep(every) => {}
        }
        let around = around.clone();
        let sight = blocking(move || around.look()).await;
        if sights.send(sight).await.is_err() {
            return;
        }
    }
}

/// Waits; whether it is to stop.
async fn rest(pause: Duration, stop: &watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(pause) => false,
        () = stopped(stop.clone()) => true,
    }
}

struct Running {
    desk: Desk,
    writing: Arc<Writing>,
    signals: Signals,
    current: Option<Following>,
    /// The chain that was followed before, until the new one has proven that it can be.
    before: Option<Following>,
    /// Chains that were ended.
    ended: HashSet<ChainId>,
    /// Those of them whose cluster was another one for a while, or is.
    set_aside: SetAside,
    /// What was told to count for nothing.
    told: HashSet<ObjectName>,
    /// Whether it has taken an epoch that others might have taken.
    has_claimed: bool,
    /// Whether it has let others go first who might take the first backup.
    is_its_turn: bool,
    /// The restore that has run on this host since anything was captured.
    restored: Option<String>,
    /// Why a full backup is to be taken that could not be taken yet.
    owed: Option<String>,
    pause: Duration,
    full_pause: Duration,
}

impl Running {
    async fn go_on(mut self) {
        while !*self.signals.stop.borrow() {
            if let Some(id) = self.restoring().await {
                self.wait_for_restore(id).await;
                continue;
            }
            let following = self.current.take();
            let path = following.as_ref().map(|following| following.full.chain_path());
            self.desk.spool.follow(path);
            let Some(mut following) = following else {
                self.begin().await;
                continue;
            };
            let tip = following.tip;
            self.say_chain(&following);
            self.writing.set(Some(Chain {
                belongs: Belongs {
                    chain: following.full.chain_path(),
                    lineage: following.full.lineage.clone(),
                },
                base: following.full.to_revision,
                epoch: following.scribe.epoch,
            }));
            let end = self.desk.follow(&mut following, &mut self.signals).await;
            self.writing.set(None);
            if following.tip != tip {
                (self.pause, self.full_pause) = (PAUSES.0, FULL_PAUSES.0);
                self.restored = None;
            }
            if following.has_content() {
                self.leave_before(&following);
            }
            self.come_to(following, end).await;
        }
        self.desk.board.change(|state| state.capturing = Capturing::Waiting);
    }

    /// Finds a chain to go on with.
    async fn begin(&mut self) {
        let around = self.desk.around.clone();
        match blocking(move || around.look()).await {
            Err(why) | Ok(Sight::Undecided(why) | Sight::Unaccepted(why, _)) => {
                self.trouble(&why);
                self.rest().await;
            }
            Ok(Sight::None(why)) => match self.desk.settings.others {
                Others::Hosts if !self.is_its_turn => self.wait_for_its_turn().await,
                Others::None | Others::Hosts => {
                    self.is_its_turn = false;
                    self.take_full(&why, Need::First).await;
                }
            },
            Ok(Sight::Full(full, _)) if self.desk.refused.contains(&full.chain) => {
                match self.reaching_beyond(&full).await {
                    Some((before, known)) => self.go_back_to(Before::Found(Box::new(before), known)).await,
                    None => {
                        let why = format!("backup {}, the newest, cannot be followed", full.chain);
                        self.take_full(&why, Need::Another).await;
                    }
                }
            }
            Ok(Sight::Full(full, _)) => self.begin_with(*full).await,
        }
    }

    fn say_chain(&self, following: &Following) {
        // What the chain before holds is safe as well.
        let before = self.before.as_ref();
        let before = before.filter(|before| before.full.lineage == following.full.lineage);
        let captured_to = before.map_or(following.tip, |before| before.tip.max(following.tip));
        self.desk.board.change(|state| {
            state.chain = Some(following.full.chain.clone());
            state.base = Some(following.full.to_revision);
            state.epoch = Some(following.scribe.epoch.0);
            state.writer = None;
            state.captured_to = Some(captured_to);
        });
    }
}
