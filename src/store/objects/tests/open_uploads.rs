//! Uploads that were begun and did not end.

use super::*;

#[test]
fn an_upload_that_is_dropped_or_fails_is_taken_back() {
    let server = Server::new(now());
    let store = store(&server);
    let content = content(3 * PART);
    let backup = backup_of(&content);
    let mut upload = store.begin(&backup.object_name()).unwrap();
    upload.write_all(&content).unwrap();
    assert!(server.open_uploads() > 0);
    drop(upload);
    assert_eq!(server.open_uploads(), 0);
    for broken in [Kind::Part, Kind::Complete] {
        server.fail(move |kind, _| match kind == broken {
            true => Fault::Status(403),
            false => Fault::None,
        });
        let refused = write(&store, &backup, &content).unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
        assert_eq!(server.open_uploads(), 0, "{broken:?}");
    }
    server.work();
    assert_eq!(store.list().unwrap().len(), 1, "its marker alone");
}

/// An upload that a run has left open which was killed, or was let go of.
fn leave_open(server: &Server, store: &Store, backup: &Manifest) {
    let mut upload = store.inner().backend().begin(&backup.object_name()).unwrap();
    upload.write_all(&content(3 * PART)).unwrap();
    let before = server.open_uploads();
    server.fail(|kind, _| match kind {
        Kind::Abort => Fault::Status(403),
        _ => Fault::None,
    });
    drop(upload);
    assert_eq!(server.open_uploads(), before);
    server.work();
}

#[test]
fn uploads_of_dead_runs_are_given_up_and_those_of_others_are_not() {
    let server = Server::new(now());
    let store = store(&server);
    let id = |number: i64| format!("20261120T101530Z-{number:08x}");
    let backups: Vec<Manifest> = (1..=9).map(|number| backup(b"x", &id(number), 10 + number)).collect();
    for backup in &backups {
        leave_open(&server, &store, backup);
    }
    let chain = |place: usize| backups[place].chain.clone();
    let begun = crate::store::Begun {
        dead: [chain(0), chain(1)].into(),
        live: [chain(2)].into(),
        ..crate::store::Begun::default()
    };
    // The listing may be behind: its run may have written the manifest last.
    assert_eq!(store.sweep(&begun).unwrap(), []);
    // So that it is not forgotten before.
    let passed_over = || {
        let read = store.read("bucket", Some(&begun)).unwrap();
        read.swept.unwrap().unwrap().passed_over
    };
    assert_eq!(passed_over(), begun.dead);
    server.pass(SignedDuration::from_mins(11));
    let swept = store.sweep(&begun).unwrap();
    assert_eq!(swept.len(), 2, "{swept:?}");
    assert!(swept[0].path.contains("full.db.zst.age?uploadId="), "{swept:?}");
    // More of them may turn up in a listing.
    assert_eq!((server.open_uploads(), passed_over()), (7, begun.dead.clone()));
    // After a day those of all hosts, over two pages; but not that of a run that goes on.
    leave_open(&server, &store, &backups[0]);
    leave_open(&server, &store, &backups[1]);
    server.pass(SignedDuration::from_hours(25));
    assert_eq!(store.sweep(&begun).unwrap().len(), 8);
    assert_eq!((server.open_uploads(), passed_over()), (1, BTreeSet::new()));
}

#[test]
fn a_server_that_does_not_list_uploads_fails_no_sweep() {
    let server = Server::new(now());
    let store = store(&server);
    let lost = backup(b"x", "20261120T101530Z-00000001", 10);
    leave_open(&server, &store, &lost);
    store.put_new(&lost.object_name(), b"x").unwrap();
    server.pass(SignedDuration::from_hours(25));
    for status in [403, 405, 501] {
        server.fail(move |kind, _| match kind {
            Kind::Uploads => Fault::Status(status),
            _ => Fault::None,
        });
        store.sweep(&crate::store::Begun::default()).unwrap();
        assert_eq!(server.open_uploads(), 1);
    }
    assert_eq!(store.list().unwrap().len(), 1, "what is listed is swept all the same");
    // One that cannot tell now is asked again by the next.
    server.fail(|kind, _| match kind {
        Kind::Uploads => Fault::Status(500),
        _ => Fault::None,
    });
    assert!(store.sweep(&crate::store::Begun::default()).is_err());
}
