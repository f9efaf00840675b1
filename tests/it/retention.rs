//! `prune`, `pin` and `unpin` on a real store.

use serde_json::Value;

use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::tools::Version;

fn ids(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().unwrap().iter();
    sorted(rows.map(|row| row["id"].as_str().unwrap().to_owned()).collect())
}

/// Those of one second are in no order.
fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

fn listed(host: &Host) -> Vec<String> {
    ids(&host.lifeboat(["--json", "list"]).expect_code(0).json()["backups"])
}

#[test]
fn prune_removes_what_retention_names_and_a_pin_keeps() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(&etcd, "[destinations.local.retention]\nkeep_last = 1\n");
    let client = etcd.client();
    let taken: Vec<String> = (0..3)
        .map(|round| {
            client.put("/key", format!("{round}"), 0).unwrap();
            host.backup()
        })
        .collect();
    let pinned = host
        .lifeboat(["--json", "pin", &taken[0], "--note", "keep me"])
        .expect_code(0);
    assert_eq!(pinned.json()["pinned"], true);

    let planned = host.lifeboat(["--json", "prune", "--dry-run"]).expect_code(0).json();
    assert_eq!(
        (ids(&planned["remove"]), &planned["dry_run"]),
        (vec![taken[1].clone()], &Value::Bool(true))
    );
    assert_eq!(listed(&host), sorted(taken.clone()));

    let done = host.lifeboat(["--json", "prune"]).expect_code(0).json();
    assert_eq!(ids(&done["remove"]), [taken[1].clone()]);
    let reasons = done["keep"].to_string();
    assert!(reasons.contains("keep me"), "{reasons}");
    assert_eq!(listed(&host), sorted(vec![taken[0].clone(), taken[2].clone()]));
    let left = host.stored_files();
    assert!(
        !left.iter().any(|file| file.to_string_lossy().contains(&taken[1])),
        "{left:?}"
    );

    assert_eq!(
        ids(&host.lifeboat(["--json", "prune"]).expect_code(0).json()["remove"]),
        Vec::<String>::new()
    );
    host.lifeboat(["pin", "latest"]).expect_code(0);
    host.lifeboat(["unpin", "latest"]).expect_code(0);
    host.lifeboat(["unpin", &taken[0]]).expect_code(0);
    host.lifeboat(["prune"]).expect_code(0);
    assert_eq!(listed(&host), [taken[2].clone()]);
    host.lifeboat(["pin", "nothing"]).expect_code(4);
}

#[test]
fn without_retention_everything_stays_and_check_says_so() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    let taken = [host.backup(), host.backup()];
    let done = host.lifeboat(["--json", "prune"]).expect_code(0).json();
    assert_eq!(
        (ids(&done["keep"]), ids(&done["remove"])),
        (sorted(taken.to_vec()), Vec::new())
    );
    host.lifeboat(["check"])
        .expect_code(0)
        .says(&["destination local has no retention"]);
}

#[test]
fn a_backup_whose_manifest_is_damaged_can_be_given_up() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    etcd.client().put("/key", "value", 0).unwrap();
    let (damaged, good) = (host.backup(), host.backup());
    let is_manifest = |file: &std::path::PathBuf| {
        let file = file.display().to_string();
        file.contains(&damaged) && file.contains("/full-")
    };
    let manifest = host.stored_files().into_iter().find(is_manifest).unwrap();
    std::fs::write(host.store().join(&manifest), b"rotten").unwrap();
    host.lifeboat(["show", &damaged]).expect_code(5);
    // As messages name it: below the folder of the cluster.
    let object: std::path::PathBuf = manifest.components().skip(1).collect();
    let planned = host.lifeboat(["--json", "prune", "--dry-run", "--damaged", object.to_str().unwrap()]);
    let planned = planned.expect_code(0).json();
    assert_eq!(ids(&planned["remove"]), vec![damaged.clone()]);
    host.lifeboat(["prune", "--damaged", &damaged]).expect_code(0);
    assert_eq!(listed(&host), [good]);
    host.lifeboat(["verify", "--all"]).expect_code(0);
    let left = host.stored_files();
    assert!(
        !left.iter().any(|file| file.display().to_string().contains(&damaged)),
        "{left:?}"
    );
}

#[test]
fn what_would_shorten_the_window_of_points_is_refused() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    let host = Host::new(&etcd);
    host.configure(
        &etcd,
        "[destinations.local.retention]\nkeep_last = 1\npitr_window = \"7d\"\nmax_bytes = \"1KiB\"\n",
    );
    let client = etcd.client();
    let taken: Vec<String> = (0..2)
        .map(|round| {
            client.put("/key", format!("{round}"), 0).unwrap();
            host.backup()
        })
        .collect();
    for args in [&["--json", "prune", "--dry-run"][..], &["--json", "prune"]] {
        let done = host.lifeboat(args).expect_code(7);
        let done = done
            .says(&["`max_bytes` asks for less than `pitr_window` keeps", "next: "])
            .json();
        assert_eq!(done["refused"].as_array().map(Vec::len), Some(1), "{done}");
        assert_eq!(done["remove"], serde_json::json!([]), "{done}");
    }
    assert_eq!(listed(&host), sorted(taken));
    // Where no window is to be kept, the older one goes.
    host.reconfigure("pitr_window = \"7d\"\n", "");
    let done = host.lifeboat(["--json", "prune"]).expect_code(0).json();
    assert_eq!(done["refused"], serde_json::json!([]), "{done}");
    assert_eq!(done["remove"].as_array().map(Vec::len), Some(1), "{done}");
}
