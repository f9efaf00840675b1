//! Disks that are full, read-only, or that nobody may look into.

use super::claims::claim;
use super::*;

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
