//! The whole way against real servers: load, back up, lose everything, lay it out again, serve the same.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::client::{Client, HashKv};
use super::support::etcd::{Etcd, Options, PASSWORD, Security};
use super::support::gate::Gate;
use super::support::host::{Host, Output, tree};
use super::support::load::Load;
use super::support::running::until;
use super::support::tools::{self, Version};

/// Granted before the backup, with a key on it: what must survive exactly.
const LEASE: i64 = 0x5eed;
const LEASE_TTL_SECONDS: i64 = 7_654;
const LEASED_KEY: &str = "/leased/key";

#[test]
fn backup_and_rebuild_of_3_4() {
    one_line(Version::V3_4);
}

#[test]
fn backup_and_rebuild_of_3_5() {
    one_line(Version::V3_5);
}

#[test]
fn backup_and_rebuild_of_3_6() {
    one_line(Version::V3_6);
}

#[test]
fn backup_and_rebuild_of_3_7() {
    one_line(Version::V3_7);
}

/// What a source had at the revision of a backup, asked before it was destroyed.
struct Before {
    hash: HashKv,
    keys: std::collections::BTreeMap<Vec<u8>, super::support::client::Entry>,
}

/// A backup under writes, and from it a cluster of one and a cluster of three, each of which then takes a member.
fn one_line(version: Version) {
    let Some(mut source) = Etcd::start(version, Options::default()) else {
        return;
    };
    let client = source.client();
    load(&client);
    let host = Host::new(&source);
    let gate = Gate::before(&source.members[0].client_url, 64 << 10);
    host.reconfigure(&source.members[0].client_url, &gate.url);

    let background = Load::new(3).in_background(source.client());
    let running = host.start(["--json", "backup"]);
    gate.wait_until_held();
    let meanwhile = client.revision().expect("it runs");
    until("writes while the stream is held", || {
        client.revision().expect("it runs") > meanwhile + 20
    });
    gate.open();
    let taken = running.wait().expect_code(0).json();
    let (_, written) = background.stop();
    assert!(written > 0);

    let revision = taken["revision"].as_i64().expect("it is a number");
    assert!(
        revision <= meanwhile,
        "{revision} is from before the stream was held, at {meanwhile}"
    );
    let before = Before {
        hash: client.hash_kv(revision).expect("it is not compacted"),
        keys: client.get_all_at(revision).expect("it is not compacted"),
    };
    assert!(before.hash.compact_revision > 0);
    let manifest = host.manifest(text(&taken["id"]));
    assert_eq!(hash_of(&manifest["hash_kv"]), before.hash);
    assert_eq!(manifest["to_revision"], revision);
    assert_eq!(manifest["keys"], before.keys.len());
    assert_eq!(manifest["etcd_version"], version.number());
    source.destroy();

    let one = rebuilt(&host, version, 1, "restored-one", &before);
    let three = rebuilt(&host, version, 3, "restored-three", &before);
    assert_ne!(one, three, "other members and another token give another cluster");
}

/// Rebuilds every member of a new cluster from the same backup, boots it, and compares. Returns the cluster's id.
fn rebuilt(host: &Host, version: Version, members: usize, token: &str, before: &Before) -> String {
    let mut target = plan(version, members, token);
    let mut clusters = Vec::new();
    for index in 0..members {
        let said = rebuild(host, "latest", &target, index, &[]).json();
        assert_eq!(said["revision"], before.hash.revision);
        assert_eq!(hash_of(&said["hash_kv"]), before.hash);
        assert_eq!(said["proof"], "hash_kv");
        assert_eq!(said["live_keys"], before.keys.len());
        clusters.push(text(&said["cluster_id"]).to_owned());
    }
    clusters.dedup();
    assert_eq!(clusters.len(), 1, "all members are of one cluster: {clusters:?}");
    target.boot();

    let revision = before.hash.revision;
    assert_eq!(target.hash_kv_of_each(revision), vec![before.hash; members]);
    assert_eq!(
        target.hash_kv_of_each(0),
        vec![before.hash; members],
        "the revision is the same"
    );
    for index in 0..members {
        let keys = target.client_of(index).get_all().expect("a running member can be read");
        assert!(keys == before.keys, "member {index} serves other keys");
    }
    leases_live_on(&target.client(), before);
    let put = target.client().put("/after/the/restore", "written", 0);
    assert!(put.expect("it takes writes") > revision);

    target.add_member();
    let hashes = target.hash_kv_of_each(0);
    assert_eq!(hashes.len(), members + 1);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    clusters.remove(0)
}

fn leases_live_on(client: &Client, before: &Before) {
    let leases = client.leases().expect("a running cluster can be read");
    let mut used: Vec<i64> = before
        .keys
        .values()
        .map(|entry| entry.lease)
        .filter(|id| *id != 0)
        .collect();
    used.push(LEASE);
    let missing: Vec<_> = used.iter().filter(|id| !leases.contains(id)).collect();
    assert!(used.len() > 2 && missing.is_empty(), "missing: {missing:?} of {used:?}");
    assert_eq!(client.granted_ttl(LEASE).expect("it is there"), LEASE_TTL_SECONDS);
    client.revoke(LEASE).expect("a restored lease can be revoked");
    assert_eq!(
        client.get(LEASED_KEY).expect("it can be read"),
        None,
        "its key went with it"
    );
    assert!(!client.leases().expect("it can be read").contains(&LEASE));
}

#[test]
fn of_three_members_a_follower_is_asked_unless_one_is_named() {
    let options = Options {
        members: 3,
        ..Options::default()
    };
    let Some(mut source) = Etcd::start(Version::V3_5, options) else {
        return;
    };
    let client = source.client();
    load(&client);
    let host = Host::new(&source);
    let leader = format!("{:x}", client.leader().expect("it runs"));

    let first = host.lifeboat(["-v", "backup"]).expect_code(0);
    let first = host.manifest(first.stdout.trim());
    assert_ne!(first["member"]["id"], leader, "a follower spares the leader");
    let revision = first["to_revision"].as_i64().expect("it is a number");
    let hashes = source.hash_kv_of_each(revision);
    assert_eq!(vec![hash_of(&first["hash_kv"]); 3], hashes);

    for member in ["m1", "m2", "m3"] {
        let named = host.lifeboat(["backup", "--member", member]).expect_code(0);
        let manifest = host.manifest(named.stdout.trim());
        assert_eq!(manifest["member"]["name"], member);
        // HashKV stalls writes, so a leader is spared that too, and the manifest says why there is none.
        let reason = manifest["hash_kv_reason"].as_str();
        assert_eq!(reason.is_some(), manifest["member"]["id"] == leader, "{manifest}");
    }

    // With two of three lost, what the last one has can still be backed up, and it says what it is.
    source.kill(0);
    source.kill(1);
    let alone = host.lifeboat(["backup"]).expect_code(0);
    let alone = alone.says(&["m3 does not reach its quorum"]);
    let manifest = host.manifest(alone.stdout.trim());
    assert_eq!(manifest["to_revision"], revision);
    assert_eq!(
        manifest["lineage"], first["lineage"],
        "a member that lags opens no new history"
    );
    let keys = manifest["keys"].as_u64();
    source.destroy();

    let mut target = plan(Version::V3_5, 1, "from-a-follower");
    let said = rebuild(&host, text(&first["chain"]), &target, 0, &[]).json();
    assert_eq!(said["live_keys"].as_u64(), keys);
    target.boot();
    assert_eq!(target.hash_kv_of_each(revision), hashes[..1]);
}

#[test]
fn tls_and_passwords_are_spoken_and_come_back_with_the_data() {
    let options = Options {
        security: Security::Tls,
        ..Options::default()
    };
    let Some(mut source) = Etcd::start(Version::V3_5, options.clone()) else {
        return;
    };
    source.client().put("/kept", "safe", 0).expect("it runs");
    source.client().enable_auth(PASSWORD).expect("it runs");
    source.credentials.user = Some(("root".to_owned(), PASSWORD.to_owned()));
    let host = Host::new(&source);
    host.lifeboat(["-v", "backup"]).expect_code(0).says(&["HashKV"]);
    source.destroy();

    let mut target = Etcd::plan(Version::V3_5, options).expect("it was there before");
    target.token = "restored".to_owned();
    target.credentials.user = source.credentials.user.clone();
    let said = rebuild(&host, "latest", &target, 0, &[]).json();
    assert_eq!(said["auth_enabled"], true);
    target.boot();
    assert_eq!(target.client().get("/kept").expect("root may"), Some(b"safe".to_vec()));
    let as_user = |user: Option<(&str, &str)>| {
        let mut credentials = target.credentials.clone();
        credentials.user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let endpoints = [target.members[0].client_url.clone()];
        Client::connect(&endpoints, &credentials).and_then(|client| client.get("/kept"))
    };
    assert!(
        as_user(Some(("root", "wrong"))).is_err(),
        "the password is asked for again"
    );
    // Without a login the certificate's name counts, and that is nobody.
    assert!(as_user(None).is_err(), "who has no password stays outside");
}

#[test]
fn the_official_tools_open_what_is_stored_and_exported() {
    let (Some(etcdutl), Some(age), Some(zstd)) =
        (tools::debian("etcdutl"), tools::debian("age"), tools::debian("zstd"))
    else {
        return;
    };
    let Some(mut source) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let client = source.client();
    load(&client);
    let before = (client.hash_kv(0).expect("it runs"), client.get_all().expect("it runs"));
    let host = Host::new(&source);
    let id = host.backup();
    source.destroy();

    let exported = host.path("snapshot.db");
    export(&host, &id, &exported);
    let object = host.store().join("test").join(text(&host.manifest(&id)["object"]));
    let decrypted = Command::new(age)
        .arg("-d")
        .arg("-i")
        .arg(host.identity())
        .arg(&object)
        .stdout(Stdio::piped())
        .spawn()
        .expect("age runs here")
        .stdout
        .expect("it is a pipe");
    let plain = Command::new(zstd)
        .arg("-d")
        .stdin(decrypted)
        .output()
        .expect("zstd runs here");
    assert!(
        plain.stdout == fs::read(&exported).expect("it was written"),
        "age and zstd give other bytes than the export"
    );

    let status = Command::new(&etcdutl)
        .args(["snapshot", "status", "-w", "json"])
        .arg(&exported)
        .output()
        .expect("etcdutl runs here");
    let status: Value = serde_json::from_slice(&status.stdout).expect("etcdutl accepts the export");
    assert_eq!(status["revision"], before.0.revision);

    // The same restore by both, with and without the jump.
    let bump: &[&str] = &["--bump-revision", "1000000", "--mark-compacted"];
    for flags in [&[], bump] {
        let mut theirs = plan(Version::V3_5, 1, "same-token");
        let restored = Command::new(&etcdutl)
            .args(["snapshot", "restore"])
            .arg(&exported)
            .args(&host.rebuild_args("", &theirs, 0)[4..])
            .args(flags)
            .output()
            .expect("etcdutl runs here");
        let said = String::from_utf8_lossy(&restored.stderr);
        assert!(restored.status.success(), "etcdutl refuses the export: {said}");
        let mut ours = plan(Version::V3_5, 1, "same-token");
        let said = rebuild(&host, &id, &ours, 0, flags).json();
        theirs.boot();
        ours.boot();
        let revisions = [&theirs, &ours].map(|etcd| etcd.client().revision().expect("it runs"));
        assert_eq!(revisions[0], revisions[1]);
        assert_eq!(said["revision"], revisions[0]);
        assert_eq!(theirs.hash_kv_of_each(0), ours.hash_kv_of_each(0));
        assert!(
            ours.client().get_all().expect("it runs") == before.1,
            "the keys are those of the source"
        );
        if flags == bump {
            let compacted = |etcd: &Etcd| {
                let error = etcd
                    .client()
                    .get_all_at(before.0.revision)
                    .expect_err("all history is compacted");
                assert!(error.to_string().contains("compacted"), "{error}");
                etcd.client().hash_kv(0).expect("it runs").compact_revision
            };
            assert_eq!(compacted(&theirs), compacted(&ours));
            assert_eq!(revisions[0], before.0.revision + 1_000_000);
        }
    }
}

#[test]
fn every_kind_of_source_gives_the_same_and_every_place_is_filled() {
    let Some(mut source) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    load(&source.client());
    let host = Host::new(&source);
    let id = host.backup();
    let before = source.client().hash_kv(0).expect("it runs");
    let running = source.members[0].data_dir.clone();
    let refused = host.lifeboat(host.rebuild_args("latest", &source, 0)).expect_code(7);
    refused.says(&[path_text(&running), "a running etcd", "systemctl stop"]);
    source.stop();
    let raw = running.join("member/snap/db");
    let in_place = tree(&running);
    let refused = host.lifeboat(host.rebuild_args("latest", &source, 0)).expect_code(7);
    refused.says(&[path_text(&running), "not empty", "mv "]);
    assert_eq!(tree(&running), in_place, "what was there is untouched");

    let exported = host.path("snapshot.db");
    export(&host, "latest", &exported);
    let object = host.store().join("test").join(text(&host.manifest(&id)["object"]));
    let refused = plan(Version::V3_6, 1, "refused");
    host.lifeboat(host.rebuild_args(path_text(&raw), &refused, 0))
        .expect_code(7)
        .says(&[path_text(&raw), "--skip-hash-check"]);
    assert!(!refused.members[0].data_dir.exists());
    let sources: [(&str, &[&str]); 6] = [
        (&id, &[]),
        (&id[..20], &[]),
        (path_text(&exported), &[]),
        (path_text(&object), &[]),
        (path_text(&raw), &["--skip-hash-check"]),
        (path_text(&exported), &["--skip-hash-check"]),
    ];
    for (from, flags) in sources {
        let target = plan(Version::V3_6, 1, "restored");
        let said = rebuild(&host, from, &target, 0, flags).json();
        assert_eq!(hash_of(&said["hash_kv"]), before, "{from}");
        assert_eq!(said["revision"], before.revision, "{from}");
    }
    for (from, flags) in [
        (&exported, [].as_slice()),
        (&object, &[]),
        (&raw, &["--skip-hash-check"]),
    ] {
        let target = plan(Version::V3_6, 1, "restored");
        let mut command = host.command(host.rebuild_args("-", &target, 0));
        command.args(["--json"]).args(flags);
        let fed = command
            .stdin(File::open(from).expect("it is there"))
            .output()
            .expect("it runs");
        let said: Value = serde_json::from_slice(&fed.stdout).expect("it was rebuilt from standard input");
        assert_eq!(
            hash_of(&said["hash_kv"]),
            before,
            "{} by standard input",
            from.display()
        );
    }

    // An empty directory that is there, as a mount point is, and a log on another disk.
    let mut target = plan(Version::V3_6, 1, "restored");
    let (data_dir, wal_dir) = (target.members[0].data_dir.clone(), host.path("wal"));
    fs::create_dir(&data_dir).expect("the test's directory can be written");
    let said = rebuild(
        &host,
        path_text(&raw),
        &target,
        0,
        &["--skip-hash-check", "--wal-dir", path_text(&wal_dir)],
    );
    assert_eq!(said.json()["flags"]["--wal-dir"], path_text(&wal_dir));
    assert!(!data_dir.join("member/wal").exists() && wal_dir.read_dir().is_ok_and(|mut dir| dir.next().is_some()));
    target.set_flags(&["--wal-dir", path_text(&wal_dir)]);
    target.boot();
    assert_eq!(target.hash_kv_of_each(0), [before]);
}

/// Puts, deletes, ranges, transactions, leases and a compaction; some history stays behind it.
fn load(client: &Client) {
    let mut load = Load::new(2);
    load.run(client, 150);
    client
        .grant(LEASE, LEASE_TTL_SECONDS)
        .expect("a healthy cluster takes a lease");
    client
        .put(LEASED_KEY, "gone with its lease", LEASE)
        .expect("a healthy cluster takes a put");
    load.compact(client);
    load.run(client, 60);
}

/// A cluster that takes a member at once, not after its members have known each other for five seconds.
fn plan(version: Version, members: usize, token: &str) -> Etcd {
    let options = Options {
        members,
        token: token.to_owned(),
        flags: vec!["--strict-reconfig-check=false".to_owned()],
        ..Options::default()
    };
    Etcd::plan(version, options).expect("the source ran from the same server")
}

/// Rebuilds one member, which must succeed.
#[track_caller]
fn rebuild(host: &Host, source: &str, target: &Etcd, index: usize, flags: &[&str]) -> Output {
    let mut args = host.rebuild_args(source, target, index);
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    args.push("--json".to_owned());
    host.lifeboat(args).expect_code(0)
}

#[track_caller]
fn export(host: &Host, source: &str, file: &Path) {
    let args = [
        "export",
        source,
        path_text(file),
        "--identity",
        path_text(&host.identity()),
    ]
    .map(str::to_owned);
    host.lifeboat(args).expect_code(0);
}

fn hash_of(document: &Value) -> HashKv {
    let number = |key: &str| {
        document[key]
            .as_i64()
            .unwrap_or_else(|| panic!("no {key} in {document}"))
    };
    HashKv {
        revision: number("revision"),
        compact_revision: number("compact_revision"),
        hash: u32::try_from(number("hash")).expect("it has 32 bits"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("it is a text")
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}
