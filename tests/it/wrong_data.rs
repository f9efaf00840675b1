//! A member whose data is wrong: its backup is not called good, the next one is asked, and the operator is told which it is.

use serde_json::{Value, json};

use super::support::etcd::{Etcd, Options, changed_in_database};
use super::support::gate::Gate;
use super::support::host::Host;
use super::support::running::until;
use super::support::tools::Version;

/// Three members of which the first, a follower that would be asked before the others, has one other value.
pub fn cluster(version: Version) -> Option<Etcd> {
    let options = Options {
        members: 3,
        ..Options::default()
    };
    let mut etcd = Etcd::start(version, options)?;
    let client = etcd.client();
    for number in 0..200 {
        client
            .put(&format!("/k/{number:03}"), format!("value-{number:03}"), 0)
            .unwrap();
    }
    etcd.stop();
    changed_in_database(&etcd.members[0].data_dir, b"value-123", b"VALUE-123");
    etcd.boot();
    let own = |etcd: &Etcd| etcd.client_of(0).raw();
    for _ in 0..5 {
        let id = super::support::client::wait_for(own(&etcd).status()).unwrap();
        let is_leader = id.leader() == id.header().unwrap().member_id();
        if !is_leader {
            return Some(etcd);
        }
        etcd.kill(0);
        std::thread::sleep(std::time::Duration::from_secs(3));
        etcd.boot();
    }
    panic!("m1 stays the leader");
}

fn backups(host: &Host) -> Vec<Value> {
    let list = host.lifeboat(["--json", "list", "--all"]).expect_code(0).json();
    list["backups"].as_array().unwrap().clone()
}

fn is_passed_over(version: Version) {
    let Some(etcd) = cluster(version) else { return };
    let host = Host::new(&etcd);
    let near = "[host]\nmember = \"m1\"\n";
    host.configure(&etcd, near);

    let taken = host.lifeboat(["--json", "backup"]).expect_code(0);
    let said = ["member m1", "the data of m1 is corrupt", "is kept, marked as bad"];
    let good = taken.says(&said).json();
    assert_eq!(
        (&good["proof"], &good["faults"]),
        (&json!("hash_kv"), &json!([])),
        "{good}"
    );
    let good_id = good["id"].as_str().unwrap();
    assert_ne!(host.manifest(good_id)["member"]["name"], "m1");

    // The bad one is there, and counts for nothing.
    let all = backups(&host);
    assert_eq!(all.len(), 2, "{all:?}");
    let bad = all.iter().find(|backup| backup["id"] != good_id).unwrap();
    assert_eq!(
        (&bad["proof"], &bad["lineage"]),
        (&json!("none"), &good_lineage(&all, good_id))
    );
    let bad_id = bad["id"].as_str().unwrap();
    assert_eq!(host.manifest(bad_id)["member"]["name"], "m1");
    let latest = host.lifeboat(["--json", "show", "latest"]).expect_code(0).json();
    assert_eq!(latest["backup"]["id"], good_id);
    // No check of its bytes makes it good.
    host.lifeboat(["verify", bad_id]).expect_code(0);
    assert_eq!(
        backups(&host).iter().filter(|backup| backup["proof"] == "none").count(),
        1
    );
    let status = host.lifeboat(["status"]).expect_code(1);
    assert!(
        status.stdout.contains(bad_id) || status.stderr.contains(bad_id),
        "{}{}",
        status.stdout,
        status.stderr
    );

    // One of its kind is enough, and who names the member gets no other.
    host.lifeboat(["backup"])
        .expect_code(0)
        .says(&["member m1 is passed over", bad_id]);
    assert_eq!(backups(&host).len(), 3);
    host.lifeboat(["backup", "--member", "m1"])
        .expect_code(5)
        .says(&["the data of member m1 is wrong"]);
    assert_eq!(backups(&host).len(), 3);

    // Where there is nobody else, it is asked all the same.
    host.reconfigure("[members.m2]", "[members.m2]\nenabled = false");
    host.reconfigure("[members.m3]", "[members.m3]\nenabled = false");
    host.lifeboat(["backup"])
        .expect_code(0)
        .says(&["those that were passed over are"]);
}

fn good_lineage(all: &[Value], id: &str) -> Value {
    all.iter().find(|backup| backup["id"] == id).unwrap()["lineage"].clone()
}

#[test]
fn a_member_that_differs_is_passed_over_on_3_5() {
    is_passed_over(Version::V3_5);
}

#[test]
fn a_member_that_differs_is_passed_over_on_3_6() {
    is_passed_over(Version::V3_6);
}

/// A compaction past the backup's revision while it streams: what the member had said just before is compared instead.
#[test]
fn a_member_that_compacts_past_a_backup_is_compared_as_it_was_before() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = etcd.client();
    for number in 0..300 {
        client.put(&format!("/k/{number:03}"), vec![b'x'; 4000], 0).unwrap();
    }
    let host = Host::new(&etcd);
    let gate = Gate::before(&etcd.members[0].client_url, 64 << 10);
    host.reconfigure(&etcd.members[0].client_url, &gate.url);
    let running = host.start(["--json", "backup"]);
    gate.wait_until_held();
    for _ in 0..10 {
        client.put("/k/later", "y", 0).unwrap();
    }
    client.compact(client.revision().unwrap()).unwrap();
    gate.open();
    let taken = running.wait().expect_code(0).json();
    assert_eq!(taken["proof"], "content", "{taken}");
    let why = taken["proof_reason"].as_str().unwrap();
    assert!(why.contains("just before, HashKV is equal"), "{why}");
}

/// In a shared store a slot is done with the good backup, not with the bad one that was claimed for it.
#[test]
fn the_agent_keeps_one_bad_backup_and_a_good_one_for_each_slot() {
    let Some(etcd) = cluster(Version::V3_6) else { return };
    let host = Host::new(&etcd);
    host.configure(
        &etcd,
        "shared = true\n[host]\nmember = \"m1\"\n[schedules.often]\nkind = \"full\"\nevery = \"6s\"\njitter = \"0s\"\n",
    );
    let agent = host.start(["agent"]);
    let good = || {
        let all = backups(&host);
        all.into_iter()
            .filter(|backup| backup["proof"] == "hash_kv")
            .collect::<Vec<_>>()
    };
    until("three slots have their backup", || good().len() >= 3);
    agent.signal("TERM");
    agent.wait().expect_code(0);
    let slots = good().into_iter().map(|backup| {
        let manifest = host.manifest(backup["id"].as_str().unwrap());
        manifest["slot"].as_str().unwrap().to_owned()
    });
    let slots: Vec<String> = slots.collect();
    let distinct: std::collections::BTreeSet<_> = slots.iter().collect();
    assert_eq!(distinct.len(), slots.len(), "no slot is taken twice: {slots:?}");
    let bad = backups(&host)
        .into_iter()
        .filter(|backup| backup["proof"] == "none")
        .count();
    assert_eq!(bad, 1);
}
