//! Destinations in an object store: the same life as in a directory, on a real S3 server.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lifeboat::signing::{Role, SigningKey};
use serde_json::Value;

use super::support::etcd::{Etcd, Options};
use super::support::gate::Gate;
use super::support::host::{CLUSTER, Host};
use super::support::life::{self, Away, backup_to, ids};
use super::support::moto::{Moto, SECRET};
use super::support::running::{Running, until};
use super::support::shared;
use super::support::tools::Version;

const BUCKET: &str = "backups";

/// What a store may take before it is left out, and some time for what is done beside.
const ONE_WAIT: Duration = Duration::from_secs(30 + 15);

/// A host whose destination `bucket`, beside `local`, is in this server; `more` is what else is configured of it.
fn host_with(etcd: &Etcd, moto: &Moto, more: &str) -> Host {
    let host = Host::new(etcd);
    host.configure(etcd, &bucket_at(&host, moto, more));
    host
}

/// The tables of that destination, whose keys are put beside.
fn bucket_at(host: &Host, moto: &Moto, more: &str) -> String {
    give_keys(host, "anybody", SECRET);
    let (endpoint, keys) = (moto.endpoint(), host.path("s3-keys"));
    format!(
        "[destinations.bucket]\nurl = \"s3://{BUCKET}/etcd\"\nendpoint = \"{endpoint}\"\n\
         credentials = {{ file = {keys:?} }}\n{more}"
    )
}

fn give_keys(host: &Host, id: &str, secret: &str) {
    let keys = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    fs::write(host.path("s3-keys"), keys).unwrap();
}

/// What a host has in its environment that knows of the server by nothing else.
fn environment(endpoint: &str) -> [(&'static str, &OsStr); 4] {
    [
        ("AWS_ENDPOINT_URL", endpoint.as_ref()),
        ("AWS_ACCESS_KEY_ID", "anybody".as_ref()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.as_ref()),
        ("AWS_REGION", "us-east-1".as_ref()),
    ]
}

/// The names of all that belongs to a backup, in the bucket.
fn keys_of(moto: &Moto, id: &str) -> Vec<String> {
    let keys = moto.keys(BUCKET).into_iter();
    keys.filter(|key| key.contains(id)).collect()
}

#[test]
fn a_backup_goes_to_a_bucket_as_it_goes_to_a_directory() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let host = host_with(etcd, &moto, "");
    let id = host.backup();
    let files = host.stored_files();
    let files = files.iter().map(|file| format!("etcd/{}", file.display()));
    let files: Vec<String> = files.filter(|file| file.contains(&id)).collect();
    assert_eq!(keys_of(&moto, &id), files);
    assert_eq!(moto.open_uploads(BUCKET), [""; 0]);
    // More than one part.
    assert!(moto.said().contains("?partNumber=2&"), "{}", moto.said());
    for destination in ["local", "bucket"] {
        let listed = host.lifeboat(["--json", "list", "--destination", destination]);
        let listed = listed.expect_code(0).json();
        assert_eq!(listed["backups"][0]["id"], id.as_str(), "{listed}");
        assert_eq!(listed["backups"][0]["proof"], "hash_kv", "{listed}");
    }
}

#[test]
fn the_whole_life_of_backups_in_a_bucket() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let host = host_with(&etcd, &moto, "[destinations.bucket.retention]\nkeep_last = 1\n");
    host.lifeboat(["check", "--online"]).expect_code(0);
    assert_eq!(
        moto.keys(BUCKET),
        [format!("etcd/{CLUSTER}/store.json")],
        "nothing is left of the trial"
    );
    assert_eq!(moto.open_uploads(BUCKET), [""; 0]);
    let endpoint = moto.endpoint();
    let away = Away {
        name: "bucket",
        url: &format!("s3://{BUCKET}/etcd"),
        environment: &environment(&endpoint),
        of_backup: &|id| keys_of(&moto, id),
    };
    life::lead(&host, &etcd.client(), &away);
    assert_eq!(moto.open_uploads(BUCKET), [""; 0]);
}

#[test]
fn a_bucket_that_is_not_there_is_named_and_never_made() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    let host = host_with(etcd, &moto, "");
    let taken = host.lifeboat(["backup"]).expect_code(3);
    taken.says(&[
        "destination bucket does not have it: ",
        "there is no such bucket: make it, or correct the URL",
    ]);
    host.lifeboat(["check", "--online"])
        .expect_code(1)
        .says(&["destination bucket: ", "there is no such bucket"]);
    let from = format!("s3://{BUCKET}/etcd");
    host.without_configuration(&environment(&moto.endpoint()), ["list", "--from", &from])
        .expect_code(4)
        .says(&["there is no such bucket"]);
    moto.make_bucket(BUCKET);
    host.without_configuration(&environment(&moto.endpoint()), ["list", "--from", &from])
        .expect_code(4)
        .says(&["holds no store of lifeboat"]);
    host.backup();
    // Gone again, with all that was in it: what this host knows of it keeps a new one from being taken for it.
    let mut moto = moto;
    moto.kill();
    moto.boot();
    moto.make_bucket(BUCKET);
    host.lifeboat(["backup"])
        .expect_code(3)
        .says(&["store ", "is not in `s3://"]);
    assert_eq!(moto.keys(BUCKET), [""; 0]);
}

/// What the check of a configuration has found of the destination `bucket`.
fn enforced(checked: &Value, what: &str) -> Value {
    let mut destinations = checked["destinations"].as_array().unwrap().iter();
    let bucket = destinations.find(|destination| destination["name"] == "bucket");
    bucket.unwrap_or_else(|| panic!("{checked}"))[what].clone()
}

/// What `docs/stores.md` says that a user needs.
fn policy() -> String {
    policy_after("## S3")
}

fn policy_after(heading: &str) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/stores.md")).unwrap();
    let (_, rest) = page.split_once(heading).unwrap();
    let (_, rest) = rest.split_once("```json\n").unwrap();
    let (policy, _) = rest.split_once("```").unwrap();
    policy.replace("example-backups", BUCKET)
}

#[test]
fn the_rights_that_are_documented_suffice_and_wrong_ones_are_named() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    moto.make_bucket("others");
    let (id, secret) = moto.make_user("lifeboat", &policy());
    let (hoarder, hoarders_secret) = moto.make_user("hoarder", &policy().replace("\"s3:DeleteObject\", ", ""));
    let blind = policy().replace(", \"s3:ListBucketMultipartUploads\"", "");
    let (blind, blinds_secret) = moto.make_user("blind", &blind);
    let (stranger, strangers_secret) = moto.make_user("stranger", &policy().replace(BUCKET, "others"));
    moto.lock();
    let host = host_with(etcd, &moto, "[destinations.bucket.retention]\nkeep_last = 1\n");
    let refused = |id: &str, secret: &str| {
        give_keys(&host, id, secret);
        for (args, code) in [
            (&["backup"][..], 3),
            (&["backup", "--to", "bucket"], 1),
            (&["list", "--destination", "bucket"], 1),
            (&["check", "--online"], 1),
        ] {
            let output = host.lifeboat(args).expect_code(code);
            let output = output.says(&["bucket", "refused: look at the credentials, and at what they may do"]);
            assert!(!output.stderr.contains(secret), "{}", output.stderr);
        }
    };
    refused("AKIAIOSFODNN7EXAMPLE", SECRET);
    refused(&id, SECRET);
    refused(&stranger, &strangers_secret);
    fs::write(host.path("s3-keys"), format!("secret = {SECRET}\n")).unwrap();
    let unfit = host.lifeboat(["backup"]).expect_code(3);
    unfit.says(&[
        "destination bucket",
        "the credentials have no line `aws_access_key_id = …`",
    ]);

    give_keys(&host, &id, &secret);
    let first = host.backup();
    let second = host.backup();
    let checked = host.lifeboat(["--json", "check", "--online"]).expect_code(0).json();
    assert_eq!(enforced(&checked, "removes"), "yes", "{checked}");
    assert_eq!(enforced(&checked, "lists_uploads"), "yes", "{checked}");
    assert_eq!(enforced(&checked, "parts_new_only"), "yes", "{checked}");
    let shown = host.lifeboat(["check", "--online"]).expect_code(0).stdout;
    assert!(
        shown
            .lines()
            .all(|line| line.chars().count() <= 80 || !line.contains("UPLOADS")),
        "{shown}"
    );
    host.lifeboat(["verify", "--all", "--destination", "bucket"])
        .expect_code(0);
    let pruned = host.lifeboat(["--json", "prune"]).expect_code(0).json();
    assert_eq!(ids(&pruned["remove"]), [&first]);
    host.lifeboat(["pin", &second]).expect_code(0);

    // Who may not see open uploads, too.
    give_keys(&host, &blind, &blinds_secret);
    host.backup();
    let checked = host.lifeboat(["--json", "check", "--online"]).expect_code(0);
    assert_eq!(enforced(&checked.json(), "lists_uploads"), "no");
    // Who may remove nothing takes backups all the same, and is told what does not work.
    give_keys(&host, &hoarder, &hoarders_secret);
    host.backup();
    let checked = host.lifeboat(["--json", "check", "--online"]).expect_code(0);
    assert_eq!(enforced(&checked.json(), "removes"), "no");
    host.lifeboat(["check", "--online"])
        .expect_code(0)
        .says(&["destination bucket lets this user remove nothing, so its retention does nothing"]);
    host.lifeboat(["unpin", &second])
        .expect_code(3)
        .says(&["destination bucket: cannot remove ", "refused: look at the credentials"]);
}

/// A user who writes, and reads nothing but the small documents: neither backups nor the right to remove.
#[test]
fn who_may_only_write_keeps_backups_in_a_bucket_that_is_not_read_back() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let (id, secret) = moto.make_user("writer", &policy_after("### Keys that can only write"));
    let (owner, owners_secret) = moto.make_user("owner", &policy());
    moto.lock();
    let host = host_with(etcd, &moto, "read_back = \"never\"\n");
    give_keys(&host, &id, &secret);
    let first = host.backup();
    let taken = host
        .lifeboat(["--json", "backup", "--to", "local"])
        .expect_code(0)
        .json();
    let second = taken["id"].as_str().unwrap();
    let copied = host.lifeboat(["--json", "copy", "--from", "local", "--to", "bucket"]);
    assert_eq!(copied.expect_code(0).json()["copied"], serde_json::json!([second]));
    let said = moto.said();
    let of_objects = |method: &str| {
        let is_one = |line: &&str| line.contains(&format!("{method} /{BUCKET}/")) && line.contains("/full.db.zst.age");
        said.lines().filter(is_one).count()
    };
    assert!(of_objects("PUT") > 0 && of_objects("GET") == 0, "{said}");
    let there = host
        .lifeboat(["--json", "list", "--destination", "bucket"])
        .expect_code(0)
        .json();
    assert_eq!(ids(&there["backups"]), [&first, second]);
    for backup in there["backups"].as_array().unwrap() {
        assert_eq!(backup["proof"], "acknowledged", "{backup}");
    }
    host.lifeboat(["show", "latest"]).expect_code(0);
    let checked = host.lifeboat(["--json", "check", "--online"]).expect_code(0).json();
    assert_eq!(
        (enforced(&checked, "removes"), enforced(&checked, "acknowledges")),
        ("no".into(), "yes".into())
    );
    host.lifeboat(["verify", "--all", "--destination", "bucket"])
        .expect_code(3)
        .says(&["was not checked: cannot open ", "refused: look at the credentials"]);
    // With the keys of somebody who may read, on a host that wants it read back.
    let text = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), text.replace("read_back = \"never\"\n", "")).unwrap();
    give_keys(&host, &owner, &owners_secret);
    host.lifeboat(["verify", "--all", "--destination", "bucket"])
        .expect_code(0);
    let there = host
        .lifeboat(["--json", "list", "--destination", "bucket"])
        .expect_code(0)
        .json();
    assert!(
        there["backups"]
            .as_array()
            .unwrap()
            .iter()
            .all(|backup| backup["proof"] == "hash_kv"),
        "{there}"
    );
}

/// Between the object and the manifest of a copy; and with signers named, whose own documents count.
#[test]
fn a_copy_that_was_cut_off_goes_on_where_nothing_is_read_back() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let host = host_with(etcd, &moto, "read_back = \"never\"\n");
    let id = backup_to(&host, "local");
    let own = fs::read_to_string(host.path("state").join(CLUSTER).join("signing.key")).unwrap();
    let Ok(own) = SigningKey::parse(Role::Signer, &own, "it") else {
        panic!("a host has a key")
    };
    let trusted = format!("[signing]\ntrusted = [\"{}\"]\n", own.public());
    let text = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), text + &trusted).unwrap();
    let copy = || host.lifeboat(["--json", "copy", "--from", "local", "--to", "bucket"]);
    let copied = || copy().expect_code(0).json()["copied"].clone();
    let there = || {
        let listed = host.lifeboat(["--json", "list", "--all", "--destination", "bucket"]);
        let listed = listed.expect_code(0).json();
        assert_eq!(listed["strangers"], serde_json::json!([]), "{listed}");
        let found = listed["backups"].as_array().unwrap().iter();
        let found = found.map(|backup| (backup["id"].clone(), backup["proof"].clone()));
        found.collect::<Vec<_>>()
    };
    assert_eq!(copied(), serde_json::json!([id]));
    assert_eq!(there(), [(id.clone().into(), "acknowledged".into())]);

    let manifest_and_object = || {
        let keys = keys_of(&moto, &id);
        let one = |part: &str| keys.iter().find(|key| key.contains(part)).unwrap().clone();
        (one("/full-"), one("/full.db"))
    };
    let (manifest, object) = manifest_and_object();
    moto.remove(BUCKET, &manifest);
    assert_eq!(copied(), serde_json::json!([id]));
    assert_eq!(there(), [(id.clone().into(), "acknowledged".into())]);
    // Of other bytes nobody says that they are its.
    moto.remove(BUCKET, &manifest);
    let bytes = host.manifest(&id)["stored"]["bytes"].as_u64().unwrap();
    moto.put(BUCKET, &object, &"x".repeat(usize::try_from(bytes).unwrap()));
    copy()
        .expect_code(1)
        .says(&["is there already, and is not known to be this backup's"]);
    assert_eq!(there(), []);
    // One that is taken there, too.
    let taken = host.backup();
    assert_eq!(there(), [(taken.into(), "acknowledged".into())]);
}

#[test]
fn a_destination_that_is_limited_has_the_backup_later_and_nobody_waits_for_it() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    // Much more than what goes at once, and as little bandwidth as there may be: a machine would have to take over a minute
    // for what takes it a second, or the backup does come faster.
    for number in 0..192 {
        let mut value = vec![0; 64 << 10];
        getrandom::fill(&mut value).unwrap();
        etcd.client().put(&format!("/random/{number:03}"), value, 0).unwrap();
    }
    let host = host_with(&etcd, &moto, "bandwidth = \"64 KiB/s\"\n");
    let listed = || {
        let listed = host.lifeboat(["--json", "list"]).expect_code(0).json();
        listed["backups"].as_array().unwrap().clone()
    };
    // The others have it, and it is being copied.
    let taking = host.start(["-v", "backup"]);
    until("one destination has it", || listed().len() == 1);
    let backup = listed().remove(0);
    assert_eq!(backup["destinations"], serde_json::json!(["local"]));
    taking.signal("INT");
    let taken = taking.wait().expect_code(3).says(&[
        "destination bucket is slow: ",
        "destination bucket does not have it: ",
        "the backup came faster than `bandwidth` lets it be written: it is copied later",
    ]);
    let id = taken.stdout.trim();
    assert_eq!(backup["id"], id);
    assert_eq!(moto.open_uploads(BUCKET), [""; 0]);
    let bytes = backup["stored_bytes"].as_u64().unwrap();
    let beyond = bytes.checked_sub(8 << 20).unwrap();
    assert!(beyond > 4 << 20, "{bytes}");

    host.configure(&etcd, &bucket_at(&host, &moto, "bandwidth = \"4 MiB/s\"\n"));
    let begun = Instant::now();
    host.lifeboat(["copy", "--from", "local", "--to", "bucket"])
        .expect_code(0);
    let (took, least) = (
        begun.elapsed(),
        Duration::from_secs_f64(beyond as f64 / f64::from(4 << 20)),
    );
    assert!(took >= least, "{bytes} bytes in {took:?}");
    assert_eq!(keys_of(&moto, id).len(), 2);
    // It is copied before the command ends, and waited for where it is alone.
    let taken = host.backup();
    assert_eq!(keys_of(&moto, &taken).len(), 2);
    backup_to(&host, "bucket");
}

#[test]
fn a_slow_destination_has_the_backup_after_the_others_and_they_do_not_wait() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let mut noise = vec![0; 300_000];
    getrandom::fill(&mut noise).unwrap();
    etcd.client().put("/noise", noise, 0).unwrap();
    // Some ten seconds for the object.
    let line = moto.behind_a_slow_line(30_000);
    let host = Host::new(&etcd);
    let tables = bucket_at(&host, &moto, "").replace(&moto.endpoint(), &line.endpoint());
    host.configure(&etcd, &tables);
    let running = host.start(["backup"]);
    let manifests = |names: Vec<String>| names.iter().filter(|name| name.contains("/full-")).count();
    let of_local = || {
        let files = host.stored_files().into_iter();
        manifests(files.map(|file| file.display().to_string()).collect())
    };
    until("the backup in the directory", || of_local() == 1);
    assert_eq!(manifests(moto.keys(BUCKET)), 0, "nobody waited for the bucket");
    running.wait().expect_code(0);
    assert_eq!(manifests(moto.keys(BUCKET)), 1);
    assert_eq!(moto.open_uploads(BUCKET), [""; 0]);
}

#[test]
fn what_is_locked_stays_until_its_day_has_come() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let more = "object_lock = \"30d\"\n[destinations.bucket.retention]\nkeep_last = 1\n";
    let host = host_with(etcd, &moto, more);
    // A bucket of the ordinary kind: said before it matters, and no backup is called locked that is not.
    host.lifeboat(["check", "--online"])
        .expect_code(1)
        .says(&["destination bucket: `object_lock` is set, and the bucket has no object lock"]);
    let mut moto = moto;
    moto.kill();
    moto.boot();
    fs::remove_dir_all(host.path("state")).ok();
    moto.make_locking_bucket(BUCKET);
    let host = host_with(etcd, &moto, more);
    let checked = host.lifeboat(["--json", "check", "--online"]).expect_code(0).json();
    assert_eq!(enforced(&checked, "object_lock"), "yes", "{checked}");
    let first = host.backup();
    let second = backup_to(&host, "local");
    host.lifeboat(["copy", "--from", "local", "--to", "bucket"])
        .expect_code(0);
    let day = |from_now: i64| {
        let day = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * from_now);
        day.strftime("%Y-%m-%d").to_string()
    };
    for id in [&first, &second] {
        let keys = keys_of(&moto, id);
        let locked = keys.iter().filter(|key| !key.contains("/checks/"));
        assert_eq!(locked.clone().count(), 2, "{keys:?}");
        for key in locked {
            let told = moto.head(BUCKET, key);
            assert!(told.contains("GOVERNANCE") && told.contains(&day(30)), "{key}: {told}");
        }
    }
    // A manifest without a lock, as servers leave it that look at no such word beside what they are sent.
    let of_second = keys_of(&moto, &second);
    let manifest = of_second.iter().find(|key| key.contains("/full-")).unwrap();
    moto.put(BUCKET, manifest, &moto.object(BUCKET, manifest));
    assert!(!moto.head(BUCKET, manifest).contains("GOVERNANCE"));
    host.lifeboat(["copy", "--from", "local", "--to", "bucket", &second])
        .expect_code(0);
    assert!(moto.head(BUCKET, manifest).contains("GOVERNANCE"));
    // A host that locks nothing itself passes over them, too.
    let text = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), text.replace("object_lock = \"30d\"\n", "")).unwrap();
    let pruned = host.lifeboat(["--json", "prune"]).expect_code(0).json();
    assert_eq!(ids(&pruned["remove"]), [""; 0], "{pruned}");
    fs::write(host.config(), text).unwrap();
    let pruned = host.lifeboat(["--json", "prune"]).expect_code(0).json();
    assert_eq!(ids(&pruned["remove"]), [""; 0], "{pruned}");
    let kept = pruned["keep"].as_array().unwrap().iter();
    let kept: Vec<&Value> = kept.filter(|row| row["destination"] == "bucket").collect();
    let reason = kept.iter().find(|row| row["id"] == first.as_str()).unwrap()["reasons"][0].clone();
    let reason = reason.as_str().unwrap();
    assert!(reason.starts_with(&format!("locked until {}", day(30))), "{reason}");
    assert_eq!(keys_of(&moto, &first).len(), 2);
}

/// A host with two backups in a bucket that has locks and keeps one, behind a gate at which the answer stops that says so: all
/// that retention needs is read by then.
fn behind_a_gate(etcd: &Etcd, moto: &Moto, more: &str) -> (Host, Gate, String) {
    moto.make_locking_bucket(BUCKET);
    let gate = Gate::stopping_at(&moto.endpoint(), "<ObjectLockEnabled>");
    let host = host_with(
        etcd,
        moto,
        &format!("[destinations.bucket.retention]\nkeep_last = 1\n{more}"),
    );
    host.reconfigure(&moto.endpoint(), &gate.url);
    let first = host.backup();
    host.backup();
    (host, gate, first)
}

#[test]
fn prune_says_that_it_is_not_done_where_a_bucket_hangs_once_it_is_listed() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    let (host, gate, first) = behind_a_gate(etcd, &moto, "");
    let pruned = host.lifeboat(["--json", "prune"]).expect_code(3).json();
    assert!(gate.is_held());
    let errors = pruned["errors"].as_array().unwrap();
    let told = format!("destination bucket: remove {first}: ");
    assert!(
        errors.len() == 1
            && errors[0]
                .as_str()
                .is_some_and(|error| error.starts_with(&told) && error.contains("hangs")),
        "{pruned}"
    );
    for judged in ["keep", "remove"] {
        let mut rows = pruned[judged].as_array().unwrap().iter();
        assert!(
            !rows.any(|row| row["id"] == first.as_str() && row["destination"] == "bucket"),
            "neither is known of it: {pruned}"
        );
    }
    gate.open();
    let pruned = host.lifeboat(["--json", "prune"]).expect_code(0).json();
    assert_eq!(ids(&pruned["remove"]), [&first], "{pruned}");
}

#[test]
fn the_agents_retention_is_not_done_where_a_bucket_is_gone_once_it_is_listed() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(mut moto) = Moto::start() else { return };
    let tidy = "[schedules.tidy]\nkind = \"prune\"\nevery = \"2s\"\njitter = \"0s\"\ndestinations = [\"bucket\"]\n";
    let (host, gate, first) = behind_a_gate(etcd, &moto, tidy);
    let agent = host.start(["agent"]);
    gate.wait_until_held();
    moto.kill();
    gate.open();
    let told = format!("destination bucket: remove {first}: ");
    let report = host.path("state").join(CLUSTER).join("status.json");
    until("the slot to come to nothing", || {
        fs::read_to_string(&report).is_ok_and(|text| text.contains("destination bucket: "))
    });
    agent.signal("TERM");
    let said = agent.wait().expect_code(0).stderr;
    assert!(said.contains(&told) && !said.contains("removed by retention"), "{said}");
}

/// A pin goes over at once, and what is locked is waited for: that is no error, and nothing is opened again meanwhile.
#[test]
fn what_is_locked_and_was_made_anew_waits_for_its_day_beside_the_new_one() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    moto.make_locking_bucket(BUCKET);
    let host = host_with(etcd, &moto, "object_lock = \"30d\"\n");
    let old = host.backup();
    host.lifeboat(["pin", &old]).expect_code(0);
    let (file, own) = (
        host.path("new-key.txt").display().to_string(),
        host.identity().display().to_string(),
    );
    let made = host.lifeboat(["keygen", "--identity", &file]).expect_code(0);
    host.reconfigure(host.recipient(), made.stdout.trim());
    let rewrap = || {
        let done = host.lifeboat(["--json", "rewrap", "--identity", &own, "--identity", &file]);
        let done = done.expect_code(0).json();
        let row = done["rewrapped"][0].clone();
        let remark = row["remarks"][0].as_str().unwrap_or_default().to_owned();
        assert!(
            remark.contains("in destination bucket") && remark.contains("locked until"),
            "{done}"
        );
        assert_eq!(row["errors"], serde_json::json!([]), "{done}");
        (row["new"].as_str().unwrap().to_owned(), row["removed"].clone())
    };
    let (new, removed) = rewrap();
    assert_eq!(removed, serde_json::json!(["local"]));
    let has_pin = |id: &str| keys_of(&moto, id).iter().any(|key| key.ends_with("pin.json"));
    assert!(has_pin(&new) && !has_pin(&old), "{:?}", moto.keys(BUCKET));
    let before = moto.keys(BUCKET);
    assert_eq!(rewrap(), (new.clone(), serde_json::json!([])));
    // Of what is read and opened a result would be written.
    assert_eq!(moto.keys(BUCKET), before);
    host.lifeboat(["verify", &new, "--identity", &file]).expect_code(0);
}

#[test]
fn a_server_that_is_gone_or_hangs_costs_its_deadline_and_no_other_destination() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(mut moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let host = host_with(etcd, &moto, "");
    host.backup();
    let goes_on = |said: &str| {
        let begun = Instant::now();
        let taken = host
            .lifeboat(["backup"])
            .expect_code(3)
            .says(&["destination bucket does not have it: ", said]);
        assert!(begun.elapsed() < ONE_WAIT, "{:?}", begun.elapsed());
        let id = taken.stdout.trim();
        assert!(
            host.stored_files()
                .iter()
                .any(|file| file.to_string_lossy().contains(id))
        );
    };
    moto.freeze(true);
    // By the client, which tries a few times, or by whoever waits for it.
    goes_on(" s");
    moto.freeze(false);
    // What it was asked while it hung is done by now or given up: it goes on as before.
    host.backup();
    moto.kill();
    goes_on("Connection refused");
}

/// Two hosts, each with a member, and the agents of both.
#[test]
fn hosts_with_one_bucket_take_one_backup_a_slot() {
    let two = Options {
        members: 2,
        ..Options::default()
    };
    let Some(etcd) = Etcd::start(Version::V3_5, two) else {
        return;
    };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    etcd.client().put("/key", "value", 0).unwrap();
    // The second one looks at a slot 5 s after it came.
    let schedule =
        "[schedules.often]\nkind = \"full\"\nevery = \"10s\"\njitter = \"0s\"\ndestinations = [\"bucket\"]\n";
    let hosts = etcd.members.iter().map(|member| {
        let own = format!("{schedule}[host]\nmember = \"{}\"\n", member.name);
        host_with(&etcd, &moto, &own)
    });
    let hosts: Vec<Host> = hosts.collect();
    let agent = |index: usize| {
        let command = hosts[index].command(["agent"]);
        if !nix::unistd::geteuid().is_root() {
            return Running::start(command);
        }
        let mut named = Command::new("unshare");
        let rename = "echo \"$0\" >/proc/sys/kernel/hostname && exec \"$@\"";
        named.args(["--uts", "sh", "-c", rename, &format!("h{index}")]);
        named.arg(command.get_program()).args(command.get_args());
        named.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        Running::start(named)
    };
    let agents: Vec<Running> = (0..hosts.len()).map(agent).collect();
    let manifests = || -> Vec<String> {
        // The server has other things to do, too.
        thread::sleep(Duration::from_millis(300));
        let keys = moto.keys(BUCKET).into_iter();
        keys.filter(|key| key.contains("/full-")).collect()
    };
    until("backups of three slots", || manifests().len() >= 3);
    for agent in agents {
        agent.signal("TERM");
        agent.wait().expect_code(0);
    }
    let mut by_slot: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in manifests() {
        let manifest: Value = serde_json::from_str(&moto.object(BUCKET, &key)).unwrap();
        let slot = manifest["slot"].as_str().unwrap().to_owned();
        by_slot.entry(slot).or_default().push(key);
    }
    assert!(by_slot.values().all(|backups| backups.len() == 1), "{by_slot:?}");
    let claims = moto.keys(BUCKET).into_iter();
    assert!(claims.filter(|key| key.contains("/slots/often/")).count() >= by_slot.len());
}

#[test]
fn keys_do_not_belong_into_a_url() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let url = format!("s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@{BUCKET}/etcd");
    host.configure(etcd, &format!("[destinations.bucket]\nurl = \"{url}\"\n"));
    let refused = host.lifeboat(["check"]).expect_code(78);
    let said = "`destinations.bucket.url`: a user, key or password in a URL is not taken (not shown)";
    refused.says(&[
        said,
        "`credentials`, or `password` of an `sftp:` one, names where they are kept",
    ]);
    let refused = host.lifeboat(["list", "--from", &url]).expect_code(2);
    refused.says(&["a user, key or password in a URL is not taken", "AWS_ACCESS_KEY_ID"]);
}
