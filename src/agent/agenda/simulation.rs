//! Three hosts with one store between them, on clocks that the test moves: hosts are killed, restarted, switched off and
//! put to sleep, and their clocks are set.
//!
//! The decisions are the real ones: the agenda's, the schedule's and those on claims. What stands for the world is the
//! store, which is a list, and the work, which is a while that passes.

use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;

use super::*;
use crate::layout::Clocks;
use crate::layout::HostName;
use crate::layout::claim::CLAIM_HOLDS;
use crate::layout::claim::{Claim, Found, State};
use crate::model::ChainId;
use crate::schedule::calendar::OnCalendar;
use crate::schedule::{CatchUp, Watch, When};
use crate::slots::{Standing, standing};

const HOSTS: usize = 3;
const TICK: Duration = Duration::from_secs(20);
/// How long each scenario is, and the time after a slot within which one that is never disturbed must have seen to it:
/// less than any schedule's period, more than all others dying over it one after the other takes.
const LENGTH: Duration = Duration::from_secs(10 * 3600);
const GRACE: Duration = Duration::from_secs(25 * 60);
const APART: SignedDuration = SignedDuration::from_secs(5);
/// How long before its slot a backup may have been taken.
const NEARLY: SignedDuration = SignedDuration::from_mins(10);

const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
/// Changes by half an hour.
const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The machine is off, and on again.
    Off(Duration),
    /// The agent is started anew at once.
    Restart,
    /// The same, right after the next backup was stored and before anything else was said of it.
    KilledOnceStored,
    Asleep(Duration),
    ClockSet(SignedDuration),
}

#[derive(Debug, Clone)]
struct Scenario {
    when: When,
    catch_up: CatchUp,
    begin: Timestamp,
    destinations: &'static str,
    work: Duration,
    jitters: [u64; HOSTS],
    /// What the shared store's clock shows after the true time.
    store_behind: SignedDuration,
    /// When, and to which host.
    events: Vec<(Duration, usize, Event)>,
}

/// A backup in the shared store.
#[derive(Debug)]
struct Backup {
    slot: Slot,
    host: usize,
    chain: ChainId,
    /// What the clocks showed then.
    begun: Clocks,
    /// By the store's clock.
    ended: Timestamp,
}

impl Backup {
    /// As in a catalog.
    fn counts_for(&self, slot: Slot, clocks: Clocks) -> bool {
        self.slot == slot && clocks.counts_for(slot.instant(), self.ended)
    }
}

#[derive(Default)]
struct Store {
    behind: SignedDuration,
    claims: BTreeMap<Slot, Vec<Found>>,
    backups: Vec<Backup>,
}

impl Store {
    fn stands(&self, slot: Slot, gone: &[ChainId], clocks: Clocks) -> Standing {
        let newest = self.claims.get(&slot).and_then(|claims| claims.last());
        let is_there = |chain: &ChainId| {
            self.backups
                .iter()
                .any(|backup| backup.slot == slot && backup.chain == *chain)
        };
        standing(slot.instant(), newest, |chain| gone.contains(chain), is_there, clocks)
    }

    /// What its clock shows at a true time.
    fn clock(&self, now: Timestamp) -> Timestamp {
        now - self.behind
    }

    /// Create-if-absent: false if another has that number.
    fn put(&mut self, slot: Slot, number: u32, claim: Claim, now: Timestamp) -> bool {
        let claims = self.claims.entry(slot).or_default();
        if claims.iter().any(|claim| claim.number >= number) {
            return false;
        }
        claims.push(Found {
            number,
            written_at: now,
            claim: Ok(claim),
        });
        true
    }
}

struct Host {
    index: usize,
    schedule: Schedule,
    destinations: BTreeSet<DestinationName>,
    agenda: Agenda,
    /// What is on its disk.
    memory: Memory,
    /// What its clock shows before the true time.
    ahead: SignedDuration,
    running: Duration,
    watch: Watch,
    away_until: Timestamp,
    job: Option<Job>,
    dies_once_stored: bool,
    /// Chains of its own whose runs are dead.
    gone: Vec<ChainId>,
    /// The backups in its own store.
    own: Vec<Slot>,
}

struct Job {
    slot: Slot,
    destinations: BTreeSet<DestinationName>,
    chain: ChainId,
    begun: Clocks,
    left: Duration,
    /// The number of its next claim, if it has the slot of the shared store.
    number: Option<u32>,
    claimed: Timestamp,
}

fn entry(schedule: &Schedule, destinations: &BTreeSet<DestinationName>, memory: Memory) -> Agenda {
    let entry = Entry::new(schedule.clone(), destinations.clone(), memory);
    Agenda {
        entries: BTreeMap::from([(name(), entry)]),
    }
}

fn name() -> ScheduleName {
    "a".parse().unwrap()
}

fn is_shared(name: &DestinationName) -> bool {
    name.as_str() == "nas"
}

impl Host {
    fn new(index: usize, scenario: &Scenario) -> Host {
        let schedule = Schedule {
            when: scenario.when.clone(),
            jitter: Duration::from_secs(scenario.jitters[index]),
            catch_up: scenario.catch_up,
            late_after: Duration::from_secs(600),
        };
        let destinations: BTreeSet<DestinationName> = scenario
            .destinations
            .split(' ')
            .map(|name| name.parse().unwrap())
            .collect();
        let memory = Memory::new(&schedule.when, scenario.begin);
        Host {
            agenda: entry(&schedule, &destinations, memory.clone()),
            watch: Watch::begin(scenario.begin, Duration::ZERO),
            away_until: scenario.begin,
            ahead: SignedDuration::ZERO,
            running: Duration::ZERO,
            job: None,
            dies_once_stored: false,
            gone: Vec::new(),
            own: Vec::new(),
            index,
            schedule,
            destinations,
            memory,
        }
    }

    fn meet(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Off(time) => {
                self.die(now);
                self.away_until = now + time;
            }
            Event::Restart => self.die(now),
            Event::KilledOnceStored => self.dies_once_stored = true,
            Event::Asleep(time) => self.away_until = now + time,
            Event::ClockSet(by) => self.ahead += by,
        }
    }

    fn die(&mut self, now: Timestamp) {
        self.gone.extend(self.job.take().map(|job| job.chain));
        self.agenda = entry(&self.schedule, &self.destinations, self.memory.clone());
        self.running = Duration::ZERO;
        self.away_until = self.away_until.max(now);
        // It begins when it is up; before that nobody looks.
        self.watch = Watch::begin(self.away_until + self.ahead, Duration::ZERO);
    }

    fn act(&mut self, store: &mut Store, work: Duration, now: Timestamp) {
        if now < self.away_until {
            return;
        }
        self.running += TICK;
        let wall = now + self.ahead;
        self.watch.look(wall, self.running);
        if let Some(job) = self.job.take() {
            return self.go_on(job, store, now);
        }
        let run = self.agenda.next(self.watch.from(), wall);
        if let Next::Run { slot, destinations, .. } = run {
            self.start(slot, destinations, store, work, now);
        }
    }

    fn start(
        &mut self,
        slot: Slot,
        mut open: BTreeSet<DestinationName>,
        store: &mut Store,
        work: Duration,
        now: Timestamp,
    ) {
        let wall = now + self.ahead;
        let now = store.clock(now);
        let clocks = Clocks { host: wall, store: now };
        let turn = self.schedule.due_at(slot) + APART * i32::try_from(self.index).unwrap();
        let mut fates = BTreeMap::new();
        let chain = ChainId::new(now, u32::try_from(store.claims.len() * HOSTS + self.index).unwrap());
        let mut number = None;
        for name in &open.clone() {
            let fate = match is_shared(name) {
                false => self.own.contains(&slot).then(|| self.stored(self.index, &chain)),
                true => match store.stands(slot, &self.gone, clocks) {
                    Standing::Done { host, chain } => Some(Fate::Stored(Stored { host, id: Some(chain) })),
                    Standing::Held { left, .. } => Some(later(wall, left)),
                    Standing::Free(_) if wall < turn => Some(later(wall, turn.duration_since(wall))),
                    Standing::Free(free) => {
                        let taken = store.put(slot, free, self.claim(&chain, State::Taking, now), now);
                        assert!(taken, "nothing comes between looking and claiming here");
                        let before = store.backups.iter().find(|backup| backup.counts_for(slot, clocks));
                        match before.map(|backup| self.stored(backup.host, &backup.chain)) {
                            Some(stored) => {
                                store.put(slot, free + 1, self.claim(&chain, State::GivenUp, now), now);
                                Some(stored)
                            }
                            None => {
                                number = Some(free + 1);
                                None
                            }
                        }
                    }
                },
            };
            if let Some(fate) = fate {
                open.remove(name);
                fates.insert(name.clone(), fate);
            }
        }
        self.note(slot, fates, wall);
        self.job = (!open.is_empty()).then_some(Job {
            slot,
            destinations: open,
            chain,
            begun: clocks,
            left: work,
            number,
            claimed: now,
        });
    }

    fn go_on(&mut self, mut job: Job, store: &mut Store, now: Timestamp) {
        job.left = job.left.saturating_sub(TICK);
        let (wall, real, now) = (now + self.ahead, now, store.clock(now));
        if let Some(number) = job
            .number
            .filter(|_| now.duration_since(job.claimed) >= CLAIM_HOLDS / 3)
        {
            let still = store.put(job.slot, number, self.claim(&job.chain, State::Taking, now), now);
            job.number = still.then_some(number + 1);
            job.claimed = now;
        }
        if !job.left.is_zero() {
            self.job = Some(job);
            return;
        }
        for name in &job.destinations {
            match is_shared(name) {
                false => self.own.push(job.slot),
                true => store.backups.push(Backup {
                    slot: job.slot,
                    host: self.index,
                    chain: job.chain.clone(),
                    begun: job.begun,
                    ended: now,
                }),
            }
        }
        if std::mem::take(&mut self.dies_once_stored) {
            self.job = Some(job);
            return self.die(real);
        }
        if job.destinations.iter().any(is_shared) {
            let newest = store.claims.get(&job.slot).and_then(|claims| claims.last());
            let number = newest.map_or(1, |newest| newest.number + 1);
            store.put(job.slot, number, self.claim(&job.chain, State::Done, now), now);
        }
        let fates = job.destinations.iter();
        let fates = fates.map(|name| (name.clone(), self.stored(self.index, &job.chain)));
        let fates = fates.collect();
        self.note(job.slot, fates, wall);
    }

    fn note(&mut self, slot: Slot, fates: BTreeMap<DestinationName, Fate>, wall: Timestamp) {
        if let Some(memory) = self.agenda.tried(&name(), slot, fates, Vec::new(), wall) {
            self.memory = memory.clone();
        }
    }

    fn claim(&self, chain: &ChainId, state: State, now: Timestamp) -> Claim {
        Claim::new(
            &HostName::nearest(&format!("h{}", self.index)),
            "run",
            chain,
            state,
            now,
        )
    }

    fn stored(&self, host: usize, chain: &ChainId) -> Fate {
        Fate::Stored(Stored {
            host: format!("h{host}"),
            id: Some(chain.clone()),
        })
    }
}

fn later(wall: Timestamp, left: SignedDuration) -> Fate {
    let left = left.clamp(SignedDuration::from_secs(1), SignedDuration::from_secs(10));
    Fate::Later {
        why: "another host".to_owned(),
        until: wall + left,
    }
}

/// Lets the scenario happen; gives the hosts and the store at its end.
fn play(scenario: &Scenario) -> (Vec<Host>, Store) {
    let mut hosts: Vec<Host> = (0..HOSTS).map(|index| Host::new(index, scenario)).collect();
    let mut store = Store {
        behind: scenario.store_behind,
        ..Store::default()
    };
    let mut events = scenario.events.clone();
    events.sort_by_key(|(after, ..)| *after);
    let mut events = events.into_iter().peekable();
    let mut passed = Duration::ZERO;
    while passed < LENGTH {
        passed += TICK;
        let now = scenario.begin + passed;
        while let Some((_, host, event)) = events.next_if(|(after, ..)| *after <= passed) {
            hosts[host].meet(event, now);
        }
        for host in &mut hosts {
            host.act(&mut store, scenario.work, now);
        }
    }
    (hosts, store)
}

fn calendar(text: &str, rule: &str) -> When {
    let zone = TimeZone::posix(rule).unwrap();
    let calendar = OnCalendar::parse(text, &zone, &TimeZoneDatabase::none()).unwrap();
    When::Calendar(Box::new(calendar))
}

fn event() -> impl Strategy<Value = Event> {
    let minutes = || (1..200_u64).prop_map(|minutes| Duration::from_secs(minutes * 60));
    let hour = SignedDuration::from_hours(1);
    let day = hour * 24;
    prop_oneof![
        2 => minutes().prop_map(Event::Off),
        2 => Just(Event::Restart),
        2 => Just(Event::KilledOnceStored),
        2 => minutes().prop_map(Event::Asleep),
        1 => (-86_400..=86_400_i64).prop_map(|seconds| Event::ClockSet(SignedDuration::from_secs(seconds))),
        2 => prop::sample::select(vec![day, -day]).prop_map(Event::ClockSet),
        2 => prop::sample::select(vec![hour * 2, hour * -2]).prop_map(Event::ClockSet),
    ]
}

/// A few hours before a change of a clock in one of the zones, or somewhere else.
fn beginning() -> impl Strategy<Value = Timestamp> {
    const CHANGES: [&str; 6] = [
        "2026-03-08T07:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
    ];
    let change = prop::sample::select(CHANGES.to_vec());
    (change, 0..36_000_i64).prop_map(|(change, before)| {
        let change: Timestamp = change.parse().unwrap();
        change - SignedDuration::from_secs(before)
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let of_calendar = (
        prop::sample::select(vec!["hourly", "*:0/30", "*:07,47", "1..3:0/30", "Sun *:0"]),
        prop::sample::select(vec![BERLIN, NEW_YORK, LORD_HOWE]),
    );
    let when = prop_oneof![
        4 => of_calendar.prop_map(|(text, rule)| calendar(text, rule)),
        1 => prop::sample::select(vec!["45m", "2h"]).prop_map(|text| When::Every(text.parse().unwrap())),
    ];
    let events = (0..=LENGTH.as_secs(), 0..HOSTS, event())
        .prop_map(|(second, host, event)| (Duration::from_secs(second), host, event));
    (
        when,
        prop::sample::select(vec![CatchUp::Once, CatchUp::Never]),
        beginning(),
        prop::sample::select(vec!["nas", "local nas", "local"]),
        1..240_u64,
        [0..120_u64, 0..120_u64, 0..120_u64],
        prop_oneof![4 => Just(0), 1 => 1..600_i64, 2 => 600..86_400_i64, 1 => -600..0_i64],
        prop::collection::vec(events, 0..10),
    )
        .prop_map(
            |(when, catch_up, begin, destinations, work, jitters, store_behind, events)| Scenario {
                when,
                catch_up,
                begin,
                destinations,
                work: Duration::from_secs(work),
                // Where all is shared, the hosts are due at one moment.
                jitters: if destinations == "nas" {
                    [jitters[0]; HOSTS]
                } else {
                    jitters
                },
                store_behind: SignedDuration::from_secs(store_behind),
                events,
            },
        )
}

fn check(scenario: &Scenario) -> Result<(), TestCaseError> {
    let (hosts, store) = play(scenario);
    for host in &hosts {
        let mut own = host.own.clone();
        own.sort();
        prop_assert!(
            own.windows(2).all(|pair| pair[0] != pair[1]),
            "{} takes twice: {own:?}",
            host.index
        );
    }
    for (at, one) in store.backups.iter().enumerate() {
        // One that a host took whose clock was further ahead counts for nobody else.
        for other in store.backups[..at]
            .iter()
            .filter(|other| other.counts_for(one.slot, one.begun))
        {
            prop_assert!(one.host != other.host, "one host twice: {other:?} {one:?}");
            let overlap = one.begun.store < other.ended && other.begun.store < one.ended;
            prop_assert!(overlap, "twice, though nothing hid the first: {other:?} {one:?}");
        }
    }
    let end = scenario.begin + (LENGTH - GRACE);
    let first = scenario.when.slot_after(scenario.begin);
    let slots = std::iter::successors(first, |slot| scenario.when.slot_after(slot.instant()));
    let slots: Vec<Slot> = slots.take_while(|slot| slot.instant() < end).collect();
    let is_steady = |host: &&Host| !scenario.events.iter().any(|(_, index, _)| *index == host.index);
    for host in hosts.iter().filter(is_steady) {
        for slot in &slots {
            let is_done = |name: &DestinationName| match is_shared(name) {
                false => host.own.contains(slot),
                // Whatever it is called: a backup from before the slot has not what came in between.
                true => store.backups.iter().any(|backup| {
                    let begun = backup.begun.store + store.behind;
                    let is_in_time = slot.instant().duration_since(begun) <= NEARLY;
                    backup.slot == *slot && is_in_time
                }),
            };
            prop_assert!(
                host.destinations.iter().all(is_done),
                "{slot} is missed by {}",
                host.index
            );
            prop_assert!(
                host.memory.handled.contains(*slot),
                "{} does not know of {slot}",
                host.index
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn no_slot_is_missed_and_none_is_taken_twice_unless_two_hosts_overlapped(scenario in scenario()) {
        check(&scenario)?;
    }
}

#[test]
fn the_simulation_shows_what_it_is_to_show() {
    let hour = Duration::from_secs(3600);
    let plain = Scenario {
        when: calendar("hourly", BERLIN),
        catch_up: CatchUp::Once,
        begin: "2026-11-20T09:30:00Z".parse().unwrap(),
        destinations: "nas",
        work: Duration::from_secs(100),
        jitters: [0; HOSTS],
        store_behind: SignedDuration::ZERO,
        events: Vec::new(),
    };
    let who = |scenario: &Scenario| -> Vec<usize> {
        let (_, store) = play(scenario);
        store.backups.iter().map(|backup| backup.host).collect()
    };
    assert_eq!(who(&plain), [0; 10], "the first in the order takes them all");
    let in_the_work = hour / 2 + Duration::from_secs(60);
    let event = |event| Scenario {
        events: vec![(in_the_work, 0, event)],
        ..plain.clone()
    };
    let killed = who(&event(Event::Off(hour * 3)));
    assert_eq!(
        killed,
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        "the next takes over, until the first is back"
    );
    let asleep = who(&event(Event::Asleep(Duration::from_secs(600))));
    assert_eq!(
        asleep.len(),
        11,
        "the one that slept ends its backup beside the other's: {asleep:?}"
    );
    let ahead = Scenario {
        events: [(0, 1, 3), (2, 1, -3)]
            .map(|(after, host, by)| (hour * after, host, Event::ClockSet(SignedDuration::from_hours(by))))
            .to_vec(),
        ..plain.clone()
    };
    let taken = who(&ahead);
    assert_eq!(
        taken.iter().filter(|host| **host == 0).count(),
        10,
        "one whose clock is ahead takes no slot away before it has come: {taken:?}"
    );
    for behind in [60, 400, 3 * 3600, 86_400].map(SignedDuration::from_secs) {
        let slow = Scenario {
            store_behind: behind,
            ..plain.clone()
        };
        assert_eq!(who(&slow), [0; 10], "whatever the store's clock shows: {behind}");
    }
}
