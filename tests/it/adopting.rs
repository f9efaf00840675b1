//! A store that has lost its `store.json` is adopted again by the operator's word, and by nothing else.

use std::fs;
use std::os::unix::fs::symlink;

use super::support::host::{CLUSTER, Host, files_below};
use super::support::shared;

#[test]
fn a_store_without_its_marker_is_adopted_by_word_and_goes_on() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let id = host.backup();
    let marker = host.store().join(CLUSTER).join("store.json");
    let store_id = || {
        let text = fs::read(&marker).expect("there is a marker");
        serde_json::from_slice::<serde_json::Value>(&text).expect("it is one")["store_id"].clone()
    };
    let before = store_id();
    fs::remove_file(&marker).unwrap();
    // Named by whatever uses it; nothing makes one by itself.
    let way = "lifeboat check";
    for args in [&["backup"][..], &["check", "--online"], &["status"]] {
        let said = host.lifeboat(args).expect_code(1);
        let said = format!("{}{}", said.stdout, said.stderr);
        assert!(
            said.contains("holds backups but no store.json") && said.contains(way) && said.contains("--adopt-store"),
            "{said}"
        );
    }
    assert!(!marker.exists());
    let adopted = host.lifeboat(["check", "--adopt-store", "local"]).expect_code(0);
    let says = format!("adopted as store {}, with 1 backup", before.as_str().unwrap());
    assert!(adopted.stdout.contains(&says), "{}", adopted.stdout);
    // Known by the same id as before: other hosts that share it go on too.
    assert_eq!(store_id(), before);
    host.lifeboat(["check", "--adopt-store", "local"]).expect_code(0);
    host.lifeboat(["check", "--online"]).expect_code(0);
    let second = host.backup();
    let listed = host.lifeboat(["list"]).expect_code(0).stdout;
    assert!(listed.contains(&id) && listed.contains(&second), "{listed}");

    // A host that remembers nothing gives it a new id, and remembers that.
    fs::remove_file(&marker).unwrap();
    let record = host.path("state").join(CLUSTER).join("stores/local.json");
    fs::remove_file(&record).unwrap();
    host.lifeboat(["backup"]).expect_code(1);
    host.lifeboat(["check", "--adopt-store", "local"]).expect_code(0);
    assert_ne!(store_id(), before);
    let known: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    assert_eq!(known["store_id"], store_id());
    host.backup();
    // Killed between the two: the marker is there, and not yet remembered.
    fs::remove_file(&record).unwrap();
    host.lifeboat(["check", "--adopt-store", "local"]).expect_code(0);
    assert!(record.exists());
}

#[test]
fn what_is_not_the_right_store_or_cannot_be_read_is_not_adopted() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    host.backup();
    let marker = host.store().join(CLUSTER).join("store.json");
    let text = fs::read_to_string(&marker).unwrap();
    host.lifeboat(["check", "--adopt-store", "nowhere"]).expect_code(2);
    // Another store is there.
    let known: serde_json::Value = serde_json::from_str(&text).unwrap();
    let other = "0123456789abcdef".repeat(2);
    fs::write(&marker, text.replace(known["store_id"].as_str().unwrap(), &other)).unwrap();
    host.lifeboat(["check", "--adopt-store", "local"])
        .expect_code(7)
        .says(&[&other]);
    // One that is torn.
    fs::write(&marker, "{").unwrap();
    host.lifeboat(["check", "--adopt-store", "local"]).expect_code(7);
    assert_eq!(fs::read_to_string(&marker).unwrap(), "{");
    fs::remove_file(&marker).unwrap();
    // A manifest that is no plain file.
    let manifest = files_below(&host.store())
        .into_iter()
        .find(|file| file.display().to_string().contains("/full-"));
    let manifest = host.store().join(manifest.expect("there is a backup"));
    let away = host.path("away");
    fs::rename(&manifest, &away).unwrap();
    symlink(&away, &manifest).unwrap();
    host.lifeboat(["check", "--adopt-store", "local"]).expect_code(7);
    assert!(!marker.exists());
    // Nothing that is a backup.
    fs::remove_file(&manifest).unwrap();
    host.lifeboat(["check", "--adopt-store", "local"])
        .expect_code(7)
        .says(&["there is no backup in it"]);
    fs::rename(&away, &manifest).unwrap();
    host.lifeboat(["check", "--adopt-store", "local"]).expect_code(0);
}
