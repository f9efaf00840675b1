//! `inspect`, against the same database as etcd's own tools and a running etcd see it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use lifeboat::bbolt::Writer;
use lifeboat::keyspace::{KeyValue, RevisionKey};
use lifeboat::model::Revision;

use serde_json::{Value, json};

use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::load::Load;
use super::support::running::{Running, until};
use super::support::tools::{self, Version};

const LEASE: i64 = 0x1234_5678;

/// A history with deletions, transactions, a compaction and a lease, and a few keys under one beginning.
fn load(etcd: &Etcd) {
    let client = etcd.client();
    let mut load = Load::new(7);
    load.run(&client, 120);
    load.compact(&client);
    load.run(&client, 40);
    client.grant(LEASE, 3600).expect("it runs");
    for number in 0..30 {
        let key = format!("/of-this-test/events/default/{number}");
        client.put(&key, vec![b'e'; 2000], LEASE).expect("it runs");
    }
    client.put("/registry/pods/default/a", "pod", 0).expect("it runs");
    for _ in 0..50 {
        client.put("/of-this-test/often", "now", 0).expect("it runs");
    }
}

fn inspected(host: &Host, arguments: &[&str], code: i32) -> Value {
    let command = [&["--json", "inspect"], arguments].concat();
    host.lifeboat(command).expect_code(code).json()
}

#[test]
fn a_backup_and_its_snapshot_are_what_etcd_and_etcdutl_say() {
    let Some(etcdutl) = tools::debian("etcdutl") else {
        return;
    };
    for version in [Version::V3_4, Version::V3_5, Version::V3_6, Version::V3_7] {
        let Some(etcd) = Etcd::start(version, Options::default()) else {
            return;
        };
        load(&etcd);
        let host = Host::new(&etcd);
        let id = host.backup();
        let client = etcd.client();
        let (server, live) = (
            client.hash_kv(0).expect("it runs"),
            client.get_all().expect("it runs").len(),
        );
        let identity = host.identity().display().to_string();
        let file = host.path("snapshot.db").display().to_string();
        host.lifeboat(["export", &id, &file, "--identity", &identity])
            .expect_code(0);

        let status = Command::new(&etcdutl)
            .args(["snapshot", "status", "-w", "json", &file])
            .output();
        let status = status.expect("etcdutl runs here").stdout;
        let status: Value = serde_json::from_slice(&status).expect("etcdutl accepts the export");
        let of_id = inspected(&host, &[&id, "--identity", &identity], 0);
        let of_file = inspected(&host, &[&file], 0);
        for seen in [&of_id, &of_file] {
            for (ours, theirs) in [
                ("hash", "hash"),
                ("revision", "revision"),
                ("total_keys", "totalKey"),
                ("total_bytes", "totalSize"),
            ] {
                assert_eq!(seen[ours], status[theirs], "{ours}, etcd {}", version.number());
            }
            assert_eq!(seen["live_keys"], live);
            assert_eq!(
                seen["hash_kv"],
                json!({
                    "revision": server.revision,
                    "compact_revision": server.compact_revision,
                    "hash": server.hash,
                })
            );
            assert_eq!(seen["compact_revision"], server.compact_revision);
            assert_eq!((&seen["ok"], &seen["has_digest"]), (&json!(true), &json!(true)));
            assert_eq!(seen["members"].as_array().map(Vec::len), Some(1));
            let lease = json!({"id": "0000000012345678", "ttl_seconds": 3600, "keys": 30});
            assert!(seen["leases"].as_array().expect("a list").contains(&lease), "{seen:#}");
            assert_eq!(seen["prefixes"][0]["prefix"], "/of-this-test/events/");
            assert_eq!(seen["prefixes"][0]["versions"], 30);
            let most = &seen["most_versions"][0];
            assert_eq!(
                (&most["key"], &most["versions"]),
                (&json!("/of-this-test/often"), &json!(50))
            );
            assert_eq!(most["bytes"], 50 * (19 + 3));
            let versions = |key: &Value| key["versions"].as_u64();
            let all: Vec<_> = seen["most_versions"]
                .as_array()
                .expect("a list")
                .iter()
                .map(versions)
                .collect();
            assert!(all.len() == 10 && all.is_sorted_by(|one, next| one >= next), "{all:?}");
        }
        let first = server.compact_revision;
        for revision in [first, first + 1, first + 20, server.revision - 1, server.revision] {
            let theirs = client.hash_kv(revision);
            let asked = revision.to_string();
            let ours = host.lifeboat(["--json", "inspect", &file, "--revision", &asked]);
            match theirs {
                Ok(theirs) => {
                    let ours = &ours.expect_code(0).json()["hash_kv"];
                    // A server that has just compacted may answer with what it computed then, from the compaction before.
                    if theirs.compact_revision == server.compact_revision {
                        assert_eq!(ours["hash"], theirs.hash, "at {revision}, etcd {}", version.number());
                    }
                    assert_eq!(ours["revision"], revision);
                }
                // Older servers have none at the compacted revision itself.
                Err(error) => assert!(revision == first, "{error}"),
            }
        }
        for (revision, says) in [(first - 1, "is compacted"), (server.revision + 1, "is still to come")] {
            host.lifeboat(["inspect", &file, "--revision", &revision.to_string()])
                .expect_code(4)
                .says(&[says, "ask for a revision from"]);
        }
        assert_eq!(of_id["backup"]["id"], id.as_str());
        assert_eq!(of_file["backup"], Value::Null);
        // Those of 3.6 count what lives.
        let newer = inspected(&host, &[&file, "--as", "3.6"], 0);
        assert_eq!(newer["total_keys"], live);
        assert_eq!(newer["hash"], of_file["hash"]);
        let text = host.lifeboat(["inspect", &file]).expect_code(0).stdout;
        for part in [
            "HashKV",
            "/of-this-test/events/",
            "/of-this-test/often",
            "faults         none",
            &live.to_string(),
        ] {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
    }
}

#[test]
fn who_may_log_in_is_told_and_no_password_is() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    etcd.client().put("/a", "b", 0).expect("it runs");
    etcd.client().enable_auth("of-this-test").expect("it runs");
    let data_dir = etcd.members[0].data_dir.display().to_string();
    let mut etcd = etcd;
    etcd.stop();
    let seen = inspected(&host, &[&data_dir], 0);
    assert_eq!(
        (&seen["auth_enabled"], &seen["users"], &seen["roles"]),
        (&json!(true), &json!(["root"]), &json!(["root"]))
    );
    let text = host.lifeboat(["inspect", &data_dir]).expect_code(0).stdout;
    assert!(text.contains("auth           on, 1 user, 1 role"), "{text}");
}

#[test]
fn a_dead_members_directory_is_read_and_a_living_ones_is_not() {
    let Some(mut etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    load(&etcd);
    let server = etcd.client().hash_kv(0).expect("it runs");
    let host = Host::new(&etcd);
    let data_dir = etcd.members[0].data_dir.display().to_string();
    let database = format!("{data_dir}/member/snap/db");
    for living in [&data_dir, &database] {
        host.lifeboat(["inspect", living])
            .expect_code(7)
            .says(&["in use: a running etcd holds it", "then `lifeboat inspect "]);
    }
    etcd.stop();
    let seen = inspected(&host, &[&data_dir], 0);
    assert_eq!((&seen["has_digest"], &seen["ok"]), (&json!(false), &json!(true)));
    assert_eq!(seen["hash_kv"]["hash"], server.hash);
    // Etcd was stopped in good order: its log holds nothing more.
    let log = &seen["log"];
    assert_eq!(
        (&log["end"], &log["entries"], &log["uncommitted_entries"]),
        (&json!("whole"), &json!(0), &json!(0))
    );
    assert_eq!(
        (&log["can_be_rebuilt"], &log["from_revision"]),
        (&json!(true), &Value::Null)
    );
    // The database in it as a file is the same, and its log is not looked at.
    let mut of_database = inspected(&host, &[&database], 0);
    assert_eq!(of_database["log"], Value::Null);
    of_database["log"] = log.clone();
    assert_eq!(of_database, seen);
    let text = host.lifeboat(["inspect", &database]).expect_code(0).stdout;
    assert!(text.contains("log            not looked at"), "{text}");
    let empty = host.path("empty");
    fs::create_dir(&empty).expect("it is new");
    host.lifeboat(["inspect", &empty.display().to_string()])
        .expect_code(4)
        .says(&["no data directory of etcd", "member/snap/db is missing"]);
}

#[test]
fn every_fault_is_named_and_the_rest_is_still_told() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    load(&etcd);
    let host = Host::new(&etcd);
    let id = host.backup();
    let identity = host.identity().display().to_string();
    let file = host.path("snapshot.db");
    let name = file.display().to_string();
    host.lifeboat(["export", &id, &name, "--identity", &identity])
        .expect_code(0);
    let whole = fs::read(&file).expect("it was exported");

    // One value is another: only the digest knows.
    let mut changed = whole.clone();
    let place = whole
        .windows(64)
        .position(|bytes| bytes == [b'e'; 64])
        .expect("an event is there");
    changed[place] = b'f';
    fs::write(&file, &changed).expect("it is there");
    let seen = inspected(&host, &[&name], 5);
    assert_eq!(seen["faults"], json!(["its bytes do not match the SHA-256 at its end"]));
    assert_ne!(
        seen["hash_kv"]["hash"],
        inspected_whole(&host, &whole)["hash_kv"]["hash"]
    );

    // Pages that are gone: each is named, and what is left is counted.
    let mut holed = whole.clone();
    let leaves: Vec<usize> = (2..whole.len() / 4096)
        .filter(|page| whole[page * 4096 + 8] == 2)
        .filter(|page| {
            whole[page * 4096..][..4096]
                .windows(14)
                .any(|bytes| bytes == b"/of-this-test/")
        })
        .take(3)
        .collect();
    for page in &leaves {
        holed[page * 4096..][..4096].fill(0);
    }
    fs::write(&file, &holed).expect("it is there");
    let seen = inspected(&host, &[&name], 5);
    let faults = seen["faults"].as_array().expect("a list");
    assert!(seen["fault_count"].as_u64() >= Some(2) && faults.len() >= 2, "{seen:#}");
    assert!(
        faults
            .iter()
            .any(|fault| fault.as_str().is_some_and(|fault| fault.contains("page "))),
        "{seen:#}"
    );
    let text = host.lifeboat(["inspect", &name]).expect_code(5).stdout;
    assert!(text.contains("fault "), "{text}");
    let last = seen["revision"].to_string();
    let earlier = inspected(&host, &[&name, "--revision", &last], 5);
    assert!(
        earlier["faults"].to_string().contains("cannot be computed") && earlier["fault_count"].as_u64() >= Some(3),
        "{earlier:#}"
    );

    // No database at all, and one that nobody can open.
    fs::write(&file, "nothing of the kind").expect("it is there");
    host.lifeboat(["inspect", &name]).expect_code(5);
    fs::write(&file, &whole[..whole.len() / 2]).expect("it is there");
    host.lifeboat(["inspect", &name]).expect_code(5).says(&["cut short"]);
    host.lifeboat(["inspect", &id])
        .expect_code(8)
        .says(&["--identity FILE"]);
}

fn inspected_whole(host: &Host, snapshot: &[u8]) -> Value {
    let file = host.path("whole.db");
    fs::write(&file, snapshot).expect("it is new");
    inspected(host, &[&file.display().to_string()], 0)
}

/// A database of some 200 MB, as a plain file.
fn large(path: &Path) {
    let mut writer = Writer::fresh(File::create_new(path).unwrap(), 4096).unwrap();
    let mut log = writer.bucket(b"key").unwrap();
    let value = vec![7; 64_000];
    for revision in 2..2 + 3_200 {
        let (key, mut record) = (format!("/of-this-test/{revision}"), Vec::new());
        KeyValue {
            key: key.as_bytes(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: &value,
            lease: 0,
        }
        .encode_into(&mut record);
        let at = RevisionKey::first_put(Revision::new(revision).unwrap()).encode();
        log.put(&at, &record).unwrap();
    }
    log.finish().unwrap();
    writer.finish().unwrap().seal().unwrap();
}

/// The most memory that a run has had so far, in MiB; 0 where it has ended.
fn peak(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.worker())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

#[test]
fn a_plain_file_takes_little_memory_and_one_that_is_cut_meanwhile_ends_with_a_word() {
    let host = Host::without_cluster();
    let (path, small) = (host.path("large.db"), host.path("small.db"));
    large(&path);
    let (file, small) = (path.display().to_string(), small.display().to_string());
    for args in [
        &["inspect", &file][..],
        &["compact", &file, &small, "--skip-hash-check"],
    ] {
        let running = host.start(args);
        let mut most = 0;
        while !running.has_ended() {
            most = most.max(peak(&running));
        }
        running.wait().expect_code(0);
        assert!((1..=128).contains(&most), "{args:?}: {most} MiB");
    }
    // Somebody cuts it after it was found long enough.
    let running = host.start(["inspect", &file]);
    until("it is mapped", || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", running.worker()));
        maps.is_ok_and(|maps| maps.contains(&file))
    });
    File::options().write(true).open(&path).unwrap().set_len(8192).unwrap();
    running
        .wait()
        .expect_code(1)
        .says(&["was cut short meanwhile", "next: copy it"]);
}
