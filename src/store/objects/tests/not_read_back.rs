//! Stores that are not read back: what they acknowledge.

use super::*;

#[test]
fn what_is_not_read_back_is_acknowledged_by_the_stores_own_checksum() {
    let server = Server::new(now());
    let store = unread_store(&server, Limits::default()).unwrap();
    let lineage = backup(b"x", "20261120T101530Z-00000001", 10).lineage;
    for (number, bytes) in [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7].into_iter().enumerate() {
        let content = content(bytes);
        let id = format!("20261120T101530Z-0000000{number}");
        server.asked();
        let mut backup = backup(&content, &id, 10 + number as i64);
        backup.lineage = lineage.clone();
        write(&store, &backup, &content).unwrap();
        let asked = server.asked();
        assert!(!asked.contains(&Kind::Get) && !asked.contains(&Kind::Head), "{asked:?}");
    }
    let catalog = store.catalog("s3").unwrap();
    assert_eq!(catalog.backups().len(), 6);
    assert!(
        catalog
            .backups()
            .iter()
            .all(|backup| backup.proof() == Proof::Acknowledged && backup.is_good())
    );
    assert_eq!(catalog.latest().unwrap().revision().get(), 15);
    // A host that does not say so of the same bucket is not content with it.
    let other = store_with(&server, Limits::default()).unwrap().catalog("s3").unwrap();
    assert!(
        other
            .backups()
            .iter()
            .all(|backup| backup.proof() == Proof::Acknowledged && !backup.is_good())
    );
    assert!(other.latest().is_err());

    // Other bytes than were sent, in one part or in several; the lost reply to a completion is settled in the same way.
    for (number, bytes) in [(7, 100), (8, PART + 1)] {
        let mut rots = true;
        server.fail(move |kind, _| match kind {
            Kind::Put | Kind::Part if std::mem::take(&mut rots) => Fault::Rots,
            _ => Fault::None,
        });
        let content = content(bytes);
        let backup = backup(&content, &format!("20261120T101530Z-0000000{number}"), 20 + number);
        let refused = write(&store, &backup, &content).unwrap_err();
        assert!(matches!(refused, Error::Unacknowledged { .. }), "{refused}");
    }
    let mut lost = true;
    server.fail(move |kind, _| match kind {
        Kind::Complete if std::mem::take(&mut lost) => Fault::LostReply,
        _ => Fault::None,
    });
    let content = content(2 * PART);
    write(&store, &backup(&content, "20261120T101530Z-00000009", 30), &content).unwrap();
    assert_eq!(store.catalog("s3").unwrap().backups().len(), 7);
}

/// What somebody may do who may write, list, and read the small documents.
fn who_may_only_write(kind: Kind, key: &str) -> Fault {
    match kind {
        Kind::Get | Kind::Head if key.ends_with(".age") => Fault::Status(403),
        _ => Fault::None,
    }
}

#[test]
fn what_is_not_read_back_is_known_again_by_what_a_listing_tells_of_it() {
    let server = Server::new(now());
    let store = unread_store(&server, Limits::default()).unwrap();
    for (number, bytes, of) in [(1, 100, Kind::Put), (2, 2 * PART + 1, Kind::Complete)] {
        let content = content(bytes);
        let backup = backup(&content, &format!("20261120T101530Z-0000000{number}"), 10);
        let object = backup.object_name();
        // The reply is lost, and the same is tried again: the name is taken, or there is no such upload any more.
        let mut is_lost = true;
        server.fail(
            move |kind, key| match kind == of && key.ends_with(".age") && std::mem::take(&mut is_lost) {
                true => Fault::LostReply,
                false => who_may_only_write(kind, key),
            },
        );
        write(&store, &backup, &content).unwrap();
        // Written by a run that was killed before the manifest.
        server.fail(who_may_only_write);
        store.remove(&backup.name()).unwrap();
        let mut again = store.begin(&object).unwrap();
        again.write_all(&content).unwrap();
        again.commit().unwrap();
        // As long, and other bytes.
        let mut other = content.clone();
        other[0] ^= 1;
        let mut another = store.begin(&object).unwrap();
        another.write_all(&other).unwrap();
        let refused = another.commit().unwrap_err();
        assert!(matches!(refused, Error::AlreadyExists { .. }), "{refused}");
        assert_eq!(server.content(&format!("etcd/prod/{object}")), Some(content));
        assert_eq!(server.open_uploads(), 0);
    }
}
