//! What a member that was killed leaves behind: its log tells what its database lacks, and both together are what the real
//! etcd makes of them when it starts.

mod operations;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::support::client::{Client, Entry, HashKv, wait_for};
use super::support::etcd::{Etcd, Options, Security};
use super::support::host::{Host, copy_tree, tree};
use super::support::load::Load;
use super::support::tools::Version;
use operations::{Answers, Operations};

/// Flags of a server whose database lags far behind its log.
const LAGGING: [&str; 2] = ["--backend-batch-interval=10m", "--backend-batch-limit=1000000"];

fn options(flags: &[&str]) -> Options {
    Options {
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        ..Options::default()
    }
}

fn inspected(host: &Host, path: &Path, code: i32) -> Value {
    let path = path.display().to_string();
    host.lifeboat(["--json", "inspect", &path]).expect_code(code).json()
}

/// What clients see of a member.
#[derive(Debug, PartialEq)]
struct Seen {
    hash: HashKv,
    keys: BTreeMap<Vec<u8>, Entry>,
    leases: BTreeMap<i64, i64>,
}

impl Seen {
    fn by(client: &Client) -> Seen {
        client.revision().expect("it runs");
        let leases = client.leases().expect("it runs");
        Seen {
            hash: client.hash_kv(0).expect("it runs"),
            keys: client.get_all().expect("it runs"),
            leases: leases
                .into_iter()
                .map(|id| (id, client.granted_ttl(id).expect("it runs")))
                .collect(),
        }
    }
}

/// Rebuilds what is left in `left`, starts an etcd as the one before on it, and tells what it serves and what was said.
fn rebuilt(host: &Host, left: &Path, like: &Etcd, more: &[&str]) -> (Seen, Value) {
    let mut etcd =
        Etcd::plan(like.version, options(&["--initial-cluster-state=existing"])).expect("it was there before");
    etcd.credentials = like.credentials.clone();
    let before = tree(left);
    let mut args = host.rebuild_args(&left.display().to_string(), &etcd, 0);
    args.extend(
        ["--from-data-dir", "--json"]
            .iter()
            .chain(more)
            .map(|arg| (*arg).to_owned()),
    );
    let said = host.lifeboat(&args).expect_code(0).json();
    assert_eq!(tree(left), before, "what is left behind is not changed");
    etcd.boot();
    let seen = Seen::by(&etcd.client());
    assert_eq!(said["hash_kv"]["hash"], json!(seen.hash.hash), "{said}");
    assert_eq!(said["live_keys"], json!(seen.keys.len()), "{said}");
    etcd.client().put("/after", "it", 0).expect("it takes writes");
    (seen, said)
}

#[test]
fn what_only_the_log_of_a_killed_member_holds_is_told() {
    for version in Version::ALL {
        let Some(mut etcd) = Etcd::start(version, options(&LAGGING)) else {
            return;
        };
        let client = etcd.client();
        let mut load = Load::new(11);
        load.run(&client, 300);
        let last = client.revision().expect("it runs");
        etcd.kill(0);
        let host = Host::new(&etcd);
        let left = host.path("left");
        copy_tree(&etcd.members[0].data_dir, &left);
        let seen = inspected(&host, &left, 0);
        let log = &seen["log"];
        assert_eq!(log["end"], "whole", "etcd {}", version.number());
        assert!(log["entries"].as_u64() > Some(10), "{log}");
        assert_eq!(log["uncommitted_entries"], json!(0));
        assert_eq!(log["to_revision"], json!(last), "etcd {}: {log}", version.number());
        assert_eq!(
            log["from_revision"].as_i64(),
            seen["revision"].as_i64().map(|last| last.max(1) + 1)
        );
        let text = host.lifeboat(["inspect", &left.display().to_string()]).expect_code(0);
        assert!(text.stdout.contains("are in the log alone"), "{}", text.stdout);
    }
}

/// A server is killed in the middle of what `seed` asks for; the same etcd on its directory and ours on a copy serve the same.
/// How many entries were in its log alone.
fn killed(version: Version, seed: u64, flags: &[&str], quiet: u64) -> Option<u64> {
    Etcd::start(version, options(flags)).map(|etcd| killed_of(etcd, seed, quiet))
}

fn killed_of(mut etcd: Etcd, seed: u64, quiet: u64) -> u64 {
    const COUNT: u64 = 600;
    let version = etcd.version;
    let mut client = etcd.client().raw();
    let mut operations = Operations::new(seed, quiet);
    let Answers { done, refused } = wait_for(operations.run(&mut client, COUNT));
    assert!(done > COUNT / 2 && refused > 0, "{done} done, {refused} refused");
    etcd.kill(0);
    let host = Host::new(&etcd);
    let left = host.path("left");
    copy_tree(&etcd.members[0].data_dir, &left);
    etcd.boot();
    let theirs = Seen::by(&etcd.client());
    let (ours, said) = rebuilt(&host, &left, &etcd, &[]);
    assert_eq!(
        ours,
        theirs,
        "etcd {}, seed {seed}: {said}, of {}",
        version.number(),
        inspected(&host, &left, 0)["log"]
    );
    said["salvaged"]["entries"].as_u64().expect("a number")
}

#[test]
fn a_killed_member_of_3_4_is_rebuilt_as_etcd_itself_would_go_on() {
    assert_ne!(killed(Version::V3_4, 1, &LAGGING, 10), Some(0));
    killed(Version::V3_4, 2, &[], 1);
}

#[test]
fn a_killed_member_of_3_5_is_rebuilt_as_etcd_itself_would_go_on() {
    assert_ne!(killed(Version::V3_5, 3, &LAGGING, 10), Some(0));
    killed(Version::V3_5, 4, &[], 1);
}

#[test]
fn a_killed_member_of_3_6_is_rebuilt_as_etcd_itself_would_go_on() {
    assert_ne!(killed(Version::V3_6, 5, &LAGGING, 10), Some(0));
    killed(Version::V3_6, 6, &["--snapshot-count=100"], 1);
}

#[test]
fn a_killed_member_of_3_7_is_rebuilt_as_etcd_itself_would_go_on() {
    assert_ne!(killed(Version::V3_7, 7, &LAGGING, 10), Some(0));
    killed(Version::V3_7, 8, &["--snapshot-count=100"], 1);
}

/// Many seeds, by hand: `SALVAGE_SEEDS=100-120`.
#[test]
#[ignore = "as many as one likes, by hand"]
fn killed_members_of_many_seeds_are_rebuilt_as_etcd_itself_would_go_on() {
    let seeds = std::env::var("SALVAGE_SEEDS").expect("SALVAGE_SEEDS is the first and the last, such as 100-120");
    let (first, last) = seeds.split_once('-').expect("the first and the last");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    // None, where the last thing that was done was a compaction.
    let mut entries = 0;
    for seed in number(first)..=number(last) {
        let flags: &[&str] = if seed % 4 == 0 { &[] } else { &LAGGING };
        for version in Version::ALL {
            entries += killed(version, seed, flags, seed % 4 * 5 + 1).expect("a server");
        }
    }
    println!("{entries} entries were in the logs alone");
    assert!(entries > 0);
}

#[test]
fn with_authentication_on_what_root_asked_for_is_rebuilt() {
    for version in [Version::V3_4, Version::V3_6] {
        let with_password = Options {
            security: Security::Password,
            ..options(&LAGGING)
        };
        if let Some(etcd) = Etcd::start(version, with_password) {
            assert!(killed_of(etcd, 21, 10) > 0);
        }
    }
}

/// What the real etcd serves on a copy of what is left, with more flags.
fn started_on_copy(left: &Path, like: &Etcd, flags: &[&str]) -> Seen {
    let mut etcd = Etcd::plan(like.version, options(flags)).expect("it was there before");
    copy_tree(left, &etcd.members[0].data_dir);
    etcd.boot();
    Seen::by(&etcd.client())
}

#[test]
fn of_one_member_of_several_as_much_is_rebuilt_as_a_forced_new_cluster_has() {
    for version in [Version::V3_5, Version::V3_7] {
        let three = Options {
            members: 3,
            ..options(&LAGGING)
        };
        let Some(mut etcd) = Etcd::start(version, three) else {
            return;
        };
        let mut client = etcd.client().raw();
        wait_for(Operations::new(31, 10).run(&mut client, 300));
        (0..3).for_each(|index| etcd.kill(index));
        let host = Host::new(&etcd);
        for index in 0..3 {
            let left = host.path(&format!("left-{index}"));
            copy_tree(&etcd.members[index].data_dir, &left);
            let theirs = started_on_copy(&left, &etcd, &["--force-new-cluster"]);
            let (ours, said) = rebuilt(&host, &left, &etcd, &[]);
            assert_eq!(ours, theirs, "etcd {}, member {index}: {said}", version.number());
            let uncommitted = said["salvaged"]["uncommitted_entries"].as_u64();
            let is_told = said["warnings"]
                .to_string()
                .contains("at the end of the log were left out");
            assert_eq!(uncommitted > Some(0), is_told, "{said}");
        }
    }
}

#[test]
fn a_log_that_was_cut_in_a_write_is_given_up_where_etcd_gives_it_up() {
    for version in [Version::V3_4, Version::V3_6] {
        let Some(mut etcd) = Etcd::start(version, options(&LAGGING)) else {
            return;
        };
        let client = etcd.client();
        Load::new(41).run(&client, 60);
        etcd.kill(0);
        let host = Host::new(&etcd);
        for (number, from_end) in [1, 9, 40, 170, 700].into_iter().enumerate() {
            let left = host.path(&format!("left-{number}"));
            copy_tree(&etcd.members[0].data_dir, &left);
            let segment = left.join("member/wal/0000000000000000-0000000000000000.wal");
            let bytes = fs::read(&segment).expect("it is there");
            let end = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .expect("something was written")
                + 1;
            fs::write(&segment, &bytes[..end - from_end]).expect("it can be written");
            let log = inspected(&host, &left, 0)["log"].clone();
            let theirs = started_on_copy(&left, &etcd, &[]);
            let (ours, said) = rebuilt(&host, &left, &etcd, &[]);
            assert_eq!(
                ours,
                theirs,
                "etcd {}, {from_end} bytes less: {said}, {log}",
                version.number()
            );
            assert_eq!(log["end"] == "torn", said["salvaged"]["torn"] == json!(true));
            // The last byte may be of the zeros that fill up; what is cut off further is missed.
            assert!(from_end < 9 || log["end"] == "torn", "{log}");
        }
    }
}

#[test]
fn what_cannot_be_rebuilt_for_sure_is_refused_with_the_reason() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, options(&LAGGING)) else {
        return;
    };
    let client = etcd.client();
    let revision = client.put("/before", "it", 0).expect("it runs");
    // Up to here it comes into the database, with the members.
    client.compact(revision).expect("it runs");
    let mut raw = client.raw();
    wait_for(raw.user_add("somebody", "secret", None)).expect("it runs");
    client.put("/after", "it", 0).expect("it runs");
    let host = Host::new(&etcd);
    let new = Etcd::plan(Version::V3_5, Options::default()).expect("it was there before");
    let rebuild = |source: &Path, more: &[&str]| {
        let mut args = host.rebuild_args(&source.display().to_string(), &new, 0);
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        host.lifeboat(&args)
    };
    let living = etcd.members[0].data_dir.clone();
    rebuild(&living, &["--from-data-dir"])
        .expect_code(7)
        .says(&["in use: a running etcd holds it"]);
    etcd.kill(0);
    let left = host.path("left");
    copy_tree(&living, &left);
    rebuild(&left, &[])
        .expect_code(2)
        .says(&["is the data directory of a member", "--from-data-dir"]);
    let log = inspected(&host, &left, 0)["log"].clone();
    if log["entries"].as_u64() > Some(1) {
        assert_eq!(log["can_be_rebuilt"], json!(false), "{log}");
        rebuild(&left, &["--from-data-dir"]).expect_code(7).says(&[
            "cannot be executed without etcd: it changes a user",
            "--skip-hash-check",
        ]);
    }
    // A place inside of what is left.
    let inside = host.path("left/new").display().to_string();
    let args = [
        "rebuild",
        &left.display().to_string(),
        "--from-data-dir",
        "--data-dir",
        &inside,
    ];
    host.lifeboat(args).expect_code(2).says(&["where nothing is changed"]);
    // Damage is no torn end.
    let segment = left.join("member/wal/0000000000000000-0000000000000000.wal");
    let whole = fs::read(&segment).expect("it is there");
    let mut bytes = whole.clone();
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("something was written");
    bytes[end / 2] ^= 0x20;
    fs::write(&segment, &bytes).expect("it can be written");
    let seen = inspected(&host, &left, 5);
    assert_eq!(
        (&seen["log"]["end"], &seen["ok"]),
        (&json!("damaged"), &json!(false)),
        "{seen}"
    );
    assert!(
        seen["faults"]
            .to_string()
            .contains("0000000000000000-0000000000000000.wal is damaged at byte")
    );
    rebuild(&left, &["--from-data-dir"])
        .expect_code(5)
        .says(&["is damaged at byte", "--force-new-cluster"]);
    // No log at all; and one in another place.
    fs::write(&segment, &whole).expect("it can be written");
    let elsewhere = host.path("elsewhere");
    fs::rename(left.join("member/wal"), &elsewhere).expect("one file system");
    fs::create_dir(left.join("member/wal")).expect("it was moved");
    rebuild(&left, &["--from-data-dir"])
        .expect_code(4)
        .says(&["there is no write-ahead log in", "--wal-dir"]);
    assert_eq!(inspected(&host, &left, 0)["log"], Value::Null);
    let args = [
        "--json",
        "inspect",
        &left.display().to_string(),
        "--wal-dir",
        &elsewhere.display().to_string(),
    ];
    assert_eq!(host.lifeboat(args).expect_code(0).json()["log"], log);
    // Another member's.
    let Some(mut other) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    other.stop();
    let foreign = other.members[0].data_dir.join("member/wal").display().to_string();
    rebuild(&left, &["--from-data-dir", "--from-wal-dir", &foreign])
        .expect_code(7)
        .says(&["of whom the database knows nothing"]);
}
