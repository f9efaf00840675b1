//! Capture where what etcd tells is not what it was, or not what others tell: replaced data, members that differ, logins that
//! have ended.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use etcd_client::{PutOptions, Txn, TxnOp};
use lifeboat::capture::{Report, report};
use lifeboat::etcd::{Access, Endpoints};
use lifeboat::model::{ClusterId, MemberId};
use serde_json::Value;

use super::capturing::{DELTAS, Stored, chains, lane, newest, prove, stop, until_stored};
use super::support::client::{Client, wait_for};
use super::support::etcd::{Etcd, Options, Security};
use super::support::host::Host;
use super::support::running::until;
use super::support::tools::Version;
use super::wrong_data;

/// Who answers, and of which cluster it is.
fn ids(client: &Client) -> (ClusterId, MemberId) {
    let status = wait_for(client.raw().status()).unwrap();
    let header = status.header().unwrap();
    (ClusterId(header.cluster_id()), MemberId(header.member_id()))
}

fn put_many(client: &Client, life: &str, count: u32) {
    for number in 0..count {
        client
            .put(&format!("/k/{}", number % 50), format!("{life} {number}"), 0)
            .unwrap();
    }
}

fn of_chain(host: &Host, chain: &str) -> Stored {
    let mut all = chains(host, &host.store()).into_iter();
    all.find(|stored| stored.chain == chain).unwrap()
}

/// An etcd whose data is replaced by that of an older backup while nobody watches, under the same ids, and that has come further
/// since than what was captured. `lessen` brings its log further as well.
/// `is_known` says whether the next full backup tells the other history by its log, too: then the operator says which one is meant.
fn a_replaced_history_is_not_spliced_on(lessen: impl Fn(&Client), says: &str, is_known: bool) {
    let Some(mut etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let client = etcd.client();
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    put_many(&client, "first", 60);
    let old = host.backup();
    put_many(&client, "second", 100);
    let followed = host.backup();
    let agent = host.start(["agent"]);
    until("that it captures", || lane(&host)["capturing"] == "writing");
    put_many(&client, "third", 40);
    let tip = client.revision().unwrap();
    assert_eq!(prove(&host, &client, tip).chain, followed);
    stop(agent);
    let before = ids(&client);

    etcd.stop();
    fs::remove_dir_all(&etcd.members[0].data_dir).unwrap();
    host.lifeboat(host.rebuild_args(&old, &etcd, 0)).expect_code(0);
    etcd.boot();
    let client = etcd.client();
    assert_eq!(ids(&client), before, "nothing but its history is another");
    put_many(&client, "another", 200);
    lessen(&client);
    assert!(client.revision().unwrap() > tip);

    let agent = host.start(["agent"]);
    until("another backup", || newest(&host).chain != followed);
    if is_known {
        host.lifeboat(["accept-lineage", "--note", "it was put back on purpose"])
            .expect_code(0);
    }
    put_many(&client, "another still", 10);
    prove(&host, &client, client.revision().unwrap());
    let said = stop(agent);
    assert!(
        said.contains("etcd's data was replaced") && said.contains(says),
        "{said}"
    );
    let ended = of_chain(&host, &followed);
    let gaps = ended.with(".gap");
    assert_eq!(gaps.len(), 1, "{:?}", ended.files.keys());
    let gap: Value = serde_json::from_slice(&fs::read(&ended.files[gaps[0]]).unwrap()).unwrap();
    assert_eq!(
        (&gap["reason"], &gap["from_revision"]),
        (&"went_back".into(), &(tip + 1).into())
    );
    assert_eq!(ended.changes(&host).1, tip, "nothing of the other history is in it");
}

#[test]
fn a_replaced_history_is_told_by_its_log_though_its_revision_is_higher() {
    a_replaced_history_is_not_spliced_on(|_| {}, "the index of Raft's log is", true);
}

#[test]
fn a_replaced_history_whose_log_is_as_long_is_told_by_its_hash() {
    let many_entries = |client: &Client| {
        for lease in 1..=300 {
            client.grant(lease, 3600).unwrap();
        }
    };
    a_replaced_history_is_not_spliced_on(many_entries, "HashKV of revision", false);
}

#[test]
fn all_leases_are_kept_though_they_are_many_and_the_login_has_ended() {
    let options = Options {
        security: Security::Password,
        flags: vec!["--auth-token-ttl=2".to_owned()],
        ..Options::default()
    };
    let Some(etcd) = Etcd::start(Version::V3_5, options) else {
        return;
    };
    etcd.client().put("first", "x", 0).unwrap();
    let host = Host::new(&etcd);
    host.configure(&etcd, &DELTAS.replace("\"2s\"", "\"1h\""));
    let agent = host.start(["agent"]);
    until("that it captures", || lane(&host)["capturing"] == "writing");
    // For twice as long as its token lives it has nothing to ask for.
    std::thread::sleep(Duration::from_secs(4));
    let client = etcd.client();
    let ids = || 1001..=1120;
    for id in ids() {
        client.grant(id, id + 3000).unwrap();
    }
    let puts = ids().map(|id| TxnOp::put(format!("/lock/{id}"), "x", Some(PutOptions::new().with_lease(id))));
    client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).unwrap();
    let leases: BTreeSet<String> = ids().map(|id| format!("lease {id} {}", id + 3000)).collect();
    until("all leases", || {
        // What is told after a cut comes with the next change.
        let stored = until_stored(&host, etcd.client().put("tick", "x", 0).unwrap());
        let known = stored.others(&host).into_iter().collect();
        leases.is_subset(&known)
    });
    assert_eq!(newest(&host).with(".gap").len(), 0);
    stop(agent);
}

#[test]
fn a_hash_that_two_members_report_differently_counts_for_nothing_and_a_full_backup_is_taken() {
    let Some(etcd) = wrong_data::cluster(Version::V3_6) else {
        return;
    };
    let endpoints = etcd.members.iter().map(|member| Endpoints {
        name: member.name.clone(),
        urls: vec![member.client_url.clone()],
    });
    let endpoints: Vec<Endpoints> = endpoints.collect();
    let each: Vec<_> = (0..3).map(|index| ids(&etcd.client_of(index))).collect();
    let reported =
        |members: &[Endpoints], cluster, watched| wait_for(report(members, &Access::default(), cluster, watched));
    let (cluster, wrong) = each[0];
    let Some(Report::Differs { how, .. }) = reported(&endpoints, cluster, wrong) else {
        panic!("m1 vouches for itself");
    };
    assert!(
        how.contains("HashKV differs between members at revision") && how.contains("of m1"),
        "{how}"
    );
    let Some(Report::Of(hash)) = reported(&endpoints[1..], cluster, each[1].1) else {
        panic!("the others report the same");
    };
    assert_eq!(hash.hash, etcd.hash_kv_of_each(hash.revision.get())[1].hash);
    assert_eq!(reported(&endpoints, ClusterId(cluster.0 + 1), wrong), None);

    // The agent on the host of m1 watches that one.
    let host = Host::new(&etcd);
    host.configure(&etcd, &format!("{DELTAS}[host]\nmember = \"m1\"\n"));
    host.lifeboat(["backup"]).expect_code(0);
    let begun = chains(&host, &host.store()).len();
    let agent = host.start(["agent"]);
    let client = etcd.client();
    until("a full backup", || {
        client.put("tick", "x", 0).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        chains(&host, &host.store()).len() > begun
    });
    // Ten seconds after it has gone over to that one it is asked for the hash again, and finds the same.
    for _ in 0..45 {
        client.put("tick", "x", 0).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(chains(&host, &host.store()).len(), begun + 1, "one for the finding");
    let doubt = lane(&host)["doubt"].to_string();
    assert!(doubt.contains("HashKV differs between members"), "{doubt}");
    let said = stop(agent);
    assert!(
        said.contains("HashKV differs between members") && said.contains("no hash is kept"),
        "{said}"
    );
    for stored in chains(&host, &host.store()) {
        let others = stored.others(&host);
        assert!(!others.iter().any(|record| record.starts_with("hash ")), "{others:?}");
    }
}

#[test]
fn a_history_that_was_given_up_is_not_latest_again_where_the_only_destination_left_has_nothing_else() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, "");
    let far = host.add_destination("far");
    put_many(&etcd.client(), "old", 30);
    let old = host.backup();
    let (away, lost) = (host.path("away"), host.path("lost"));
    fs::rename(&far, &away).unwrap();
    // Begun anew under the same ids.
    etcd.stop();
    fs::remove_dir_all(&etcd.members[0].data_dir).unwrap();
    etcd.boot();
    put_many(&etcd.client(), "new", 3);
    host.lifeboat(["backup"]).expect_code(3);
    let listed = |host: &Host| host.lifeboat(["--json", "list"]).json();
    let lineage_of = |listed: &Value, id: &str| -> String {
        let backups = listed["backups"].as_array().unwrap();
        let found = backups.iter().find(|backup| backup["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {listed:#}"))["lineage"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let now = listed(&host);
    let backups = now["backups"].as_array().unwrap();
    let meant = backups.iter().max_by_key(|backup| backup["id"].to_string()).unwrap();
    let meant = meant["lineage"].as_str().unwrap().to_owned();
    host.lifeboat(["accept-lineage", &meant]).expect_code(3);
    // Its revisions and its log go beyond those of the one before.
    put_many(&etcd.client(), "new", 100);
    host.lifeboat(["backup"]).expect_code(3);

    fs::rename(host.store(), &lost).unwrap();
    fs::rename(&away, &far).unwrap();
    let now = listed(&host);
    assert_eq!(now["latest"], Value::Null, "{now:#}");
    assert_ne!(lineage_of(&now, &old), meant);
    let export = host.lifeboat(["export", "latest", host.path("out.db").to_str().unwrap()]);
    export
        .expect_code(7)
        .says(&[&meant, "has no backup", "it may be in what could not be read: local"]);
    let status = host.lifeboat(["--json", "status"]).json();
    assert!(status["problems"].to_string().contains("new-lineage"), "{status:#}");

    // What is taken now is of the history that goes on.
    host.lifeboat(["backup"]).expect_code(3);
    let now = listed(&host);
    let latest = now["latest"].as_str().unwrap_or_else(|| panic!("{now:#}")).to_owned();
    assert_ne!(latest, old);
    assert_eq!(lineage_of(&now, &latest), meant);
    // And it is the same one when the other comes back.
    fs::rename(&lost, host.store()).unwrap();
    host.lifeboat(["backup"]).expect_code(0);
    let now = listed(&host);
    assert_eq!(lineage_of(&now, now["latest"].as_str().unwrap()), meant);
}
