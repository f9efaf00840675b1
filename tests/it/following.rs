//! A data directory that is kept up: it stays close to the cluster, is of one revision or of another whenever it is killed, and an
//! etcd serves what the cluster had.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::json::Page;
use super::support::etcd::{Etcd, Options};
use super::support::host::{Host, Output};
use super::support::load::Load;
use super::support::random::Random;
use super::support::running::{Running, until};
use super::support::tools::Version;
use super::synthetic::{Captured, DELTAS, Everything};

/// A copy that is to be kept, and the lines that are said of it.
struct Copy {
    target: Etcd,
    lines: PathBuf,
}

impl Copy {
    fn plan(host: &Host, version: Version) -> Copy {
        let target = Etcd::plan(version, Options::default()).unwrap();
        Copy {
            target,
            lines: host.path("follow.jsonl"),
        }
    }

    fn args(&self, host: &Host) -> Vec<String> {
        let mut args = host.rebuild_args("latest", &self.target, 0);
        args.extend(["--json", "--follow", "--every", "300ms"].map(str::to_owned));
        args
    }

    /// Starts to follow; what is said goes to a file.
    fn follow(&self, host: &Host) -> Following {
        let mut command: Command = host.command(self.args(host));
        let lines = File::options().create(true).append(true).open(&self.lines).unwrap();
        let said = File::create(self.lines.with_extension("err")).unwrap();
        command.stdout(lines).stderr(Stdio::from(said));
        Following(command.spawn().unwrap())
    }

    fn said(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.lines).unwrap_or_default();
        // The last line may not be whole yet, and one that was killed has left none.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn last(&self) -> Option<Value> {
        self.said().pop()
    }

    fn revision(&self) -> i64 {
        self.last().and_then(|line| line["revision"].as_i64()).unwrap_or(0)
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.lines.with_extension("err")).unwrap_or_default()
    }

    /// What the database in it says of itself.
    fn inspect(&self, host: &Host) -> Value {
        let database = self.target.members[0].data_dir.join("member/snap/db");
        let database = database.display().to_string();
        host.lifeboat(["--json", "inspect", &database]).json()
    }
}

/// A run. Dropped, it is killed.
struct Following(std::process::Child);

impl Following {
    fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", name, &self.0.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    fn kill(mut self) {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        // Whoever does the work dies with it, a moment later. Until the last of its threads has ended, it holds its lock.
        let worker = children
            .split_whitespace()
            .next()
            .map(|worker| format!("/proc/{worker}"));
        until("the worker to be gone", || {
            worker.as_ref().is_none_or(|worker| {
                let threads = fs::read_dir(format!("{worker}/task")).map_or(0, Iterator::count);
                threads < 2 && fs::symlink_metadata(format!("{worker}/fd/0")).is_err()
            })
        });
    }

    fn end(mut self) -> Option<i32> {
        self.signal("TERM");
        self.0.wait().unwrap().code()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_copy_stays_close_whenever_it_is_killed_and_etcd_serves_from_it() {
    let version = Version::V3_6;
    let Some(mut captured) = Captured::start(version, DELTAS) else {
        return;
    };
    let client = captured.etcd.client();
    client.grant(super::synthetic::LEASE, 7_000).unwrap();
    client.put("/leased", "1", super::synthetic::LEASE).unwrap();
    let copy = Copy::plan(&captured.host, version);
    let load = Load::new(41).in_background(captured.etcd.client());
    let (mut random, mut reached) = (Random::new(41), 0);
    for round in 0..6 {
        let running = copy.follow(&captured.host);
        if round == 0 {
            until("it to be laid out", || copy.revision() > 0);
        }
        std::thread::sleep(Duration::from_millis(100 + random.below(1500)));
        running.kill();
        let found = copy.inspect(&captured.host);
        assert_eq!(found["ok"], true, "round {round}: {found}");
        let revision = found["revision"].as_i64().unwrap();
        assert!(revision >= reached, "round {round}: {revision} behind {reached}");
        // What it has said was durable.
        assert!(
            revision >= copy.revision(),
            "round {round}: {revision}, {:?}",
            copy.last()
        );
        reached = revision;
    }
    let running = copy.follow(&captured.host);
    for _ in 0..3 {
        let there = client.revision().unwrap();
        until("it to come to where etcd was", || copy.revision() >= there);
    }
    let (_, done) = load.stop();
    assert!(done > 50, "{done} operations");
    let last = captured.until_stored();
    let (then, everything) = (client.hash_kv(last).unwrap(), Everything::of(&client));
    until(&format!("it to reach {last}: {}", copy.errors()), || {
        copy.revision() >= last
    });
    captured.stop_agent();
    // As an etcd does, it holds what it works on.
    let second = captured.host.lifeboat(copy.args(&captured.host));
    second.expect_code(7).says(&["is in use"]);
    assert_eq!(running.end(), Some(0), "{}", copy.errors());
    let (page, mut seen) = (Page::read(), std::collections::BTreeSet::new());
    copy.said()
        .iter()
        .for_each(|line| page.check("follow", line, &mut seen));
    let ended = copy.last().unwrap();
    assert_eq!(ended["event"], "ended");
    assert!(ended["lag_seconds"].as_f64().unwrap() < 60.0, "{ended}");
    let laid_out = copy.said().iter().filter(|line| line["event"] == "laid_out").count();
    assert_eq!(laid_out, 1, "it is laid out once");
    assert_eq!(ended["revision"], last);
    assert_eq!(ended["hash_kv"]["hash"], then.hash, "{ended}");
    let Copy { mut target, lines } = copy;
    target.boot();
    assert_eq!(target.hash_kv_of_each(0)[0].hash, ended["hash_kv"]["hash"]);
    assert_eq!(Everything::of(&target.client()), everything);
    target.client().put("/afterwards", "1", 0).unwrap();
    target.stop();
    let copy = Copy { target, lines };
    let refused: Output = captured.host.lifeboat(copy.args(&captured.host));
    refused.expect_code(7).says(&["an etcd has run on it"]);
}

#[test]
fn where_a_chain_has_ended_the_next_full_backup_is_laid_out_in_its_place() {
    let version = Version::V3_5;
    let Some(mut captured) = Captured::start(version, DELTAS) else {
        return;
    };
    let copy = Copy::plan(&captured.host, version);
    let running = copy.follow(&captured.host);
    let client = captured.etcd.client();
    Load::new(42).run(&client, 30);
    let last = captured.until_stored();
    until(&format!("it to reach {last}"), || copy.revision() >= last);
    captured.stop_agent();
    // What nobody captures is gone.
    Load::new(43).run(&client, 30);
    let compacted = client.revision().unwrap();
    client.put("/behind", "1", 0).unwrap();
    client.compact(compacted).unwrap();
    let agent: Running = captured.host.start(["agent"]);
    until(&format!("it to go on behind the hole: {}", copy.errors()), || {
        copy.revision() > compacted
    });
    let next = client.put("/after", "1", 0).unwrap();
    until(&format!("it to reach {next}: {}", copy.errors()), || {
        copy.revision() >= next
    });
    drop(agent);
    assert_eq!(running.end(), Some(0), "{}", copy.errors());
    let laid_out: Vec<Value> = copy
        .said()
        .into_iter()
        .filter(|line| line["event"] == "laid_out")
        .collect();
    assert_eq!(laid_out.len(), 2, "{laid_out:?}");
    assert!(
        laid_out[1]["reason"].as_str().unwrap().contains("chain has ended"),
        "{laid_out:?}"
    );
    let ended = copy.last().unwrap();
    let then = client.hash_kv(ended["revision"].as_i64().unwrap()).unwrap();
    assert_eq!(ended["hash_kv"]["hash"], then.hash, "{ended}");
    let mut target = copy.target;
    target.boot();
    assert_eq!(target.hash_kv_of_each(0)[0].hash, then.hash);
}

#[test]
fn a_copy_is_started_with_the_flags_that_are_printed_and_grows_to_three_or_is_rebuilt_as_three() {
    let version = Version::V3_6;
    let Some(mut captured) = Captured::start(version, DELTAS) else {
        return;
    };
    let client = captured.etcd.client();
    client.grant(super::synthetic::LEASE, 7_000).unwrap();
    client.put("/leased", "1", super::synthetic::LEASE).unwrap();
    let mut copy = Copy::plan(&captured.host, version);
    let running = copy.follow(&captured.host);
    Load::new(44).run(&client, 30);
    let last = captured.until_stored();
    until(&format!("it to reach {last}: {}", copy.errors()), || {
        copy.revision() >= last
    });
    captured.stop_agent();
    let (then, everything) = (client.hash_kv(last).unwrap(), Everything::of(&client));
    let host = &captured.host;
    let data_dir = copy.target.members[0].data_dir.clone();
    let database = data_dir.join("member/snap/db").display().to_string();
    // It changes under whoever reads it meanwhile.
    host.lifeboat(["compact", &database, "never.db", "--skip-hash-check"])
        .expect_code(7)
        .says(&["in use"]);
    assert_eq!(running.end(), Some(0), "{}", copy.errors());
    let flags = copy.last().unwrap()["flags"].clone();
    let member = &copy.target.members[0];
    assert_eq!(flags["--data-dir"], data_dir.display().to_string().as_str());
    assert_eq!(flags["--name"], member.name.as_str());
    assert_eq!(flags["--initial-cluster"], copy.target.initial_cluster().as_str());
    assert_eq!(flags["--initial-cluster-token"], copy.target.token.as_str());
    assert_eq!(flags["--initial-advertise-peer-urls"], member.peer_url.as_str());

    // As a new cluster of three, each member of the same database.
    let options = Options {
        members: 3,
        token: "three".to_owned(),
        ..Options::default()
    };
    let mut three = Etcd::plan(version, options).unwrap();
    for index in 0..3 {
        let mut args = host.rebuild_args(&database, &three, index);
        args.push("--skip-hash-check".to_owned());
        host.lifeboat(args).expect_code(0);
    }
    three.boot();
    for hash in three.hash_kv_of_each(last) {
        assert_eq!(hash.hash, then.hash);
    }
    assert_eq!(Everything::of(&three.client_of(2)), everything);
    drop(three);
    // A data directory is no snapshot, and what is in it is named.
    let restored = host.lifeboat(["restore", &data_dir.display().to_string(), "--dry-run"]);
    restored
        .expect_code(2)
        .says(&["is a data directory", &format!("{database} --skip-hash-check")]);

    // With the flags that were printed, and others join it.
    let state = flags["--initial-cluster-state"].as_str().unwrap();
    copy.target.set_flags(&["--initial-cluster-state", state]);
    let again = copy.args(host);
    copy.target.boot();
    assert_eq!(copy.target.hash_kv_of_each(last)[0].hash, then.hash);
    assert_eq!(Everything::of(&copy.target.client()), everything);
    copy.target.add_member();
    copy.target.add_member();
    copy.target.client().put("/afterwards", "1", 0).unwrap();
    let hashes = copy.target.hash_kv_of_each(0);
    assert!(
        hashes.len() == 3 && hashes.iter().all(|hash| hash.hash == hashes[0].hash),
        "{hashes:?}"
    );
    copy.target.stop();
    let before = fs::read(&database).unwrap();
    host.lifeboat(again).expect_code(7).says(&["an etcd has run on it"]);
    assert!(fs::read(&database).unwrap() == before, "it was written to");
}

#[test]
fn data_that_does_not_say_which_history_it_is_of_is_refused() {
    let version = Version::V3_6;
    let Some(mut captured) = Captured::start(version, DELTAS) else {
        return;
    };
    captured.stop_agent();
    let host = &captured.host;
    let copy = Copy::plan(host, version);
    let running = copy.follow(host);
    until(&format!("it to be laid out: {}", copy.errors()), || copy.revision() > 0);
    assert_eq!(running.end(), Some(0), "{}", copy.errors());
    let data_dir = &copy.target.members[0].data_dir;
    let (mark, database) = (
        data_dir.join("member/.lifeboat-follow.json"),
        data_dir.join("member/snap/db"),
    );
    let (said, before) = (fs::read_to_string(&mark).unwrap(), fs::read(&database).unwrap());
    let refused = |words: &str| {
        host.lifeboat(copy.args(host)).expect_code(7).says(&[words]);
        assert!(fs::read(&database).unwrap() == before, "it was written to");
    };
    fs::remove_file(&mark).unwrap();
    refused("is not written down in it");
    fs::write(&mark, "{").unwrap();
    refused("cannot be read");
    let lineage: Value = serde_json::from_str(&said).unwrap();
    let lineage = lineage["lineage"].as_str().unwrap();
    let digits = lineage.find(|digit: char| digit.is_ascii_hexdigit()).unwrap();
    let mut other = lineage.to_owned();
    other.replace_range(
        digits..=digits,
        if lineage[digits..].starts_with('0') { "1" } else { "0" },
    );
    fs::write(&mark, said.replace(lineage, &other)).unwrap();
    refused(&format!("is of lineage {other}"));
    fs::write(&mark, said).unwrap();
    let running = copy.follow(host);
    until("it to be gone on with", || {
        copy.last().is_some_and(|line| line["event"] == "resumed")
    });
    assert_eq!(running.end(), Some(0), "{}", copy.errors());
    // As a plain rebuild leaves it, of this lineage or of another one.
    let plain = Copy::plan(host, version);
    host.lifeboat(host.rebuild_args("latest", &plain.target, 0))
        .expect_code(0);
    host.lifeboat(plain.args(host))
        .expect_code(7)
        .says(&["has not laid it out"]);
}

#[test]
fn what_does_not_go_with_it_is_refused() {
    let host = Host::without_cluster();
    let refused = |more: &[&str]| {
        let args = ["rebuild", "latest", "--follow", "--data-dir", "d"];
        host.lifeboat([&args[..], more].concat()).expect_code(2)
    };
    refused(&["--to-revision", "7"]);
    refused(&["--wal-dir", "w"]);
    refused(&["--bump-revision", "7", "--mark-compacted"]);
    // Of several members each would be of another revision.
    let members = "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380";
    let of_several = ["--name", "m1", "--initial-cluster", members];
    let advertised = ["--initial-advertise-peer-urls", "http://10.0.0.1:2380"];
    refused(&[of_several, [advertised[0], advertised[1], "--every", "1s"]].concat()).says(&["is of one member"]);
    host.lifeboat(["rebuild", "20261120T101530Z", "--follow", "--data-dir", "d"])
        .expect_code(2);
    host.lifeboat(["rebuild", "latest", "--every", "1s", "--data-dir", "d"])
        .expect_code(2);
}
