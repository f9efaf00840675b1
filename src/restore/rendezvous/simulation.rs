//! Hosts that restore, crash, forget, come late and go back, in any order, against what must never happen.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Where the token of a cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// From the backup alone, as it was before hosts met; each starts by itself.
    Backup,
    /// From the founders.
    Rendezvous,
}

/// What happens; a host is named by its number, which counts on from 0 again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The operator restores a backup on a host.
    Restore { host: usize, backup: u8 },
    /// A host asks another one.
    Ask { host: usize, other: usize },
    /// A host does what comes next.
    Act { host: usize },
    /// A host goes down.
    Crash { host: usize },
    /// A host comes up.
    Boot { host: usize },
    /// A host loses its disk.
    Wipe { host: usize },
    /// The operator takes a restore back.
    RollBack { host: usize },
    /// The operator stops etcd.
    Stop { host: usize },
}

#[derive(Debug, Clone)]
struct Ledger {
    backup: u8,
    stand: Stand,
    has_started: bool,
}

/// A host: what is on its disk, and what is not.
#[derive(Debug, Default)]
struct Host {
    ledger: Option<Ledger>,
    /// The token of the cluster whose data is in place.
    data: Option<String>,
    meeting: Option<Meeting>,
    serves: Option<String>,
}

#[derive(Debug)]
struct World {
    rule: Rule,
    hosts: Vec<Host>,
    drawn: u64,
    /// Members that have begun a life: by token and host.
    born: BTreeSet<(String, usize)>,
    /// Which backup a cluster was founded from.
    founded: BTreeMap<String, u8>,
    /// What each nonce has committed to.
    commits: BTreeMap<Nonce, Founders>,
}

fn name(host: usize) -> String {
    format!("m{host}")
}

/// A cluster's id, which here need only be another one for another token.
fn cluster(token: &str) -> ClusterId {
    ClusterId(u64::from_str_radix(&token[token.len() - 16..], 16).unwrap())
}

impl World {
    fn new(rule: Rule, hosts: usize) -> World {
        World {
            rule,
            hosts: (0..hosts).map(|_| Host::default()).collect(),
            drawn: 0,
            born: BTreeSet::new(),
            founded: BTreeMap::new(),
            commits: BTreeMap::new(),
        }
    }

    fn terms(&self, backup: u8) -> Terms {
        let members = (0..self.hosts.len()).map(|host| (name(host), vec![format!("http://{host}:2380")]));
        Terms {
            backup: format!("backup {backup}"),
            sha256: Digest([backup; 32]),
            revision: Revision::new(7).unwrap(),
            bump: 0,
            members: members.collect(),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), String> {
        let count = self.hosts.len();
        match event {
            Event::Restore { host, backup } => self.restore(host % count, backup),
            Event::Ask { host, other } => self.ask(host % count, other % count),
            Event::Act { host } => return self.act(host % count),
            Event::Crash { host } => {
                let host = &mut self.hosts[host % count];
                (host.meeting, host.serves) = (None, None);
            }
            Event::Boot { host } => self.boot(host % count),
            Event::Wipe { host } => self.hosts[host % count] = Host::default(),
            Event::RollBack { host } => {
                let host = &mut self.hosts[host % count];
                if host.ledger.take().is_some_and(|ledger| ledger.has_started) {
                    host.data = None;
                }
                (host.meeting, host.serves) = (None, None);
            }
            Event::Stop { host } => self.hosts[host % count].serves = None,
        }
        Ok(())
    }

    fn restore(&mut self, at: usize, backup: u8) {
        let lives = |(other, host): (usize, &Host)| other != at && host.serves.is_some();
        let is_open = self.hosts[at].ledger.as_ref().is_some_and(|ledger| !ledger.has_started);
        if is_open || self.hosts.iter().enumerate().any(lives) && self.rule == Rule::Rendezvous {
            return;
        }
        self.drawn += 1;
        let mut nonce = [0; 16];
        nonce[8..].copy_from_slice(&self.drawn.to_be_bytes());
        let stand = Stand {
            nonce: Nonce(nonce),
            founders: None,
        };
        let ledger = Ledger {
            backup,
            stand,
            has_started: false,
        };
        self.hosts[at].serves = None;
        self.hosts[at].ledger = Some(ledger);
        self.boot(at);
    }

    fn boot(&mut self, at: usize) {
        let Some(ledger) = self.hosts[at].ledger.clone() else {
            return;
        };
        if ledger.has_started {
            self.hosts[at].serves = self.hosts[at].data.clone();
            return;
        }
        let terms = self.terms(ledger.backup);
        let founders = ledger.stand.founders.as_ref();
        let cluster = founders.map(|founders| cluster(&terms.token(founders)));
        self.hosts[at].meeting = Some(Meeting::new(&name(at), terms, ledger.stand, cluster));
    }

    fn ask(&mut self, at: usize, other: usize) {
        let heard = match &self.hosts[other] {
            Host {
                serves: Some(token), ..
            } => Heard::Serves(cluster(token)),
            Host {
                meeting: Some(meeting), ..
            } => Heard::Told(meeting.told()),
            Host { .. } => Heard::Silence,
        };
        if let Some(meeting) = &mut self.hosts[at].meeting {
            meeting.hear(&name(other), heard);
        }
    }

    fn act(&mut self, at: usize) -> Result<(), String> {
        let (Some(meeting), Some(ledger)) = (&self.hosts[at].meeting, &self.hosts[at].ledger) else {
            return Ok(());
        };
        let (terms, backup, nonce) = (self.terms(ledger.backup), ledger.backup, ledger.stand.nonce);
        if self.rule == Rule::Backup {
            return self.begin(at, terms.token(&Founders::new()), backup);
        }
        match meeting.next() {
            Next::Wait => Ok(()),
            Next::Commit(founders) => {
                if let Some(other) = self.commits.insert(nonce, founders.clone()) {
                    return Err(format!("m{at} commits twice: {other:?}, {founders:?}"));
                }
                let host = &mut self.hosts[at];
                host.ledger.as_mut().unwrap().stand.founders = Some(founders.clone());
                let cluster = cluster(&terms.token(&founders));
                host.meeting.as_mut().unwrap().commit(founders, cluster);
                Ok(())
            }
            Next::Start => {
                let founders = ledger
                    .stand
                    .founders
                    .clone()
                    .ok_or("it starts without having committed")?;
                for nonce in founders.values() {
                    if self.commits.get(nonce) != Some(&founders) {
                        return Err(format!(
                            "m{at} starts in {founders:?}, to which {nonce} has not committed"
                        ));
                    }
                }
                self.begin(at, terms.token(&founders), backup)
            }
        }
    }

    /// etcd starts on data that was never started before.
    fn begin(&mut self, at: usize, token: String, backup: u8) -> Result<(), String> {
        if *self.founded.entry(token.clone()).or_insert(backup) != backup {
            return Err(format!("m{at} starts another backup in cluster {token}"));
        }
        if !self.born.insert((token.clone(), at)) {
            return Err(format!(
                "m{at} begins a second life in cluster {token}, of which it has forgotten the first"
            ));
        }
        let host = &mut self.hosts[at];
        host.ledger.as_mut().unwrap().has_started = true;
        host.meeting = None;
        host.data = Some(token.clone());
        host.serves = Some(token);
        Ok(())
    }

    fn run(rule: Rule, hosts: usize, events: &[Event]) -> Result<World, String> {
        let mut world = World::new(rule, hosts);
        events.iter().try_for_each(|event| world.take(*event))?;
        Ok(world)
    }

    /// Everybody asks everybody and acts, some rounds long.
    fn settle(&mut self) -> Result<(), String> {
        let count = self.hosts.len();
        for _ in 0..6 {
            for (host, other) in (0..count).flat_map(|host| (0..count).map(move |other| (host, other))) {
                self.ask(host, other);
            }
            (0..count).try_for_each(|host| self.act(host))?;
        }
        Ok(())
    }

    fn serving(&self) -> BTreeSet<Option<String>> {
        self.hosts.iter().map(|host| host.serves.clone()).collect()
    }
}

fn event() -> impl Strategy<Value = Event> {
    let host = 0..5usize;
    prop_oneof![
        6 => (host.clone(), 0..2u8).prop_map(|(host, backup)| Event::Restore { host, backup: backup / 2 + backup % 2 }),
        24 => (host.clone(), host.clone()).prop_map(|(host, other)| Event::Ask { host, other }),
        12 => host.clone().prop_map(|host| Event::Act { host }),
        2 => host.clone().prop_map(|host| Event::Crash { host }),
        3 => host.clone().prop_map(|host| Event::Boot { host }),
        1 => host.clone().prop_map(|host| Event::Wipe { host }),
        2 => host.clone().prop_map(|host| Event::RollBack { host }),
        2 => host.prop_map(|host| Event::Stop { host }),
    ]
}

/// A long stretch in which little goes wrong, so that clusters are founded often, and then anything.
fn history() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(event(), 0..70)
}

proptest! {
    // 20 480 unless PROPTEST_CASES says otherwise: `make simulate` takes ten times as many.
    #![proptest_config(ProptestConfig {
        cases: 80 * ProptestConfig::default().cases,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_two_clusters_share_an_identity_and_nobody_is_in_one_that_it_has_forgotten(
        hosts in 1..=5usize, founding in any::<bool>(), events in history(),
    ) {
        let mut world = World::new(Rule::Rendezvous, hosts);
        if founding {
            (0..hosts).for_each(|host| world.restore(host, 0));
            world.settle().map_err(TestCaseError::fail)?;
        }
        for event in events {
            world.take(event).map_err(TestCaseError::fail)?;
        }
    }
}

proptest! {
    #[test]
    fn whatever_crashes_come_first_all_hosts_found_one_cluster(
        hosts in 1..=5usize,
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut world = World::new(Rule::Rendezvous, hosts);
        (0..hosts).for_each(|host| world.restore(host, 0));
        let harmless = |event: &Event| matches!(
            event,
            Event::Ask { .. } | Event::Act { .. } | Event::Crash { .. } | Event::Boot { .. }
        );
        for event in events.into_iter().filter(harmless) {
            world.take(event).map_err(TestCaseError::fail)?;
        }
        (0..hosts).for_each(|host| if world.hosts[host].meeting.is_none() { world.boot(host) });
        world.settle().map_err(TestCaseError::fail)?;
        let serving = world.serving();
        prop_assert!(serving.len() == 1 && !serving.contains(&None), "{world:?}");
    }
}

/// The way of three hosts to a cluster of one backup.
fn founded(backup: u8) -> Vec<Event> {
    let mut events: Vec<Event> = (0..3).map(|host| Event::Restore { host, backup }).collect();
    for _ in 0..6 {
        let asks = (0..3).flat_map(|host| (0..3).map(move |other| Event::Ask { host, other }));
        events.extend(asks.collect::<Vec<_>>());
        events.extend((0..3).map(|host| Event::Act { host }));
    }
    events
}

#[test]
fn a_backup_restored_twice_makes_two_clusters() {
    // m2 is off while the others go back and restore the same backup once more.
    let mut events = founded(0);
    events.push(Event::Crash { host: 2 });
    events.extend([Event::RollBack { host: 0 }, Event::RollBack { host: 1 }]);
    events.extend([
        Event::Restore { host: 0, backup: 0 },
        Event::Restore { host: 1, backup: 0 },
    ]);
    events.extend([Event::Act { host: 0 }, Event::Act { host: 1 }, Event::Boot { host: 2 }]);
    let before = World::run(Rule::Backup, 3, &events).unwrap_err();
    assert!(before.contains("second life"), "{before}");
    let world = World::run(Rule::Rendezvous, 3, &events).unwrap();
    assert_eq!(world.born.len(), 3, "the other two wait for the third: {world:?}");
}

#[test]
fn who_lost_its_log_is_not_taken_back_under_its_old_id() {
    let mut events = founded(0);
    events.extend((0..3).map(|host| Event::Stop { host }));
    events.extend([
        Event::Wipe { host: 2 },
        Event::Restore { host: 2, backup: 0 },
        Event::Act { host: 2 },
    ]);
    let before = World::run(Rule::Backup, 3, &events).unwrap_err();
    assert!(before.contains("second life"), "{before}");
    let mut world = World::run(Rule::Rendezvous, 3, &events).unwrap();
    world.boot(0);
    world.settle().unwrap();
    assert_eq!(world.hosts[2].serves, None);
    let presences = world.hosts[2].meeting.as_ref().unwrap().presences();
    assert!(matches!(presences["m0"], Presence::Serves(_)), "{presences:?}");
}

#[test]
fn who_forgot_what_others_have_committed_to_is_named() {
    let mut world = World::new(Rule::Rendezvous, 3);
    (0..3).for_each(|host| world.restore(host, 0));
    for _ in 0..2 {
        for (host, other) in (0..3).flat_map(|host| (0..3).map(move |other| (host, other))) {
            world.ask(host, other);
        }
    }
    world.act(0).unwrap();
    world.take(Event::Wipe { host: 2 }).unwrap();
    world.restore(2, 0);
    world.settle().unwrap();
    assert!(world.born.is_empty(), "{world:?}");
    let presence = |host: usize, other: &str| world.hosts[host].meeting.as_ref().unwrap().presences()[other].clone();
    assert_eq!(presence(0, "m2"), Presence::Forgot);
    assert_eq!(presence(2, "m0"), Presence::Elsewhere);
}

#[test]
fn different_backups_never_found_a_cluster_and_each_host_says_so() {
    let mut world = World::new(Rule::Rendezvous, 2);
    world.restore(0, 0);
    world.restore(1, 1);
    world.settle().unwrap();
    assert!(world.born.is_empty());
    let presences = world.hosts[0].meeting.as_ref().unwrap().presences();
    let words = presences["m1"].words("m1");
    assert!(
        words.contains("backup 1 (revision 7)") && words.contains("lifeboat rollback"),
        "{words}"
    );
}

#[test]
fn a_token_says_all_that_makes_a_cluster() {
    let world = World::new(Rule::Rendezvous, 2);
    let (terms, other) = (world.terms(0), world.terms(1));
    let founders = |nonce: u8| Founders::from([(name(0), Nonce([nonce; 16])), (name(1), Nonce([9; 16]))]);
    let token = terms.token(&founders(1));
    assert_eq!(token, "lifeboat-0e3ed93b26e3b202", "a frozen format");
    assert_ne!(token, terms.token(&founders(2)));
    assert_ne!(token, other.token(&founders(1)));
    let bumped = Terms {
        bump: 1,
        ..terms.clone()
    };
    assert_ne!(token, bumped.token(&founders(1)));
}

#[test]
fn what_strangers_answer_is_nothing() {
    for answer in [
        "",
        "{}",
        "[]",
        "{\"format\":1}",
        "{\"format\":2,\"member\":\"m1\"}",
        "404 page not found",
    ] {
        assert_eq!(Told::parse(answer.as_bytes()), None, "{answer}");
    }
    let mut world = World::new(Rule::Rendezvous, 2);
    world.restore(0, 0);
    let meeting = world.hosts[0].meeting.as_mut().unwrap();
    assert_eq!(Told::parse(&meeting.told().to_bytes()), Some(meeting.told()));
    let told = Told {
        member: "m\u{202e}9".to_owned(),
        ..meeting.told()
    };
    meeting.hear("m1", Heard::Told(told.clone()));
    meeting.hear("m9", Heard::Told(told));
    assert_eq!(meeting.next(), Next::Wait);
    assert_eq!(
        meeting.presences()["m1"],
        Presence::Stranger("a host that restores member `m9`".to_owned())
    );
}
