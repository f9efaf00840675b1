//! What a member that was killed leaves behind: its log tells what its database lacks, and both together are what the real
//! etcd makes of them when it starts.

mod operations;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::support::client::{Client, Entry, HashKv, wait_for};
use super::support::etcd::{Etcd, Options};
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

/// Rebuilds what is left in `left`, starts an etcd of that version on it, and tells what it serves and what was said.
fn rebuilt(host: &Host, left: &Path, version: Version, more: &[&str]) -> (Seen, Value) {
    let mut etcd = Etcd::plan(version, options(&["--initial-cluster-state=existing"])).expect("it was there before");
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
fn killed(version: Version, seed: u64, flags: &[&str], quiet: u64) {
    const COUNT: u64 = 600;
    let Some(mut etcd) = Etcd::start(version, options(flags)) else {
        return;
    };
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
    let (ours, said) = rebuilt(&host, &left, version, &[]);
    assert_eq!(
        ours,
        theirs,
        "etcd {}, seed {seed}: {said}, of {}",
        version.number(),
        inspected(&host, &left, 0)["log"]
    );
    if flags.contains(&LAGGING[0]) {
        assert!(said["salvaged"]["entries"].as_u64() > Some(0), "{said}");
    }
}

#[test]
fn a_killed_member_of_3_4_is_rebuilt_as_etcd_itself_would_go_on() {
    killed(Version::V3_4, 1, &LAGGING, 10);
    killed(Version::V3_4, 2, &[], 1);
}

#[test]
fn a_killed_member_of_3_5_is_rebuilt_as_etcd_itself_would_go_on() {
    killed(Version::V3_5, 3, &LAGGING, 10);
    killed(Version::V3_5, 4, &[], 1);
}

#[test]
fn a_killed_member_of_3_6_is_rebuilt_as_etcd_itself_would_go_on() {
    killed(Version::V3_6, 5, &LAGGING, 10);
    killed(Version::V3_6, 6, &["--snapshot-count=100"], 1);
}

#[test]
fn a_killed_member_of_3_7_is_rebuilt_as_etcd_itself_would_go_on() {
    killed(Version::V3_7, 7, &LAGGING, 10);
    killed(Version::V3_7, 8, &["--snapshot-count=100"], 1);
}
