//! `compact` and `export --compact`: snapshots that are mostly history, made small, and real etcd on what comes out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use etcd_client::{AlarmAction, AlarmType};
use serde_json::Value;

use super::support::client::{Client, HashKv, wait_for};
use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::load::Load;
use super::support::tools::{self, Version};

const LEASE: i64 = 0x1234_5678;
const KEYS: usize = 20;
const ROUNDS: usize = 20;

/// Nine tenths of it are versions that a compaction gives up. Gives the revision that is compacted.
fn mostly_history(client: &Client) -> i64 {
    let mut load = Load::new(11);
    load.run(client, 60);
    client.grant(LEASE, 3600).expect("it runs");
    for round in 0..ROUNDS {
        for key in 0..KEYS {
            let value = vec![b'a' + round as u8; 2000 + 37 * key];
            client.put(&format!("/history/{key}"), value, LEASE).expect("it runs");
        }
    }
    client.delete("/history/7").expect("it runs");
    let compacted = client.revision().expect("it runs");
    load.run(client, 20);
    client.compact(compacted).expect("it runs");
    load.run(client, 10);
    compacted
}

/// What a member and a document say of HashKV is the same.
fn assert_hash(said: &Value, of: &HashKv) {
    assert_eq!(
        (&said["hash"], &said["revision"], &said["compact_revision"]),
        (
            &Value::from(of.hash),
            &Value::from(of.revision),
            &Value::from(of.compact_revision)
        )
    );
}

fn compacted(host: &Host, source: &str, file: &str) -> Value {
    let identity = host.identity().display().to_string();
    host.lifeboat(["--json", "compact", source, file, "--identity", &identity])
        .expect_code(0)
        .json()
}

#[test]
fn what_is_mostly_history_gets_small_and_every_line_starts_on_it() {
    let Some(etcdutl) = tools::debian("etcdutl") else {
        return;
    };
    for version in Version::ALL {
        let Some(mut source) = Etcd::start(version, Options::default()) else {
            return;
        };
        let client = source.client();
        let last_compacted = mostly_history(&client);
        let host = Host::new(&source);
        let id = host.backup();
        let (hash, keys) = (client.hash_kv(0).expect("it runs"), client.get_all().expect("it runs"));
        let at_compacted = client.get_all_at(last_compacted).expect("it is not gone");
        source.destroy();

        let file = host.path("small.db").display().to_string();
        let made = compacted(&host, &id, &file);
        assert_hash(&made["hash_kv"], &hash);
        assert_eq!(
            (&made["compact_revision"], &made["live_keys"]),
            (&last_compacted.into(), &keys.len().into())
        );
        let bytes = |extent: &str| made[extent]["bytes"].as_u64().expect("it is a number");
        assert!(
            bytes("after") * 3 < bytes("before"),
            "{made:#}, etcd {}",
            version.number()
        );
        let length = fs::metadata(&file).expect("it was written").len();
        assert_eq!((bytes("after") + 32, &made["bytes"]), (length, &Value::from(length)));
        let foretold = host.lifeboat(
            ["--json", "inspect", &id, "--identity"]
                .into_iter()
                .chain(host.identity().to_str()),
        );
        assert_eq!(
            foretold.expect_code(0).json()["compacted_bytes"],
            made["after"]["bytes"]
        );
        let inspected = host.lifeboat(["--json", "inspect", &file]).expect_code(0).json();
        for (field, expected) in [
            ("compacted_bytes", &made["after"]["bytes"]),
            ("hash_kv", &made["hash_kv"]),
            ("live_keys", &made["live_keys"]),
            ("total_bytes", &made["after"]["bytes"]),
            ("free_pages", &Value::from(0)),
        ] {
            assert_eq!(inspected[field], *expected, "{field}");
        }
        // The same on the way out of the store, also through a pipe.
        let identity = host.identity();
        let piped = host
            .command(["export", &id, "-", "--compact", "--identity"])
            .arg(&identity)
            .stderr(Stdio::inherit())
            .output()
            .expect("it runs");
        assert!(
            piped.stdout == fs::read(&file).expect("it was written"),
            "`-` and a file differ"
        );
        host.lifeboat([
            "compact",
            &id,
            &file,
            "--identity",
            identity.to_str().expect("it is plain"),
        ])
        .expect_code(7)
        .says(&["exists"]);

        let status = Command::new(&etcdutl)
            .args(["snapshot", "status", "-w", "json", &file])
            .output()
            .expect("etcdutl runs here");
        let status: Value = serde_json::from_slice(&status.stdout).expect("etcdutl accepts it");
        assert_eq!(
            (&status["revision"], &status["totalSize"], &status["hash"]),
            (&hash.revision.into(), &made["after"]["bytes"], &inspected["hash"])
        );
        // Laid out by etcd's own tool and by ours, each line from that of the source on starts on it.
        for newer in Version::ALL.into_iter().skip_while(|newer| *newer != version) {
            for theirs in [true, false] {
                let Some(mut etcd) = Etcd::plan(newer, Options::default()) else {
                    return;
                };
                match theirs {
                    true => restored_by(&etcdutl, &file, &host.rebuild_args("", &etcd, 0)),
                    false => drop(host.lifeboat(host.rebuild_args(&file, &etcd, 0)).expect_code(0)),
                }
                etcd.boot();
                let client = etcd.client();
                let found = client.hash_kv(0).expect("it runs");
                let who = format!("{} on {}, theirs: {theirs}", version.number(), newer.number());
                assert_eq!(
                    (found.hash, found.revision, found.compact_revision),
                    (hash.hash, hash.revision, hash.compact_revision),
                    "{who}"
                );
                assert!(client.get_all().expect("it runs") == keys, "{who}");
                assert!(
                    client.get_all_at(last_compacted).expect("it is there") == at_compacted,
                    "{who}"
                );
                assert!(client.leases().expect("it runs").contains(&LEASE), "{who}");
                // Mistakes of shape show when etcd changes the tree itself.
                let mut load = Load::new(13);
                load.run(&client, 40);
                client.compact(client.revision().expect("it runs")).expect("it runs");
                load.run(&client, 10);
                client.hash_kv(0).expect("it runs");
            }
        }
    }
}

fn restored_by(etcdutl: &Path, file: &str, rebuild_args: &[String]) {
    let restored = Command::new(etcdutl)
        .args(["snapshot", "restore", file])
        .args(&rebuild_args[4..])
        .output()
        .expect("etcdutl runs here");
    let said = String::from_utf8_lossy(&restored.stderr);
    assert!(restored.status.success(), "etcdutl refuses it: {said}");
}

#[test]
fn a_store_that_was_never_compacted_keeps_its_history() {
    let Some(source) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = source.client();
    let mut load = Load::new(17);
    load.run(&client, 120);
    let host = Host::new(&source);
    let id = host.backup();
    let hash = client.hash_kv(0).expect("it runs");
    let file = host.path("small.db").display().to_string();
    let made = compacted(&host, &id, &file);
    assert_hash(&made["hash_kv"], &hash);
    assert_eq!(
        (&made["compact_revision"], &made["before"]["versions"]),
        (&(-1).into(), &made["after"]["versions"])
    );
    let again = host.path("again.db").display().to_string();
    let said = host.lifeboat(["compact", &file, &again]).expect_code(0).stdout;
    for part in ["before ", "after ", "never told to compact"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    assert!(
        fs::read(&file).expect("it is there") == fs::read(&again).expect("it is there"),
        "once more changes it"
    );
    // What a running etcd holds is left alone.
    let living = source.members[0].data_dir.join("member/snap/db").display().to_string();
    host.lifeboat([
        "compact",
        &living,
        &host.path("x.db").display().to_string(),
        "--skip-hash-check",
    ])
    .expect_code(7)
    .says(&["in use"]);
}

/// How each of three members is laid out.
const WAYS: [&[&str]; 3] = [&[], &["--defrag"], &["--compact"]];

#[test]
fn members_that_were_written_anew_in_different_ways_serve_the_same() {
    for (version, bump) in [
        (Version::V3_4, false),
        (Version::V3_5, true),
        (Version::V3_6, false),
        (Version::V3_7, true),
    ] {
        let Some(mut source) = Etcd::start(version, Options::default()) else {
            return;
        };
        let client = source.client();
        let last_compacted = mostly_history(&client);
        let host = Host::new(&source);
        let id = host.backup();
        let (hash, keys) = (client.hash_kv(0).expect("it runs"), client.get_all().expect("it runs"));
        source.destroy();
        // They compare what they have left after each compaction, and raise an alarm over a difference.
        let compare: &[&str] = match version {
            Version::V3_5 | Version::V3_6 => &[
                "--experimental-initial-corrupt-check=true",
                "--experimental-compact-hash-check-enabled=true",
                "--experimental-compact-hash-check-time=500ms",
            ],
            Version::V3_4 => &["--experimental-initial-corrupt-check=true"],
            Version::V3_7 => &["--feature-gates=CompactHashCheck=true,InitialCorruptCheck=true"],
        };
        let options = Options {
            members: 3,
            flags: compare.iter().map(|&flag| flag.to_owned()).collect(),
            ..Options::default()
        };
        let Some(mut etcd) = Etcd::plan(version, options) else {
            return;
        };
        let jump: &[&str] = match bump {
            true => &["--bump-revision", "1000000", "--mark-compacted"],
            false => &[],
        };
        let sizes = WAYS.iter().enumerate().map(|(index, way)| {
            let mut args = host.rebuild_args(&id, &etcd, index);
            args.extend([&["--json"], *way, jump].concat().into_iter().map(str::to_owned));
            let said = host.lifeboat(args).expect_code(0).json();
            assert_eq!(said["proof"], "hash_kv");
            let file = etcd.members[index].data_dir.join("member/snap/db");
            let length = fs::metadata(file).expect("it was laid out").len();
            assert_eq!(said["database_bytes"], length);
            length
        });
        let sizes: Vec<u64> = sizes.collect();
        assert!(
            sizes[2] * 3 < sizes[0] && sizes[1] <= sizes[0],
            "{sizes:?}, etcd {}",
            version.number()
        );
        etcd.boot();
        let hashes = etcd.hash_kv_of_each(0);
        assert!(
            hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "{hashes:?}, etcd {}",
            version.number()
        );
        match bump {
            true => assert_eq!(hashes[0].revision, hash.revision + 1_000_000),
            false => assert_eq!(hashes[0], hash),
        }
        for index in 0..WAYS.len() {
            let client = etcd.client_of(index);
            assert!(
                client.get_all().expect("it runs") == keys,
                "member {index}, etcd {}",
                version.number()
            );
            let at_compacted = client.get_all_at(last_compacted);
            assert_eq!(at_compacted.is_ok(), !bump, "member {index}, etcd {}", version.number());
        }
        let client = etcd.client();
        let mut load = Load::new(19);
        for _ in 0..3 {
            load.run(&client, 40);
            client.compact(client.revision().expect("it runs")).expect("it runs");
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        let hashes = etcd.hash_kv_of_each(0);
        assert!(
            hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "{hashes:?}, etcd {}",
            version.number()
        );
        let alarms = wait_for(client.raw().alarm(AlarmAction::Get, AlarmType::None, None)).expect("it runs");
        assert_eq!(alarms.alarms().len(), 0, "etcd {}", version.number());
    }
}
