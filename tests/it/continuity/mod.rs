//! Deltas under everything that goes wrong: an agent captures a cluster on which random operations go on, while members are
//! killed, the agent is killed, destinations go away, the network is cut and history is compacted. Then the state at random
//! revisions, rebuilt from a destination, is compared with what an independent recorder wrote down, and with HashKV as members
//! reported it.
//!
//! A short life of each line is in every run; `make continuity MINUTES=60 SEED=1` is as long as one likes, with a bucket beside
//! the directory and, as root, the agent in a network namespace of its own. `make continuity ETCD=3.5.1` is a life of a version
//! that is known to leave events out or to corrupt its data, of which it is asked whether that is told.

mod faulty;
mod recorder;
mod restores;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etcd_client::{Txn, TxnOp};
use lifeboat::bbolt;
use lifeboat::keyspace::{Agreement, EntryKind, Inspection, KeyValue, LiveKeys, RevisionKey, replayed};
use lifeboat::model::Revision;

use super::support::client::{Client, HashKv, wait_for};
use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::load::Load;
use super::support::moto::{Moto, SECRET};
use super::support::namespace::Namespace;
use super::support::random::Random;
use super::support::running::{Running, until};
use super::support::tools::Version;
use recorder::{Change, Put, Recorder, Written};

const DIGEST_BYTES: usize = 32;

/// The bucket, where there is one.
const BUCKET: &str = "backups";

/// The cable to etcd, and that to the bucket.
const TO_ETCD: usize = 0;
const TO_BUCKET: usize = 1;

/// What was done and compared.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    revisions: usize,
    agents_killed: u64,
    leaders_killed: u64,
    others_killed: u64,
    outages: u64,
    bucket_outages: u64,
    cut_from_etcd: u64,
    cut_from_bucket: u64,
    compactions: u64,
    chains: usize,
    gaps: usize,
    points: u64,
    changes_compared: u64,
    hashes_equal: u64,
    /// Of a version with known faults: what some member left out of its watch, and what was refused.
    left_out_by_a_member: usize,
    left_out_of_late_watches: usize,
    of_them_in_a_chain: usize,
    refused: u64,
}

/// A life of a cluster.
struct Course {
    version: Version,
    /// A program with known faults.
    faulty: Option<PathBuf>,
    flags: Vec<String>,
    members: usize,
    seed: u64,
    long: Duration,
    /// How many random revisions are compared.
    points: usize,
    /// With a bucket, and a network that is cut.
    has_network: bool,
}

impl Course {
    fn short(version: Version, members: usize, seed: u64, seconds: u64) -> Course {
        Course {
            version,
            faulty: None,
            flags: Vec::new(),
            members,
            seed,
            long: Duration::from_secs(seconds),
            points: 12,
            has_network: false,
        }
    }
}

#[test]
fn a_cluster_of_3_4_is_captured_without_a_hole() {
    live(Course::short(Version::V3_4, 1, 1, 12));
}

#[test]
fn a_cluster_of_3_5_is_captured_without_a_hole() {
    live(Course::short(Version::V3_5, 1, 2, 12));
}

#[test]
fn a_cluster_of_3_6_is_captured_without_a_hole() {
    live(Course::short(Version::V3_6, 3, 3, 25));
}

#[test]
fn a_cluster_of_3_7_is_captured_without_a_hole() {
    live(Course::short(Version::V3_7, 1, 4, 12));
}

/// What was asked for, as a number.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The versions that were asked for.
fn asked() -> Vec<String> {
    let asked = std::env::var("LIFEBOAT_ETCD").unwrap_or_default();
    asked.split_whitespace().map(str::to_owned).collect()
}

#[test]
#[ignore = "takes as long as it is told to: make continuity"]
fn as_long_a_life_as_is_asked_for_is_captured_without_a_hole() {
    let seed = number("LIFEBOAT_SEED").unwrap_or(1);
    let minutes = number("LIFEBOAT_MINUTES").unwrap_or(5);
    let asked = asked();
    let is_asked = |version: &Version| asked.is_empty() || asked.iter().any(|number| number == version.number());
    let versions: Vec<Version> = Version::ALL.into_iter().filter(is_asked).collect();
    let share = u32::try_from(versions.len()).unwrap();
    for (index, version) in versions.into_iter().enumerate() {
        let course = Course {
            long: Duration::from_secs(minutes * 60) / share,
            points: usize::try_from(number("LIFEBOAT_POINTS").unwrap_or(100)).unwrap() / share as usize,
            has_network: true,
            ..Course::short(version, 3, seed + index as u64, 0)
        };
        let counts = live(course).expect("it needs every server");
        eprintln!("{}: {counts:?}", version.number());
    }
}

/// A host, where it keeps its backups, and the network between it and all else.
struct Place {
    host: Host,
    moto: Option<Moto>,
    namespace: Option<Namespace>,
}

impl Place {
    fn new(etcd: &Etcd, has_network: bool) -> Place {
        let host = Host::new(etcd);
        let moto = has_network.then(Moto::start).flatten();
        let namespace = has_network.then(|| Namespace::new(2)).flatten();
        let mut more = "[schedules.full]\nkind = \"full\"\nevery = \"24h\"\n\
            [deltas]\nenabled = true\nevery = \"1s\"\nhash_kv_every = \"60s\"\n"
            .to_owned();
        if let Some(moto) = &moto {
            moto.make_bucket(BUCKET);
            let keys = host.path("s3-keys");
            let text = format!("[default]\naws_access_key_id = anybody\naws_secret_access_key = {SECRET}\n");
            fs::write(&keys, text).unwrap();
            let endpoint = match &namespace {
                Some(namespace) => namespace.url_over(TO_BUCKET, &moto.endpoint()),
                None => moto.endpoint(),
            };
            more += &format!(
                "[destinations.bucket]\nurl = \"s3://{BUCKET}/etcd\"\nendpoint = \"{endpoint}\"\n\
                 credentials = {{ file = {keys:?} }}\n"
            );
        }
        host.configure(etcd, &more);
        if let Some(namespace) = &namespace {
            for member in &etcd.members {
                host.reconfigure(&member.client_url, &namespace.url_over(TO_ETCD, &member.client_url));
            }
        }
        Place { host, moto, namespace }
    }

    fn start_agent(&self) -> Running {
        let command = self.host.command(["agent"]);
        Running::start(match &self.namespace {
            Some(namespace) => namespace.command(&command),
            None => command,
        })
    }

    fn destinations(&self) -> &[&'static str] {
        match self.moto {
            Some(_) => &["local", "bucket"],
            None => &["local"],
        }
    }
}

/// One life of a cluster. `None` where it cannot run here.
fn live(course: Course) -> Option<Counts> {
    let mut flags = course.flags.clone();
    flags.push("--unsafe-no-fsync".to_owned());
    let options = Options {
        members: course.members,
        flags,
        binary: course.faulty.clone(),
        ..Options::default()
    };
    let mut etcd = Etcd::start(course.version, options)?;
    let client = etcd.client();
    let mut load = Load::new(course.seed);
    load.run(&client, 50);
    let place = Place::new(&etcd, course.has_network);
    let is_faulty = course.faulty.is_some();
    let mut life = Life {
        random: Random::new(course.seed),
        counts: Counts::default(),
        agent: Some(place.start_agent()),
        is_faulty,
        late: Vec::new(),
    };
    let clients: Vec<Client> = (0..course.members).map(|index| etcd.client_of(index)).collect();
    let from = client.revision().expect("it runs") + 1;
    let recorders: Vec<Recorder> = match is_faulty {
        true => clients
            .into_iter()
            .map(|client| Recorder::of_one(client, from))
            .collect(),
        false => vec![Recorder::begin(clients, from)],
    };
    until("the first full is there", || !backups(&place.host).is_empty());

    let stop = Arc::new(AtomicBool::new(false));
    let working = {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        thread::spawn(move || work(&mut load, &client, &stop))
    };
    let begun = Instant::now();
    while begun.elapsed() < course.long {
        life.disturb(&mut etcd, &place, &client);
    }
    stop.store(true, Ordering::Relaxed);
    working.join().expect("the load goes on");
    life.back_to_work(&place);
    // The client may have been connected to a member that was killed.
    let mut last = 0;
    until("all members serve again", || {
        client.revision().is_ok_and(|revision| {
            last = revision;
            true
        })
    });
    if !is_faulty {
        until("the recorder has all", || recorders[0].last() >= last);
    }
    let waited = Instant::now();
    // A destination that was away is asked again after half a minute at the latest.
    while !place.destinations().iter().all(|name| tip(&place.host, name) >= last) {
        assert!(
            waited.elapsed() < Duration::from_secs(240),
            "the destinations do not have revision {last}: {}",
            place.host.lifeboat(["status"]).stdout
        );
        thread::sleep(Duration::from_millis(500));
    }
    thread::sleep(Duration::from_secs(if is_faulty { 3 } else { 0 }));
    let ended: Vec<(Written, Vec<HashKv>)> = recorders.into_iter().map(Recorder::end).collect();
    let hashes: Vec<HashKv> = ended.iter().flat_map(|(_, hashes)| hashes.clone()).collect();
    let written: Vec<Written> = ended.into_iter().map(|(written, _)| written).collect();
    life.counts.revisions = written.iter().map(Written::len).max().unwrap();
    life.look_for_holes(&place.host);
    for destination in place.destinations() {
        let windows: Vec<Window> = windows(&place.host, Some(destination))
            .into_iter()
            .map(|(window, _)| window)
            .collect();
        let points = course.points / place.destinations().len();
        match is_faulty {
            false => life.compare(&place, (destination, &windows), points, &written, &hashes),
            true => life.look_through(&place, &windows, points, &written),
        }
    }
    if let Some(agent) = life.agent.take() {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
    Some(life.counts)
}

/// Operations, whatever becomes of each: a member may just have been killed.
fn work(load: &mut Load, client: &Client, stop: &AtomicBool) {
    let mut turn = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        load.step(client).ok();
        if turn.is_multiple_of(200) {
            let puts = (0..128).map(|number| TxnOp::put(format!("/many/{number:03}"), turn.to_string(), None));
            client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).ok();
        }
        if turn.is_multiple_of(500) {
            client.put("/large", vec![turn as u8; 1 << 20], 0).ok();
        }
        thread::sleep(Duration::from_millis(1));
    }
}

struct Life {
    random: Random,
    counts: Counts,
    agent: Option<Running>,
    is_faulty: bool,
    /// What a watch was told that began at the edge of what was compacted, as the agent's own does.
    late: Vec<(i64, Written)>,
}

/// A chain, and what can be restored of it.
#[derive(Debug)]
struct Window {
    chain: String,
    from: i64,
    to: i64,
}

impl Life {
    fn disturb(&mut self, etcd: &mut Etcd, place: &Place, client: &Client) {
        let host = &place.host;
        match self.random.below(9) {
            0 => {
                if let Some(agent) = self.agent.take() {
                    agent.signal("KILL");
                    agent.wait();
                    self.counts.agents_killed += 1;
                }
                self.pause(2_000);
                if self.is_faulty && self.random.once_in(2) {
                    // Where some versions lose deletions: what comes next is at the edge of what is compacted.
                    let next = tip(host, "local") + 1;
                    if client.compact(next).is_ok() {
                        self.counts.compactions += 1;
                        self.late.push((next, recorder::heard_late(client, next)));
                    }
                }
                self.agent = Some(place.start_agent());
                self.pause(2_000);
            }
            1 | 2 if etcd.members.len() > 1 => {
                let leader = leader(etcd);
                let index = match self.random.once_in(2) {
                    true => leader,
                    false => usize::try_from(self.random.below(etcd.members.len() as u64)).unwrap(),
                };
                etcd.kill(index);
                match index == leader {
                    true => self.counts.leaders_killed += 1,
                    false => self.counts.others_killed += 1,
                }
                self.pause(3_000);
                etcd.boot();
            }
            3 => {
                // What a mount that is away looks like.
                let (store, aside) = (host.store(), host.path("aside"));
                fs::rename(&store, &aside).unwrap();
                self.counts.outages += 1;
                self.pause(3_000);
                fs::rename(&aside, &store).unwrap();
            }
            4 => {
                let revision = client.revision().unwrap_or(0);
                // What is captured within some seconds is not yet given up; behind a network that was cut it takes longer.
                let kept = match (self.is_faulty, place.namespace.is_some()) {
                    (true, _) => i64::try_from(self.random.below(1_500)).unwrap(),
                    (false, true) => 3_000,
                    (false, false) => 1_500,
                };
                if revision > kept + 500 && client.compact(revision - kept).is_ok() {
                    self.counts.compactions += 1;
                }
                self.pause(1_000);
            }
            5 if place.moto.is_some() => {
                let moto = place.moto.as_ref().expect("it was there");
                moto.freeze(true);
                self.counts.bucket_outages += 1;
                self.pause(4_000);
                moto.freeze(false);
            }
            cut @ (6 | 7) if place.namespace.is_some() => {
                let namespace = place.namespace.as_ref().expect("it was there");
                let cable = if cut == 6 { TO_ETCD } else { TO_BUCKET };
                namespace.cut(cable, true);
                match cable {
                    TO_ETCD => self.counts.cut_from_etcd += 1,
                    _ => self.counts.cut_from_bucket += 1,
                }
                self.pause(6_000);
                namespace.cut(cable, false);
                self.pause(2_000);
            }
            _ => self.pause(2_000),
        }
    }

    fn pause(&mut self, most_ms: u64) {
        thread::sleep(Duration::from_millis(200 + self.random.below(most_ms)));
    }

    fn back_to_work(&mut self, place: &Place) {
        if self.agent.as_ref().is_none_or(Running::has_ended) {
            self.agent = Some(place.start_agent());
        }
    }

    /// Where one chain does not go on in the next, in any destination, it is said why.
    fn look_for_holes(&mut self, host: &Host) {
        let mut reached: Option<(i64, bool)> = None;
        let listed = windows(host, None);
        for (Window { from, to, .. }, window) in &listed {
            let (from, to) = (*from, *to);
            if let Some((_, is_told)) = reached.filter(|(reached, _)| *reached < from) {
                self.counts.gaps += 1;
                assert!(
                    is_told,
                    "a hole before revision {from} that nobody declared: {listed:?}"
                );
            }
            let ends = window["ends"].as_str().unwrap_or_default();
            assert!(!ends.contains("are missing"), "{window}");
            let last = (to, !ends.is_empty());
            reached = Some(reached.filter(|reached| reached.0 > to).unwrap_or(last));
        }
        self.counts.chains = listed.len();
    }

    /// So many random points of all windows, and the last one of each.
    fn points<'w>(&mut self, windows: &'w [Window], most: usize) -> Vec<(&'w Window, i64)> {
        let mut points: Vec<(&Window, i64)> = windows.iter().map(|window| (window, window.to)).collect();
        let all: u64 = windows
            .iter()
            .map(|window| (window.to - window.from + 1).unsigned_abs())
            .sum();
        for _ in 0..most {
            let mut at = i64::try_from(self.random.below(all)).unwrap();
            for window in windows {
                let has = window.to - window.from + 1;
                if at < has {
                    points.push((window, window.from + at));
                    break;
                }
                at -= has;
            }
        }
        points
    }

    /// The states at some revisions against what was written down.
    fn compare(
        &mut self,
        place: &Place,
        (destination, windows): (&str, &[Window]),
        most: usize,
        written: &[Written],
        hashes: &[HashKv],
    ) {
        let mut points = self.points(windows, most);
        // Some of the hashes that were reported are compared at their own revision.
        let step = (hashes.len() / most.max(1)).max(1);
        for hash in hashes.iter().rev().step_by(step).take(most.max(12) / 2) {
            let mut holding = windows
                .iter()
                .filter(|window| (window.from..=window.to).contains(&hash.revision));
            points.extend(holding.next_back().map(|window| (window, hash.revision)));
        }
        for (window, at) in points {
            let file = export(place, destination, window, at).unwrap_or_else(|said| panic!("{said}"));
            let changes = differs(&file, window.from, at, written, false).unwrap_or_else(|differs| {
                panic!("{}:{at} of {destination}: {differs}", window.chain);
            });
            self.counts.points += 1;
            self.counts.changes_compared += changes;
            for hash in hashes.iter().filter(|hash| hash.revision == at) {
                let agreement = agreement(&file, *hash);
                assert_ne!(agreement, Agreement::Different, "{hash:?}");
                self.counts.hashes_equal += u64::from(agreement == Agreement::Equal);
            }
            fs::remove_file(&file).unwrap();
        }
        assert!(self.counts.hashes_equal > 0, "no hash was compared");
    }
}

/// The member that leads.
fn leader(etcd: &Etcd) -> usize {
    let leads = |index: &usize| {
        let status = wait_for(etcd.client_of(*index).raw().status());
        status.is_ok_and(|status| {
            status
                .header()
                .is_some_and(|header| header.member_id() == status.leader())
        })
    };
    (0..etcd.members.len()).find(leads).unwrap_or(0)
}

/// A point as a file, or what was said.
fn export(place: &Place, destination: &str, window: &Window, at: i64) -> Result<PathBuf, String> {
    let host = &place.host;
    let file = host.path(&format!("point-{destination}-{at}.db"));
    let (source, identity) = (format!("{}:{at}", window.chain), host.identity());
    let (from, endpoint) = match &place.moto {
        Some(moto) if destination == "bucket" => (format!("s3://{BUCKET}/etcd"), moto.endpoint()),
        _ => (host.store().display().to_string(), String::new()),
    };
    let args = [
        "export",
        "--from",
        &from,
        "--identity",
        identity.to_str().unwrap(),
        &source,
        file.to_str().unwrap(),
    ];
    let environment: [(&str, &OsStr); 4] = [
        ("AWS_ENDPOINT_URL", endpoint.as_ref()),
        ("AWS_ACCESS_KEY_ID", "anybody".as_ref()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.as_ref()),
        ("AWS_REGION", "us-east-1".as_ref()),
    ];
    let done = host.without_configuration(&environment, args);
    match done.code {
        0 => Ok(file),
        code => Err(format!("exit code {code}: {}", done.stderr)),
    }
}

/// What is in the file of a point against what was written down of the revisions behind `from`; gives how many changes are in it.
///
/// Where not every recorder may have all, what is in it must be all that any of them has.
fn differs(file: &Path, from: i64, at: i64, written: &[Written], may_miss: bool) -> Result<u64, String> {
    let bytes = fs::read(file).unwrap();
    let database = &bytes[..bytes.len() - DIGEST_BYTES];
    let file = bbolt::File::open(database).expect("it is a database");
    let walk = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}).expect("it can be read");
    assert_eq!(walk.fault_count(), 0, "{:?}", walk.faults().collect::<Vec<_>>());
    assert_eq!(walk.summary.revision().get(), at, "the revision of the file");
    let mut found = Written::new();
    for entry in file.bucket(b"key").unwrap().expect("it is there").iter() {
        let (key, value) = entry.unwrap();
        let key = RevisionKey::decode(key).unwrap();
        let (revision, record) = (key.main().get(), KeyValue::decode(value).unwrap());
        if revision <= from {
            continue;
        }
        let changes = found.entry(revision).or_default();
        if changes.len() as i64 != key.sub() {
            return Err(format!("the order in revision {revision}"));
        }
        let is_put = key.kind() == EntryKind::Put;
        changes.push(Change {
            key: record.key.to_vec(),
            put: is_put.then(|| Put {
                create_revision: record.create_revision,
                version: record.version,
                lease: record.lease,
                value: record.value.to_vec(),
            }),
        });
    }
    let mut compared = 0;
    for revision in from + 1..=at {
        let told: Vec<&Vec<Change>> = written.iter().filter_map(|written| written.get(&revision)).collect();
        let Some(has) = found.get(&revision) else {
            return Err(format!("revision {revision} is missing"));
        };
        let all: BTreeSet<&Change> = told.iter().copied().flatten().collect();
        let is_right = told.contains(&has) || (may_miss && all.iter().all(|change| has.contains(change)));
        if !is_right {
            return Err(format!("revision {revision} has {has:?}, and was told to be {told:?}"));
        }
        compared += has.len() as u64;
    }
    Ok(compared)
}

/// Whether the file of a point has the hash that a member reported.
fn agreement(file: &Path, hash: HashKv) -> Agreement {
    let bytes = fs::read(file).unwrap();
    let file = bbolt::File::open(&bytes[..bytes.len() - DIGEST_BYTES]).expect("it is a database");
    let revision = Revision::new(hash.revision).unwrap();
    let told = replayed(
        &file,
        LiveKeys::Counted,
        Some(revision),
        &[hash.compact_revision],
        |error| panic!("{error}"),
    );
    told.unwrap().hashes[0].compared_with(hash.hash)
}

/// What can be restored, of one destination or of all, in the order in which it begins; and what is said of it.
fn windows(host: &Host, destination: Option<&str>) -> Vec<(Window, serde_json::Value)> {
    let mut args = vec!["--json", "list"];
    args.extend(
        destination
            .iter()
            .flat_map(|destination| ["--destination", destination]),
    );
    let listed = host.lifeboat(args).expect_code(0).json();
    let listed = listed["windows"].as_array().expect("it is a list").iter();
    let mut windows: Vec<(Window, serde_json::Value)> = listed
        .map(|window| {
            let at = |name: &str| window[name].as_i64().unwrap();
            let read = Window {
                chain: window["chain"].as_str().unwrap().to_owned(),
                from: at("from_revision"),
                to: at("to_revision"),
            };
            (read, window.clone())
        })
        .collect();
    windows.sort_by_key(|(window, _)| window.from);
    windows
}

fn backups(host: &Host) -> Vec<serde_json::Value> {
    let listed = host.lifeboat(["--json", "list"]).json();
    listed["backups"].as_array().cloned().unwrap_or_default()
}

/// The last revision that can be restored from a destination.
fn tip(host: &Host, destination: &str) -> i64 {
    let listed = host.lifeboat(["--json", "list", "--destination", destination]).json();
    let windows = listed["windows"].as_array().cloned().unwrap_or_default();
    windows
        .iter()
        .filter_map(|window| window["to_revision"].as_i64())
        .max()
        .unwrap_or(0)
}
