//! `status` without an agent: what can be restored, what was proven, who answers.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::host::{Host, files_below};
use super::support::shared;

#[test]
fn it_tells_what_can_be_restored_what_was_proven_and_how_the_members_are() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let none = host.lifeboat(["status"]).expect_code(1);
    assert!(
        none.stdout
            .starts_with("WRONG: there is no backup: take one with `lifeboat backup"),
        "{}",
        none.stdout
    );

    let (first, second) = (host.backup(), host.backup());
    let identity = host.identity();
    host.lifeboat(["verify", &first, "--identity", identity.to_str().unwrap()])
        .expect_code(0);
    host.configure(etcd, "[destinations.old]\nurl = \"file:///nowhere\"\nenabled = false\n");
    let status = host.lifeboat(["--json", "status"]).expect_code(0).json();
    assert_eq!((&status["ok"], &status["problems"]), (&json!(true), &json!([])));
    assert!(status["notes"][0].as_str().unwrap().contains("no schedule"), "{status}");
    let manifest = host.manifest(&second);
    let window = &status["windows"][0];
    assert_eq!((&window["points"], &window["accepted"]), (&json!(2), &json!(true)));
    assert_eq!(window["to_revision"], manifest["to_revision"]);
    assert_eq!(window["lineage"], manifest["lineage"]);
    // It was proven as it was taken. Within one second ids are in no order.
    let newest = std::cmp::max(&first, &second);
    let proof = &status["last_proof"];
    assert_eq!((&proof["id"], &proof["proof"]), (&json!(newest), &json!("hash_kv")));
    let member = &status["members"][0];
    assert_eq!((&member["role"], &member["errors"]), (&json!("leader"), &json!([])));
    assert_eq!(member["id"], manifest["member"]["id"]);
    assert!(member["database_bytes"].as_u64().unwrap() > 0, "{member}");
    let [local, old] = [0, 1].map(|index| &status["destinations"][index]);
    assert_eq!((&local["backups"], &local["newest"]["id"]), (&json!(2), &json!(second)));
    assert!(local["free_bytes"].as_u64().unwrap() > 0, "{local}");
    assert_eq!((&old["name"], &old["enabled"]), (&json!("old"), &json!(false)));

    let text = host.lifeboat(["status"]).expect_code(0).stdout;
    assert!(text.starts_with("ok: the latest backup is "), "{text}");
    for part in ["restorable", "2 backups", newest, "hash_kv", "leader", "switched off"] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn a_member_that_never_answers_is_named_and_not_waited_for() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.backup();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    host.configure(
        etcd,
        &format!("[members.silent]\nclient_urls = [\"{url}\"]\npeer_urls = [\"{url}\"]\n"),
    );
    let asked = Instant::now();
    let status = host.lifeboat(["--json", "status"]).expect_code(1).json();
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!(status["problems"][0]["message"], "member silent: no answer within 2 s");
    assert_eq!(status["problems"].as_array().map(Vec::len), Some(1));
    assert_eq!(status["members"].as_array().map(Vec::len), Some(2));
}

#[test]
fn who_may_not_read_the_secrets_still_learns_of_the_backups() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    host.reconfigure(
        "name = \"test\"\n",
        "name = \"test\"\nauth = { user = \"root\", password = { file = \"/nowhere/password\" } }\n",
    );
    let status = host.lifeboat(["--json", "status"]).expect_code(0).json();
    assert_eq!((&status["latest"]["id"], &status["members"]), (&json!(id), &json!([])));
    let notes = status["notes"].to_string();
    assert!(
        notes.contains("not asked") && notes.contains("/nowhere/password"),
        "{notes}"
    );
}

#[test]
fn backups_that_go_without_the_proof_that_is_required_are_wrong() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.configure(etcd, "[backup]\nrequire = \"content\"\n");
    let id = host.backup();
    host.lifeboat(["status"]).expect_code(0);
    // It was taken long ago.
    let manifest = files_below(&host.store()).into_iter().find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("full-"))
    });
    let manifest = host.store().join(manifest.unwrap());
    let text = fs::read_to_string(&manifest).unwrap();
    let taken = host.manifest(&id)["first_byte_at"].as_str().unwrap().to_owned();
    // By a version that proved nothing while it was taken.
    let text = text.replace("\"proof\":\"hash_kv\",\n", "");
    host.write_signed(&manifest, &text.replace(&taken, "2020-01-01T00:00:00Z"));

    let status = host.lifeboat(["--json", "status"]).expect_code(1).json();
    let problem = status["problems"][0]["message"].as_str().unwrap();
    for part in [
        "destination local",
        "2020-01-01T00:00:00Z",
        "content",
        "lifeboat verify",
    ] {
        assert!(problem.contains(part), "{problem}");
    }
    host.lifeboat(["verify"]).expect_code(0);
    host.lifeboat(["status"]).expect_code(1);
    host.lifeboat(["verify", "--identity", host.identity().to_str().unwrap()])
        .expect_code(0);
    let status = host.lifeboat(["--json", "status"]).expect_code(0).json();
    assert_eq!(status["problems"], Value::Array(Vec::new()));
}
