//! The promises of a `file:` store, on real folders.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::layout::claim::{Claim, State};
use crate::layout::{ChainPath, HostName, Listed, ListedObject, ObjectName, SlotPath};
use crate::model::{ClusterId, ClusterName, Digest, Revision};
use crate::signing::{Authority, Role, SigningKey, Trust};

const WRITE: Access = Access::Write {
    now: Timestamp::UNIX_EPOCH,
};

const CHAIN: &str = "20261120T101530Z-9f3c4a1b";

fn cluster() -> ClusterName {
    "prod".parse().unwrap()
}

fn known(id: &StoreId) -> Known {
    Known {
        id: id.clone(),
        record: "/somewhere/stores/local.json".into(),
    }
}

/// An empty store that may be written to, in a folder of its own.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = store_in(root.path());
    (root, store)
}

/// The same in a folder that is there.
pub(crate) fn store_in(folder: &Path) -> Store {
    Store::open(&folder.into(), &cluster(), None, WRITE).unwrap()
}

fn chain(id: &str) -> ChainPath {
    ChainPath {
        cluster: ClusterId(0xab),
        chain: id.parse().unwrap(),
    }
}

fn full() -> ObjectName {
    ObjectName::Full(chain(CHAIN))
}

fn manifest_of(id: &str) -> ObjectName {
    ObjectName::FullManifest(chain(id), Revision::new(7).unwrap())
}

/// The paths of all files and folders below `folder`, in order.
fn tree(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, paths: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            paths.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                walk(root, &path, paths);
            }
        }
    }
    let mut paths = Vec::new();
    walk(folder, folder, &mut paths);
    paths.sort();
    paths
}

fn write(store: &Store, object: &ObjectName, bytes: &[u8]) {
    let mut upload = store.begin(object).unwrap();
    upload.write_all(bytes).unwrap();
    upload.commit().unwrap();
}

/// Puts a file there as a run that was killed would have left it.
fn leave(store: &Store, path: &str) {
    let path = store.folder().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"left").unwrap();
}

#[test]
fn an_object_appears_whole_or_not_at_all() {
    let (_root, store) = store();
    let mut upload = store.begin(&full()).unwrap();
    upload.write_all(b"one ").unwrap();
    upload.write_all(b"two").unwrap();
    assert!(matches!(store.open_object(&full()), Err(Error::NotFound { .. })));
    upload.commit().unwrap();
    let (mut file, bytes) = store.open_object(&full()).unwrap();
    let mut content = String::new();
    file.read_to_string(&mut content).unwrap();
    assert_eq!((content.as_str(), bytes), ("one two", 7));
    let folder = format!("ab/{CHAIN}");
    assert_eq!(
        tree(&store.folder()),
        ["ab", &folder, &full().to_string(), "store.json"]
    );
}

#[test]
fn it_keeps_the_promises_of_every_store() {
    let root = tempfile::tempdir().unwrap();
    conformance::conforms(&|| store_in(root.path()), 1 << 20, true);
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let (_root, store) = store();
    write(&store, &full(), b"x");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&store.path_of(&full())), 0o640);
    assert_eq!(mode(store.path_of(&full()).parent().unwrap()), 0o750);
    assert_eq!(mode(&store.folder()), 0o750);
}

#[test]
fn a_dropped_upload_leaves_nothing() {
    let (_root, store) = store();
    let mut upload = store.begin(&full()).unwrap();
    upload.write_all(&vec![7; 20 << 20]).unwrap();
    drop(upload);
    assert_eq!(tree(&store.folder()), ["store.json"]);
}

#[test]
fn of_two_uploads_of_one_object_exactly_one_wins() {
    let (_root, store) = store();
    let (mut first, mut second) = (store.begin(&full()).unwrap(), store.begin(&full()).unwrap());
    first.write_all(b"first").unwrap();
    second.write_all(b"second").unwrap();
    second.commit().unwrap();
    match first.commit() {
        Err(Error::AlreadyExists { at }) => assert_eq!(at, store.address_of(&full())),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.read_small(&full(), 100).unwrap(), b"second");
    assert_eq!(tree(&store.folder()).len(), 4);
    assert!(matches!(
        store.put_new(&full(), b"third"),
        Err(Error::AlreadyExists { .. })
    ));
}

#[test]
fn racing_writers_leave_one_object_of_one_of_them() {
    let (_root, store) = store();
    let barrier = std::sync::Barrier::new(6);
    let race = |n: u8| {
        let mut upload = store.begin(&full()).unwrap();
        upload.write_all(&vec![n; 100_000]).unwrap();
        barrier.wait();
        match upload.commit() {
            Ok(()) => true,
            Err(Error::AlreadyExists { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    };
    let race = &race;
    let won: Vec<bool> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..6).map(|n| scope.spawn(move || race(n))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = u8::try_from(won.iter().position(|won| *won).unwrap()).unwrap();
    assert_eq!(store.read_small(&full(), 1 << 20).unwrap(), vec![winner; 100_000]);
    assert_eq!(tree(&store.folder()).len(), 4);
}

#[test]
fn reading_back_sees_what_is_on_the_disk() {
    let (_root, store) = store();
    let content: Vec<u8> = (0..3_500_000_u32).map(|n| (n % 251) as u8).collect();
    write(&store, &full(), &content);
    let expected = ReadBack {
        bytes: content.len() as u64,
        sha256: Digest(Sha256::digest(&content).into()),
    };
    assert_eq!(store.read_back(&full()).unwrap(), expected);

    let path = store.path_of(&full());
    let mut altered = content.clone();
    altered[3_000_000] ^= 1;
    fs::write(&path, &altered).unwrap();
    assert_ne!(store.read_back(&full()).unwrap().sha256, expected.sha256);
    fs::write(&path, &content[..3_000_000]).unwrap();
    assert_eq!(store.read_back(&full()).unwrap().bytes, 3_000_000);
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.read_back(&full()), Err(Error::NotFound { .. })));
}

#[test]
fn small_objects_have_a_bound() {
    let (_root, store) = store();
    store.put_new(&manifest_of(CHAIN), &[b'x'; 100]).unwrap();
    assert_eq!(store.read_small(&manifest_of(CHAIN), 100).unwrap().len(), 100);
    assert!(matches!(
        store.read_small(&manifest_of(CHAIN), 99),
        Err(Error::Unfit { .. })
    ));
}

#[test]
fn a_listing_tells_ours_from_foreign_and_follows_no_link() {
    let (root, store) = store();
    write(&store, &full(), b"12345");
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("full.db.zst.age"), b"x").unwrap();
    symlink(&elsewhere, store.folder().join("ab/20261120T101530Z-00000000")).unwrap();
    symlink(
        store.path_of(&full()),
        store.folder().join(format!("ab/{CHAIN}/pin.json")),
    )
    .unwrap();
    leave(&store, "lost+found/deep/file");
    leave(&store, &format!("ab/{CHAIN}/notes.txt"));
    leave(&store, &format!("ab/{CHAIN}/checks/deep/file"));
    leave(&store, &format!("ab/{CHAIN}/.full.db.zst.age.0123456789abcdef.partial"));
    leave(&store, &format!("ab/{CHAIN}/.notes.txt.0123456789abcdef.partial"));
    fs::create_dir(store.folder().join("cd")).unwrap();

    let objects = store.list().unwrap();
    let mut foreign = Vec::new();
    let mut others = Vec::new();
    for object in &objects {
        match &object.name {
            Listed::Foreign(path) => foreign.push(path.as_str()),
            Listed::Ours(name) => others.push(name.to_string()),
            Listed::Partial { path, of } => {
                assert_eq!(*of, full());
                others.push(path.clone());
            }
            Listed::EmptyFolder { path, .. } => others.push(path.clone()),
            Listed::Unreadable { path, .. } => panic!("{path}"),
        }
    }
    foreign.sort_unstable();
    others.sort();
    let in_chain = |name: &str| format!("ab/{CHAIN}/{name}");
    assert_eq!(
        foreign,
        [
            "ab/20261120T101530Z-00000000",
            &in_chain(".notes.txt.0123456789abcdef.partial"),
            &in_chain("checks/deep"),
            &in_chain("notes.txt"),
            &in_chain("pin.json"),
            "lost+found",
        ]
    );
    let partial = in_chain(".full.db.zst.age.0123456789abcdef.partial");
    assert_eq!(others, [partial.as_str(), &full().to_string(), "cd", "store.json"]);
    let listed = objects
        .iter()
        .find(|object| object.name == Listed::Ours(full()))
        .unwrap();
    assert_eq!(listed.bytes, 5);
}

#[test]
fn an_object_that_is_a_link_or_a_folder_is_not_read() {
    let (root, store) = store();
    fs::write(root.path().join("secret"), b"secret").unwrap();
    fs::create_dir_all(store.path_of(&full()).parent().unwrap()).unwrap();
    symlink(root.path().join("secret"), store.path_of(&full())).unwrap();
    assert!(matches!(store.open_object(&full()), Err(Error::Unfit { .. })));
    fs::remove_file(store.path_of(&full())).unwrap();
    fs::create_dir(store.path_of(&full())).unwrap();
    assert!(matches!(store.open_object(&full()), Err(Error::Unfit { .. })));
}

#[test]
fn removing_the_last_object_removes_its_folders() {
    let (_root, store) = store();
    write(&store, &full(), b"x");
    store.put_new(&manifest_of(CHAIN), b"{}").unwrap();
    store.remove(&full()).unwrap();
    assert!(store.path_of(&manifest_of(CHAIN)).exists());
    store.remove(&manifest_of(CHAIN)).unwrap();
    assert_eq!(tree(&store.folder()), ["store.json"]);
    assert!(matches!(store.remove(&full()), Err(Error::NotFound { .. })));
}

#[test]
fn a_store_gets_its_marker_once() {
    let (root, store) = store();
    let again = Store::open(&root.path().into(), &cluster(), store.id().map(known).as_ref(), WRITE).unwrap();
    assert_eq!(again.id(), store.id());
    let reading = Store::open(&root.path().into(), &cluster(), None, Access::Read).unwrap();
    assert_eq!(reading.id(), store.id());
    assert_eq!(Store::clusters(&root.path().into()).unwrap(), [cluster()]);
    let other = Store::open(&root.path().into(), &"test".parse().unwrap(), None, WRITE).unwrap();
    assert_ne!(other.id(), store.id());
}

#[test]
fn writers_that_open_a_new_store_together_agree_on_it() {
    let root = tempfile::tempdir().unwrap();
    let barrier = std::sync::Barrier::new(6);
    let ids: Vec<StoreId> = std::thread::scope(|scope| {
        let open = || {
            barrier.wait();
            let store = Store::open(&root.path().into(), &cluster(), None, WRITE).unwrap();
            store.id().unwrap().clone()
        };
        let openers: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
        openers.into_iter().map(|opener| opener.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[test]
fn reading_makes_no_store() {
    let root = tempfile::tempdir().unwrap();
    let opened = Store::open(&root.path().into(), &cluster(), None, Access::Read);
    assert!(matches!(opened, Err(Error::NoStore { .. })));
    assert!(tree(root.path()).is_empty());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "stands for an unmount")]
fn a_store_that_this_host_knows_is_never_made_anew() {
    let (root, store) = store();
    let known = store.id().map(known);
    for access in [Access::Read, WRITE] {
        let open = || Store::open(&root.path().into(), &cluster(), known.as_ref(), access);
        assert!(open().is_ok());
        fs::rename(store.folder(), root.path().join("away")).unwrap();
        assert!(matches!(open(), Err(Error::NotMounted { .. })), "unmounted");
        fs::create_dir(store.folder()).unwrap();
        assert!(matches!(open(), Err(Error::NotMounted { .. })), "an empty mount point");
        fs::remove_dir(store.folder()).unwrap();
        fs::rename(root.path().join("away"), store.folder()).unwrap();
    }
    let gone = root.path().join("gone");
    let opened = Store::open(&gone.as_path().into(), &cluster(), known.as_ref(), WRITE);
    assert!(matches!(opened, Err(Error::NotMounted { .. })));
    let opened = Store::open(&gone.as_path().into(), &cluster(), None, WRITE);
    assert!(matches!(&opened, Err(Error::RootMissing { root }) if *root == gone));
    assert!(!gone.exists());
}

#[test]
fn another_store_in_its_place_is_refused() {
    let (root, store) = store();
    let other = known(&"0".repeat(32).parse().unwrap());
    let opened = Store::open(&root.path().into(), &cluster(), Some(&other), WRITE);
    match opened {
        Err(Error::WrongStore { found, .. }) => assert_eq!(Some(&found), store.id()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn backups_without_a_marker_can_be_read_and_not_added_to() {
    let (root, store) = store();
    write(&store, &full(), b"x");
    fs::remove_file(store.path_of(&ObjectName::StoreMarker)).unwrap();
    let open = |expected, access| Store::open(&root.path().into(), &cluster(), expected, access);
    assert_eq!(open(None, Access::Read).unwrap().id(), None);
    assert!(matches!(open(None, WRITE), Err(Error::MarkerMissing { .. })));
    assert!(matches!(
        open(store.id().map(known).as_ref(), Access::Read),
        Err(Error::MarkerMissing { .. })
    ));
    assert!(!store.path_of(&ObjectName::StoreMarker).exists());
}

#[test]
fn a_damaged_marker_is_reported_and_kept() {
    let (root, store) = store();
    let path = store.path_of(&ObjectName::StoreMarker);
    let later = format!(
        "{{\"format\":2,\"store_id\":\"{}\",\"created_at\":\"2026-11-20T10:15:30Z\"}}",
        "0".repeat(32)
    );
    for rotten in ["", "{}", &later] {
        fs::write(&path, rotten).unwrap();
        let opened = Store::open(&root.path().into(), &cluster(), None, WRITE);
        assert!(matches!(opened, Err(Error::MarkerDamaged { .. })), "{rotten}");
        assert_eq!(fs::read_to_string(&path).unwrap(), rotten);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "stands for an unmount")]
fn a_store_that_goes_away_is_not_written_to() {
    let (root, store) = store();
    fs::rename(store.folder(), root.path().join("away")).unwrap();
    assert!(matches!(store.begin(&full()), Err(Error::NotFound { .. })));
    assert!(matches!(store.put_new(&full(), b"x"), Err(Error::NotFound { .. })));
    assert!(!store.folder().exists());
}

#[test]
fn the_catalog_has_what_the_folder_has() {
    let (_root, store) = store();
    write(&store, &full(), b"x");
    store.put_new(&manifest_of(CHAIN), b"rotten").unwrap();
    leave(&store, "ab/20261120T101530Z-00000000/full.db.zst.age");
    let catalog = store.catalog("local").unwrap();
    assert_eq!(catalog.damaged().len(), 1);
    assert_eq!(catalog.damaged()[0].object, manifest_of(CHAIN));
    assert_eq!(catalog.incomplete().len(), 1);
    assert!(catalog.backups().is_empty());
}

#[test]
fn a_catalog_read_by_several_threads_has_everything_in_order() {
    let (_root, store) = store();
    let count = 1600;
    let chains = (0..count).map(|n| format!("20261120T{:02}{:02}30Z-{n:08x}", n / 60 % 24, n % 60));
    for (n, chain) in chains.enumerate() {
        let manifest = crate::catalog::tests::manifest(0xab, &chain, 10);
        leave(&store, &manifest.name().to_string());
        // Every hundredth stays as it was left, which is no manifest.
        if n % 100 != 0 {
            fs::write(store.path_of(&manifest.name()), manifest.to_bytes()).unwrap();
        }
    }
    let catalog = store.catalog("local").unwrap();
    assert_eq!((catalog.backups().len(), catalog.damaged().len()), (count - 16, 16));
    assert!(catalog.backups().is_sorted_by(|a, b| a.id() < b.id()));
    assert!(catalog.damaged().is_sorted_by(|a, b| a.object < b.object));
}

#[test]
fn a_canary_comes_back_each_time() {
    let (_root, store) = store();
    let host = HostName::nearest("node-1");
    store.try_canary(&host).unwrap();
    store.try_canary(&host).unwrap();
    assert_eq!(tree(&store.folder()), ["canary", "canary/node-1", "store.json"]);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the file system has no other clock to compare with"
)]
fn the_stores_clock_runs_and_leaves_nothing() {
    let (_root, store) = store();
    let here = Timestamp::now();
    let there = store.now().unwrap();
    assert!(
        there.duration_since(here).abs() < SignedDuration::from_mins(1),
        "{here} {there}"
    );
    assert_eq!(tree(&store.folder()), ["store.json"]);
}

#[test]
fn in_the_place_of_a_check_that_was_superseded_since_it_was_listed_the_next_is_read() {
    let (_root, store) = store();
    let check = |day| {
        let time = format!("2026-11-2{day}T00:00:00Z").parse().unwrap();
        ObjectName::Check(chain(CHAIN), time, HostName::nearest("a"))
    };
    store.put_new(&check(1), b"bad").unwrap();
    store.put_new(&check(2), b"bad again").unwrap();
    store.remove(&check(1)).unwrap();
    let read = store.inner().document(&check(1), &|| {}).unwrap();
    assert_eq!((read.name, read.content), (check(2), Ok(b"bad again".to_vec())));
    store.remove(&check(2)).unwrap();
    assert_eq!(store.inner().document(&check(1), &|| {}), None, "the backup is gone");
}

const DEAD: &str = "20261120T000000Z-0000dead";
const LIVE: &str = "20261120T000000Z-00001111";
const NOBODYS: &str = "20261120T000000Z-00002222";
const COMPLETE: &str = "20261120T000000Z-0000dea1";
const MIXED: &str = "20261120T000000Z-0000dea2";
const EMPTY: &str = "20261120T000000Z-0000dea3";

fn full_of(chain: &str) -> String {
    format!("ab/{chain}/full.db.zst.age")
}

fn partial_of(chain: &str) -> String {
    format!("ab/{chain}/.full.db.zst.age.0123456789abcdef.partial")
}

fn pin_of(chain: &str) -> String {
    format!("ab/{chain}/pin.json")
}

fn check_of(chain: &str) -> String {
    format!("ab/{chain}/checks/20261121T000000Z-a.json")
}

/// A store after several runs were killed at different moments.
fn after_kills() -> (tempfile::TempDir, Store, Begun) {
    let (root, store) = store();
    for chain in [DEAD, LIVE, NOBODYS, COMPLETE, MIXED] {
        leave(&store, &full_of(chain));
        leave(&store, &partial_of(chain));
        leave(&store, &pin_of(chain));
    }
    leave(&store, &manifest_of(COMPLETE).to_string());
    // One was written while retention removed the chain.
    leave(&store, &check_of(COMPLETE));
    leave(&store, &check_of(NOBODYS));
    leave(
        &store,
        &format!("ab/{MIXED}/00000000000000000007-00000000000000000009.json"),
    );
    leave(&store, "lineages/.00000001.json.0123456789abcdef.partial");
    leave(&store, "foreign/.x.0123456789abcdef.partial");
    fs::create_dir(store.folder().join(format!("ab/{EMPTY}"))).unwrap();
    let ids = |chains: &[&str]| chains.iter().map(|chain| chain.parse().unwrap()).collect();
    let begun = Begun {
        live: ids(&[LIVE]),
        dead: ids(&[DEAD, COMPLETE, MIXED, EMPTY]),
        host: "h1".to_owned(),
    };
    (root, store, begun)
}

fn paths(swept: &[Swept]) -> Vec<String> {
    let mut paths: Vec<_> = swept.iter().map(|swept| swept.path.clone()).collect();
    paths.sort();
    paths
}

#[test]
fn a_sweep_removes_at_once_what_runs_of_this_host_left() {
    let (_root, store, begun) = after_kills();
    let swept = store.sweep(&begun).unwrap();
    assert_eq!(
        paths(&swept),
        [format!("ab/{EMPTY}"), partial_of(DEAD), full_of(DEAD), pin_of(DEAD)]
    );
    let left = tree(&store.folder());
    assert!(
        !left.iter().any(|path| path.contains(DEAD) || path.contains(EMPTY)),
        "{left:?}"
    );
    for kept in [LIVE, NOBODYS, COMPLETE, MIXED] {
        assert!(
            left.contains(&full_of(kept)) && left.contains(&partial_of(kept)),
            "{kept}"
        );
    }
}

#[test]
fn what_a_sweep_cannot_remove_is_its_error_and_keeps_none_of_the_rest() {
    let (_root, store, begun) = after_kills();
    let stuck = store.folder().join(partial_of(DEAD));
    let change = |flag: &str| {
        let done = std::process::Command::new("chattr").arg(flag).arg(&stuck).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !change("+i") {
        eprintln!("skipped: chattr +i needs root and a file system that can");
        return;
    }
    let swept = store.sweep(&begun);
    let left = tree(&store.folder());
    assert!(change("-i"));
    assert!(
        matches!(&swept, Err(error) if error.to_string().contains(DEAD)),
        "{swept:?}"
    );
    assert!(
        left.contains(&partial_of(DEAD)) && !left.contains(&full_of(DEAD)),
        "{left:?}"
    );
    assert!(!left.contains(&pin_of(DEAD)), "{left:?}");
    assert_eq!(paths(&store.sweep(&begun).unwrap()), [partial_of(DEAD)], "the next one");
}

#[test]
fn a_sweep_removes_after_a_day_what_nobody_answers_for() {
    let (_root, store, begun) = after_kills();
    let now = store.now().unwrap();
    let nearly = now + SignedDuration::from_hours(24) - SignedDuration::from_mins(5);
    assert_eq!(
        store.inner().sweep_at(&begun, nearly, &|| {}).unwrap().len(),
        4,
        "those of the dead run only"
    );
    let swept = store.inner().sweep_at(
        &begun,
        now + SignedDuration::from_hours(24) + SignedDuration::from_mins(5),
        &|| {},
    );
    assert_eq!(
        paths(&swept.unwrap()),
        [
            partial_of(NOBODYS),
            check_of(NOBODYS),
            full_of(NOBODYS),
            pin_of(NOBODYS),
            partial_of(COMPLETE),
            "lineages/.00000001.json.0123456789abcdef.partial".to_owned(),
        ]
    );
    let left = tree(&store.folder());
    for kept in [
        full_of(LIVE),
        partial_of(LIVE),
        full_of(COMPLETE),
        manifest_of(COMPLETE).to_string(),
        check_of(COMPLETE),
        pin_of(COMPLETE),
        full_of(MIXED),
        partial_of(MIXED),
        "foreign/.x.0123456789abcdef.partial".to_owned(),
        "store.json".to_owned(),
    ] {
        assert!(left.contains(&kept), "{kept}");
    }
    assert!(
        !left.iter().any(|path| path == "lineages" || path.contains(NOBODYS)),
        "{left:?}"
    );
}

/// A slot and a host's word on it, as it is written at `now`.
fn claim(state: State, now: Timestamp) -> (SlotPath, Claim) {
    let slot = SlotPath::new("hourly".parse().unwrap(), "2026-11-20T10:00:00Z".parse().unwrap());
    let claim = Claim::new(&HostName::nearest("h1"), "1a2b", &NOBODYS.parse().unwrap(), state, now);
    (slot, claim)
}

fn put_claim(store: &Store, number: u32, state: State) -> Result<(), Error> {
    let (slot, claim) = claim(state, store.now().unwrap());
    store.put_new(&ObjectName::Claim(slot, number), &claim.to_bytes())
}

#[test]
fn of_the_claims_of_a_slot_the_highest_number_is_found_and_none_is_written_twice() {
    let (_root, store) = store();
    let (slot, _) = claim(State::Taking, Timestamp::UNIX_EPOCH);
    assert_eq!(store.newest_claim(&slot).unwrap(), (None, 1));
    for number in [1, 2, 10] {
        put_claim(&store, number, State::Taking).unwrap();
    }
    let taken = put_claim(&store, 10, State::Taking);
    assert!(matches!(taken, Err(Error::AlreadyExists { .. })), "{taken:?}");
    leave(&store, "slots/hourly/20261120T100000Z.011.json");
    leave(&store, "slots/hourly/20261120T110000Z.12.json");
    let newest = store.newest_claim(&slot).unwrap().0.unwrap();
    assert_eq!(newest.number, 10);
    assert!(newest.is_live(store.now().unwrap()));
    leave(&store, "slots/hourly/20261120T100000Z.11.json");
    let damaged = store.newest_claim(&slot).unwrap().0.unwrap();
    assert!(damaged.claim.is_err() && damaged.is_live(store.now().unwrap()));
    fs::remove_dir_all(store.folder()).unwrap();
    assert!(
        store.newest_claim(&slot).is_err(),
        "a store that is gone is not one without claims"
    );
}

#[test]
fn claims_of_strangers_are_passed_by_with_a_bound_and_a_sign_of_life_for_each() {
    let (_root, store) = store();
    let own = Arc::new(SigningKey::of_seed(Role::Signer, [1; 32]));
    let named = Authority::anybody(&cluster()).trusting(Trust::of([own.public()]));
    let store = store.under(Arc::new(named.signing(own)));
    let (slot, word) = claim(State::Taking, store.now().unwrap());
    write(&store, &ObjectName::Claim(slot.clone(), 1), &word.to_bytes());
    let forge = |number: u32| {
        let path = store.path_of(&ObjectName::Claim(slot.clone(), number));
        fs::write(path, word.to_bytes()).unwrap();
    };
    let look = || {
        let signs = Cell::new(0);
        let found = store
            .inner()
            .newest_claim(&slot, &|| signs.set(signs.get() + 1))
            .unwrap();
        (found.0.map(|found| found.number), found.1, signs.get())
    };
    let put = |number: u32| {
        store
            .put_document(&ObjectName::Claim(slot.clone(), number), &word.to_bytes())
            .unwrap()
    };
    put(2);
    for number in 0..1200 {
        forge(u32::MAX - number);
    }
    let (newest, next, signs) = look();
    assert_eq!((newest, next), (Some(2), 3));
    assert!(signs < 20, "none from far above is read: {signs}");
    // A stranger who takes the next numbers is read, and keeps nobody waiting for ever.
    for number in 3..=1100 {
        forge(number);
    }
    let (newest, next, signs) = look();
    assert_eq!((newest, next), (None, 1101), "as good as free");
    assert!((1000..1020).contains(&signs), "{signs}");
    put(1101);
    assert_eq!(look().0, Some(1101));

    let now = store.now().unwrap();
    let listed = store.list().unwrap();
    let signs = Cell::new(0);
    let swept = store
        .inner()
        .claimed_chains(&listed, now, &|| signs.set(signs.get() + 1));
    assert!(matches!(swept, Err(Error::Unfit { .. })), "{swept:?}");
    assert!(signs.get() > 1000);
}

#[test]
fn a_sweep_leaves_what_a_live_claim_names_and_removes_claims_after_a_week_all_at_once() {
    let (_root, store) = store();
    leave(&store, &full_of(NOBODYS));
    let now = store.now().unwrap();
    let set_back = |path: &str, hours: i64| {
        let back = std::time::SystemTime::from(now - SignedDuration::from_hours(hours));
        let file = fs::File::options().write(true).open(store.folder().join(path)).unwrap();
        file.set_modified(back).unwrap();
    };
    set_back(&full_of(NOBODYS), 48);
    put_claim(&store, 1, State::Taking).unwrap();
    assert_eq!(store.sweep(&Begun::default()).unwrap(), [], "somebody works on it");
    // Another host may be copying what a run of this one has left elsewhere too.
    let dead = |host: &str| Begun {
        dead: [NOBODYS.parse().unwrap()].into(),
        host: host.to_owned(),
        ..Begun::default()
    };
    assert_eq!(store.sweep(&dead("h2")).unwrap(), [], "another host works on it");
    assert_eq!(paths(&store.sweep(&dead("h1")).unwrap()), [full_of(NOBODYS)]);
    leave(&store, &full_of(NOBODYS));
    set_back(&full_of(NOBODYS), 48);
    put_claim(&store, 2, State::GivenUp).unwrap();
    set_back("slots/hourly/20261120T100000Z.1.json", 7 * 24 + 1);
    let swept = paths(&store.sweep(&Begun::default()).unwrap());
    assert_eq!(swept, [full_of(NOBODYS)], "the first claim stays as long as the second");
    set_back("slots/hourly/20261120T100000Z.2.json", 7 * 24 + 1);
    assert_eq!(store.sweep(&Begun::default()).unwrap().len(), 2);
    assert_eq!(tree(&store.folder()), ["store.json"]);
}

#[test]
fn an_object_whose_manifest_is_just_being_written_is_not_old() {
    let (_root, store) = store();
    leave(&store, &full_of(NOBODYS));
    let path = store.folder().join(full_of(NOBODYS));
    let day_before = std::time::SystemTime::from(store.now().unwrap() - SignedDuration::from_hours(48));
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(day_before)
        .unwrap();
    leave(
        &store,
        &format!("ab/{NOBODYS}/.full-00000000000000000007.json.0123456789abcdef.partial"),
    );
    assert_eq!(store.sweep(&Begun::default()).unwrap(), []);
    fs::remove_file(store.folder().join(format!(
        "ab/{NOBODYS}/.full-00000000000000000007.json.0123456789abcdef.partial"
    )))
    .unwrap();
    assert_eq!(paths(&store.sweep(&Begun::default()).unwrap()), [full_of(NOBODYS)]);
}

/// A file system of a few pages that is taken away with the value; none where this process may not mount.
struct SmallFilesystem(tempfile::TempDir);

impl SmallFilesystem {
    fn mount(options: &str) -> Option<SmallFilesystem> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        mount.stderr(std::process::Stdio::null());
        if geteuid().is_root() && mount.status().is_ok_and(|status| status.success()) {
            return Some(SmallFilesystem(folder));
        }
        eprintln!("skipped: mounting a tmpfs needs root");
        None
    }

    fn remount(&self, options: &str) {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-o", options]).arg(self.0.path());
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for SmallFilesystem {
    fn drop(&mut self) {
        std::process::Command::new("umount")
            .arg(self.0.path())
            .status()
            .unwrap();
    }
}

#[test]
fn a_full_disk_is_told_as_such_and_nothing_is_left() {
    let Some(disk) = SmallFilesystem::mount("size=1m") else {
        return;
    };
    let store = Store::open(&disk.0.path().into(), &cluster(), None, WRITE).unwrap();
    let space = store.free_space().unwrap().unwrap();
    assert!(space.total == 1 << 20 && space.available < space.total, "{space:?}");
    let mut upload = store.begin(&full()).unwrap();
    let error = upload.write_all(&vec![1; 2 << 20]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let told = error.get_ref().unwrap().downcast_ref::<Error>();
    assert!(matches!(told, Some(Error::Full { .. })), "{told:?}");
    let path = store.path_of(&full()).display().to_string();
    assert!(
        error.to_string().contains(&path) && error.to_string().contains("free some"),
        "{error}"
    );
    drop(upload);
    assert_eq!(tree(&store.folder()), ["store.json"]);
    write(&store, &full(), b"small enough");
}

#[test]
fn a_read_only_disk_is_told_as_such_and_can_be_read() {
    let Some(disk) = SmallFilesystem::mount("size=1m") else {
        return;
    };
    let store = Store::open(&disk.0.path().into(), &cluster(), None, WRITE).unwrap();
    write(&store, &full(), b"x");
    disk.remount("remount,ro");
    let again = Store::open(&disk.0.path().into(), &cluster(), store.id().map(known).as_ref(), WRITE).unwrap();
    assert!(matches!(again.begin(&manifest_of(CHAIN)), Err(Error::ReadOnly { .. })));
    assert!(matches!(
        again.try_canary(&HostName::nearest("a")),
        Err(Error::ReadOnly { .. })
    ));
    assert_eq!(again.read_back(&full()).unwrap().bytes, 1);
    disk.remount("remount,rw");
}

/// Runs on a thread that is another user to the file system, so that it holds for root too.
fn as_nobody<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            nix::unistd::setfsuid(Uid::from_raw(65534));
            what()
        });
        run.join().unwrap()
    })
}

#[test]
fn a_folder_that_cannot_be_looked_into_hides_nothing_else() {
    let (root, store) = store();
    let other = "20261121T101530Z-9f3c4a1b";
    for id in [CHAIN, other] {
        store.put_new(&ObjectName::Full(chain(id)), b"x").unwrap();
        store.put_new(&manifest_of(id), b"{}").unwrap();
    }
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let closed = store.folder().join(format!("ab/{CHAIN}"));
    for path in [
        root.path(),
        &store.folder(),
        &store.folder().join("ab"),
        closed.parent().unwrap(),
    ] {
        open(path, 0o755);
    }
    open(&store.folder().join(format!("ab/{other}")), 0o755);
    open(&closed, 0o000);
    let listed = as_nobody(|| store.list()).unwrap();
    let catalog = as_nobody(|| store.catalog("local")).unwrap();
    // The folder can be listed, but nothing in it looked at.
    open(&closed, 0o744);
    let half_open = as_nobody(|| store.list()).unwrap();
    open(&closed, 0o755);

    let names = |listed: &[ListedObject]| {
        let ours = listed.iter().filter_map(|object| match &object.name {
            Listed::Ours(name) => name.chain().map(|path| path.chain.to_string()),
            Listed::Partial { .. } | Listed::EmptyFolder { .. } | Listed::Foreign(_) | Listed::Unreadable { .. } => {
                None
            }
        });
        let unreadable = listed.iter().filter_map(|object| match &object.name {
            Listed::Unreadable { path, why } => Some((path.clone(), why.contains("ermission denied"))),
            Listed::Ours(_) | Listed::Partial { .. } | Listed::EmptyFolder { .. } | Listed::Foreign(_) => None,
        });
        let mut unreadable: Vec<_> = unreadable.collect();
        unreadable.sort();
        (ours.collect::<Vec<_>>(), unreadable)
    };
    let folder = format!("ab/{CHAIN}");
    assert_eq!(
        names(&listed),
        (vec![other.to_owned(); 2], vec![(folder.clone(), true)])
    );
    assert_eq!(catalog.unreadable()[0].path, folder);
    assert_eq!(catalog.unreadable()[0].destination, "local");
    let inside = ["full-00000000000000000007.json", "full.db.zst.age"].map(|name| (format!("{folder}/{name}"), true));
    assert_eq!(names(&half_open), (vec![other.to_owned(); 2], inside.to_vec()));
}

#[test]
fn whoever_concludes_from_what_is_not_there_is_told_that_it_cannot_be_looked_into() {
    let (root, store) = store();
    store.put_new(&manifest_of(CHAIN), b"{}").unwrap();
    let (slot, claim) = claim(State::Taking, Timestamp::UNIX_EPOCH);
    store
        .put_new(&ObjectName::Claim(slot.clone(), 1), &claim.to_bytes())
        .unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let of_slots = store.path_of(&ObjectName::Claim(slot.clone(), 1));
    let closed = [
        store.folder().join(format!("ab/{CHAIN}")),
        of_slots.parent().unwrap().to_owned(),
    ];
    for path in [
        root.path(),
        &store.folder(),
        &store.folder().join("ab"),
        &store.folder().join("slots"),
    ] {
        open(path, 0o755);
    }
    closed.iter().for_each(|path| open(path, 0o000));
    let found = as_nobody(|| store.newest_claim(&slot));
    let has = as_nobody(|| store.inner().has_manifest(&chain(CHAIN), &|| {}));
    closed.iter().for_each(|path| open(path, 0o755));
    assert!(matches!(found, Err(Error::Io { .. })), "{found:?}");
    assert!(matches!(has, Err(Error::Io { .. })), "{has:?}");
    assert!(store.inner().has_manifest(&chain(CHAIN), &|| {}).unwrap());
}

#[test]
fn a_store_that_cannot_be_looked_into_is_not_taken_for_an_empty_one() {
    let (root, store) = store();
    store.put_new(&ObjectName::Full(chain(CHAIN)), b"x").unwrap();
    fs::remove_file(store.folder().join("store.json")).unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [root.path(), &store.folder()] {
        open(path, 0o777);
    }
    open(&store.folder().join("ab"), 0o000);
    let opened = as_nobody(|| Store::open(&root.path().into(), &cluster(), None, WRITE));
    open(&store.folder().join("ab"), 0o755);
    assert!(matches!(opened, Err(Error::MarkerMissing { .. })), "{opened:?}");
}
