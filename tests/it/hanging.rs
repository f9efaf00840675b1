//! Stores that stop answering: every call has an end, and what is well goes on.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lifeboat::layout::{ObjectName, SlotPath};
use lifeboat::store::{Access, Begun, Error, Limits, ReadBack, Store};

use super::support::frozen::Frozen;
use super::support::hanging::Hanging;
use super::support::host::Host;
use super::support::shared;
use super::support::stalling::Stalling;

/// What a store of these tests may take.
const LIMIT: Duration = Duration::from_secs(3);
/// What a store of the program may take for one thing, and some time for what it does beside.
const ONE_WAIT: Duration = Duration::from_secs(30 + 15);

#[track_caller]
fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = act();
    (done, begun.elapsed())
}

type Call = (&'static str, fn(&Store) -> Result<(), Error>);

/// Every call of a store.
const CALLS: &[Call] = &[
    ("begin", |store| store.begin(&object()).map(drop)),
    ("put_new", |store| store.put_new(&object(), b"x")),
    ("open_object", |store| store.open_object(&object()).map(drop)),
    ("read_small", |store| store.read_small(&object(), 10).map(drop)),
    ("read_back", |store| store.read_back(&object()).map(drop)),
    ("read_back_while", |store| {
        store
            .read_back_while(&object(), |_| ControlFlow::Continue(()))
            .map(drop)
    }),
    ("write_from", |store| {
        let nothing = ReadBack {
            bytes: 0,
            sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
                .parse()
                .unwrap(),
        };
        let written = store.write_from(&object(), std::io::empty(), nothing, |_| ControlFlow::Continue(()));
        written.map(drop)
    }),
    ("list", |store| store.list().map(drop)),
    ("catalog", |store| store.catalog("local").map(drop)),
    ("checks_of", |store| store.checks_of(chain().chain().unwrap()).map(drop)),
    ("list_chain", |store| {
        store.list_chain(chain().chain().unwrap()).map(drop)
    }),
    ("free_space", |store| store.free_space().map(drop)),
    ("remove", |store| store.remove(&object())),
    ("now", |store| store.now().map(drop)),
    ("try_canary", |store| store.try_canary(&"h".parse().unwrap())),
    ("newest_claim", |store| store.newest_claim(&slot()).map(drop)),
    ("has_backup", |store| {
        store.has_backup(&slot(), &chain().chain().unwrap().chain).map(drop)
    }),
    ("sweep", |store| store.sweep(&Begun::default()).map(drop)),
];

fn object() -> ObjectName {
    ObjectName::StoreMarker
}

fn chain() -> ObjectName {
    "ab/20261120T101530Z-9f3c4a1b/full.db.zst.age".parse().unwrap()
}

fn slot() -> SlotPath {
    let claim: ObjectName = "slots/hourly/20261120T100000Z.1.json".parse().unwrap();
    match claim {
        ObjectName::Claim(slot, _) => slot,
        other => panic!("{other} is no claim"),
    }
}

fn open(root: &Path) -> Result<Store, Error> {
    let limits = Limits {
        answer: LIMIT,
        listing: LIMIT,
    };
    let access = Access::Write {
        now: "2026-11-20T10:15:30Z".parse().unwrap(),
    };
    Store::open_within(&root.into(), &"test".parse().unwrap(), None, access, limits)
}

#[test]
fn every_call_of_a_store_that_hangs_ends_with_an_error() {
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for (name, call) in CALLS {
            // One that hangs is not asked again, so that each call has its own.
            let root = place.path().join(name);
            scope.spawn(move || {
                fs::create_dir(&root).unwrap();
                let store = open(&root).unwrap();
                let Some(_hanging) = Hanging::mount(&root) else { return };
                let (ended, took) = timed(|| call(&store));
                assert!(matches!(ended, Err(Error::Hangs { .. })), "{name}: {ended:?}");
                assert!(took >= LIMIT && took < 5 * LIMIT, "{name}: {took:?}");
                let (again, took) = timed(|| store.free_space());
                assert!(matches!(again, Err(Error::Hangs { .. })), "{name}: {again:?}");
                assert!(took < LIMIT, "{name}: it is not asked again");
                assert!(matches!(open(&root), Err(Error::Hangs { .. })), "{name}");
            });
        }
    });
}

/// A host with a good destination, a backup there, and others whose servers are gone.
fn with_dead(count: usize) -> Option<(Host, Vec<Hanging>)> {
    let host = Host::new(shared::unchanging()?);
    let names = ["dead0", "dead1", "dead2"];
    let places: Vec<PathBuf> = names
        .iter()
        .take(count)
        .map(|name| host.add_destination(name))
        .collect();
    host.backup();
    let mounts = places.iter().map(|place| Hanging::mount(place));
    Some((host, mounts.collect::<Option<Vec<_>>>()?))
}

#[test]
fn three_dead_mounts_cost_one_wait() {
    let Some((host, _mounts)) = with_dead(3) else { return };
    let runs = [(&["backup"][..], 3), (&["check", "--online"], 1), (&["list"], 3)];
    std::thread::scope(|scope| {
        for (args, code) in runs {
            let host = &host;
            scope.spawn(move || {
                let (ended, took) = timed(|| host.lifeboat(args));
                assert_eq!(ended.code, code, "{args:?}: {}{}", ended.stdout, ended.stderr);
                ended.says(&["dead0", "dead1", "dead2", "no answer"]);
                assert!(took < ONE_WAIT, "{args:?}: {took:?}");
            });
        }
    });
}

#[test]
fn a_command_is_over_though_its_write_hangs_in_the_kernel() {
    let host = Host::new(match shared::unchanging() {
        Some(etcd) => etcd,
        None => return,
    });
    let place = host.add_destination("frozen");
    let Some(frozen) = Frozen::mount(&place) else { return };
    host.backup();
    frozen.freeze();
    // Its output ends too, which a shell may wait for.
    let (ended, took) = timed(|| host.lifeboat(["backup"]));
    ended.expect_code(3).says(&["frozen"]);
    assert!(took < 2 * ONE_WAIT, "{took:?}");
    drop(frozen);
    assert_eq!(
        host.lifeboat(["--json", "list", "--destination", "local"]).json()["backups"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_copy_that_stops_coming_makes_way_for_the_good_one() {
    let Some(etcd) = shared::unchanging() else { return };
    let host = Host::new(etcd);
    // Before `local`: its copy is the first that is tried.
    let stalled = host.add_destination("anas");
    host.backup();
    let Some(stalling) = Stalling::new(&host.path("stall")) else {
        return;
    };
    let (identity, to) = (host.identity(), host.path("exported"));
    let mut export = host.command(["export", "latest"]);
    export.arg(&to).arg("--identity").arg(&identity);
    let mut verify = host.command(["verify", "latest", "--identity"]);
    verify.arg(&identity);
    for (mut command, code) in [(export, 0), (verify, 3)] {
        stalling.read_of(&mut command, &stalled, ".age");
        let (ended, took) = timed(|| super::support::running::Running::start(command).wait());
        assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
        ended.says(&["anas", "no answer"]);
        assert!(took < 2 * ONE_WAIT, "{took:?}");
    }
    assert!(to.is_file());
}
