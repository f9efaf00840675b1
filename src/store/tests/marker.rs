//! Stores get a marker once, and one without, or with another, is not written to.

use super::*;

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
