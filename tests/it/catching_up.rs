//! Capture that is far behind: from a snapshot of a real etcd it takes just what a watch would have told.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etcd_client::{Txn, TxnOp};
use jiff::Timestamp;
use lifeboat::capture::{
    self, Board, Cutting, Known, Lane, Need, Now, Others, Place, Proofs, Proven, Settings, Sight, SnapshotFrom,
    Surroundings, WrittenBeside,
};
use lifeboat::catalog::Link;
use lifeboat::destinations::{Destination, Destinations};
use lifeboat::etcd::choose_member::Wanted;
use lifeboat::etcd::{Access, Endpoints};
use lifeboat::health::{LaneState, Level};
use lifeboat::layout::{Listed, Outline, Writer};
use lifeboat::model::{ByteSize, ClusterName};
use lifeboat::pipeline::Encoding;
use lifeboat::signing::Authority;
use lifeboat::store::{self, Location, Store};
use tokio::sync::watch;

use super::capturing::{Stored, newest, prove, until_stored, watched};
use super::support::client::{Client, wait_for};
use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host};
use super::support::load::Load;
use super::support::random::Random;
use super::support::running::until;
use super::support::tools::Version;

/// From so many revisions on a snapshot is drawn, however large the database.
const FROM: SnapshotFrom = SnapshotFrom {
    revisions: 50,
    square_per_byte: 0,
};
const DRAWS: &str = "catches up from a snapshot of etcd";

fn cluster() -> ClusterName {
    CLUSTER.parse().unwrap()
}

fn store_of(host: &Host) -> Store {
    let access = store::Access::Write { now: Timestamp::now() };
    Store::open(&Location::Folder(host.store()), &cluster(), None, access).unwrap()
}

/// A host with one destination, where full backups are taken by the command.
struct Around {
    host: Arc<Host>,
    proofs: Mutex<Proofs>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Around {
    fn destinations(&self) -> Destinations {
        let destination = Destination {
            name: "local".to_owned(),
            store: Ok(store_of(&self.host)),
        };
        Destinations::read(cluster(), &[destination], None)
    }
}

impl Surroundings for Around {
    fn now(&self) -> Now {
        Now {
            time: Timestamp::now(),
            uncertainty_ms: None,
            instant: Instant::now(),
        }
    }

    fn look(&self) -> Result<Sight, String> {
        let read = self.destinations();
        let Ok(backup) = read.catalog.latest() else {
            return Ok(Sight::None("there is no backup".to_owned()));
        };
        let places = Place::of(backup, &read.stores);
        let known = self.proofs.lock().unwrap().weigh(backup.manifest(), &places);
        Ok(Sight::Full(Box::new(backup.manifest().clone()), known))
    }

    fn written_last_beside(&self, _: &Outline) -> Result<WrittenBeside, String> {
        Ok(WrittenBeside::default())
    }

    fn look_at(&self, full: &Outline) -> Result<Known, String> {
        Ok(self.prove(full)?.unwrap_or_default().known)
    }

    fn prove(&self, full: &Outline) -> Result<Option<Proven>, String> {
        let store = store_of(&self.host);
        let listed = store
            .list_chain(&full.chain_path())
            .map_err(|error| error.to_string())?;
        let is_manifest = |listed: &Listed| matches!(listed, Listed::Ours(name) if name.is_manifest());
        if !listed.iter().any(|object| is_manifest(&object.name)) {
            return Ok(None);
        }
        let place = Place {
            destination: "local",
            store: &store,
            links: Link::listed(listed),
        };
        self.proofs.lock().unwrap().prove(full, &[place]).map(Some)
    }

    fn open(&self, _: &str) -> Result<Store, String> {
        Ok(store_of(&self.host))
    }

    fn fed_since(&self, _: &str) -> Option<Timestamp> {
        None
    }

    fn access(&self) -> Result<Access, String> {
        Ok(Access::default())
    }

    fn turn_after(&self) -> Duration {
        Duration::ZERO
    }

    fn take_full(&self, _: &str, _: Need) -> Result<(), String> {
        match self.host.lifeboat(["backup"]).code {
            0 => Ok(()),
            code => Err(format!("exit code {code}")),
        }
    }

    fn restoring(&self) -> Option<String> {
        None
    }

    fn say_once(&self, level: Level, what: &str) {
        self.say(level, what);
    }

    fn say(&self, level: Level, what: &str) {
        self.said.lock().unwrap().push(format!("{level:?}: {what}"));
    }
}

/// A lane that captures.
struct Capturing {
    stop: watch::Sender<bool>,
    _news: watch::Sender<u64>,
    board: Arc<Board>,
    said: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Capturing {
    fn begin(etcd: &Etcd, host: &Arc<Host>, spool_most: u64) -> Capturing {
        let settings = Settings {
            name: "own",
            others: Others::None,
            cluster: cluster(),
            destinations: ["local".to_owned()].into(),
            cutting: Cutting {
                every: Duration::from_secs(1),
                max_bytes: ByteSize(512 << 10),
            },
            mark_every: Duration::from_secs(60),
            pack_after: Duration::from_secs(3600),
            hash_kv_every: None,
            snapshot_from: FROM,
            spool: host.path("state").join(CLUSTER).join("spool"),
            spool_most: ByteSize(spool_most),
            members: vec![Endpoints {
                name: etcd.members[0].name.clone(),
                urls: vec![etcd.members[0].client_url.clone()],
            }],
            wanted: Wanted::Any { near: None },
            encoding: Encoding {
                level: 1,
                threads: 0,
                recipients: vec![host.recipient().parse().unwrap()],
                stall_limit: Duration::from_secs(60),
            },
            authority: Authority::anybody(&cluster()),
            writer: Writer {
                host: "h".to_owned(),
                version: "1".to_owned(),
                run: "00000000".to_owned(),
            },
        };
        let destinations = settings.destinations.iter().cloned();
        let board = Arc::new(Board::new(
            ("own", Arc::default()),
            Duration::from_secs(1),
            ByteSize(spool_most),
            destinations,
        ));
        let said = Arc::new(Mutex::new(Vec::new()));
        let around = Arc::new(Around {
            host: host.clone(),
            proofs: Mutex::default(),
            said: said.clone(),
        });
        let ((stop, to_stop), (news, to_hear)) = (watch::channel(false), watch::channel(0));
        let lane = Lane {
            stop: to_stop,
            news: to_hear,
        };
        let shown = board.clone();
        let thread = std::thread::spawn(move || wait_for(capture::run(settings, around, shown, lane)));
        Capturing {
            stop,
            _news: news,
            board,
            said,
            thread,
        }
    }

    fn state(&self) -> LaneState {
        self.board.read()
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    fn says(&self, what: &str) -> usize {
        self.said().iter().filter(|said| said.contains(what)).count()
    }

    fn has_come_to(&self, revision: i64) {
        until(&format!("revision {revision}: {:?}", self.said()), || {
            self.state().captured_to.is_some_and(|to| to.get() >= revision)
        });
    }

    fn end(self) -> Vec<String> {
        self.stop.send(true).unwrap();
        self.thread.join().unwrap();
        Arc::try_unwrap(self.said).unwrap_or_default().into_inner().unwrap()
    }
}

/// Many keys, put and deleted and compacted away: pages that are free and hold what counts no more.
fn leave_free_pages(client: &Client, random: &mut Random) {
    let value = |random: &mut Random| (0..64).flat_map(|_| random.next().to_le_bytes()).collect::<Vec<u8>>();
    for round in 0..20 {
        let puts = (0..100).map(|key| TxnOp::put(format!("/free/{round}/{key}"), value(random), None));
        client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).unwrap();
    }
    client.delete_range("/free/", "/free0").unwrap();
    let last = client.revision().unwrap();
    client.compact(last - 3).unwrap();
}

/// Everything that a history can have, and more than is caught up with by a watch.
fn write_much(client: &Client, load: &mut Load, random: &mut Random) {
    load.run(client, 200);
    for number in 0..40 {
        client.put("/overwritten", format!("{number}"), 0).unwrap();
    }
    for number in 0..3 {
        let value: Vec<u8> = (0..125_000).flat_map(|_| random.next().to_le_bytes()).collect();
        client.put(&format!("/large/{number}"), value, 0).unwrap();
        load.run(client, 20);
    }
    client.delete_range("/large/1", "/large/3").unwrap();
    load.run(client, 100);
}

/// That a restore of a revision has what etcd had.
fn comes_back(etcd: &Etcd, host: &Host, client: &Client, revision: i64) {
    let then = client.hash_kv(revision).unwrap();
    let target = Etcd::plan(etcd.version, Options::default()).unwrap();
    let args = host.rebuild_args("latest", &target, 0);
    let to = revision.to_string();
    let more = ["--json", "--to-revision", &to];
    let done = host.lifeboat(args.iter().map(String::as_str).chain(more));
    let done = done.expect_code(0).json();
    assert_eq!(done["revision"], then.revision, "{done}");
    assert_eq!(done["hash_kv"]["hash"], then.hash, "{done}");
}

fn begun(version: Version, more: &[&str]) -> Option<(Etcd, Client, Arc<Host>)> {
    let options = Options {
        flags: more.iter().map(|flag| (*flag).to_owned()).collect(),
        ..Options::default()
    };
    let etcd = Etcd::start(version, options)?;
    let (client, host) = (etcd.client(), Arc::new(Host::new(&etcd)));
    Some((etcd, client, host))
}

fn what_is_far_behind_is_taken_from_a_snapshot(version: Version) {
    let Some((etcd, client, host)) = begun(version, &[]) else {
        return;
    };
    let (mut load, mut random) = (Load::new(31), Random::new(31));
    load.run(&client, 100);
    leave_free_pages(&client, &mut random);
    load.run(&client, 20);
    host.backup();
    let base = client.revision().unwrap();
    // A little is watched.
    load.run(&client, 10);
    let capturing = Capturing::begin(&etcd, &host, 64 << 20);
    capturing.has_come_to(client.revision().unwrap());
    let said = capturing.end();
    assert!(!said.iter().any(|said| said.contains(DRAWS)), "{said:?}");
    // Much is not.
    let tip = client.revision().unwrap();
    write_much(&client, &mut load, &mut random);
    let end = client.revision().unwrap();
    let capturing = Capturing::begin(&etcd, &host, 64 << 20);
    capturing.has_come_to(end);
    assert_eq!(capturing.says(DRAWS), 1, "{:?}", capturing.said());
    assert_eq!(capturing.says(&format!("came to revision {end} from a snapshot")), 1);
    // What comes then is watched.
    load.run(&client, 30);
    let last = client.revision().unwrap();
    capturing.has_come_to(last);
    let said = capturing.end();
    assert!(!said.iter().any(|said| said.starts_with("Warning")), "{said:?}");
    let stored = prove(&host, &client, last);
    assert_eq!((stored.base(), stored.with(".gap").len()), (Some(base), 0));
    for revision in [tip + 1, tip + (end - tip) / 2, end, last] {
        comes_back(&etcd, &host, &client, revision);
    }
}

#[test]
fn what_is_far_behind_3_4_is_taken_from_a_snapshot() {
    what_is_far_behind_is_taken_from_a_snapshot(Version::V3_4);
}

#[test]
fn what_is_far_behind_3_5_is_taken_from_a_snapshot() {
    what_is_far_behind_is_taken_from_a_snapshot(Version::V3_5);
}

#[test]
fn what_is_far_behind_3_6_is_taken_from_a_snapshot() {
    what_is_far_behind_is_taken_from_a_snapshot(Version::V3_6);
}

#[test]
fn what_is_far_behind_3_7_is_taken_from_a_snapshot() {
    what_is_far_behind_is_taken_from_a_snapshot(Version::V3_7);
}

/// The changes behind a revision, as they are stored.
fn stored_behind(stored: &Stored, host: &Host, tip: i64) -> (Vec<super::capturing::Told>, i64) {
    let (told, reached) = stored.changes(host);
    (told.into_iter().filter(|told| told.0 > tip).collect(), reached)
}

#[test]
fn what_was_compacted_before_the_tip_does_no_harm_and_what_was_behind_it_ends_the_chain() {
    let Some((etcd, client, host)) = begun(Version::V3_6, &[]) else {
        return;
    };
    let (mut load, mut random) = (Load::new(37), Random::new(37));
    load.run(&client, 50);
    host.backup();
    load.run(&client, 30);
    let capturing = Capturing::begin(&etcd, &host, 64 << 20);
    capturing.has_come_to(client.revision().unwrap());
    capturing.end();
    let tip = client.revision().unwrap();
    write_much(&client, &mut load, &mut random);
    // Up to the last one that was captured, which includes the revision of the full backup.
    client.compact(tip).unwrap();
    load.run(&client, 20);
    let end = client.revision().unwrap();
    let capturing = Capturing::begin(&etcd, &host, 64 << 20);
    capturing.has_come_to(end);
    assert_eq!(capturing.says(DRAWS), 1, "{:?}", capturing.said());
    capturing.end();
    let stored = until_stored(&host, end);
    let (told, reached) = stored_behind(&stored, &host, tip);
    assert_eq!(reached, end);
    assert!(
        told == watched(&client, tip + 1, end),
        "the changes behind {tip} differ"
    );

    // Beyond it: then nothing is drawn, and the chain ends.
    load.run(&client, 100);
    client.compact(client.revision().unwrap()).unwrap();
    load.run(&client, 5);
    let before = newest(&host).chain;
    let capturing = Capturing::begin(&etcd, &host, 64 << 20);
    until("another backup", || newest(&host).chain != before);
    load.run(&client, 10);
    capturing.has_come_to(client.revision().unwrap());
    let said = capturing.end();
    assert!(said.iter().any(|said| said.contains("has compacted")), "{said:?}");
    assert!(!said.iter().any(|said| said.contains(DRAWS)), "{said:?}");
}

#[test]
fn what_has_no_room_beside_the_spool_is_taken_in_pieces_and_waits_until_there_is_room() {
    let Some((etcd, client, host)) = begun(Version::V3_5, &["--unsafe-no-fsync"]) else {
        return;
    };
    write_more_than_a_spool(&etcd, &client, &host);
    let end = client.revision().unwrap();
    let capturing = Capturing::begin(&etcd, &host, 8 << 20);
    let mut most = 0;
    until(&format!("revision {end}"), || {
        let state = capturing.state();
        most = most.max(state.spool);
        state.captured_to.is_some_and(|to| to.get() >= end)
    });
    assert!(capturing.says(DRAWS) > 1, "{:?}", capturing.said());
    let said = capturing.end();
    assert!(
        !said
            .iter()
            .any(|said| said.starts_with("Warning") || said.starts_with("Error")),
        "{said:?}"
    );
    assert!(most <= 8 << 20, "{most}");
    assert_eq!(prove(&host, &client, end).with(".gap").len(), 0);
}

#[test]
fn a_stop_in_the_midst_loses_nothing() {
    let Some((etcd, client, host)) = begun(Version::V3_6, &["--unsafe-no-fsync"]) else {
        return;
    };
    write_more_than_a_spool(&etcd, &client, &host);
    let end = client.revision().unwrap();
    let begins = until_stored(&host, 0).changes(&host).1;
    // While the stream comes, and when something of it is in the spool.
    for has_begun in [false, true] {
        let capturing = Capturing::begin(&etcd, &host, 64 << 20);
        until("it to be under way", || {
            let captured = capturing.state().captured_to.map_or(0, |to| to.get());
            capturing.says(DRAWS) > 0 && (!has_begun || captured > begins)
        });
        let to_stop = Instant::now();
        capturing.end();
        assert!(to_stop.elapsed() < Duration::from_secs(20), "{:?}", to_stop.elapsed());
    }
    let capturing = Capturing::begin(&etcd, &host, 64 << 20);
    capturing.has_come_to(end);
    let said = capturing.end();
    assert!(
        !said
            .iter()
            .any(|said| said.starts_with("Warning") || said.starts_with("Error")),
        "{said:?}"
    );
    assert_eq!(prove(&host, &client, end).with(".gap").len(), 0);
}

/// 10 MB of what does not compress, in 2500 revisions behind what was captured.
fn write_more_than_a_spool(etcd: &Etcd, client: &Client, host: &Arc<Host>) {
    let mut random = Random::new(41);
    client.put("first", "x", 0).unwrap();
    host.backup();
    let capturing = Capturing::begin(etcd, host, 8 << 20);
    capturing.has_come_to(client.revision().unwrap());
    capturing.end();
    for number in 0..2500 {
        let value: Vec<u8> = (0..500).flat_map(|_| random.next().to_le_bytes()).collect();
        client.put(&format!("/k/{}", number % 100), value, 0).unwrap();
    }
}

#[test]
fn where_no_snapshot_can_be_had_a_watch_catches_up_and_that_is_told() {
    let Some((etcd, client, host)) = begun(Version::V3_6, &[]) else {
        return;
    };
    let mut random = Random::new(43);
    client.put("first", "x", 0).unwrap();
    host.backup();
    for number in 0..200 {
        let value: Vec<u8> = (0..1250).flat_map(|_| random.next().to_le_bytes()).collect();
        client.put(&format!("/k/{number}"), value, 0).unwrap();
    }
    let end = client.revision().unwrap();
    // 2 MB, of so few revisions that it is not worth another attempt.
    let capturing = Capturing::begin(&etcd, &host, 2 << 20);
    until("word of it", || capturing.says("a watch does it") == 1);
    let said = capturing.end();
    assert!(
        said.iter()
            .any(|said| said.contains("there is no room beside the spool")),
        "{said:?}"
    );
    let capturing = Capturing::begin(&etcd, &host, 64 << 20);
    capturing.has_come_to(end);
    capturing.end();
}
