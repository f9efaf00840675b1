//! Points of the history, from real captures of real etcds: by revision, by time, before a deletion; what was there then is
//! there again, as the server itself hashed it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::json::Page;
use super::support::client::HashKv;
use super::support::etcd::{Etcd, Options};
use super::support::host::{Host, Output};
use super::support::load::Load;
use super::support::random::Random;
use super::support::running::until;
use super::support::tools::Version;

/// Full backups are taken where capture wants one.
const DELTAS: &str = "[deltas]\nenabled = true\nevery = \"1s\"\nmark_every = \"2s\"\n";

/// The key that somebody deletes by mistake.
const VICTIM: &str = "/registry/victim";

/// What the server said of a revision, when it was the last one.
struct Then {
    hash: HashKv,
    time: Timestamp,
}

#[test]
fn any_point_of_3_4_comes_back() {
    any_point_comes_back(Version::V3_4);
}

#[test]
fn any_point_of_3_6_comes_back() {
    any_point_comes_back(Version::V3_6);
}

fn any_point_comes_back(version: Version) {
    let Some(etcd) = Etcd::start(version, Options::default()) else {
        return;
    };
    let client = etcd.client();
    client.put(VICTIM, "alive", 0).expect("it runs");
    let host = Host::new(&etcd);
    host.configure(&etcd, DELTAS);
    let agent = host.start(["agent"]);
    until("the first backup", || {
        !host.lifeboat(["--json", "list"]).json()["windows"][0].is_null()
    });
    // A time is known from when changes are listened to.
    let begun = client.put("/begun", "x", 0).expect("it runs");
    let window = || host.lifeboat(["--json", "list"]).json()["windows"][0].clone();
    until("the first delta", || window()["to_revision"].as_i64() >= Some(begun));
    let mut load = Load::new(21);
    let mut then = Vec::new();
    let remember = |then: &mut Vec<Then>, load: &mut Load| {
        load.run(&client, 25);
        let revision = client.revision().expect("it runs");
        // Until the mark behind it has come, which a flush brings at the latest.
        std::thread::sleep(Duration::from_millis(1500));
        let time = Timestamp::now();
        let hash = client.hash_kv(revision).expect("it is not compacted");
        then.push(Then { hash, time });
    };
    for _ in 0..5 {
        remember(&mut then, &mut load);
    }
    let deleted = client.delete(VICTIM).expect("it runs");
    let before_delete = client.hash_kv(deleted - 1).expect("it is not compacted");
    for _ in 0..3 {
        remember(&mut then, &mut load);
    }
    let last = client.revision().expect("it runs");
    until("the deltas to reach the last revision", || {
        window()["to_revision"] == last
    });
    let last_time = then.last().expect("there are several").time;
    until("the window's end to move in time", || {
        text(&window()["to_time"]).parse::<Timestamp>().expect("it is one") > last_time
    });
    agent.signal("TERM");
    drop(agent.wait());
    let listed = host.lifeboat(["list"]).expect_code(0);
    assert!(listed.stdout.contains("every point: revisions "), "{}", listed.stdout);
    let chain = text(&window()["chain"]).to_owned();
    let shown = host.lifeboat(["--json", "show", &chain]).expect_code(0).json();
    assert_eq!(shown["window"]["to_revision"], last);
    assert!(shown["window"]["deltas"].as_u64() > Some(2), "{}", shown["window"]);
    let (page, mut seen) = (Page::read(), BTreeSet::new());
    page.check("show", &shown, &mut seen);

    let at = |source: &str, more: &[&str]| -> Output {
        let target = Etcd::plan(version, Options::default()).expect("it was there before");
        let args = host.rebuild_args(source, &target, 0);
        host.lifeboat(
            args.iter()
                .map(String::as_str)
                .chain(["--json"])
                .chain(more.iter().copied()),
        )
    };
    let mut random = Random::new(5);
    for _ in 0..3 {
        let which = usize::try_from(random.below(then.len() as u64)).expect("it is small");
        let Then { hash, time } = &then[which];
        let revision = hash.revision.to_string();
        is(&at("latest", &["--to-revision", &revision]), *hash);
        is(&at("latest", &["--to-time", &time.to_string()]), *hash);
        is(&at(&format!("{chain}:{revision}"), &[]), *hash);
    }
    let found = at("latest", &["--before-delete", VICTIM]);
    is(&found, before_delete);
    page.check("rebuild", &found.json(), &mut seen);
    assert!(seen.contains("applied.matched_revision"), "{seen:?}");
    found.says(&[
        &format!("revision {deleted} deleted `{VICTIM}`"),
        "behind it, up to revision",
    ]);
    is(&at("latest", &["--before-delete-prefix", VICTIM]), before_delete);

    let behind = (last + 7).to_string();
    at("latest", &["--to-revision", &behind])
        .expect_code(4)
        .says(&[&format!("{chain}:{last}, before it")]);
    at("latest", &["--to-time", "2020-01-01T00:00:00Z"])
        .expect_code(4)
        .says(&["behind it"]);
    at("latest", &["--before-delete", "/never/there"]).expect_code(4);
    at(&format!("{chain}:{last}"), &["--to-revision", &behind]).expect_code(2);
    at("./a-file", &["--to-revision", &behind]).expect_code(2);

    // As a snapshot of that point, which etcd's own tools take, and so does a rebuild.
    let file = host.path("point.db").display().to_string();
    let identity = host.identity().display().to_string();
    let Then { hash, .. } = &then[1];
    let revision = hash.revision.to_string();
    let export = [
        "export",
        "latest",
        &file,
        "--to-revision",
        &revision,
        "--identity",
        &identity,
    ];
    host.lifeboat(export).expect_code(0);
    is(&at(&file, &[]), *hash);
    host.lifeboat(export).expect_code(7);
    // The same on standard output, made in memory or where it is said; nothing of it is left.
    let room = host.path("room");
    std::fs::create_dir(&room).expect("it is not there yet");
    let work_dir = ["--work-dir", room.to_str().expect("it is plain")];
    let to_stdout = |more: &[&str], stdout: std::fs::File| {
        let args = [
            "export",
            "latest",
            "-",
            "--to-revision",
            &revision,
            "--identity",
            &identity,
        ];
        let ended = host.command([&args[..], more].concat()).stdout(stdout).output();
        ended.expect("it can be started")
    };
    for (number, more) in [&[][..], &work_dir, &["--compact"]].into_iter().enumerate() {
        let sent = host.path(&format!("sent-{number}.db"));
        let ended = to_stdout(more, std::fs::File::create(&sent).expect("it can be made"));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{said}");
        is(&at(&sent.display().to_string(), &[]), *hash);
    }
    assert_eq!(std::fs::read_dir(&room).expect("it is there").count(), 0);
    let terminal = std::fs::File::options().write(true).read(true).open("/dev/ptmx");
    let ended = to_stdout(&[], terminal.expect("there are terminals"));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.code() == Some(2) && said.contains("is a terminal"),
        "{said}"
    );
    let smaller = host.path("smaller.db").display().to_string();
    let compact = [&export[..2], &[&smaller], &export[3..], &["--compact"]].concat();
    host.lifeboat(compact).expect_code(0);
    is(&at(&smaller, &[]), *hash);
    let size = |path: &str| std::fs::metadata(path).expect("it was written").len();
    assert!(size(&smaller) <= size(&file), "{} of {}", size(&smaller), size(&file));

    // The last point of all, by a member that serves it.
    let newest = client.hash_kv(last).expect("it is not compacted");
    // `latest` is that, smaller or not; what can only look at a full backup says that more follows it.
    let tip = host.path("tip.db").display().to_string();
    host.lifeboat(["export", "latest", &tip, "--compact", "--identity", &identity])
        .expect_code(0);
    is(&at(&tip, &[]), newest);
    let inspected = host.lifeboat(["inspect", "latest", "--identity", &identity]);
    inspected
        .expect_code(0)
        .says(&["captured changes follow", &format!(":{last} FILE` takes them in")]);
    let mut target = Etcd::plan(version, Options::default()).expect("it was there before");
    let args = host.rebuild_args("latest", &target, 0);
    is(
        &host.lifeboat(args.iter().map(String::as_str).chain(["--json"])),
        newest,
    );
    target.boot();
    assert_eq!(target.hash_kv_of_each(0), [newest]);
}

/// That this is what was there.
#[track_caller]
fn is(done: &Output, then: HashKv) {
    let done = done.clone().expect_code(0).json();
    assert_eq!(done["revision"], then.revision, "{done}");
    let hash = &done["hash_kv"];
    assert_eq!(hash["hash"], then.hash, "{done}");
    assert_eq!(hash["compact_revision"], then.compact_revision, "{done}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
