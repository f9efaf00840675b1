//! What a server enforces, and its locks.

use super::*;

#[test]
fn what_a_server_enforces_is_tried_and_nothing_is_left_of_it() {
    use crate::store::{Answer, Enforces, OfKind};
    let server = Server::new(now());
    let store = store(&server);
    let host = "node-1".parse().unwrap();
    let strict = Enforces {
        new_only: Answer::Yes,
        parts_new_only: Answer::Yes,
        kind: OfKind {
            checksums: Some(vec!["crc32c"]),
            acknowledges: Answer::Yes,
            object_lock: Answer::No,
            versioning: Answer::No,
        },
        removes: Answer::Yes,
        lists_uploads: Answer::Yes,
    };
    let names = || store.list().unwrap().len();
    assert_eq!(store.probe(&host).unwrap(), strict);
    assert_eq!((names(), server.open_uploads()), (1, 0), "its marker alone");
    server.fail(|kind, _| match kind {
        Kind::Delete => Fault::Status(403),
        Kind::Uploads => Fault::Status(501),
        Kind::Lock => Fault::Status(403),
        _ => Fault::None,
    });
    server.ignore_conditions();
    let lax = store.probe(&host).unwrap();
    let expected = Enforces {
        new_only: Answer::No,
        parts_new_only: Answer::No,
        kind: OfKind {
            object_lock: Answer::Unknown,
            ..strict.kind
        },
        removes: Answer::No,
        lists_uploads: Answer::No,
    };
    assert_eq!(lax, expected);
    // A failure in the middle leaves nothing either.
    server.fail(|kind, _| match kind {
        Kind::Lock => Fault::Status(500),
        _ => Fault::None,
    });
    assert_eq!(store.probe(&host).unwrap().kind.object_lock, Answer::Unknown);
    server.fail(|kind, _| match kind {
        Kind::Part => Fault::Status(500),
        _ => Fault::None,
    });
    store.probe(&host).unwrap_err();
    server.work();
    assert_eq!((names(), server.open_uploads()), (1, 0), "its marker alone");
}

#[test]
fn a_checksum_that_nobody_could_look_at_is_not_called_enforced() {
    let server = Server::new(now());
    let store = store(&server);
    let host = "node-1".parse().unwrap();
    let mut puts = 0;
    server.fail(move |kind, _| match kind {
        // The canary, another in its place, one with the right checksum; then those with wrong ones.
        Kind::Put => {
            puts += 1;
            match puts {
                4.. => Fault::Status(403),
                _ => Fault::None,
            }
        }
        _ => Fault::None,
    });
    assert_eq!(store.probe(&host).unwrap().kind.checksums, None);
}

#[test]
fn a_lock_is_asked_for_wherever_the_bucket_has_locks_and_is_not_guessed() {
    let until: Timestamp = "2026-12-20T10:15:30Z".parse().unwrap();
    let object = backup_of(b"x").object_name();
    let locking = |server: &Server| {
        let mut bucket = bucket();
        bucket.options.object_lock = Some(Duration::from_secs(24 * 3600));
        store_over(objects_of(server, bucket), Limits::default()).unwrap()
    };
    let asked_for = |server: &Server, of: Kind| server.asked().iter().filter(|kind| **kind == of).count();
    // It was locked by another, or by this host before that was taken out of its configuration.
    let server = Server::new(now());
    let store = store(&server);
    store.put_new(&object, b"x").unwrap();
    server.lock(&until.to_string());
    server.asked();
    for _ in 0..3 {
        assert_eq!(store.locked_until(&object).unwrap(), Some(until));
    }
    assert_eq!(asked_for(&server, Kind::Lock), 1);
    let refused = |kinds: &'static [Kind]| {
        server.fail(move |kind, _| match kinds.contains(&kind) {
            true => Fault::Status(403),
            false => Fault::None,
        });
    };
    refused(&[Kind::Retention]);
    assert!(matches!(store.locked_until(&object), Err(Error::Refused { .. })));
    // Who may ask for nothing of it is told where locks are configured; elsewhere retention goes on.
    refused(&[Kind::Retention, Kind::Lock]);
    assert_eq!(self::store(&server).locked_until(&object).unwrap(), None);
    assert!(matches!(
        locking(&server).locked_until(&object),
        Err(Error::Refused { .. })
    ));
    // One that cannot tell now is asked again.
    server.fail(|kind, _| match kind {
        Kind::Lock => Fault::Status(503),
        _ => Fault::None,
    });
    let another = self::store(&server);
    another.locked_until(&object).unwrap_err();
    server.work();
    assert_eq!(another.locked_until(&object).unwrap(), Some(until));
    // In an ordinary bucket nothing is.
    let ordinary = Server::new(now());
    let store = self::store(&ordinary);
    store.put_new(&object, b"x").unwrap();
    assert_eq!(store.locked_until(&object).unwrap(), None);
    assert_eq!(asked_for(&ordinary, Kind::Retention), 0);
}

#[test]
fn what_a_server_says_of_a_bucket_and_what_is_missing_to_ask_it_is_told_apart() {
    let at = || "s3://backups/etcd/prod/store.json".to_owned();
    let told = |kind, message: &'static str| failure("read", at(), &opendal::Error::new(kind, message));
    for (kind, message) in [
        (
            ErrorKind::ConfigInvalid,
            "S3Error { code: \"NoSuchBucket\", message: \"The specified bucket does not exist\" }",
        ),
        (
            ErrorKind::NotFound,
            "AzblobError { code: \"ContainerNotFound\", message: \"\" }",
        ),
        (
            ErrorKind::NotFound,
            "GcsError { code: 404, message: \"The specified bucket does not exist.\" }",
        ),
    ] {
        assert!(matches!(told(kind, message), Error::NoBucket { .. }), "{message}");
    }
    let absent = "S3Error { code: \"NoSuchKey\", message: \"The specified key does not exist.\" }";
    assert!(matches!(told(ErrorKind::NotFound, absent), Error::NotFound { .. }));
    let unsigned = opendal::Error::new(ErrorKind::Unexpected, "signing http request")
        .set_source(io::Error::other("failed to load signing credential"));
    assert!(matches!(failure("read", at(), &unsigned), Error::NoCredentials { .. }));
}
