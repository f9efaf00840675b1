//! Stores that are empty, gone, strange, full, or held by another run.

use super::*;

#[test]
fn an_empty_store() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    for args in [vec!["list"], vec!["list", "--all"]] {
        let list = host.lifeboat(args).expect_code(0);
        assert!(list.stdout.contains("no backups"), "{}", list.stdout);
    }
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(list["backups"], serde_json::json!([]));
    let target = Etcd::plan(Version::V3_6, Options::default()).expect("it was there before");
    let nothing = ["there is no backup", "next: "];
    host.lifeboat(host.rebuild_args("latest", &target, 0))
        .expect_code(4)
        .says(&nothing);
    host.lifeboat(["show", "latest"]).expect_code(4).says(&nothing);
    host.lifeboat(["show", "20261120T"])
        .expect_code(4)
        .says(&["20261120T", "lifeboat list"]);
    host.lifeboat(["accept-lineage"]).expect_code(4).says(&nothing);
    let identity = host.identity();
    host.lifeboat(["check", "--identity", text(&identity)])
        .expect_code(4)
        .says(&nothing);
    assert_eq!(tree(&host.store()), [""; 0], "who only looks makes nothing");
    assert_eq!(tree(target.directory()), [""; 0]);
}

#[test]
fn a_store_that_is_gone_is_not_made_again() {
    let Some(stored) = Stored::new() else { return };
    let (host, store) = (&stored.host, stored.host.store());
    let aside = host.path("aside");
    let refused = |what: &str, says: &[&str]| {
        // That a run was begun and may have left something is remembered until the destination can be swept; and the word for the
        // agent has the time.
        let there = || {
            let mut all = tree(&host.path(""));
            all.retain(|name| !name.starts_with("state/test/chains/") && !name.starts_with("state/test/news.json"));
            all
        };
        let before = there();
        let says = [&["local", text(&store)], says].concat();
        let refused = host.lifeboat(["backup"]).expect_code(1).says(&says).says(&["next: "]);
        assert!(
            !refused.stderr.contains("warning: destination local"),
            "{}",
            refused.stderr
        );
        host.lifeboat(["list"]).expect_code(1).says(&says);
        let checked = host.lifeboat(["check", "--online"]).expect_code(1).says(&says);
        let is_unknown = !checked.stderr.contains("there is no backup yet");
        assert!(is_unknown, "{what}: {}", checked.stderr);
        host.lifeboat(host.rebuild_args("latest", &stored.target, 0))
            .expect_code(if what == "marker" { 0 } else { 1 })
            .says(&says);
        assert_eq!(there(), before, "{what}: something was made");
    };
    let marker = store.join(CLUSTER).join("store.json");
    let kept = fs::read(&marker).expect("it is there");

    move_dir(&store, &aside);
    let record = host.path("state/test/stores/local.json");
    assert!(record.is_file(), "{}", record.display());
    refused(
        "the root is gone",
        &["mount it", &format!("remove `{}`", record.display())],
    );
    fs::create_dir(&store).expect("the host's directory can be written");
    refused("an empty mount point", &["mount it"]);
    fs::create_dir(store.join(CLUSTER)).expect("the host's directory can be written");
    refused("an empty folder", &["mount it"]);
    // Another store in its place: that of another host.
    let other = Host::new(shared::unchanging().expect("it was there before"));
    other.backup();
    fs::remove_dir_all(&store).expect("it is there");
    copy_tree(&other.store(), &store);
    refused("another store", &["mount the right one"]);
    fs::remove_dir_all(&store).expect("it is there");
    move_dir(&aside, &store);
    fs::remove_file(&marker).expect("it is there");
    refused("no marker", &["store.json", "put that file back"]);
    fs::write(&marker, "nothing").expect("it can be written");
    refused("a damaged marker", &["store.json", "put the file back"]);
    fs::write(&marker, kept).expect("it can be written");
    host.lifeboat(["backup"]).expect_code(0);
}

#[test]
fn strangers_are_told_why_they_are_refused() {
    let options = Options {
        security: Security::Tls,
        ..Options::default()
    };
    let Some(mut etcd) = Etcd::start(Version::V3_6, options) else {
        return;
    };
    etcd.client().enable_auth(PASSWORD).expect("it runs");
    etcd.credentials.user = Some(("root".to_owned(), PASSWORD.to_owned()));
    let host = Host::new(&etcd);
    host.backup();
    let (good, before) = (
        fs::read_to_string(host.config()).expect("it was written"),
        objects(&host),
    );
    let url = etcd.members[0].client_url.clone();
    let tls = etcd.credentials.tls.clone().expect("it speaks TLS");
    let strange = Tls::generate(&etcd.directory().join("strange"));
    let password = host.path("password");
    let refused = |from: &str, to: &str, says: &[&str]| {
        host.reconfigure(from, to);
        host.lifeboat(["backup"])
            .expect_code(1)
            .says(&[says, &["next: "]].concat());
        host.lifeboat(["check", "--online"])
            .expect_code(1)
            .says(&says[..says.len() - 1]);
        fs::write(host.config(), &good).expect("it can be written");
    };
    refused(text(&tls.ca), text(&strange.ca), &[&url, "certificate", "cluster.tls"]);
    let client = format!(
        ", cert = {{ file = {:?} }}, key = {{ file = {:?} }}",
        tls.client_cert, tls.client_key
    );
    refused(&client, "", &[&url, "ertificate", "cluster.tls"]);
    let plain = url.replace("https", "http");
    refused(&url, &plain, &[&plain, "https", "cluster.tls"]);
    let login = format!("auth = {{ user = \"root\", password = {{ file = {password:?} }} }}\n");
    refused(&login, "", &[&url, "refuses", "role root"]);
    fs::write(&password, "wrong and secret").expect("it can be written");
    let output = host
        .lifeboat(["-v", "backup"])
        .expect_code(1)
        .says(&[&url, "authentication failed", "cluster.auth"]);
    assert!(!output.stderr.contains("wrong and secret"), "{}", output.stderr);
    fs::write(&password, PASSWORD).expect("it can be written");
    let mut after = objects(&host);
    after.retain(|name| !name.contains("/canary/"));
    assert_eq!(after, before, "nothing was written");
}

#[test]
fn one_backup_at_a_time() {
    let Some(etcd) = shared::unchanging() else { return };
    let (host, gate) = held(etcd);
    let first = host.start(["backup"]);
    gate.wait_until_held();
    let process = format!("process {}", first.worker());
    host.lifeboat(["backup"])
        .expect_code(6)
        .says(&["another run", "`backup`", &process, "--wait"]);
    host.lifeboat(["backup", "--wait", "200ms"])
        .expect_code(6)
        .says(&[&process]);
    // Reading waits for nobody.
    host.lifeboat(["list"]).expect_code(0);
    let second = host.start(["backup", "--wait", "5m"]);
    until("the second one waits for the lock", || second.has_open("jobs.lock"));
    gate.open();
    let ids = [first, second].map(|running| running.wait().expect_code(0).stdout.trim().to_owned());
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    let listed = list["backups"].as_array().expect("it is a list");
    // Begun in the same second, they may be listed in either order.
    assert!(listed.len() == 2 && listed.iter().all(|backup| ids.iter().any(|id| backup["id"] == **id)));
}

#[test]
fn destinations_that_are_full_or_read_only() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let store = host.store();
    // Well below what is estimated for the 8 MiB and more that the server holds, however its file has grown.
    let Some(small) = Tmpfs::mount(&store, 2) else { return };
    // The size is known from the first message, before anything is written.
    host.lifeboat(["backup"])
        .expect_code(1)
        .says(&["local", "needs about", "free some"]);
    untouched(&host);
    drop(small);

    fs::remove_dir_all(host.path("state")).expect("it is there");
    let Some(disk) = Tmpfs::mount(&store, 96) else { return };
    let url = &etcd.members[0].client_url;
    let gate = Gate::before(url, MIDDLE);
    host.reconfigure(url, &gate.url);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    let filler = disk.fill();
    gate.open();
    running
        .wait()
        .expect_code(1)
        .says(&["local", "full.db.zst.age", "no space is left", "free some"]);
    fs::remove_file(filler).expect("it was written");
    untouched(&host);

    host.backup();
    disk.make_read_only();
    let before = tree(&store);
    host.lifeboat(["backup"])
        .expect_code(1)
        .says(&["local", text(&store), "read-only", "mount it writable"]);
    host.lifeboat(["check", "--online"])
        .expect_code(1)
        .says(&["local", "read-only"]);
    assert_eq!(tree(&store), before);
    // What is there can be read all the same.
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(list["backups"].as_array().map(Vec::len), Some(1));
    let target = Etcd::plan(Version::V3_6, Options::default()).expect("it was there before");
    host.lifeboat(host.rebuild_args("latest", &target, 0)).expect_code(0);
}

#[test]
fn of_two_destinations_one_may_fail() {
    let Some(etcd) = shared::unchanging() else { return };
    let (host, gate) = held(etcd);
    gate.open();
    let far = host.add_destination("far");
    fs::remove_dir(&far).expect("it is empty");
    let partly = host
        .lifeboat(["--json", "backup"])
        .expect_code(3)
        .says(&["far", text(&far), "mkdir -p"]);
    let done = partly.json();
    let id = done["id"].as_str().expect("it has an id");
    let by_name = |name: &str| {
        let all = done["destinations"].as_array().expect("it is a list");
        all.iter()
            .find(|destination| destination["name"] == name)
            .expect("it is there")
            .clone()
    };
    assert_eq!(
        by_name("local"),
        serde_json::json!({"name": "local", "ok": true, "error": null})
    );
    assert_eq!(by_name("far")["ok"], false);
    assert!(
        by_name("far")["error"]
            .as_str()
            .is_some_and(|error| error.contains(text(&far)))
    );
    assert!(!far.exists(), "a destination's folder is made by the operator");
    let list = host
        .lifeboat(["--json", "list", "--destination", "local"])
        .expect_code(0)
        .json();
    assert_eq!(list["backups"][0]["id"], id);
    assert_eq!(list["backups"][0]["destinations"], serde_json::json!(["local"]));
    host.lifeboat(["backup", "--to", "far"])
        .expect_code(1)
        .says(&["far", "mkdir -p"]);
    let only = host.lifeboat(["backup", "--to", "local"]).expect_code(0);
    host.lifeboat(["show", only.stdout.trim()]).expect_code(0);
    host.lifeboat(["backup", "--to", "nowhere"])
        .expect_code(2)
        .says(&["nowhere", "far, local"]);
    let nightly = "[schedules.nightly]\nkind = \"full\"\nwhen = \"daily\"\ndestinations = [\"local\"]\n";
    host.reconfigure("[cluster]", &format!("{nightly}[cluster]"));
    let of_schedule = host.lifeboat(["backup", "--schedule", "nightly"]).expect_code(0);
    let shown = host.lifeboat(["--json", "show", of_schedule.stdout.trim()]).json();
    assert_eq!(shown["backup"]["destinations"], serde_json::json!(["local"]));
    assert_eq!(shown["manifest"]["schedule"], "nightly");
    host.lifeboat(["backup", "--schedule", "weekly"])
        .expect_code(2)
        .says(&["weekly", "nightly"]);

    // One that fails in the middle takes nothing from the other.
    fs::create_dir(&far).expect("the host's directory can be written");
    let Some(disk) = Tmpfs::mount(&far, 96) else { return };
    gate.hold_after(MIDDLE);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    let filler = disk.fill();
    gate.open();
    let partly = running.wait().expect_code(3).says(&["far", "no space is left"]);
    fs::remove_file(filler).expect("it was written");
    let shown = host
        .lifeboat(["--json", "show", partly.stdout.trim()])
        .expect_code(0)
        .json();
    assert_eq!(shown["backup"]["destinations"], serde_json::json!(["local"]));
    assert_eq!(tree(&far).len(), 2, "only the store's marker: {:?}", tree(&far));
}

#[test]
fn a_small_disk_that_is_large_enough_and_one_that_has_no_room_for_a_check() {
    let Some(etcd) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    etcd.client().put("/key", "value", 0).unwrap();
    let host = Host::new(&etcd);
    let Some(disk) = Tmpfs::mount(&host.store(), 8) else {
        return;
    };
    let id = host.backup();
    let filler = disk.fill();
    let listed = || {
        let listed = host.lifeboat(["--json", "list"]).expect_code(0).json();
        listed["backups"][0]["proof"].clone()
    };
    let before = listed();
    // It was looked at and is good; that this cannot be written down changes nothing of it.
    let verified = host.lifeboat(["--json", "verify", "latest"]).expect_code(3);
    assert_eq!(verified.json()["checked"][0]["ok"], true);
    assert_eq!(listed(), before);
    host.lifeboat(["show", &id]).expect_code(0);
    fs::remove_file(filler).unwrap();
    host.lifeboat(["verify", "latest"]).expect_code(0);
}

#[test]
fn disks_that_are_too_small_for_a_rebuild() {
    let Some(stored) = Stored::new() else { return };
    let (host, target) = (&stored.host, &stored.target);
    let data_dir = &target.members[0].data_dir;
    fs::create_dir(data_dir).expect("the test's directory can be written");
    let Some(_disk) = Tmpfs::mount(data_dir, 62) else {
        return;
    };
    let args = host.rebuild_args("latest", target, 0);
    host.lifeboat(&args)
        .expect_code(1)
        .says(&[text(data_dir), "free", "needed", "make room"]);
    assert_eq!(tree(data_dir), [""; 0]);
    // Of a pipe the length is not known beforehand, but the database in it says how long it is.
    let object = fs::File::open(stored.object()).expect("it is there");
    let mut command = host.command(host.rebuild_args("-", target, 0));
    let running = crate::support::running::Running::start({
        command.stdin(object);
        command
    });
    running
        .wait()
        .expect_code(1)
        .says(&[text(data_dir), "free", "needed", "make room"]);
    assert_eq!(tree(data_dir), [""; 0]);
}
