//! What goes wrong: the exit code, a message that names the thing and the next step, and nothing half-written.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::support::etcd::{Etcd, Options, PASSWORD, Security};
use super::support::gate::Gate;
use super::support::host::{CLUSTER, Host, Output, copy_tree, tree};
use super::support::running::until;
use super::support::shared;
use super::support::tls::Tls;
use super::support::tmpfs::Tmpfs;
use super::support::tools::Version;

/// Where a stream is held to be in its middle. It is more than HTTP/2's window, which is 4 MiB: as much comes only when
/// what came first has been taken, so that the backup is known to be past its beginning.
const MIDDLE: u64 = 7 << 20;

/// A backup in a store, and the place for a directory that must not come to be.
struct Stored {
    host: Host,
    id: String,
    target: Etcd,
}

impl Stored {
    fn new() -> Option<Stored> {
        let host = Host::new(shared::unchanging()?);
        let id = host.backup();
        let target = Etcd::plan(Version::V3_6, Options::default())?;
        Some(Stored { host, id, target })
    }

    fn object(&self) -> PathBuf {
        object_in(&self.host.store())
    }

    /// A copy of the store whose one object was damaged.
    fn damaged(&self, name: &str, damage: &dyn Fn(&Path)) -> PathBuf {
        let copy = self.host.path(name);
        copy_tree(&self.host.store(), &copy);
        damage(&object_in(&copy));
        copy
    }

    /// Runs `rebuild` and `export`, both of which must end with this code, say this, and leave nothing.
    #[track_caller]
    fn refused(&self, source: &str, more: &[&str], code: i32, says: &[&str]) {
        let before = (tree(&self.host.path("")), tree(self.target.directory()));
        let mut rebuild = self.host.rebuild_args(source, &self.target, 0);
        let identity = rebuild.iter().position(|arg| arg == "--identity").expect("it is given");
        if more.contains(&"--identity") || more == ["no identity"] {
            rebuild.drain(identity..identity + 2);
        }
        let mut export = vec!["export".to_owned(), source.to_owned(), self.path("exported")];
        if !(more.contains(&"--identity") || more == ["no identity"]) {
            export.extend(["--identity".to_owned(), self.path("identity.txt")]);
        }
        for mut args in [rebuild, export] {
            args.extend(
                more.iter()
                    .filter(|arg| **arg != "no identity")
                    .map(|arg| (*arg).to_owned()),
            );
            self.host.lifeboat(&args).expect_code(code).says(says);
        }
        assert_eq!((tree(&self.host.path("")), tree(self.target.directory())), before);
    }

    fn path(&self, name: &str) -> String {
        text(&self.host.path(name)).to_owned()
    }
}

#[test]
fn keys_that_do_not_fit() {
    let Some(stored) = Stored::new() else { return };
    let (host, id) = (&stored.host, stored.id.as_str());
    let other = stored.path("other.txt");
    host.lifeboat(["keygen", "--identity", &other]).expect_code(0);
    let next = ["none of the given identities", host.recipient(), "next: "];
    stored.refused(id, &["--identity", &other], 8, &next);
    host.lifeboat(["check", "--identity", &other])
        .expect_code(8)
        .says(&next);
    stored.refused("latest", &["no identity"], 8, &["no identity", "--identity FILE"]);
    fs::write(host.path("nonsense.txt"), "nothing like a key").expect("the host's directory can be written");
    let nonsense = stored.path("nonsense.txt");
    stored.refused(id, &["--identity", &nonsense], 8, &[&nonsense, "lifeboat keygen"]);
    let missing = stored.path("missing.txt");
    stored.refused(id, &["--identity", &missing], 1, &[&missing, "next: "]);
    // The backup is as good as ever.
    let identity = stored.path("identity.txt");
    host.lifeboat(["check", "--identity", &identity]).expect_code(0);
}

#[test]
fn damaged_objects() {
    let Some(stored) = Stored::new() else { return };
    let length = fs::metadata(stored.object()).expect("it is there").len();
    for at in [0, 150, length / 4, length / 2, length - 1] {
        let store = stored.damaged(&format!("flipped-{at}"), &|object| flip(object, at));
        stored.refused(&stored.id, &["--from", text(&store)], 5, &[&stored.id, "lifeboat list"]);
        stored.refused(text(&object_in(&store)), &[], 5, &[text(&object_in(&store)), "next: "]);
    }
    // In the part for its recipients: a file alone cannot be told from one for others, a stored object can.
    let store = stored.damaged("for-others", &|object| readdress(object));
    stored.refused(
        &stored.id,
        &["--from", text(&store)],
        5,
        &[&stored.id, "not those stored", "lifeboat list"],
    );
    stored.refused(text(&object_in(&store)), &[], 8, &[text(&object_in(&store)), "next: "]);
    for (name, left) in [("cut", length - 1), ("half", length / 2), ("header", 100), ("empty", 0)] {
        let store = stored.damaged(name, &|object| cut(object, left));
        listed_as_bad(&stored, &store);
        stored.refused(&stored.id, &["--from", text(&store)], 5, &[&stored.id, "lifeboat list"]);
        stored.refused(text(&object_in(&store)), &[], 5, &[text(&object_in(&store)), "next: "]);
    }
    let store = stored.damaged("missing", &|object| fs::remove_file(object).expect("it was there"));
    listed_as_bad(&stored, &store);
    stored.refused(
        &stored.id,
        &["--from", text(&store)],
        5,
        &[&stored.id, "missing", "lifeboat list"],
    );
    let gone = store.join("full.db.zst.age");
    stored.refused(text(&gone), &[], 4, &[text(&gone), "next: "]);
}

/// What a listing can tell without reading the object: `list` shows it, and `latest` does not take it.
#[track_caller]
fn listed_as_bad(stored: &Stored, store: &Path) {
    let list = stored
        .host
        .lifeboat(["--json", "list", "--from", text(store)])
        .expect_code(0)
        .json();
    assert_eq!(list["backups"][0]["proof"], "none", "{list}");
    assert_eq!(list["backups"][0]["faults"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list["latest"], serde_json::Value::Null);
    let list = stored.host.lifeboat(["list", "--from", text(store)]).expect_code(0);
    assert!(list.stdout.contains("BAD"), "{}", list.stdout);
    stored.refused(
        "latest",
        &["--from", text(store)],
        5,
        &["no backup", "is good", "next: "],
    );
}

#[test]
fn a_good_copy_stands_in_for_a_damaged_one() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let far = host.add_destination("far");
    let id = host.backup();
    let (near, good) = (object_in(&host.store()), host.path("good"));
    let bytes = fs::read(&near).expect("it is there");
    assert!(
        fs::read(object_in(&far)).expect("it is there") == bytes,
        "both destinations have the same bytes"
    );
    let identity = host.identity();
    let export = |to: &str| host.lifeboat(["export", "latest", text(&host.path(to)), "--identity", text(&identity)]);
    export("good").expect_code(0);
    let length = bytes.len() as u64;
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let damages: [Damage<'_>; 6] = [
        ("magic", &|| flip(&near, 0)),
        ("header", &|| readdress(&near)),
        ("middle", &|| flip(&near, length / 2)),
        ("end", &|| flip(&near, length - 1)),
        ("cut", &|| cut(&near, length / 2)),
        ("missing", &|| fs::remove_file(&near).expect("it is there")),
    ];
    // `far` comes before `local`: it is the first copy that is damaged.
    for (name, damage) in damages {
        damage();
        copy_over(&near, &object_in(&far), name == "missing");
        fs::write(&near, &bytes).expect("the store can be written");
        let to = format!("exported-{name}");
        let exported = export(&to).expect_code(0);
        if !["cut", "missing"].contains(&name) {
            exported.says(&["far", &id, "trying the next copy"]);
        }
        let same = fs::read(host.path(&to)).expect("it was exported") == fs::read(&good).expect("it was exported");
        assert!(same, "{name}: the export from the other copy differs");
        let mut target = Etcd::plan(Version::V3_6, Options::default()).expect("it was there before");
        target.token = name.to_owned();
        host.lifeboat(host.rebuild_args("latest", &target, 0)).expect_code(0);
    }
    let list = host.lifeboat(["list"]).expect_code(0);
    assert!(list.stdout.contains("a copy is bad"), "{}", list.stdout);
}

fn copy_over(from: &Path, to: &Path, missing: bool) {
    if missing {
        fs::remove_file(to).expect("it is there");
    } else {
        fs::copy(from, to).expect("the store can be written");
    }
}

#[test]
fn damaged_manifests() {
    let Some(stored) = Stored::new() else { return };
    let host = &stored.host;
    let older = stored.id.as_str();
    let newer = host.backup();
    let manifest = |store: &Path, id: &str| {
        let mut files = super::support::host::files_below(store).into_iter();
        let found = files.find(|path| text(path).contains(id) && text(path).ends_with(".json"));
        store.join(found.expect("it has a manifest"))
    };
    let original = fs::read_to_string(manifest(&host.store(), &newer)).expect("it is there");
    let cases = [
        ("cut", original[..original.len() / 2].to_owned(), "cannot be parsed"),
        ("not-json", "nothing".to_owned(), "cannot be parsed"),
        ("empty", String::new(), "cannot be parsed"),
        (
            "newer",
            original.replace("\"format\":1,", "\"format\":2,"),
            "newer lifeboat",
        ),
        ("another", original.replace(&newer, older), "should be"),
        ("large", format!("{original}{}", " ".repeat(1 << 20)), "not at most"),
    ];
    for (name, content, fault) in cases {
        let store = host.path(name);
        copy_tree(&host.store(), &store);
        let from = ["--from", text(&store)];
        fs::write(manifest(&store, &newer), content).expect("the test's directory can be written");
        let list = host.lifeboat([["list"].as_slice(), &from].concat()).expect_code(0);
        let list = list.says(&["warning", &newer, "damaged", fault]);
        assert!(list.stdout.contains(older), "{}", list.stdout);
        let list = host
            .lifeboat([["--json", "list"].as_slice(), &from].concat())
            .expect_code(0)
            .json();
        assert!(
            list["damaged"][0]
                .as_str()
                .is_some_and(|damaged| damaged.contains(&newer)),
            "{list}"
        );
        assert_eq!(
            (list["backups"].as_array().map(Vec::len), list["latest"].as_str()),
            (Some(1), Some(older))
        );
        stored.refused(&newer, &from, 5, &[&newer, fault, "lifeboat list"]);
        host.lifeboat([["show", &newer].as_slice(), &from].concat())
            .expect_code(5)
            .says(&[fault]);
        // The older one is taken, and that a newer one is lost is said.
        let (to, identity) = (stored.path(&format!("{name}.db")), stored.path("identity.txt"));
        let export = ["export", "latest", &to, "--identity", &identity];
        host.lifeboat([export.as_slice(), &from].concat())
            .expect_code(0)
            .says(&[&newer, "damaged"]);

        fs::write(manifest(&store, older), "nothing").expect("the test's directory can be written");
        stored.refused("latest", &from, 5, &["none of the 2 manifests", "next: "]);
    }

    // A backup goes on beside a damaged manifest, and says that it is there.
    fs::write(manifest(&host.store(), &newer), "nothing").expect("the store can be written");
    let next = host
        .lifeboat(["backup"])
        .expect_code(0)
        .says(&["warning", &newer, "damaged"]);
    let shown = host.manifest(next.stdout.trim());
    assert_eq!(shown["lineage"], host.manifest(older)["lineage"], "the history goes on");
}

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
        // That a run was begun and may have left something is remembered until the destination can be swept.
        let there = || {
            let mut all = tree(&host.path(""));
            all.retain(|name| !name.starts_with("state/test/chains/"));
            all
        };
        let before = there();
        let says = [&["local", text(&store)], says].concat();
        host.lifeboat(["backup"]).expect_code(1).says(&says);
        host.lifeboat(["list"]).expect_code(1).says(&says);
        host.lifeboat(["check", "--online"]).expect_code(1).says(&says);
        host.lifeboat(host.rebuild_args("latest", &stored.target, 0))
            .expect_code(if what == "marker" { 0 } else { 4 })
            .says(&says);
        assert_eq!(there(), before, "{what}: something was made");
    };
    let marker = store.join(CLUSTER).join("store.json");
    let kept = fs::read(&marker).expect("it is there");

    move_dir(&store, &aside);
    refused("the root is gone", &["mount it"]);
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
fn members_that_do_not_answer() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let url = &etcd.members[0].client_url;
    // Bound and never accepting: the kernel connects, and then nobody speaks.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mute = format!("http://{}", silent.local_addr().expect("it is bound"));
    host.reconfigure(url, &mute);
    host.lifeboat(["backup"])
        .expect_code(1)
        .says(&[&mute, "no answer", "next: ", "check --online"]);
    drop(silent);
    host.lifeboat(["backup"])
        .expect_code(1)
        .says(&[&mute, "onnection refused", "next: ", "check --online"]);
    untouched(&host);
    let found = host.lifeboat(["check", "--online"]).expect_code(1).says(&["m1", &mute]);
    assert!(found.stdout.contains("no answer"), "{}", found.stdout);
}

#[test]
fn streams_that_break_off() {
    let Some(etcd) = shared::unchanging() else { return };
    let url = &etcd.members[0].client_url;
    let next = ["nothing was kept", "--member"];

    let (host, gate) = held(etcd);
    host.reconfigure("[encryption]", "[backup]\nidle_timeout = \"1s\"\n[encryption]");
    let running = host.start(["backup"]);
    gate.wait_until_held();
    running
        .wait()
        .expect_code(1)
        .says(&[&gate.url, "no answer to Snapshot for 1 s"])
        .says(&next);
    untouched(&host);

    let host = Host::new(etcd);
    let gate = Gate::flipping(url);
    host.reconfigure(url, &gate.url);
    let damaged = host.lifeboat(["backup"]).expect_code(5);
    damaged.says(&[&gate.url, "SHA-256", "changed on the way", "next: "]);
    untouched(&host);

    let Some(mut dying) = Etcd::start(Version::V3_5, Options::default()) else {
        return;
    };
    // More than the wire can hold, or all of it would be on the way when the member dies.
    for number in 0..18 {
        let mut value = vec![0; 1 << 20];
        getrandom::fill(&mut value).expect("the kernel gives random numbers");
        dying.client().put(&format!("/{number}"), value, 0).expect("it runs");
    }
    let (host, gate) = held(&dying);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    dying.kill(0);
    gate.open();
    running.wait().expect_code(1).says(&[&gate.url, "Snapshot"]).says(&next);
    untouched(&host);
}

#[test]
fn backups_that_are_asked_to_stop() {
    let Some(etcd) = shared::unchanging() else { return };
    for signal in ["INT", "TERM"] {
        let (host, gate) = held(etcd);
        let running = host.start(["backup"]);
        gate.wait_until_held();
        running.signal(signal);
        let output = running.wait().expect_code(1).says(&["interrupted", "nothing was kept"]);
        assert_eq!(output.stdout, "");
        untouched(&host);
    }
    // A terminal that closes is nobody who asks.
    let (host, gate) = held(etcd);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    running.signal("HUP");
    gate.open();
    let id = running.wait().expect_code(0).stdout;
    host.lifeboat(["show", id.trim()]).expect_code(0);
}

#[test]
fn backups_that_are_killed() {
    let Some(etcd) = shared::unchanging() else { return };
    let (host, gate) = held(etcd);
    let running = host.start(["backup"]);
    gate.wait_until_held();
    running.signal("KILL");
    running.wait().expect_code(-1);
    let left = objects(&host);
    assert_eq!(left.len(), 1, "{left:?}");
    let list = host.lifeboat(["list"]).expect_code(0);
    assert!(list.stdout.contains("no backups"), "{}", list.stdout);
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(
        (&list["backups"], &list["damaged"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    host.lifeboat(["show", "latest"]).expect_code(4);

    gate.open();
    let next = host
        .lifeboat(["-v", "backup"])
        .expect_code(0)
        .says(&["removed", ".partial"]);
    let id = next.stdout.trim();
    let stored = objects(&host);
    assert_eq!(stored.len(), 2, "{stored:?}");
    assert!(stored.iter().all(|name| name.contains(id)), "{stored:?}");
    let folders = tree(&host.store())
        .into_iter()
        .filter(|name| name.ends_with('/'))
        .count();
    assert_eq!(folders, 3, "the folder of the dead run went with it");
}

#[test]
fn one_backup_at_a_time() {
    let Some(etcd) = shared::unchanging() else { return };
    let (host, gate) = held(etcd);
    let first = host.start(["backup"]);
    gate.wait_until_held();
    let process = format!("process {}", first.pid());
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
    let (host, gate) = held(etcd);
    let store = host.store();
    let Some(small) = Tmpfs::mount(&store, 16) else { return };
    // The size is known from the first message, before anything is written.
    host.lifeboat(["backup"])
        .expect_code(1)
        .says(&["local", "needs about", "free some"]);
    untouched(&host);
    drop(small);

    fs::remove_dir_all(host.path("state")).expect("it is there");
    let Some(disk) = Tmpfs::mount(&store, 96) else { return };
    gate.hold_after(MIDDLE);
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
fn nobody_reads_what_is_printed() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let run = |script: &str| {
        let lifeboat = host.command(["backup", "-v"]);
        let mut shell = std::process::Command::new("bash");
        shell
            .args(["-c", script, "bash"])
            .arg(lifeboat.get_program())
            .args(lifeboat.get_args());
        for (name, value) in lifeboat.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        let status = shell.status().expect("there is a shell");
        assert_eq!(status.code(), Some(0), "{script}");
    };
    run("exec \"$@\" >&- 2>&- <&-");
    run("set -o pipefail; \"$@\" 2>/dev/null | true");
    run("\"$@\" 2> >(true) > >(true)");
    // A result that somebody wanted and did not get is a failure, of the telling: the backup is there.
    let full = host
        .command(["backup"])
        .stdout(full_device())
        .output()
        .expect("it runs");
    let full = Output::new(
        full.status.code().unwrap_or(-1),
        String::new(),
        String::from_utf8_lossy(&full.stderr).into_owned(),
    );
    full.expect_code(1).says(&["o space left"]);
    let list = host.lifeboat(["--json", "list"]).expect_code(0).json();
    assert_eq!(list["backups"].as_array().map(Vec::len), Some(4));
}

fn full_device() -> fs::File {
    fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("every Linux has it")
}

#[test]
fn rebuilds_that_do_not_end() {
    let Some(stored) = Stored::new() else { return };
    let (host, target) = (&stored.host, &stored.target);
    let snapshot = stored.path("snapshot.db");
    let identity = stored.path("identity.txt");
    host.lifeboat(["export", &stored.id, &snapshot, "--identity", &identity])
        .expect_code(0);
    let bytes = fs::read(&snapshot).expect("it was exported");
    let (data_dir, parent) = (&target.members[0].data_dir, target.directory());
    let half_way = |args: &[String]| {
        let mut command = host.command(args);
        command.stdin(Stdio::piped());
        let mut running = super::support::running::Running::start(command);
        let mut stdin = running.stdin();
        stdin.write_all(&bytes[..bytes.len() / 2]).expect("it reads");
        until("half of it is written", || {
            let written = |name: &String| name.contains(".partial-") && name.contains("/db ");
            tree(parent).iter().any(|name| written(name) && !name.ends_with(" 0"))
        });
        (running, stdin)
    };
    let args = host.rebuild_args("-", target, 0);

    let (running, mut stdin) = half_way(&args);
    running.signal("INT");
    // It looks up from its work at the next block.
    while stdin.write_all(&[0; 64 << 10]).is_ok() {}
    running.wait().expect_code(1).says(&["interrupted", "nothing was kept"]);
    assert_eq!(tree(parent), [""; 0], "what was begun is taken back");

    let (running, stdin) = half_way(&args);
    drop(stdin);
    running
        .wait()
        .expect_code(5)
        .says(&["standard input", "cut short", "next: "]);
    assert_eq!(tree(parent), [""; 0]);

    let (running, _stdin) = half_way(&args);
    assert!(!data_dir.exists(), "nothing has the final name");
    // Another run of the same is not disturbed by it, nor the other way round.
    running.signal("KILL");
    running.wait().expect_code(-1);
    assert!(!data_dir.exists());
    let left = tree(parent);
    assert!(left.iter().all(|name| name.starts_with("m1.etcd.partial-")), "{left:?}");
    host.lifeboat(host.rebuild_args("latest", target, 0)).expect_code(0);
    let top = || {
        fs::read_dir(parent)
            .expect("it is there")
            .flatten()
            .map(|entry| entry.file_name())
    };
    assert_eq!(
        top().collect::<Vec<_>>(),
        ["m1.etcd"],
        "the leavings went with the next run"
    );

    // Into an empty directory, such as a mount point.
    fs::remove_dir_all(data_dir).expect("it is there");
    fs::create_dir(data_dir).expect("the test's directory can be written");
    let (running, _stdin) = half_way(&args);
    running.signal("KILL");
    running.wait().expect_code(-1);
    assert!(!data_dir.join("member").exists());
    host.lifeboat(host.rebuild_args("latest", target, 0)).expect_code(0);
    let inside: Vec<_> = fs::read_dir(data_dir)
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(inside, ["member"]);
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
    // Of a pipe the length is not known beforehand: the disk itself says that it is full.
    let object = fs::File::open(stored.object()).expect("it is there");
    let mut command = host.command(host.rebuild_args("-", target, 0));
    let running = super::support::running::Running::start({
        command.stdin(object);
        command
    });
    running.wait().expect_code(1).says(&["o space", "next: "]);
    assert_eq!(tree(data_dir), [""; 0], "what was begun is taken back");
}

#[test]
fn configurations_that_are_wrong() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    let good = fs::read_to_string(host.config()).expect("it was written");
    let with = |line: &str| format!("{good}{line}\n");
    host.lifeboat(["list"]).expect_code(0);
    let cases = [
        ("not TOML", "[cluster\n".to_owned(), "config.toml:1"),
        ("unknown key", with("[backup]\nidle_timout = \"1s\""), "idle_timeout"),
        (
            "no members",
            good.replace("[members.m1]", "[members.m1]\nenabled = false"),
            "every member",
        ),
        (
            "bad recipient",
            good.replace(host.recipient(), "age1nonsense"),
            "age1nonsense",
        ),
        (
            "no destination",
            good.replace("[destinations.local]", "[destinations.local]\nenabled = false"),
            "destination",
        ),
        ("relative store", good.replace("file:///", "file://"), "url"),
    ];
    for (what, text, names) in cases {
        assert_ne!(text, good, "{what}");
        fs::write(host.config(), text).expect("it can be written");
        host.lifeboat(["backup"]).expect_code(78).says(&[names, "next: "]);
        if what != "no destination" {
            host.lifeboat(["check"]).expect_code(78).says(&[names]);
            // Who only looks sees what the last good configuration named, and that it is not this one.
            let list = host
                .lifeboat(["list"])
                .expect_code(1)
                .says(&[names, "last configuration"]);
            assert!(list.stdout.contains("no backups"), "{}", list.stdout);
        }
    }
    fs::remove_file(host.config()).expect("it is there");
    let config = host.config();
    host.lifeboat(["backup"])
        .expect_code(78)
        .says(&[text(&config), "does not exist", "config.example.toml"]);
    // A secret that is not there is found before anything is asked.
    fs::write(
        host.config(),
        with("[cluster.auth]\nuser = \"root\"\npassword = { file = \"/nowhere/password\" }"),
    )
    .expect("it can be written");
    for command in ["backup", "check"] {
        host.lifeboat([command])
            .expect_code(78)
            .says(&["cluster.auth.password", "/nowhere/password"]);
    }
    let sample = good.replace(
        host.recipient(),
        "age12wkpf3rfyfvysfe8dwyxkfx890dxthcrkmez3wnrjhld85846q3s6swwr4",
    );
    fs::write(host.config(), sample).expect("it can be written");
    host.lifeboat(["backup"])
        .expect_code(78)
        .says(&["sample", "lifeboat keygen"]);
    assert_eq!(tree(&host.store()), [""; 0], "nothing was written");
}

#[test]
fn commands_that_are_wrong() {
    let Some(stored) = Stored::new() else { return };
    let host = &stored.host;
    host.lifeboat(["backup", "--member", "m9"])
        .expect_code(2)
        .says(&["m9", "m1"]);
    host.lifeboat(["backup", "--to", "nowhere"])
        .expect_code(2)
        .says(&["nowhere", "local"]);
    host.lifeboat(["list", "--destination", "nowhere"])
        .expect_code(2)
        .says(&["nowhere", "local"]);
    host.lifeboat(["backup", "--wait", "soon"])
        .expect_code(2)
        .says(&["soon", "10m"]);
    for args in [
        &[][..],
        &["unknown"],
        &["backup", "--unknown"],
        &["export", "latest"],
        &["rebuild", "latest"],
    ] {
        host.lifeboat(args).expect_code(2).says(&["Usage"]);
    }
    let good = host.rebuild_args("latest", &stored.target, 0);
    let wrong = |flag: &str, value: &str, says: &[&str]| {
        let mut args = good.clone();
        let at = args.iter().position(|arg| arg == flag).expect("it is given");
        args[at + 1] = value.to_owned();
        host.lifeboat(args).expect_code(2).says(says);
    };
    wrong("--name", "m9", &["m9"]);
    wrong("--initial-cluster", "m1", &["m1"]);
    wrong("--initial-cluster", "m1=nonsense", &["nonsense"]);
    wrong(
        "--initial-advertise-peer-urls",
        "http://127.0.0.1:1",
        &["http://127.0.0.1:1"],
    );
    let alone = ["--bump-revision", "5"].map(str::to_owned);
    host.lifeboat([good.clone(), alone.to_vec()].concat())
        .expect_code(2)
        .says(&["--mark-compacted"]);
    assert_eq!(tree(stored.target.directory()), [""; 0]);

    fs::write(host.path("snapshot.db"), "nothing like a database").expect("it can be written");
    let file = stored.path("snapshot.db");
    stored.refused(&file, &[], 5, &[&file, "next: "]);
    stored.refused("/nowhere/snapshot.db", &[], 4, &["/nowhere/snapshot.db", "next: "]);
    let identity = stored.path("identity.txt");
    let again = ["export", "latest", &file, "--identity", &identity];
    host.lifeboat(again).expect_code(7).says(&[&file, "next: "]);
    assert_eq!(
        fs::read(&file).expect("it is there"),
        b"nothing like a database",
        "nothing is overwritten"
    );
    host.lifeboat(["list", "--from", "/nowhere"])
        .expect_code(4)
        .says(&["/nowhere"]);
    let elsewhere = stored.path("state");
    host.lifeboat(["list", "--from", &elsewhere])
        .expect_code(4)
        .says(&[&elsewhere, "next: "]);
}

/// A host whose way to the member is held in the middle of a stream.
fn held(etcd: &Etcd) -> (Host, Gate) {
    let host = Host::new(etcd);
    let url = &etcd.members[0].client_url;
    let gate = Gate::before(url, MIDDLE);
    host.reconfigure(url, &gate.url);
    (host, gate)
}

/// Nothing but its marker is in the store, no folder and no temporary file either.
#[track_caller]
fn untouched(host: &Host) {
    let left = tree(&host.store());
    let marker = format!("{CLUSTER}/store.json ");
    assert!(
        left.iter()
            .all(|name| *name == format!("{CLUSTER}/") || name.starts_with(&marker)),
        "{left:?}"
    );
}

/// The files of the store beside its marker.
fn objects(host: &Host) -> Vec<String> {
    let files = host.stored_files().into_iter().map(|path| text(&path).to_owned());
    files
        .filter(|name| !name.ends_with("store.json") && !name.contains("/.store.json"))
        .collect()
}

fn object_in(store: &Path) -> PathBuf {
    let mut files = super::support::host::files_below(store).into_iter();
    let object = files.find(|path| path.ends_with("full.db.zst.age"));
    store.join(object.expect("there is a backup"))
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[usize::try_from(at).expect("it is small")] ^= 1;
    fs::write(path, bytes).expect("it can be written");
}

/// Changes a character of what is for the recipient in the header of an age file, to another that may stand there.
fn readdress(path: &Path) {
    const SHARE: usize = "age-encryption.org/v1\n-> X25519 ".len();
    let mut bytes = fs::read(path).expect("it is there");
    bytes[SHARE] = if bytes[SHARE] == b'A' { b'B' } else { b'A' };
    fs::write(path, bytes).expect("it can be written");
}

fn cut(path: &Path, length: u64) {
    let file = fs::File::options().write(true).open(path).expect("it is there");
    file.set_len(length).expect("it can be written");
}

fn move_dir(from: &Path, to: &Path) {
    copy_tree(from, to);
    fs::remove_dir_all(from).expect("it is there");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}
