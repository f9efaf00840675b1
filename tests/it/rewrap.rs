//! Backups that are made anew for other recipients: nothing is lost, nothing is there twice for good.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde_json::Value;

use super::support::etcd::Etcd;
use super::support::host::{CLUSTER, Host, Output, copy_tree, files_below};
use super::support::killing::{Killing, stride};
use super::support::moto::{Moto, SECRET};
use super::support::shared;
use super::support::tmpfs::Tmpfs;
use super::support::wire::{Held, Wire};

const BUCKET: &str = "backups";

/// Of two backups of one second and revision, that which is made anew is the newer.
fn in_the_next_second() {
    std::thread::sleep(std::time::Duration::from_millis(1100));
}

/// A second key of a host, which takes the place of the first one in its configuration.
struct NewKey {
    file: String,
    recipient: String,
}

impl NewKey {
    fn of(host: &Host) -> NewKey {
        let file = host.path("new-key.txt").display().to_string();
        let made = host.lifeboat(["keygen", "--identity", &file]).expect_code(0);
        let recipient = made.stdout.trim().to_owned();
        host.reconfigure(&format!("\"{}\"", host.recipient()), &format!("\"{recipient}\""));
        NewKey { file, recipient }
    }
}

fn backups(host: &Host, more: &[&str]) -> Vec<Value> {
    let listed = host
        .lifeboat([&["--json", "list"], more].concat())
        .expect_code(0)
        .json();
    listed["backups"].as_array().unwrap().clone()
}

fn texts(values: &Value) -> Vec<&str> {
    let values = values.as_array().unwrap().iter();
    values.map(|value| value.as_str().unwrap()).collect()
}

fn exported(host: &Host, id: &str, key: &str) -> Vec<u8> {
    let file = host.path("exported.db");
    fs::remove_file(&file).ok();
    host.lifeboat(["export", id, file.to_str().unwrap(), "--identity", key])
        .expect_code(0);
    fs::read(file).unwrap()
}

#[test]
fn backups_are_made_anew_in_every_destination_and_the_old_ones_go() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let host = Host::new(etcd);
    let keys = format!("aws_access_key_id = anybody\naws_secret_access_key = {SECRET}\n");
    fs::write(host.path("s3-keys"), keys).unwrap();
    let bucket = format!(
        "[destinations.bucket]\nurl = \"s3://{BUCKET}/etcd\"\nendpoint = \"{}\"\ncredentials = {{ file = {:?} }}\n",
        moto.endpoint(),
        host.path("s3-keys")
    );
    host.configure(etcd, &bucket);
    let old_key = host.identity().display().to_string();
    let first = host.backup();
    let second = host.backup();
    host.lifeboat(["pin", &first]).expect_code(0);
    host.lifeboat(["verify", "--all", "--identity", &old_key])
        .expect_code(0);
    let before = backups(&host, &[]);
    let plain = exported(&host, &first, &old_key);

    let new = NewKey::of(&host);
    let rewrap = |more: &[&str]| host.lifeboat([&["--json", "rewrap", "--identity", &old_key], more].concat());
    // Nothing would prove the new ones.
    rewrap(&[]).expect_code(7).says(&["--identity OLD --identity NEW"]);
    host.lifeboat(["rewrap"]).expect_code(8);
    let both = ["--identity", &new.file];
    // It only looks: not even the lock is taken.
    let lock = fs::File::open(host.path("state").join(CLUSTER).join("jobs.lock")).unwrap();
    lock.lock().unwrap();
    rewrap(&both).expect_code(6);
    let planned = rewrap(&[&both[..], &["--dry-run"]].concat()).expect_code(0).json();
    drop(lock);
    let planned = planned["rewrapped"].as_array().unwrap();
    assert_eq!(planned.len(), 2);
    assert!(
        planned
            .iter()
            .all(|row| row["new"].is_null() && texts(&row["removed"]).is_empty())
    );
    assert_eq!(backups(&host, &[]), before);

    let done = rewrap(&both).expect_code(0).json();
    let after = backups(&host, &[]);
    assert_eq!(after.len(), 2, "{after:?}");
    for (index, old) in [&first, &second].into_iter().enumerate() {
        let row = done["rewrapped"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["old"] == **old);
        let row = row.unwrap_or_else(|| panic!("no {old} in {done}"));
        let id = row["new"].as_str().unwrap();
        for places in ["destinations", "removed"] {
            assert_eq!(texts(&row[places]), ["bucket", "local"], "{row}");
        }
        let is_it = |of: &&Value, id: &str| of["id"] == *id;
        let was = before.iter().find(|backup| is_it(backup, old)).unwrap();
        let is = after.iter().find(|backup| is_it(backup, id)).unwrap();
        for kept in [
            "lineage",
            "from_revision",
            "to_revision",
            "time",
            "bytes",
            "pinned",
            "proof",
            "destinations",
        ] {
            assert_eq!(is[kept], was[kept], "{kept} of {is}");
        }
        assert_eq!(is["proof"], "hash_kv");
        assert_eq!(is["pinned"], index == 0);
        let manifest = host.manifest(id);
        assert_eq!(manifest["recipients"], serde_json::json!([new.recipient]));
        assert_eq!(manifest["origin"], "rewrap");
        assert_eq!(
            manifest["rewrapped"],
            serde_json::json!({"original": old, "generation": 1})
        );
        host.lifeboat(["export", id, "-", "--identity", &old_key])
            .expect_code(8);
    }
    let new_first = done["rewrapped"][0]["new"].as_str().unwrap();
    assert_eq!(exported(&host, new_first, &new.file), plain);
    for id in [&first, &second] {
        let left = moto.keys(BUCKET).into_iter().filter(|key| key.contains(id.as_str()));
        assert_eq!(left.count(), 0);
        host.lifeboat(["show", id]).expect_code(4);
    }
    assert_eq!(moto.open_uploads(BUCKET), [""; 0]);
    // There is nothing left to do.
    let again = rewrap(&both).expect_code(0).json();
    assert_eq!(again["up_to_date"], 2, "{again}");
    assert_eq!(again["rewrapped"].as_array().map(Vec::len), Some(0), "{again}");
    // And back, of what was made anew already.
    host.reconfigure(&new.recipient, host.recipient());
    let back = rewrap(&[&both[..], &[new_first]].concat()).expect_code(0).json();
    let made = back["rewrapped"][0]["new"].as_str().unwrap();
    assert_eq!(
        host.manifest(made)["rewrapped"],
        serde_json::json!({"original": first, "generation": 2})
    );
}

/// Runs it until it is done, killed just before each of its steps in turn; each time from what it was before, and afterwards
/// to the end. Gives the number of steps.
fn killed_at_every_step(etcd: &Etcd, prepare: impl Fn(&Host), check: impl Fn(&Host, &NewKey)) -> usize {
    let host = Host::new(etcd);
    host.add_destination("far");
    host.backup();
    prepare(&host);
    let new = NewKey::of(&host);
    let Some(killing) = Killing::new(&host.path("killing")) else {
        return 0;
    };
    let folders = ["state", "store", "far"];
    for folder in folders {
        copy_tree(&host.path(folder), &host.path("before").join(folder));
    }
    let old_key = host.identity().display().to_string();
    let args = ["rewrap", "--identity", &old_key, "--identity", &new.file];
    for step in (1..).step_by(stride()) {
        for folder in folders {
            fs::remove_dir_all(host.path(folder)).unwrap();
            copy_tree(&host.path("before").join(folder), &host.path(folder));
        }
        let mut command = host.command(args);
        killing.at(&mut command, step);
        let ended = command.output().unwrap();
        if ended.status.success() {
            return step;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = Output::new(
            ended.status.code().unwrap_or(137),
            text(&ended.stdout),
            text(&ended.stderr),
        );
        // Whatever is left of it: nothing is lost, and it is one point in time.
        let looked = |args: &[&str], code: i32| {
            let output = host.lifeboat(args);
            assert_eq!(
                output.code, code,
                "step {step}: {args:?}: {}\n{}",
                output.stderr, said.stderr
            );
            output
        };
        looked(
            &["verify", "latest", "--identity", &old_key, "--identity", &new.file],
            0,
        );
        looked(&args, 0);
        let left = backups(&host, &[]);
        assert_eq!(left.len(), 1, "step {step}: {left:?}\n{}", said.stderr);
        assert_eq!(
            left[0]["destinations"],
            serde_json::json!(["far", "local"]),
            "step {step}"
        );
        check(&host, &new);
        let unfinished = host.lifeboat(["--json", "list", "--all"]).expect_code(0).json();
        for left in ["incomplete", "foreign", "damaged"] {
            assert_eq!(unfinished[left], serde_json::json!([]), "step {step}");
        }
    }
    unreachable!("it ends some time")
}

#[test]
fn killed_at_any_step_it_goes_on_and_neither_loses_nor_doubles_a_backup() {
    let Some(etcd) = shared::unchanging() else { return };
    let pin = |host: &Host| {
        let id = backups(host, &[])[0]["id"].as_str().unwrap().to_owned();
        host.lifeboat(["pin", &id]).expect_code(0);
    };
    let steps = killed_at_every_step(etcd, pin, |host, new| {
        let left = &backups(host, &[])[0];
        assert_eq!(left["pinned"], true);
        let manifest = host.manifest(left["id"].as_str().unwrap());
        assert_eq!(manifest["recipients"], serde_json::json!([new.recipient]));
    });
    assert!(steps == 0 || steps > 20, "only {steps} steps were seen");
}

/// While one host makes a pinned backup anew, another one applies a retention that keeps pinned ones alone, at each step.
#[test]
fn what_is_pinned_is_kept_whenever_another_host_applies_retention_while_it_is_made_anew() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.add_destination("far");
    let pinned = host.backup();
    host.lifeboat(["pin", &pinned]).expect_code(0);
    in_the_next_second();
    let last = host.backup();
    let text = fs::read_to_string(host.config()).unwrap();
    let policy = "retention = { keep_last = 1 }\n[destinations.far]";
    let text = text.replace("[destinations.far]", policy) + "retention = { keep_last = 1 }\n";
    fs::write(host.config(), text).unwrap();
    let new = NewKey::of(&host);
    let Some(killing) = Killing::new(&host.path("killing")) else {
        return;
    };
    let folders = ["state", "store", "far"];
    for folder in folders {
        copy_tree(&host.path(folder), &host.path("before").join(folder));
    }
    let old_key = host.identity().display().to_string();
    let args = ["rewrap", &pinned, "--identity", &old_key, "--identity", &new.file];
    let mut steps = 0;
    for step in (1..).step_by(stride()) {
        for folder in folders {
            fs::remove_dir_all(host.path(folder)).unwrap();
            copy_tree(&host.path("before").join(folder), &host.path(folder));
        }
        let other = host.path(&format!("state-of-another-{step}"));
        fs::create_dir(&other).unwrap();
        let prune = || {
            let mut command = host.command(["prune", "--yes"]);
            let pruned = command.env("STATE_DIRECTORY", &other).output().unwrap();
            let said = String::from_utf8_lossy(&pruned.stderr);
            assert!(pruned.status.success(), "step {step}: {said}");
        };
        let (has_paused, ended) = killing.pausing_at(&mut host.command(args), step, prune);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        for folder in ["store", "far"] {
            let mut pinned = whole_and_pinned(&host.path(folder));
            pinned.remove(&last);
            assert_eq!(pinned.len(), 1, "step {step}, {folder}: {pinned:?}\n{said}");
        }
        // It is pinned from the moment at which it leads, so that nothing was taken away.
        assert!(ended.status.success(), "step {step}: {said}");
        if !has_paused {
            break;
        }
        steps = step;
    }
    assert!(steps > 20, "only {steps} steps were seen");
}

#[test]
fn a_backup_that_deltas_follow_stays_beside_the_new_one() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let old = host.backup();
    let from = host.manifest(&old)["to_revision"].as_i64().unwrap() + 1;
    let files = host.stored_files();
    let full = files.iter().find(|file| file.ends_with("full.db.zst.age")).unwrap();
    let delta = host
        .store()
        .join(full)
        .with_file_name(format!("{from:020}-{from:020}.00000001.delta"));
    fs::write(&delta, "whatever is in it").unwrap();
    let new = NewKey::of(&host);
    let old_key = host.identity().display().to_string();
    let rewrap = ["rewrap", "--identity", &old_key, "--identity", &new.file];
    for _ in 0..2 {
        let done = host.lifeboat(rewrap);
        let text = format!("{}{}", done.stdout, done.stderr);
        assert!(text.contains("deltas follow it"), "{text}");
        assert!(delta.is_file());
        let ids = backups(&host, &[]);
        assert!(ids.iter().any(|backup| backup["id"] == *old), "{ids:?}");
    }
}

#[test]
fn a_pair_is_one_point_in_time_for_retention_and_copies_nothing_back() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let far = host.add_destination("far");
    let old = host.backup();
    in_the_next_second();
    let other = host.backup();
    let new = NewKey::of(&host);
    let old_key = host.identity().display().to_string();
    // The other destination keeps the old one of the pair, as after a kill.
    let rewrap = [
        "rewrap",
        &old,
        "--destination",
        "local",
        "--identity",
        &old_key,
        "--identity",
        &new.file,
    ];
    host.lifeboat(rewrap).expect_code(0);
    let made = backups(&host, &["--destination", "local"]);
    let made: Vec<&str> = made.iter().map(|backup| backup["id"].as_str().unwrap()).collect();
    let made = made.into_iter().find(|id| *id != other).unwrap();
    let copied = host.lifeboat(["--json", "copy", "--from", "far", "--to", "local"]);
    assert_eq!(copied.expect_code(0).json()["copied"], serde_json::json!([]));
    host.lifeboat(["copy", "--from", "local", "--to", "far"]).expect_code(0);
    assert_eq!(backups(&host, &["--destination", "far"]).len(), 3);
    let text = fs::read_to_string(host.config()).unwrap();
    let keep = |count: u32| {
        let policy = format!("{text}retention = {{ keep_last = {count} }}\n");
        fs::write(host.config(), policy).unwrap();
        let judged = host.lifeboat(["--json", "prune", "--dry-run"]).expect_code(0).json();
        let mut removed: Vec<String> = judged["remove"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect();
        removed.sort();
        removed
    };
    assert_eq!(keep(2), [""; 0]);
    let mut pair = [old.clone(), made.to_owned()];
    pair.sort();
    assert_eq!(keep(1), pair);
    fs::write(host.config(), text).unwrap();
    // The next run makes one of the two.
    host.lifeboat(["rewrap", "--identity", &old_key, "--identity", &new.file])
        .expect_code(0);
    for store in [&host.store(), &far] {
        assert!(!contains(store, &old), "{} has it still", store.display());
    }
    assert_eq!(backups(&host, &[]).len(), 2);
}

/// The other destination keeps the old one with its pin, and nothing is left there of what does not come.
#[test]
fn a_pinned_backup_that_finds_no_room_elsewhere_leaves_no_pin_there() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let far = host.add_destination("far");
    let Some(tmpfs) = Tmpfs::mount(&far, 64) else { return };
    let old = host.backup();
    host.lifeboat(["pin", &old]).expect_code(0);
    let before = files_below(&far);
    let filler = tmpfs.fill();
    // A small document would find room.
    let bytes = fs::metadata(&filler).unwrap().len() - (1 << 20);
    let file = fs::File::options().write(true).open(&filler);
    file.unwrap().set_len(bytes).unwrap();
    let new = NewKey::of(&host);
    let old_key = host.identity().display().to_string();
    let rewrap = || host.lifeboat(["--json", "rewrap", "--identity", &old_key, "--identity", &new.file]);
    for _ in 0..2 {
        let done = rewrap().expect_code(3);
        done.says(&["destination far keeps the old one, it did not get the new one: needs "]);
        let left: Vec<PathBuf> = files_below(&far)
            .into_iter()
            .filter(|file| !filler.ends_with(file))
            .collect();
        assert_eq!(left, before);
    }
    fs::remove_file(&filler).unwrap();
    rewrap().expect_code(0);
    let there = backups(&host, &["--destination", "far"]);
    assert!(there.len() == 1 && there[0]["pinned"] == true, "{there:?}");
    assert!(!contains(&far, &old));
}

/// What of a backup stays the same whoever it is encrypted to.
const OF_THE_SNAPSHOT: [&str; 6] = [
    "plain",
    "first_byte_at",
    "from_revision",
    "to_revision",
    "hash",
    "lineage",
];

/// Of each snapshot in a destination: the chain that was taken of etcd, and the one that leads there. `manifests` has those that
/// were read before: they never change.
fn led(host: &Host, destination: &str, manifests: &mut BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let listed = backups(host, &["--destination", destination]);
    let all: BTreeSet<String> = listed
        .iter()
        .map(|backup| backup["id"].as_str().unwrap().to_owned())
        .collect();
    let mut found = BTreeMap::new();
    for backup in listed {
        let id = backup["id"].as_str().unwrap().to_owned();
        let manifest = manifests.entry(id.clone()).or_insert_with(|| host.manifest(&id));
        let original = manifest["rewrapped"]["original"].as_str().unwrap_or(&id).to_owned();
        let has_old = all.contains(&original);
        let facts = serde_json::json!({"backup": backup, "manifest": manifest, "has_old": has_old});
        // Both of a pair are listed: the newer one leads.
        let is_new = !manifest["rewrapped"].is_null();
        if is_new || !found.contains_key(&original) {
            found.insert(original, facts);
        }
    }
    found
}

/// At requests all over a run that change something, each before the server sees it or when it has done it: two buckets, in one of which the backups
/// are made anew and to the other one of which they are copied, and a directory.
#[test]
fn killed_at_any_request_to_a_bucket_it_goes_on_and_neither_loses_nor_doubles_a_backup() {
    const OTHER: &str = "mirror";
    let Some(etcd) = shared::unchanging() else { return };
    let moments = 24 / stride();
    let Some(moto) = Moto::start() else { return };
    let wire = Wire::to(&moto.endpoint());
    let host = Host::new(etcd);
    let keys = format!("aws_access_key_id = anybody\naws_secret_access_key = {SECRET}\n");
    fs::write(host.path("s3-keys"), keys).unwrap();
    let mut tables = String::new();
    for bucket in [BUCKET, OTHER] {
        moto.make_bucket(bucket);
        moto.make_bucket(&format!("{bucket}-before"));
        tables += &format!(
            "[destinations.{bucket}]\nurl = \"s3://{bucket}/etcd\"\nendpoint = \"{}\"\n\
             credentials = {{ file = {:?} }}\n",
            wire.endpoint(),
            host.path("s3-keys")
        );
    }
    host.configure(etcd, &tables);
    let destinations = [BUCKET, "local", OTHER];
    let old: Vec<String> = (0..2).map(|_| host.backup()).collect();
    host.lifeboat(["pin", &old[0]]).expect_code(0);
    let new = NewKey::of(&host);
    let mut manifests = BTreeMap::new();
    let before = led(&host, BUCKET, &mut manifests);
    assert_eq!(before.len(), old.len());
    for bucket in [BUCKET, OTHER] {
        moto.make_equal(&format!("{bucket}-before"), bucket);
    }
    for folder in ["state", "store"] {
        copy_tree(&host.path(folder), &host.path("before").join(folder));
    }
    let set_back = || {
        for bucket in [BUCKET, OTHER] {
            moto.make_equal(bucket, &format!("{bucket}-before"));
        }
        for folder in ["state", "store"] {
            fs::remove_dir_all(host.path(folder)).unwrap();
            copy_tree(&host.path("before").join(folder), &host.path(folder));
        }
    };
    let old_key = host.identity().display().to_string();
    let both = ["--identity", &old_key, "--identity", &new.file];
    let rewrap = [&["--json", "rewrap"], &both[..]].concat();
    wire.hold(usize::MAX, Held::Unseen);
    host.lifeboat(&rewrap).expect_code(0);
    let requests = wire.seen();
    let is_change = |request: &str| {
        ["PUT", "POST", "DELETE"]
            .iter()
            .any(|method| request.starts_with(method))
    };
    let numbered = (1..).zip(&requests).filter(|(_, request)| is_change(request));
    let changes: Vec<usize> = numbered.map(|(number, _)| number).collect();
    assert!(changes.len() > moments, "{requests:#?}");
    let (mut killed, mut half_done) = (BTreeSet::new(), 0);
    for moment in 0..moments {
        set_back();
        let number = changes[moment * changes.len() / moments];
        let held = if moment % 2 == 0 { Held::Unseen } else { Held::Done };
        wire.hold(number, held);
        let running = host.start(&rewrap);
        let is_held = wire.is_held_before(|| running.has_ended());
        running.signal("KILL");
        let said = running.wait();
        let at = wire.seen().get(number - 1).cloned().unwrap_or_default();
        let when = format!("{held:?} of request {number}, {at}\n{}", said.stderr);
        wire.let_pass();
        if is_held {
            killed.insert(at);
        }
        // Whatever is left of it: every backup is everywhere, what is pinned is, and no old one is gone before its time.
        for destination in destinations {
            let there = led(&host, destination, &mut manifests);
            assert_eq!(
                there.keys().collect::<Vec<_>>(),
                old.iter().collect::<Vec<_>>(),
                "{destination}: {when}"
            );
            for (original, facts) in &there {
                let has_old = facts["has_old"] == true;
                half_done += usize::from(!has_old);
                let proof = &facts["backup"]["proof"];
                assert!(has_old || proof == "hash_kv", "{destination}: {facts}: {when}");
                assert_eq!(
                    facts["backup"]["pinned"], before[original]["backup"]["pinned"],
                    "{facts}: {when}"
                );
            }
        }
        // All that is listed holds what it should; the run after it reads all of it too.
        if moment % 4 == 3 {
            let verified = host.lifeboat([&["verify", "--all"], &both[..]].concat());
            assert_eq!(verified.code, 0, "{}\n{when}", verified.stderr);
        }

        let again = host.lifeboat(&rewrap);
        assert_eq!(again.code, 0, "{}\n{when}", again.stderr);
        let after = backups(&host, &[]);
        assert_eq!(after.len(), old.len(), "{after:?}\n{when}");
        let mut ids = BTreeSet::new();
        for (original, facts) in led(&host, BUCKET, &mut manifests) {
            let (manifest, was) = (&facts["manifest"], &before[&original]);
            assert_eq!(
                manifest["rewrapped"],
                serde_json::json!({"original": original, "generation": 1})
            );
            assert_eq!(manifest["recipients"], serde_json::json!([new.recipient]));
            for kept in OF_THE_SNAPSHOT {
                assert_eq!(manifest[kept], was["manifest"][kept], "{kept} of {facts}: {when}");
            }
            let id = facts["backup"]["id"].as_str().unwrap();
            ids.insert(id.to_owned());
            let is = after.iter().find(|backup| backup["id"] == id).unwrap();
            assert_eq!(is["destinations"], serde_json::json!(destinations), "{when}");
            for kept in ["time", "bytes", "pinned"] {
                assert_eq!(is[kept], was["backup"][kept], "{kept} of {is}: {when}");
            }
            host.lifeboat(["export", id, "-", "--identity", &old_key])
                .expect_code(8);
        }
        assert_eq!(ids.len(), old.len(), "{when}");
        host.lifeboat(["verify", "--all", "--identity", &new.file])
            .expect_code(0);
        // What the killed run had begun goes when no listing can be behind any more.
        wire.ahead(SignedDuration::from_mins(11));
        let last = host.lifeboat(&rewrap);
        assert_eq!(last.code, 0, "{}\n{when}", last.stderr);
        assert_eq!(last.json()["up_to_date"], old.len(), "{}\n{when}", last.stdout);
        wire.ahead(SignedDuration::ZERO);
        let unfinished = host.lifeboat(["--json", "list", "--all"]).expect_code(0).json();
        for left in ["incomplete", "foreign", "damaged"] {
            assert_eq!(unfinished[left], serde_json::json!([]), "{when}");
        }
        for bucket in [BUCKET, OTHER] {
            assert_eq!(moto.open_uploads(bucket), [""; 0], "{bucket}: {when}");
            let is_of = |key: &str| old.iter().any(|id| key.contains(id.as_str()));
            let left: Vec<String> = moto.keys(bucket).into_iter().filter(|key| is_of(key)).collect();
            assert_eq!(left, [""; 0], "{bucket}: {when}");
        }
    }
    assert!(
        killed.len() * 4 > moments * 3 && half_done > 0,
        "{half_done} {killed:#?}"
    );
}

/// The backups in a store that are there with object, manifest and pin.
fn whole_and_pinned(store: &Path) -> BTreeSet<String> {
    let mut parts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in files_below(store) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let part = match name.as_str() {
            "full.db.zst.age" => "object",
            "pin.json" => "pin",
            name if name.starts_with("full-") => "manifest",
            _ => continue,
        };
        let chain = file.parent().and_then(Path::file_name).unwrap();
        parts
            .entry(chain.to_string_lossy().into_owned())
            .or_default()
            .insert(part);
    }
    parts.retain(|_, parts| parts.len() == 3);
    parts.into_keys().collect()
}

fn contains(folder: &Path, name: &str) -> bool {
    let files = files_below(folder);
    files.iter().any(|file| file.to_string_lossy().contains(name))
}
