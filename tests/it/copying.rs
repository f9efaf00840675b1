//! Copies between destinations: by hand, and by the agent for one that was away.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::support::etcd::{Etcd, Options};
use super::support::host::{CLUSTER, Host, files_below};
use super::support::running::until;
use super::support::shared;
use super::support::tools::Version;

/// The backups of a destination by their manifests, and each manifest's bytes.
fn manifests(store: &Path) -> BTreeSet<(String, Vec<u8>)> {
    let files = files_below(store).into_iter();
    let files = files.filter(|file| file.display().to_string().contains("/full-"));
    files
        .map(|file| (file.display().to_string(), fs::read(store.join(&file)).unwrap()))
        .collect()
}

#[test]
fn what_a_destination_lacks_is_copied_as_it_is_and_once() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let first = host.backup();
    let far = host.add_destination("far");
    let second = host
        .lifeboat(["backup", "--to", "local"])
        .expect_code(0)
        .stdout
        .trim()
        .to_owned();
    let one = host
        .lifeboat(["--json", "copy", "--from", "local", "--to", "far", &first])
        .expect_code(0);
    assert_eq!(one.json()["copied"], serde_json::json!([first]));
    // Cut off after its object: the next copy goes on.
    let object = files_below(&host.store()).into_iter().find(|file| {
        let file = file.display().to_string();
        file.contains(&second) && file.ends_with(".age")
    });
    let object = object.unwrap();
    fs::create_dir_all(far.join(&object).parent().unwrap()).unwrap();
    fs::copy(host.store().join(&object), far.join(&object)).unwrap();
    let rest = host
        .lifeboat(["--json", "copy", "--from", "local", "--to", "far"])
        .expect_code(0);
    assert_eq!(rest.json()["copied"], serde_json::json!([second]));
    assert_eq!(manifests(&host.store()), manifests(&far));
    let again = host
        .lifeboat(["--json", "copy", "--from", "local", "--to", "far", &first])
        .expect_code(0);
    assert_eq!(again.json()["had"], serde_json::json!([first]));
    host.lifeboat(["verify", "--all", "--destination", "far"])
        .expect_code(0);
    host.lifeboat(["copy", "--from", "far", "--to", "nowhere"])
        .expect_code(2);
    // One whose bytes are not those of the backup is refused.
    fs::remove_dir_all(far.join(CLUSTER).join(object.components().nth(1).unwrap())).unwrap();
    fs::write(host.store().join(&object), b"rotten").unwrap();
    let bad = host.lifeboat(["copy", "--from", "local", "--to", "far", &second]);
    assert_ne!(bad.code, 0, "{}{}", bad.stdout, bad.stderr);
    assert!(!manifests(&far).iter().any(|(name, _)| name.contains(&second)));
}

#[test]
fn a_destination_that_was_away_is_caught_up_by_the_agent_and_nothing_is_doubled() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let schedule = "[schedules.often]\nkind = \"full\"\nevery = \"3s\"\njitter = \"0s\"\n";
    host.configure(&etcd, schedule);
    let far = host.add_destination("far");
    let client = etcd.client();
    client.put("/key", "1", 0).unwrap();
    let agent = host.start(["agent"]);
    let count = |store: &Path| manifests(store).len();
    until("a backup in both", || count(&far) >= 1 && count(&host.store()) >= 1);
    fs::rename(&far, host.path("unplugged")).unwrap();
    let before = count(&host.store());
    until("backups that the other one misses", || {
        count(&host.store()) >= before + 3
    });
    fs::rename(host.path("unplugged"), &far).unwrap();
    until("the other one to be caught up", || {
        let (near, other) = (manifests(&host.store()), manifests(&far));
        other.len() > before + 3 && near.difference(&other).count() <= 1
    });
    agent.signal("TERM");
    agent.wait().expect_code(0);
    // One backup for each slot, the same in both.
    let slots = |store: &Path| -> Vec<String> {
        let documents = manifests(store).into_iter();
        let mut slots: Vec<String> = documents
            .map(|(_, bytes)| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["slot"].to_string())
            .collect();
        slots.sort();
        slots
    };
    for store in [host.store(), far] {
        let slots = slots(&store);
        let distinct: BTreeSet<_> = slots.iter().collect();
        assert_eq!(distinct.len(), slots.len(), "{slots:?}");
    }
}
