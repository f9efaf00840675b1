//! Hosts that share a store and write the deltas of one chain: one whose clock is wrong, one that is stopped and wakes up when
//! another has its place, or when the chain is gone; whose first backup takes long; whose newest backup cannot be followed. What comes of
//! it is one history, and nothing wrong is restored.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::support::client::{Client, HashKv};
use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, Output, files_below};
use super::support::load::Load;
use super::support::running::{Running, until};
use super::support::shifted::Shifted;
use super::support::slow::Slow;
use super::support::tools::Version;

const SHARED: &str =
    "shared = true\nretention = { keep_last = 1 }\n[deltas]\nenabled = true\nevery = \"1s\"\nmark_every = \"2s\"\n";

/// Two hosts with one store.
struct Two {
    etcd: Etcd,
    client: Client,
    first: Host,
    second: Host,
}

impl Two {
    fn new() -> Option<Two> {
        Two::with(SHARED)
    }

    fn with(settings: &str) -> Option<Two> {
        let etcd = Etcd::start(Version::V3_5, Options::default())?;
        let client = etcd.client();
        client.put("/begun", "x", 0).unwrap();
        let (first, second) = (Host::new(&etcd), Host::new(&etcd));
        first.configure(&etcd, &format!("{settings}[host]\nmember = \"m1\"\n"));
        second.configure(&etcd, settings);
        second.reconfigure(second.recipient(), first.recipient());
        second.reconfigure(
            &second.store().display().to_string(),
            &first.store().display().to_string(),
        );
        first.has_written_before();
        second.has_written_before();
        Some(Two {
            etcd,
            client,
            first,
            second,
        })
    }

    /// The newest window.
    fn window(&self) -> Value {
        let listed = self.first.lifeboat(["--json", "list"]).json();
        let windows = listed["windows"].as_array().cloned().unwrap_or_default();
        let newest = windows.into_iter().max_by_key(|window| window["chain"].to_string());
        newest.unwrap_or(Value::Null)
    }

    /// Where a chain lies.
    fn folder_of(&self, chain: &str) -> PathBuf {
        let cluster = fs::read_dir(self.first.store().join(CLUSTER)).unwrap();
        let mut folders = cluster.map(|entry| entry.unwrap().path().join(chain));
        folders.find(|folder| folder.exists()).unwrap()
    }

    fn until_stored(&self, revision: i64) {
        until(&format!("revision {revision} in the store"), || {
            self.window()["to_revision"].as_i64() >= Some(revision)
        });
    }

    /// The epochs of the newest chain; null where that was removed meanwhile.
    fn epochs(&self) -> Value {
        let chain = self.window()["chain"].as_str().unwrap().to_owned();
        let shown = self.first.lifeboat(["--json", "show", &chain]);
        match shown.code {
            0 => shown.json()["window"]["epochs"].clone(),
            _ => Value::Null,
        }
    }

    fn rebuild(&self, more: &[&str]) -> Output {
        let target = Etcd::plan(self.etcd.version, Options::default()).expect("it was there before");
        let args = self.first.rebuild_args("latest", &target, 0);
        let args = args.iter().map(String::as_str).chain(["--json"]);
        self.first.lifeboat(args.chain(more.iter().copied()))
    }

    /// That a revision comes back as etcd had it.
    #[track_caller]
    fn comes_back(&self, revision: i64) {
        let then = self.client.hash_kv(revision).unwrap();
        is(&self.rebuild(&["--to-revision", &revision.to_string()]), then);
    }
}

#[track_caller]
fn is(done: &Output, then: HashKv) {
    let done = done.clone().expect_code(0).json();
    assert_eq!(done["revision"], then.revision, "{done}");
    assert_eq!(done["hash_kv"]["hash"], then.hash, "{done}");
}

fn lane(host: &Host) -> Value {
    let path = host.path("state").join(CLUSTER).join("status.json");
    let text = fs::read_to_string(path).unwrap_or_else(|_| "null".to_owned());
    let status: Value = serde_json::from_str(&text).unwrap();
    status["deltas"][0].clone()
}

fn stands_by(host: &Host) -> bool {
    lane(host)["capturing"] == "standing_by"
}

#[test]
fn by_hosts_whose_clocks_are_an_hour_apart_one_history_is_written_and_no_later_time_is_restored() {
    const CLOCKS: &str = "the clocks of the hosts that wrote the deltas";
    let Some(two) = Two::new() else { return };
    let Some(clock) = Shifted::new(&two.second.path("shim")) else {
        return;
    };
    let agent = two.first.start(["agent"]);
    until("the first backup", || !two.window().is_null());
    let mut load = Load::new(31);
    load.run(&two.client, 30);
    let kept = two.client.put("/kept", "x", 0).unwrap();
    two.until_stored(kept);
    let at_kept = Timestamp::now();
    let mut behind = two.second.command(["agent"]);
    clock.ahead_by(&mut behind, -3600);
    let behind = Running::start(behind);
    until("the second to stand by", || stands_by(&two.second));
    agent.signal("KILL");
    drop(agent.wait());
    let deleted = two.client.delete("/kept").unwrap();
    load.run(&two.client, 10);
    two.until_stored(two.client.revision().unwrap());
    let at_second = Timestamp::now();
    let said: Timestamp = two.window()["to_time"].as_str().unwrap().parse().unwrap();
    let off = at_second.duration_since(said).as_secs();
    assert!((3_500..3_700).contains(&off), "its clock is {off} s behind");
    behind.signal("KILL");
    drop(behind.wait());
    let agent = two.first.start(["agent"]);
    load.run(&two.client, 10);
    let last = two.client.revision().unwrap();
    two.until_stored(last);
    let at_last = Timestamp::now();
    until("the end to be later", || {
        let end: Timestamp = two.window()["to_time"].as_str().unwrap().parse().unwrap();
        end > at_last
    });
    agent.signal("TERM");
    agent.wait().expect_code(0);
    assert_eq!(two.window()["ends"], Value::Null);
    for revision in [kept, deleted, last - 3, last] {
        two.comes_back(revision);
    }
    let at = |time: Timestamp| two.rebuild(&["--to-time", &time.to_string()]);
    let then = |revision| two.client.hash_kv(revision).unwrap();
    is(&at(at_kept).says(&[CLOCKS]), then(kept));
    // When the second wrote, by a right clock: rather what was before.
    is(&at(at_second).says(&[CLOCKS]), then(kept));
    is(&at(at_last).says(&[CLOCKS]), then(last));
}

#[test]
fn a_writer_that_was_stopped_gives_way_when_it_wakes_up_even_if_its_chain_is_gone() {
    let Some(two) = Two::new() else { return };
    let first = two.first.start(["agent"]);
    until("the first backup", || !two.window().is_null());
    let mut load = Load::new(37);
    load.run(&two.client, 30);
    two.until_stored(two.client.revision().unwrap());
    let second = two.second.start(["agent"]);
    until("the second to stand by", || stands_by(&two.second));

    // Stopped, and woken up when the other has its place. It writes what it had in hand, and then no more.
    let background = load.in_background(two.client.clone());
    first.signal("STOP");
    until("the second to take its place", || {
        two.epochs().as_array().unwrap().len() == 2
    });
    std::thread::sleep(Duration::from_secs(1));
    first.signal("CONT");
    until("the first to give way", || stands_by(&two.first));
    let (mut load, _) = background.stop();
    let last = two.client.revision().unwrap();
    two.until_stored(last);
    assert_eq!(two.epochs().as_array().unwrap().len(), 2);
    assert_eq!(two.window()["ends"], Value::Null);
    for revision in [last / 3, last / 2, last - 1, last] {
        two.comes_back(revision);
    }

    // Stopped, and woken up when its chain has been removed.
    let before = two.window()["chain"].clone();
    second.signal("STOP");
    first.signal("TERM");
    first.wait().expect_code(0);
    two.first.backup();
    fs::remove_dir_all(two.folder_of(before.as_str().unwrap())).unwrap();
    let first = two.first.start(["agent"]);
    load.run(&two.client, 10);
    two.until_stored(two.client.revision().unwrap());
    let chain = two.window()["chain"].clone();
    assert_ne!(chain, before);
    // As long as it takes to be sure that it does not write any more.
    std::thread::sleep(Duration::from_secs(6));
    second.signal("CONT");
    let begun = Instant::now();
    while !(stands_by(&two.second) && lane(&two.second)["chain"] == chain) {
        if begun.elapsed() > Duration::from_secs(60) {
            let is = lane(&two.second);
            second.signal("TERM");
            panic!("the second does not give way: {is}\n{}", second.wait().stderr);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    load.run(&two.client, 10);
    let last = two.client.revision().unwrap();
    two.until_stored(last);
    let listed = two.first.lifeboat(["--json", "list"]).expect_code(0).json();
    let backups = listed["backups"].as_array().unwrap();
    assert_eq!((backups.len(), &backups[0]["id"]), (1, &chain), "{listed}");
    assert_eq!(two.epochs().as_array().unwrap().len(), 1, "the first still writes");
    two.comes_back(last);
    for agent in [first, second] {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
}

#[test]
fn of_two_hosts_one_goes_over_to_a_newer_backup_and_the_other_stands_by() {
    let Some(two) = Two::new() else { return };
    let often = "[schedules.often]\nkind = \"full\"\nevery = \"5s\"\njitter = \"0s\"\n";
    two.first.reconfigure("[deltas]", &format!("{often}[deltas]"));
    two.second.reconfigure("[deltas]", &format!("{often}[deltas]"));
    let agents = [two.first.start(["agent"]), two.second.start(["agent"])];
    let mut load = Load::new(41);
    let mut seen = BTreeSet::new();
    let begun = Instant::now();
    while seen.len() < 4 && begun.elapsed() < Duration::from_secs(60) {
        load.step(&two.client).unwrap();
        let window = two.window();
        if window["to_revision"].as_i64() > window["from_revision"].as_i64() {
            seen.insert(window["chain"].to_string());
            // Of each chain one host has taken the first epoch, and nobody another one.
            let epochs = two.epochs();
            assert!(epochs.as_array().is_none_or(|epochs| epochs.len() <= 1), "{epochs}");
        }
    }
    if seen.len() < 4 {
        let said = agents.map(|agent| {
            agent.signal("TERM");
            agent.wait().stderr
        });
        panic!("deltas behind {seen:?} alone: {}\n---\n{}", said[0], said[1]);
    }
    let last = two.client.revision().unwrap();
    two.until_stored(last);
    two.comes_back(last);
    for agent in agents {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
}

#[test]
fn of_hosts_that_begin_at_once_one_takes_the_first_backup_however_long_that_takes() {
    let Some(two) = Two::new() else { return };
    let Some(slow) = Slow::new(&two.first.path("shim")) else {
        return;
    };
    for number in 0..10 {
        let mut value = vec![0; 128 << 10];
        getrandom::fill(&mut value).unwrap();
        two.client.put(&format!("/random/{number}"), value, 0).unwrap();
    }
    let go_on = two.first.path("go-on");
    let mut first = two.first.command(["agent"]);
    slow.write_to(&mut first, &two.first.store(), &go_on);
    let first = Running::start(first);
    until("the first to take it", || {
        let files = files_below(&two.first.store());
        files.iter().any(|file| file.display().to_string().contains("/20"))
    });
    let second = two.second.start(["agent"]);
    until("the second to see that", || {
        lane(&two.second)["trouble"]
            .to_string()
            .contains("takes one in destination")
    });
    fs::write(&go_on, "").unwrap();
    let begun = Instant::now();
    // Whichever of them writes behind it.
    while !stands_by(&two.second) && !stands_by(&two.first) {
        // Each looks again every now and then.
        if begun.elapsed() > Duration::from_secs(120) {
            let said = [first, second].map(|agent| {
                agent.signal("TERM");
                agent.wait().stderr
            });
            panic!("neither stands by: {}\n---\n{}", said[0], said[1]);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let listed = two.first.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed}");
    for agent in [first, second] {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
}

#[test]
fn a_host_that_is_started_anew_does_not_stand_by_for_its_former_self() {
    let Some(two) = Two::new() else { return };
    for round in 1..=3 {
        let agent = two.first.start(["agent"]);
        until("a chain", || !two.window().is_null());
        two.client.put("/round", round.to_string(), 0).unwrap();
        let put = two.client.revision().unwrap();
        until("that to be stored", || {
            assert!(!stands_by(&two.first), "there is nobody else: {}", lane(&two.first));
            two.window()["to_revision"].as_i64() >= Some(put)
        });
        agent.signal(if round == 2 { "KILL" } else { "TERM" });
        agent.wait();
    }
    assert_eq!(two.epochs(), serde_json::json!([1, 2, 3]));
}

#[test]
fn a_host_that_was_set_up_anew_does_not_stand_by_for_its_former_self_and_one_of_its_name_does_for_it() {
    const SLOWER: &str = "shared = true\n[deltas]\nenabled = true\nevery = \"3s\"\nmark_every = \"3s\"\n";
    let Some(two) = Two::with(SLOWER) else { return };
    let stored = |value: &str| {
        two.client.put("/round", value, 0).unwrap();
        two.until_stored(two.client.revision().unwrap());
    };
    let agent = two.first.start(["agent"]);
    until("a chain", || !two.window().is_null());
    stored("1");
    agent.signal("KILL");
    agent.wait();
    fs::remove_dir_all(two.first.path("state")).unwrap();

    let agent = two.first.start(["agent"]);
    two.client.put("/round", "2", 0).unwrap();
    let put = two.client.revision().unwrap();
    until("that to be stored", || {
        assert!(!stands_by(&two.first), "there is nobody else: {}", lane(&two.first));
        two.window()["to_revision"].as_i64() >= Some(put)
    });
    assert_eq!(two.epochs(), serde_json::json!([1, 2]));

    // Another machine of the name, which lives: one gives way to the other, and it stays so.
    fs::remove_dir_all(two.second.path("state")).unwrap();
    let other = two.second.start(["agent"]);
    until("it to take the next epoch", || {
        two.epochs() == serde_json::json!([1, 2, 3])
    });
    // Something has happened: it looks, as it does every few minutes.
    two.first.lifeboat(["accept-lineage"]).expect_code(0);
    until("the one that keeps what it wrote to stand by", || stands_by(&two.first));
    for round in 3..6 {
        stored(&round.to_string());
    }
    assert!(stands_by(&two.first) && !stands_by(&two.second));
    assert_eq!(two.epochs(), serde_json::json!([1, 2, 3]));
    two.comes_back(two.client.revision().unwrap());
    other.signal("TERM");
    other.wait().expect_code(0);
    agent.signal("TERM");
    let said = agent.wait().expect_code(0).stderr;
    assert!(said.contains("another machine with the name"), "{said}");
}

/// Whether the agent is the same one when a cluster is back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agent {
    GoesOn,
    StartsAnew,
}

#[test]
fn the_chain_of_a_cluster_that_is_back_is_gone_on_with_at_once_by_the_host_that_wrote_it() {
    a_cluster_is_back(Agent::GoesOn);
}

#[test]
fn the_chain_of_a_cluster_that_is_back_is_gone_on_with_by_an_agent_that_was_started_anew_meanwhile() {
    a_cluster_is_back(Agent::StartsAnew);
}

/// As a restore and its rollback do, of which the operator says himself here which history is meant.
fn a_cluster_is_back(meanwhile: Agent) {
    const SLOWER: &str = "shared = true\nretention = { keep_last = 20 }\n[deltas]\nenabled = true\nevery = \"3s\"\nmark_every = \"3s\"\n";
    let Some(mut two) = Two::with(SLOWER) else { return };
    let manifests = |two: &Two| {
        let files = files_below(&two.first.store()).into_iter();
        let is_one = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("full-");
        files.filter(is_one).count()
    };
    let accept = |two: &Two, lineage: &str| {
        let args = ["accept-lineage", lineage, "--note", "that is meant"];
        two.first.lifeboat(args).expect_code(0);
    };
    let newest = |two: &Two| {
        let listed = two.first.lifeboat(["--json", "list", "--all"]).json();
        let backups = listed["backups"].as_array().cloned().unwrap_or_default();
        let newest = backups.into_iter().max_by_key(|backup| backup["id"].to_string());
        let of = |key: &str| newest.as_ref().unwrap()[key].as_str().unwrap().to_owned();
        (of("id"), of("lineage"))
    };
    let epochs = |two: &Two, chain: &str| fs::read_dir(two.folder_of(chain).join("epochs")).unwrap().count();

    let agent = two.first.start(["agent"]);
    until("the first backup", || !two.window().is_null());
    let mut load = Load::new(53);
    load.run(&two.client, 10);
    two.until_stored(two.client.revision().unwrap());
    let (oldest, lineage) = newest(&two);
    let left = two.first.backup();
    until("it to go over", || lane(&two.first)["chain"] == left.as_str());
    load.run(&two.client, 10);
    let captured = two.client.revision().unwrap();
    two.until_stored(captured);

    let (data, aside) = (two.etcd.members[0].data_dir.clone(), two.first.path("aside"));
    let token = two.etcd.token.clone();
    two.etcd.stop();
    fs::rename(&data, &aside).unwrap();
    "another".clone_into(&mut two.etcd.token);
    two.etcd.boot();
    two.etcd.client().put("/other", "x", 0).unwrap();
    until("a backup of the other cluster", || manifests(&two) == 3);
    let (other, of_other) = newest(&two);
    assert_ne!(of_other, lineage);
    accept(&two, &of_other);
    until("its changes to be captured", || {
        lane(&two.first)["chain"] == other.as_str() && lane(&two.first)["capturing"] == "writing"
    });

    let agent = match meanwhile {
        Agent::GoesOn => agent,
        Agent::StartsAnew => {
            agent.signal("TERM");
            agent.wait().expect_code(0);
            let agent = two.first.start(["agent"]);
            until("it to write again", || {
                epochs(&two, &other) == 2 && lane(&two.first)["capturing"] == "writing"
            });
            agent
        }
    };
    two.etcd.stop();
    agent.signal("STOP");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    two.etcd.token = token;
    two.etcd.boot();
    two.client = two.etcd.client();
    // Before the backup that is taken now.
    load.run(&two.client, 10);
    agent.signal("CONT");
    until("a backup of the cluster that is back", || manifests(&two) >= 4);
    let (back, of_back) = newest(&two);
    assert_eq!(of_back, lineage);
    accept(&two, &lineage);
    until("it to go over to that", || {
        assert!(!stands_by(&two.first), "there is nobody else: {}", lane(&two.first));
        // One that was started anew may have taken another one before it was said which history is meant.
        let chain = lane(&two.first)["chain"].as_str().unwrap_or_default().to_owned();
        chain >= back && lane(&two.first)["capturing"] == "writing"
    });
    load.run(&two.client, 10);
    let last = two.client.revision().unwrap();
    two.until_stored(last);
    agent.signal("TERM");
    let said = agent.wait().expect_code(0).stderr;
    // What came until then was captured already, and is not once more.
    assert_eq!((epochs(&two, &oldest), epochs(&two, &left)), (1, 2), "{said}");
    assert!(
        said.contains(&format!("this host writes the deltas of {left} from now on")),
        "{said}"
    );
    for revision in [captured, captured + 1, captured + 5, last] {
        two.comes_back(revision);
    }
}

#[test]
fn of_hosts_whose_first_backup_takes_longer_than_a_slot_one_opens_the_history() {
    const OFTEN: &str = "shared = true\n[schedules.often]\nkind = \"full\"\nevery = \"10s\"\njitter = \"0s\"\n";
    let Some(two) = Two::with(OFTEN) else { return };
    let Some(slow) = Slow::new(&two.first.path("shim")) else {
        return;
    };
    for number in 0..10 {
        let mut value = vec![0; 128 << 10];
        getrandom::fill(&mut value).unwrap();
        two.client.put(&format!("/random/{number}"), value, 0).unwrap();
    }
    let go_on = two.first.path("go-on");
    let mut first = two.first.command(["agent"]);
    slow.write_to(&mut first, &two.first.store(), &go_on);
    let first = Running::start(first);
    let lineages = || {
        let files = files_below(&two.first.store()).into_iter();
        let manifests = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("full-"));
        let of = |path: PathBuf| -> Value {
            serde_json::from_slice(&fs::read(two.first.store().join(path)).unwrap()).unwrap()
        };
        let all: Vec<String> = manifests.map(|path| of(path)["lineage"].to_string()).collect();
        all
    };
    until("the first to take it", || {
        let files = files_below(&two.first.store());
        files.iter().any(|file| file.display().to_string().contains("/20"))
    });
    let second = two.second.start(["agent"]);
    let status = two.second.path("state").join(CLUSTER).join("status.json");
    until("the second to wait for that", || {
        let said = fs::read_to_string(&status).unwrap_or_default();
        assert_eq!(lineages(), Vec::<String>::new());
        said.contains("takes the first backup there")
    });
    // By hand it is no other thing.
    let refused = two.second.lifeboat(["backup"]).expect_code(6);
    assert!(
        refused.stderr.contains("two would be two histories"),
        "{}",
        refused.stderr
    );
    let waits = two.second.start(["backup", "--wait", "120s", "--verbose"]);
    std::thread::sleep(Duration::from_secs(1));
    assert!(!waits.has_ended(), "it was to wait");
    fs::write(&go_on, "").unwrap();
    waits.wait().expect_code(0);
    until("three backups", || lineages().len() >= 3);
    for agent in [first, second] {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
    let found: BTreeSet<String> = lineages().into_iter().collect();
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_chain_that_is_removed_by_hand_is_left_at_once() {
    let Some(two) = Two::new() else { return };
    let agent = two.first.start(["agent"]);
    until("the first backup", || !two.window().is_null());
    let mut load = Load::new(43);
    load.run(&two.client, 10);
    two.until_stored(two.client.revision().unwrap());
    let before = two.window()["chain"].as_str().unwrap().to_owned();
    let id = two.first.backup();
    fs::remove_dir_all(two.folder_of(&before)).unwrap();
    let background = load.in_background(two.client.clone());
    until("it to go over", || lane(&two.first)["chain"] == id.as_str());
    let _ = background.stop();
    let last = two.client.revision().unwrap();
    two.until_stored(last);
    two.comes_back(last);
    agent.signal("TERM");
    agent.wait().expect_code(0);
}

/// One host, and a newer backup behind which etcd has nothing any more, though the chain before leads on.
fn the_chain_before_is_gone_on_with(shared: bool) {
    let Some(two) = Two::new() else { return };
    if !shared {
        two.first.reconfigure("shared = true", "shared = false");
    }
    let stop = |agent: Running| {
        agent.signal("TERM");
        agent.wait().expect_code(0)
    };
    let agent = two.first.start(["agent"]);
    until("the first backup", || !two.window().is_null());
    let before = two.window()["chain"].clone();
    let mut load = Load::new(47);
    load.run(&two.client, 10);
    two.until_stored(two.client.revision().unwrap());
    stop(agent);
    let identity = two.first.identity().display().to_string();
    let made = two
        .first
        .lifeboat(["--json", "backup", "--synthetic", "--identity", &identity]);
    let made = made.expect_code(0).json()["id"].as_str().unwrap().to_owned();
    // Aside, until the chain before has come further.
    let there = two.folder_of(&made);
    let aside = two.first.path("aside");
    fs::rename(&there, &aside).unwrap();
    let agent = two.first.start(["agent"]);
    load.run(&two.client, 10);
    let captured = two.client.revision().unwrap();
    two.until_stored(captured);
    stop(agent);
    fs::rename(&aside, &there).unwrap();
    two.client.compact(captured).unwrap();
    load.run(&two.client, 10);

    let agent = two.first.start(["agent"]);
    let last = two.client.revision().unwrap();
    until("the chain before to be gone on with", || {
        let lane = lane(&two.first);
        lane["chain"] == before && lane["captured_to"].as_i64() >= Some(last)
    });
    let mut others = None;
    if shared {
        // Who stands by does so behind the chain that is written.
        others = Some(two.second.start(["agent"]));
        until("the second to stand by there", || {
            stands_by(&two.second) && lane(&two.second)["chain"] == before
        });
    }
    load.run(&two.client, 10);
    let last = two.client.revision().unwrap();
    until("the rest", || lane(&two.first)["captured_to"].as_i64() >= Some(last));
    assert!(lane(&two.first)["capturing"] == "writing");
    stop(agent);
    others.map(stop);
    let files = files_below(&two.first.store());
    let ends = files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "gap"));
    assert_eq!(ends.count(), 0, "{files:?}");
    let listed = two.first.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 2, "{listed}");
    let target = Etcd::plan(two.etcd.version, Options::default()).expect("it was there before");
    let args = two
        .first
        .rebuild_args(&format!("{}:{last}", before.as_str().unwrap()), &target, 0);
    let args = args.iter().map(String::as_str).chain(["--json"]);
    let rebuilt = two.first.lifeboat(args).expect_code(0).json();
    // What etcd has compacted meanwhile is not compacted in it, so that their hashes differ.
    let keys = two.client.get_all().unwrap().len();
    assert_eq!(
        (&rebuilt["revision"], &rebuilt["live_keys"]),
        (&last.into(), &keys.into())
    );
}

#[test]
fn of_own_destinations_the_chain_before_is_gone_on_with_where_a_newer_backup_cannot_be_followed() {
    the_chain_before_is_gone_on_with(false);
}

#[test]
fn of_shared_destinations_the_chain_before_is_gone_on_with_where_a_newer_backup_cannot_be_followed() {
    the_chain_before_is_gone_on_with(true);
}
