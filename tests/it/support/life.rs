//! The life of backups in a destination away from this host, which is the same wherever that is.

use std::ffi::OsStr;
use std::fs;

use serde_json::{Value, json};

use super::client::Client;
use super::etcd::{Etcd, Options};
use super::host::{CLUSTER, Host};
use super::tools::Version;

/// The destination, beside `local`.
pub struct Away<'a> {
    /// Its name; its retention keeps one backup.
    pub name: &'a str,
    /// Where it is, for a host that has lost its configuration.
    pub url: &'a str,
    /// What such a host has in its environment.
    pub environment: &'a [(&'a str, &'a OsStr)],
    /// The names of all that belongs to a backup there.
    pub of_backup: &'a dyn Fn(&str) -> Vec<String>,
}

/// Backups are taken, copied both ways, listed, proven, pinned, removed, and restored from it by a host that has nothing else.
pub fn lead(host: &Host, client: &Client, away: &Away<'_>) {
    let Away { name, url, .. } = *away;
    client.put("/key", "first", 0).unwrap();
    host.lifeboat(["check", "--online"])
        .expect_code(0)
        .says(&["there is no backup yet"]);
    // There and back.
    let first = backup_to(host, "local");
    let copied = host.lifeboat(["--json", "copy", "--from", "local", "--to", name]);
    assert_eq!(copied.expect_code(0).json()["copied"], json!([first]));
    client.put("/key", "second", 0).unwrap();
    let second = backup_to(host, name);
    let copied = host.lifeboat(["--json", "copy", "--from", name, "--to", "local"]);
    assert_eq!(copied.expect_code(0).json()["copied"], json!([second]));
    let listed = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(ids(&listed["backups"]), [&first, &second]);
    for backup in listed["backups"].as_array().unwrap() {
        assert_eq!(backup["destinations"], json!([name, "local"]), "{backup}");
    }
    let shown = host.lifeboat(["show", &second]).expect_code(0).stdout;
    assert!(shown.contains(&format!("{name}: {url}/{CLUSTER}/")), "{shown}");

    // Proven with a key, as in a directory.
    let identity = host.identity();
    let identity = identity.to_str().unwrap();
    let all = [
        "--json",
        "verify",
        "--all",
        "--destination",
        name,
        "--identity",
        identity,
    ];
    let checked = host.lifeboat(all).expect_code(0).json();
    let checked = checked["checked"].as_array().unwrap();
    assert_eq!(checked.len(), 2);
    assert!(checked.iter().all(|one| one["proof"] == "hash_kv"), "{checked:?}");

    // What is pinned stays, the rest goes by the retention of this destination alone.
    host.lifeboat(["pin", &first]).expect_code(0);
    client.put("/key", "third", 0).unwrap();
    let third = host.backup();
    let pruned = host.lifeboat(["--json", "prune"]).expect_code(0).json();
    assert_eq!(ids(&pruned["remove"]), [&second], "{pruned}");
    assert_eq!((away.of_backup)(&second), [""; 0]);
    let there = host.lifeboat(["--json", "list", "--destination", name]);
    assert_eq!(ids(&there.expect_code(0).json()["backups"]), [&first, &third]);
    host.lifeboat(["unpin", &first]).expect_code(0);
    host.lifeboat(["prune"]).expect_code(0);
    assert_eq!((away.of_backup)(&first), [""; 0]);

    let status = host.lifeboat(["--json", "status"]).expect_code(0).json();
    let mut destinations = status["destinations"].as_array().unwrap().iter();
    let own = destinations.find(|one| one["name"] == name).unwrap();
    assert_eq!(own["backups"], 1, "{status}");
    host.lifeboat(["check", "--online", "--identity", identity])
        .expect_code(0);

    // The same bytes from either, and a member laid out by a host that has lost its configuration.
    let plain = |from: &str, out: &str| {
        let path = host.path(out);
        let path = path.to_str().unwrap();
        let args = ["export", "latest", path, "--from", from, "--identity", identity];
        host.without_configuration(away.environment, args).expect_code(0);
        fs::read(path).unwrap()
    };
    let from_away = plain(url, "away.db");
    assert!(!from_away.is_empty());
    assert_eq!(plain(&format!("{url}/{CLUSTER}"), "again.db"), from_away);
    assert_eq!(plain(&host.store().display().to_string(), "local.db"), from_away);
    let mut target = Etcd::plan(Version::V3_6, Options::default()).unwrap();
    let mut args = host.rebuild_args("latest", &target, 0);
    args.extend(["--from".to_owned(), url.to_owned()]);
    host.without_configuration(away.environment, &args).expect_code(0);
    target.boot();
    assert_eq!(target.client().get("/key").unwrap().unwrap(), b"third");
}

/// Takes a backup to one destination, and gives its id.
#[track_caller]
pub fn backup_to(host: &Host, destination: &str) -> String {
    let done = host.lifeboat(["backup", "--to", destination]).expect_code(0);
    done.stdout.trim().to_owned()
}

/// The ids in rows of a command's JSON.
#[track_caller]
pub fn ids(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["id"].as_str().unwrap()).collect()
}
