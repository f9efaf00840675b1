//! The promises of a `file:` store, on real folders.

mod claims;
mod failing_disks;
mod marker;
mod sweep;

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
