//! `verify`: what it proves, what it writes down, and what follows from that elsewhere.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, Output, files_below};
use super::support::running::until;
use super::support::shared;
use super::support::tools::Version;

const OBJECT: &str = "full.db.zst.age";

#[test]
fn a_backup_is_proven_as_far_as_its_keys_and_its_manifest_allow() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    assert_eq!(proof(&host, &id), "hash_kv", "it was proven as it passed");
    unproven(&host, &id);
    assert_eq!(proof(&host, &id), "stored");

    let by_default = host.lifeboat(["--json", "verify"]).expect_code(0).json();
    assert_eq!(
        by_default,
        json!({"schema": 1, "gone": [], "errors": [], "stopped_before": 0, "checked": [{
            "id": id, "ok": true, "proof": "stored", "faults": [], "note": null, "warnings": [],
            "not_opened": "no identity was given",
            "destinations": [{"name": "local", "ok": true, "proof": "stored", "faults": []}],
        }]})
    );
    assert_eq!(proof(&host, &id), "stored");
    let opened = verify(&host, &["latest"]).expect_code(0);
    assert_eq!(
        opened.stdout,
        format!("good  {id} in local: decrypted, contents equal etcd's hash\n")
    );
    assert_eq!(proof(&host, &id), "hash_kv");
    let shown = host.lifeboat(["show", &id]).expect_code(0).stdout;
    assert!(shown.contains("checked        local: 20"), "{shown}");

    // What was proven of the same bytes still holds, and one result is kept.
    host.lifeboat(["verify", &id]).expect_code(0);
    assert_eq!(proof(&host, &id), "hash_kv");
    let checks = checks(&host);
    assert_eq!(checks.len(), 1, "{checks:?}");
    let check: Value = serde_json::from_slice(&fs::read(&checks[0]).unwrap()).unwrap();
    assert_eq!((&check["ok"], &check["proof"]), (&json!(true), &json!("hash_kv")));
}

/// Takes out of the manifest what was proven while the backup was taken: earlier versions proved nothing.
fn unproven(host: &Host, id: &str) {
    let folder = object_of(host, id).parent().unwrap().to_owned();
    let mut files = files_below(&folder).into_iter();
    let manifest = files.find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("full-"))
    });
    let manifest = folder.join(manifest.expect("it has one"));
    let text = fs::read_to_string(&manifest).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("\"proof"));
    let older: String = lines.map(|line| format!("{line}\n")).collect();
    assert_ne!(older, text);
    host.write_signed(&manifest, &older);
}

#[test]
fn without_a_recorded_hash_the_content_is_what_can_be_proven() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.configure(etcd, "[backup]\nhash_kv = \"never\"\n");
    let id = host.backup();
    assert_eq!(proof(&host, &id), "content", "its structure was seen as it passed");
    let shown = host.lifeboat(["show", &id]).expect_code(0).stdout;
    assert!(shown.contains("switched off"), "{shown}");
    unproven(&host, &id);
    let checked = verify(&host, &[]).expect_code(0);
    assert!(
        checked
            .stdout
            .contains(&format!("good  {id} in local: decrypted, structure whole"))
    );
    assert!(checked.stdout.contains("no HashKV was recorded"), "{}", checked.stdout);
    assert_eq!(proof(&host, &id), "content");
}

#[test]
fn a_backup_that_was_changed_is_bad_from_then_on() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    // Taken within one second, the order of their ids is not that of their taking.
    let mut both = vec![host.backup(), host.backup()];
    let damaged = latest(&host);
    both.retain(|id| *id != damaged);
    let before = both.remove(0);
    let object = object_of(&host, &damaged);
    let sound = fs::read(&object).unwrap();
    flip(&object, sound.len() / 2);
    assert_eq!(latest(&host), damaged, "nobody has looked yet");

    let found = host.lifeboat(["--json", "verify", "--all"]).expect_code(5).json();
    let ok = |index: usize| (&found["checked"][index]["id"], &found["checked"][index]["ok"]);
    assert_eq!(ok(0), (&json!(before), &json!(true)));
    assert_eq!(ok(1), (&json!(damaged), &json!(false)));
    assert!(text(&found["checked"][1]["faults"][0]).contains("SHA-256"), "{found}");

    assert_eq!(latest(&host), before);
    let list = host
        .lifeboat(["list"])
        .expect_code(0)
        .says(&[&damaged, "has a bad copy"]);
    assert!(list.stdout.contains("BAD"), "{}", list.stdout);
    host.lifeboat(["status"]).expect_code(1);
    // It counts for nothing: retention keeps the good one, although it is older.
    host.reconfigure(
        "[destinations.local]\n",
        "[destinations.local]\nretention = { keep_last = 1 }\n",
    );
    let plan = host.lifeboat(["--json", "prune", "--dry-run"]).expect_code(0).json();
    assert_eq!(plan["keep"][0]["id"], json!(before));
    let why = |index: usize| plan["keep"][index]["reasons"].to_string();
    assert!(why(0).contains("newest good") && why(1).contains("bad ("), "{plan}");

    // Put right, and looked at again.
    fs::write(&object, sound).unwrap();
    verify(&host, &["--all"]).expect_code(0);
    assert_eq!(latest(&host), damaged);
    assert_eq!(proof(&host, &damaged), "hash_kv");
}

#[test]
fn a_missing_object_is_bad_and_a_missing_backup_is_nothing() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.lifeboat(["verify"]).expect_code(4);
    let nothing = host.lifeboat(["verify", "--all"]).expect_code(0);
    assert!(nothing.stdout.contains("no backup to verify"));
    let id = host.backup();
    fs::remove_file(object_of(&host, &id)).unwrap();
    let found = host.lifeboat(["verify", &id]).expect_code(5);
    assert!(found.stdout.contains("its object is missing"), "{}", found.stdout);
    host.lifeboat(["verify", "latest"]).expect_code(5);
}

#[test]
fn of_two_copies_the_bad_one_is_named() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let far = host.add_destination("far");
    let id = host.backup();
    let object = find(&far, &id);
    flip(&object, 1000);
    let only = host.lifeboat(["verify", &id, "--destination", "local"]).expect_code(0);
    let line = format!("good  {id} in local: file intact (not decrypted); proven before: contents equal etcd's hash\n");
    let rest = only
        .stdout
        .strip_prefix(&line)
        .unwrap_or_else(|| panic!("{}", only.stdout));
    // What a key alone shows was not looked at, and that is said.
    assert!(
        rest.starts_with("not looked at: ") && rest.contains("--identity FILE"),
        "{rest}"
    );
    let both = verify(&host, &[&id]).expect_code(5);
    assert!(!both.stdout.contains("not looked at"), "{}", both.stdout);
    assert!(
        both.stdout
            .contains(&format!("good  {id} in local: decrypted, contents equal etcd's hash"))
    );
    assert!(both.stdout.contains(&format!("BAD   {id} in far:")), "{}", both.stdout);
    assert_eq!(latest(&host), id, "one good copy is enough");

    // The bad one goes if the operator says so, and only that one.
    let way_out = format!("lifeboat prune --config {} --damaged {id}", host.config().display());
    let status = host.lifeboat(["status"]).expect_code(1).stdout;
    assert!(status.contains(&way_out) && both.stdout.contains(&way_out), "{status}");
    let elsewhere = ["verify", &id, "--from", &far.display().to_string()].map(str::to_owned);
    let elsewhere = host.lifeboat(elsewhere).expect_code(5);
    assert!(
        !elsewhere.stdout.contains("prune"),
        "it knows no such store: {}",
        elsewhere.stdout
    );
    let prune = |args: &[&str]| host.lifeboat([&["--json", "prune", "--damaged", &id], args].concat());
    host.lifeboat(["pin", &id]).expect_code(0);
    let refused = prune(&[]).expect_code(7);
    assert_eq!(
        refused.json()["keep"][0]["id"],
        id.as_str(),
        "one document: {}",
        refused.stdout
    );
    host.lifeboat(["unpin", &id]).expect_code(0);
    for args in [&["--dry-run"][..], &[]] {
        assert!(object.exists());
        let told = prune(args).expect_code(0).json();
        assert_eq!(told["remove"][0]["destination"], "far", "{told}");
        assert_eq!(told["keep"][0]["destination"], "local", "{told}");
    }
    assert!(!object.exists());
    host.lifeboat(["status"]).expect_code(0);
    prune(&[]).expect_code(7);
    prune(&["--damaged", "nothing"]).expect_code(4);
    verify(&host, &[&id]).expect_code(0);
}

#[test]
fn a_content_that_is_not_what_was_recorded_is_bad() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    let recorded = host.manifest(&id)["hash_kv"]["hash"].as_u64().unwrap();
    let manifest = files_below(&host.store())
        .into_iter()
        .map(|path| host.store().join(path))
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("full-"))
        })
        .unwrap();
    unproven(&host, &id);
    let text = fs::read_to_string(&manifest).unwrap();
    let other = text.replace(&format!("\"hash\":{recorded}"), &format!("\"hash\":{}", recorded ^ 1));
    host.write_signed(&manifest, &other);
    host.lifeboat(["verify", &id]).expect_code(0);
    let found = verify(&host, &[&id]).expect_code(5);
    assert!(found.stdout.contains("HashKV differs"), "{}", found.stdout);
    assert_eq!(proof(&host, &id), "none");
}

#[test]
fn an_object_that_takes_more_memory_than_any_of_ours_is_not_opened() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    let (identity, snapshot) = (host.identity(), host.path("snapshot.db"));
    let (identity, snapshot) = (identity.to_str().unwrap(), snapshot.to_str().unwrap());
    let export = |source: &str, file: &str| host.lifeboat(["export", source, file, "--identity", identity]);
    export(&id, snapshot).expect_code(0);
    let object = object_of(&host, &id);
    let recipient: age::x25519::Recipient = host.recipient().parse().unwrap();
    let recipient: &dyn age::Recipient = &recipient;
    let age = age::Encryptor::with_recipients([recipient].into_iter()).unwrap();
    let mut zstd = zstd::Encoder::new(age.wrap_output(Vec::new()).unwrap(), 1).unwrap();
    zstd.window_log(24).unwrap();
    zstd.write_all(&fs::read(snapshot).unwrap()).unwrap();
    let stored = zstd.finish().unwrap().finish().unwrap();
    fs::set_permissions(&object, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&object, &stored).unwrap();
    unproven(&host, &id);
    let mut manifest = host.manifest(&id);
    let before = manifest["stored"].to_string();
    let sha256: String = Sha256::digest(&stored)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    manifest["stored"] = json!({"bytes": stored.len(), "sha256": sha256});
    let folder = object.parent().unwrap();
    let mut files = files_below(folder).into_iter();
    let file = files.find(|file| file.extension() == Some(OsStr::new("json")));
    let file = folder.join(file.expect("the manifest is beside it"));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&before), "{text}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    host.write_signed(&file, &text.replace(&before, &manifest["stored"].to_string()));

    let says = ["8.00 MiB of any backup that lifeboat makes", "SOURCE FILE --long 31"];
    let found = verify(&host, &[&id]).expect_code(0);
    assert!(found.stdout.contains("file intact"), "{}", found.stdout);
    for says in says {
        let all = format!("{}{}", found.stdout, found.stderr);
        assert!(all.contains(says), "{all}");
    }
    assert_eq!(proof(&host, &id), "stored");
    host.lifeboat(["check", "--identity", identity])
        .expect_code(7)
        .says(&says);
    // Whoever asks for it by hand gets it.
    let again = host.path("again.db");
    export(&id, again.to_str().unwrap()).expect_code(0);
    assert!(fs::read(again).unwrap() == fs::read(snapshot).unwrap());
}

#[test]
fn another_identity_proves_only_what_is_stored() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    unproven(&host, &id);
    let other = host.path("other.txt");
    host.lifeboat([OsStr::new("keygen"), OsStr::new("--identity"), other.as_os_str()])
        .expect_code(0);
    let found = host
        .lifeboat([OsStr::new("verify"), OsStr::new("--identity"), other.as_os_str()])
        .expect_code(8)
        .says(&["none of the given identities opens it", host.recipient()]);
    assert_eq!(
        found.stdout,
        format!("good  {id} in local: file intact (not decrypted)\n")
    );
    assert_eq!(proof(&host, &id), "stored");
}

#[test]
fn a_check_that_cannot_be_read_is_reported_and_replaced() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    unproven(&host, &id);
    verify(&host, &[]).expect_code(0);
    let check = checks(&host).remove(0);
    // From a host whose clock is ahead.
    let ahead = check.with_file_name("29991231T235959Z-elsewhere.json");
    fs::remove_file(&check).unwrap();
    fs::write(&ahead, "rotten").unwrap();
    host.lifeboat(["list"])
        .expect_code(0)
        .says(&["29991231T235959Z-elsewhere.json", "damaged"]);
    assert_eq!((latest(&host), proof(&host, &id)), (id.clone(), "stored".to_owned()));
    verify(&host, &["--all"]).expect_code(0).says(&["damaged"]);
    let list = host.lifeboat(["list"]).expect_code(0);
    assert_eq!(list.stderr, "");
    assert_eq!(
        proof(&host, &id),
        "hash_kv",
        "the later one is found, whatever the clock said"
    );
    assert_eq!(checks(&host).len(), 1);
}

#[test]
fn a_backup_that_cannot_be_read_takes_nobodys_turn() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: an unreadable file is made by a mount");
        return;
    }
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let mut ids: Vec<String> = (0..3).map(|_| host.backup()).collect();
    ids.sort();
    // The first byte of a process's memory cannot be read: an input/output error, as of a bad sector.
    const UNREADABLE: &str = "mount --bind /proc/$$/mem \"$0\" && exec \"$@\"";
    let turn = || {
        let command = host.command(["--json", "verify", "--sample", "10%"]);
        let mut apart = Command::new("unshare");
        apart
            .args(["--mount", "sh", "-c", UNREADABLE])
            .arg(object_of(&host, &ids[0]));
        apart.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => apart.env(key, value),
                None => apart.env_remove(key),
            };
        }
        let output = apart.output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let document: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
        let checked = document["checked"].as_array().unwrap();
        let checked: Vec<String> = checked.iter().map(|one| text(&one["id"]).to_owned()).collect();
        (checked, document["errors"].to_string())
    };
    assert_eq!(turn().0, [latest(&host)]);
    let (checked, errors) = turn();
    assert!(
        errors.contains(&ids[0]) && errors.contains("was not checked"),
        "{errors}"
    );
    assert_eq!(checked, [ids[1].clone()]);
    assert_eq!(turn().0, [latest(&host)], "and so on");
}

#[test]
fn a_share_takes_turns() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let mut ids: Vec<String> = (0..3).map(|_| host.backup()).collect();
    ids.sort();
    let mut turns = Vec::new();
    for _ in 0..3 {
        let one = host
            .lifeboat(["--json", "verify", "--sample", "10%"])
            .expect_code(0)
            .json();
        assert_eq!(one["checked"].as_array().map(Vec::len), Some(1));
        turns.push(text(&one["checked"][0]["id"]).to_owned());
    }
    assert_eq!(turns[0], latest(&host), "what would be restored comes first");
    turns.sort();
    assert_eq!(turns, ids);
    host.lifeboat(["verify", "--sample", "0"])
        .expect_code(2)
        .says(&["above 0"]);
}

#[test]
fn a_verification_that_is_stopped_leaves_nothing_half_done() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    // It waits for its key while it is asked to stop.
    let pipe = host.path("key.pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = host.start([OsStr::new("verify"), OsStr::new("--identity"), pipe.as_os_str()]);
    let mut key = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    run.signal("TERM");
    until("the signal is taken", || !has_pending(run.pid()));
    key.write_all(&fs::read(host.identity()).unwrap()).unwrap();
    drop(key);
    run.wait().expect_code(1).says(&["stopped before 1 backup"]);
    assert_eq!(checks(&host), Vec::<PathBuf>::new());
    assert_eq!(proof(&host, &id), "hash_kv", "as it was when it was taken");
}

#[test]
fn a_store_that_is_only_named_is_verified_without_a_configuration() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    etcd.client().put("/a", "b", 0).expect("it runs");
    let host = Host::new(&etcd);
    let id = host.backup();
    let store = host.store();
    fs::remove_file(host.config()).unwrap();
    let args = [
        "verify",
        "--from",
        store.to_str().unwrap(),
        "--identity",
        host.identity().to_str().unwrap(),
    ]
    .map(str::to_owned);
    let found = host.lifeboat(args).expect_code(0);
    assert!(
        found.stdout.contains(&format!("good  {id} in")) && found.stdout.contains("contents equal etcd's hash"),
        "{}",
        found.stdout
    );
}

#[test]
fn the_agent_verifies_and_prunes_on_schedule_what_was_backed_up_by_hand() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.configure(
        etcd,
        "retention = { keep_last = 1 }\n\
        [schedules.check]\nkind = \"verify\"\nevery = \"2s\"\njitter = \"0s\"\n\
        [schedules.tidy]\nkind = \"prune\"\nevery = \"2s\"\njitter = \"0s\"\n",
    );
    let identity = host.identity();
    host.reconfigure(
        "[encryption]\n",
        &format!("[encryption]\nidentity = {{ file = {identity:?} }}\n"),
    );
    (0..3).for_each(|_| drop(host.backup()));
    let kept = latest(&host);
    let agent = host.start(["agent"]);
    until("the others to be removed and the newest to be proven", || {
        let list = host.lifeboat(["--json", "list"]).json();
        let backups = list["backups"].as_array().unwrap();
        backups.len() == 1 && backups[0]["proof"] == json!("hash_kv")
    });
    assert_eq!(latest(&host), kept);
    until("both schedules to be done", || {
        let status = host.lifeboat(["--json", "status"]).json();
        let schedules = status["schedules"].as_array().unwrap();
        schedules.len() == 2 && schedules.iter().all(|schedule| !schedule["last"].is_null())
    });
    host.lifeboat(["status"]).expect_code(0);

    flip(&object_of(&host, &kept), 1000);
    until("the damage to be found", || {
        host.lifeboat(["list"]).stdout.contains("BAD")
    });
    // What a run has found is told at its end.
    let last = || {
        let status = host.lifeboat(["--json", "status"]).json();
        let mut schedules = status["schedules"].as_array().unwrap().iter();
        let check = schedules.find(|schedule| schedule["name"] == json!("check"));
        check.unwrap()["last"].clone()
    };
    let seen = last();
    until("a run to end", || last() != seen);
    agent.signal("TERM");
    let said = agent.wait().expect_code(0).stderr;
    assert!(said.contains("is bad in local"), "{said}");
}

/// `verify` with the host's identity.
#[track_caller]
fn verify(host: &Host, args: &[&str]) -> Output {
    let identity = host.identity();
    let mut all = vec!["verify", "--identity", identity.to_str().unwrap()];
    all.extend(args);
    host.lifeboat(all)
}

fn latest(host: &Host) -> String {
    text(&host.lifeboat(["--json", "list"]).expect_code(0).json()["latest"]).to_owned()
}

fn proof(host: &Host, id: &str) -> String {
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    let backups = list["backups"].as_array().unwrap();
    let backup = backups.iter().find(|backup| backup["id"] == json!(id)).unwrap();
    text(&backup["proof"]).to_owned()
}

fn object_of(host: &Host, id: &str) -> PathBuf {
    find(&host.store(), id)
}

fn find(store: &Path, id: &str) -> PathBuf {
    let mut found = files_below(store).into_iter();
    let object = found.find(|path| path.ends_with(Path::new(id).join(OBJECT)));
    store.join(object.expect("the backup is there"))
}

fn checks(host: &Host) -> Vec<PathBuf> {
    let files = files_below(&host.store()).into_iter();
    let checks = files.filter(|path| path.parent().is_some_and(|folder| folder.ends_with("checks")));
    checks.map(|path| host.store().join(path)).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Whether a signal was sent to the process that no thread of it has taken yet.
fn has_pending(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
    u64::from_str_radix(pending.trim(), 16).unwrap() != 0
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn a_share_again_and_again_comes_to_all_and_what_is_odd_in_a_store_is_named() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let ids: Vec<String> = (0..4).map(|_| host.backup()).collect();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let checked = host
            .lifeboat(["--json", "verify", "--sample", "25%"])
            .expect_code(0)
            .json();
        let checked = checked["checked"].as_array().unwrap();
        assert_eq!(checked.len(), 1);
        seen.insert(checked[0]["id"].as_str().unwrap().to_owned());
        // Results are kept by the second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert_eq!(seen.len(), 4, "each run takes another: {seen:?}");

    let folder = |id: &str| {
        let file = host
            .stored_files()
            .into_iter()
            .find(|file| file.to_string_lossy().contains(id));
        let path = host.store().join(file.unwrap());
        path.ancestors().find(|path| path.ends_with(id)).unwrap().to_owned()
    };
    let manifest_of = |id: &str| {
        let mut entries = fs::read_dir(folder(id)).unwrap().map(|entry| entry.unwrap().path());
        entries
            .find(|path| path.extension().is_some_and(|end| end == "json"))
            .unwrap()
    };
    host.lifeboat(["pin", &ids[2]]).expect_code(0);
    fs::remove_file(folder(&ids[0]).join("full.db.zst.age")).unwrap();
    fs::remove_file(manifest_of(&ids[1])).unwrap();
    let pinned = folder(&ids[2]);
    fs::remove_file(pinned.join("full.db.zst.age")).unwrap();
    for entry in fs::read_dir(&pinned).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_string_lossy().starts_with("full-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    fs::write(host.store().join(CLUSTER).join("notes.txt"), "of somebody else").unwrap();
    let verified = host
        .lifeboat(["--json", "verify", "--sample", "1"])
        .expect_code(5)
        .json();
    let odd: Vec<(&str, &str)> = verified["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|odd| (odd["oddity"].as_str().unwrap(), odd["path"].as_str().unwrap()))
        .collect();
    let has = |oddity: &str, part: &str| odd.iter().any(|(kind, path)| *kind == oddity && path.contains(part));
    assert!(has("missing", &format!("{}/full.db.zst.age", ids[0])), "{odd:?}");
    assert!(has("unfinished", &format!("{}/full.db.zst.age", ids[1])), "{odd:?}");
    assert!(has("orphaned", &format!("{}/pin.json", ids[2])), "{odd:?}");
    assert!(has("strange", "notes.txt"), "{odd:?}");
}
