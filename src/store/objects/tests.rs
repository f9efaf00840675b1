//! Object stores whose server fails in each way.

mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::catalog::tests::manifest;
use crate::layout::{Check, Manifest, Proof};
use crate::model::{ChainId, Digest};
use crate::store::{Access, BucketKind, BucketOptions, Kept, Limits, ReadBack, ReadingBack, Store};
use server::{Fault, Kind, Server};

const PART: u64 = 5 << 20;

/// Of somebody who does not wait long.
const HASTY: Limits = Limits {
    answer: Duration::from_millis(400),
    listing: Duration::from_millis(400),
};

fn now() -> Timestamp {
    "2026-11-20T10:15:30Z".parse().unwrap()
}

fn bucket() -> Bucket {
    Bucket {
        kind: BucketKind::S3,
        name: "backups".to_owned(),
        prefix: "etcd".to_owned(),
        options: BucketOptions {
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            part_size: PART,
            ..BucketOptions::default()
        },
    }
}

/// What a server keeps, in a store of its own.
fn objects(server: &Server) -> Arc<Objects> {
    objects_of(server, bucket())
}

fn objects_of(server: &Server, bucket: Bucket) -> Arc<Objects> {
    let client = server.clone();
    let pause = Duration::from_millis(1);
    let made = Objects::by(&bucket, "prod", |bucket, prefix, clock| {
        opendal_services::signing_as_nobody(client, bucket, prefix, clock, pause)
    });
    Arc::new(made.unwrap())
}

fn store_with(server: &Server, limits: Limits) -> Result<Store, Error> {
    store_over(objects(server), limits)
}

/// One of which nothing is read back.
fn unread_store(server: &Server, limits: Limits) -> Result<Store, Error> {
    let mut bucket = bucket();
    bucket.options.read_back = ReadingBack::Never;
    store_over(objects_of(server, bucket), limits)
}

fn store_over(objects: Arc<Objects>, limits: Limits) -> Result<Store, Error> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let whom = format!("server {}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    Store::over(objects, Access::Write { now: now() }, &whom, limits)
}

fn store(server: &Server) -> Store {
    store_with(server, Limits::default()).unwrap()
}

fn backup(content: &[u8], id: &str, revision: i64) -> Manifest {
    let mut backup = manifest(0xab, id, revision);
    backup.stored.bytes = content.len() as u64;
    backup.stored.sha256 = Digest(Sha256::digest(content).into());
    backup
}

fn content(bytes: u64) -> Vec<u8> {
    let pattern: Vec<u8> = (0..251_u64).map(|at| (at * 31 % 251) as u8).collect();
    let bytes = usize::try_from(bytes).unwrap();
    let mut content = pattern.repeat(bytes / pattern.len() + 1);
    content.truncate(bytes);
    content
}

/// Writes a backup as a run does: the object, read back and compared, then the manifest.
fn write(store: &Store, backup: &Manifest, content: &[u8]) -> Result<(), Error> {
    let object = backup.object_name();
    let mut upload = store.begin(&object)?;
    for block in content.chunks(100_000) {
        upload
            .write_all(block)
            .map_err(|source| Error::at("write", String::new(), source))?;
    }
    upload.commit()?;
    if !store.reads_back() {
        let check = Check::acknowledged(backup, &"node-1".parse().unwrap());
        let name = ObjectName::Check(backup.chain_path(), check.checked_at, "node-1".parse().unwrap());
        store.put_new(&name, &check.to_bytes())?;
        return store.put_new(&backup.name(), &backup.to_bytes());
    }
    let read = store.read_back(&object)?;
    let expected = ReadBack {
        bytes: backup.stored.bytes,
        sha256: backup.stored.sha256,
    };
    if read != expected {
        return Err(Error::Altered {
            at: store.address_of(&object),
        });
    }
    store.put_new(&backup.name(), &backup.to_bytes())
}

#[test]
fn objects_of_each_size_come_back_as_they_were() {
    let server = Server::new(now());
    let store = store(&server);
    for (number, bytes) in [0, 1, PART - 1, PART, PART + 1, 3 * PART + 7].into_iter().enumerate() {
        let content = content(bytes);
        let backup = backup(
            &content,
            &format!("20261120T101530Z-0000000{number}"),
            10 + number as i64,
        );
        write(&store, &backup, &content).unwrap();
        let (mut object, size) = store.open_object(&backup.object_name()).unwrap();
        let mut read = Vec::new();
        object.read_to_end(&mut read).unwrap();
        assert!(read == content && size == bytes, "{bytes}");
    }
    assert_eq!(server.open_uploads(), 0);
    let catalog = store.catalog("s3").unwrap();
    assert_eq!(catalog.backups().len(), 6, "over several pages of the listing");
    assert!(catalog.backups().iter().all(|backup| backup.proof() >= Proof::Stored));
}

#[test]
fn what_is_there_already_is_told_and_own_writes_are_known_again() {
    let server = Server::new(now());
    let store = store(&server);
    let backup = backup(b"x", "20261120T101530Z-00000001", 10);
    let name = backup.name();
    store.put_new(&name, b"first").unwrap();
    assert!(matches!(
        store.put_new(&name, b"second"),
        Err(Error::AlreadyExists { .. })
    ));
    assert_eq!(store.read_small(&name, 100).unwrap(), b"first");
    assert!(matches!(store.read_small(&name, 4), Err(Error::Unfit { .. })));
    // The server has taken it, and the reply was lost: what is tried again finds its own.
    store.remove(&name).unwrap();
    let mut lost = 1;
    server.fail(move |kind, _| match kind {
        Kind::Put if lost > 0 => {
            lost -= 1;
            Fault::LostReply
        }
        _ => Fault::None,
    });
    store.put_new(&name, b"third").unwrap();
    // The same with an upload of several parts, at its completion.
    let content = content(2 * PART + 1);
    let large = backup_of(&content);
    let mut lost = 1;
    server.fail(move |kind, _| match kind {
        Kind::Complete if lost > 0 => {
            lost -= 1;
            Fault::LostReply
        }
        _ => Fault::None,
    });
    write(&store, &large, &content).unwrap();
    assert_eq!(server.open_uploads(), 0);
}

fn backup_of(content: &[u8]) -> Manifest {
    backup(content, "20261120T111530Z-00000002", 20)
}

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

#[test]
fn a_server_that_has_too_much_to_do_is_asked_again() {
    let server = Server::new(now());
    let store = store(&server);
    let content = content(2 * PART);
    let backup = backup_of(&content);
    for status in [429, 500, 502, 503, 504] {
        // The first two of each kind: each is sent four times at the most.
        let mut requests: Vec<Kind> = Vec::new();
        server.fail(move |kind, _| {
            requests.push(kind);
            match requests.iter().filter(|of| **of == kind).count() {
                1 | 2 => Fault::Status(status),
                _ => Fault::None,
            }
        });
        write(&store, &backup, &content).unwrap();
        store.remove(&backup.name()).unwrap();
        store.remove(&backup.object_name()).unwrap();
    }
}

#[test]
fn a_server_that_hangs_costs_its_deadline() {
    let server = Server::new(now());
    let store = store_with(&server, HASTY).unwrap();
    server.fail(|_, _| Fault::Hangs);
    let begun = std::time::Instant::now();
    assert!(matches!(store.list(), Err(Error::Hangs { .. })));
    assert!(matches!(store.now(), Err(Error::Hangs { .. })));
    assert!(begun.elapsed() < 20 * HASTY.answer);
}

#[test]
fn an_upload_to_a_store_that_hangs_is_let_go_of() {
    let server = Server::new(now());
    let store = store_with(&server, HASTY).unwrap();
    let mut upload = store.begin(&backup_of(b"x").object_name()).unwrap();
    upload.write_all(b"x").unwrap();
    server.fail(|_, _| Fault::Hangs);
    assert!(matches!(store.list(), Err(Error::Hangs { .. })));
    let begun = std::time::Instant::now();
    drop(upload);
    assert!(begun.elapsed() < HASTY.answer, "it is not asked again");
}

#[test]
fn two_stores_of_one_name_on_two_servers_do_not_hang_for_each_other() {
    let at = |endpoint: &str| {
        let mut bucket = bucket();
        bucket.options.endpoint = Some(endpoint.to_owned());
        crate::store::Location::Bucket(Box::new(bucket)).key()
    };
    assert_ne!(at("http://127.0.0.1:1"), at("http://127.0.0.1:2"));
}

#[test]
fn the_time_is_the_servers() {
    let server = Server::new(now());
    let store = store(&server);
    server.pass(SignedDuration::from_hours(-5));
    let told = store.now().unwrap();
    let ahead = told.duration_since(now() - SignedDuration::from_hours(5));
    assert!(ahead.abs() < SignedDuration::from_secs(5), "{told}");
}

#[test]
fn what_is_read_once_is_asked_for_once() {
    let server = Server::new(now());
    let store = store(&server);
    for number in 0..5 {
        let backup = backup(b"x", &format!("20261120T101530Z-0000000{number}"), 10 + number);
        write(&store, &backup, b"x").unwrap();
    }
    server.asked();
    store.catalog("s3").unwrap();
    let asked = server.asked();
    let count = |of: Kind| asked.iter().filter(|kind| **kind == of).count();
    assert_eq!((count(Kind::Get), count(Kind::Head)), (5, 0), "{asked:?}");
    assert_eq!(count(Kind::List), 2, "eleven names, seven at once: {asked:?}");
}

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

/// A store with so many backups, kept in this folder what was read once.
fn with_backups(server: &Server, folder: &tempfile::TempDir, number: u32) -> Store {
    let store = store(server).keeping(Kept::at(folder.path().join("documents/s3")));
    let first = backup(b"x", "20261120T101530Z-00000001", 10);
    for number in 0..number {
        let mut one = backup(b"x", &format!("20261120T101530Z-{number:08x}"), 10 + i64::from(number));
        one.lineage = first.lineage.clone();
        server.put(&format!("etcd/prod/{}", one.object_name()), b"x");
        server.put(&format!("etcd/prod/{}", one.name()), &one.to_bytes());
    }
    store
}

#[test]
fn a_document_that_was_read_once_is_not_asked_for_again() {
    const BACKUPS: u32 = 3000;
    let (server, folder) = (Server::new(now()), tempfile::tempdir().unwrap());
    let store = with_backups(&server, &folder, BACKUPS);
    let read = || {
        server.asked();
        let catalog = store.catalog("s3").unwrap();
        let asked = server.asked();
        let count = |of: Kind| asked.iter().filter(|kind| **kind == of).count();
        (catalog, count(Kind::Get), count(Kind::List), asked.len())
    };
    let pages = (2 * BACKUPS as usize + 1).div_ceil(server::PAGE);
    let (first, gets, lists, all) = read();
    assert_eq!(
        (first.backups().len(), gets, lists),
        (BACKUPS as usize, BACKUPS as usize, pages)
    );
    assert_eq!(all, gets + lists);
    let (second, gets, lists, all) = read();
    assert_eq!((gets, lists, all), (0, pages, pages));
    assert_eq!(second, first);

    // What is new is asked for, and what is there under a name that was known, with other bytes.
    let added = backup(b"x", "20261121T101530Z-00000001", 10_000);
    server.put(&format!("etcd/prod/{}", added.object_name()), b"x");
    server.put(&format!("etcd/prod/{}", added.name()), &added.to_bytes());
    let changed = first.backups()[7].manifest().name();
    server.put(&format!("etcd/prod/{changed}"), b"{}");
    let (third, gets, ..) = read();
    assert_eq!((third.backups().len(), gets), (BACKUPS as usize, 2));
    assert_eq!(third.damaged().len(), 1, "what was kept is not believed over the store");

    // What was kept is gone, or somebody has written into it: it costs requests, and nothing else.
    let file = folder.path().join("documents/s3");
    let mut bytes = crate::durable::read_plain(&file, u64::MAX).unwrap();
    for byte in bytes.iter_mut().skip(100).step_by(1000) {
        *byte ^= 1;
    }
    crate::durable::replace(&file, &bytes, 0o640).unwrap();
    let (fourth, gets, ..) = read();
    assert!(gets > 100, "{gets}");
    assert_eq!(fourth, third);
    assert_eq!(read().1, 0);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(read().1, BACKUPS as usize + 1);
}

/// A hundred thousand, by hand: `cargo test --lib a_hundred_thousand -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_backups_are_read_in_one_pass() {
    let (server, folder) = (Server::new(now()), tempfile::tempdir().unwrap());
    let store = with_backups(&server, &folder, 100_000);
    server.tell_at_once(1000);
    for run in 0..3 {
        server.asked();
        let begun = std::time::Instant::now();
        let catalog = store.catalog("s3").unwrap();
        assert_eq!(catalog.backups().len(), 100_000);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let memory = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap()
            .to_owned();
        println!(
            "run {run}: {} requests, {:?}, {memory}",
            server.asked().len(),
            begun.elapsed()
        );
    }
}

#[test]
fn it_keeps_the_promises_of_every_store() {
    let server = Server::new(now());
    crate::store::conformance::conforms(&|| store(&server), PART, true);
}

/// Brings a backup from one store to another: the object as it is read, read back and compared, then the manifest.
fn bring(from: &Store, to: &Store, backup: &Manifest) -> Result<(), Error> {
    let object = backup.object_name();
    let expected = ReadBack {
        bytes: backup.stored.bytes,
        sha256: backup.stored.sha256,
    };
    let (reader, _) = from.open_object(&object)?;
    to.write_from(&object, reader, expected, |_| ControlFlow::Continue(()))?;
    match !to.reads_back() || to.read_back(&object)? == expected {
        true => to.put_new(&backup.name(), &backup.to_bytes()),
        false => Err(Error::Altered {
            at: to.address_of(&object),
        }),
    }
}

/// A sequence of numbers that looks random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// What goes wrong, by chance.
fn mishaps(mut dice: Dice, one_in: u64) -> impl FnMut(Kind, &str) -> Fault + Send {
    move |kind, _| match dice.roll(one_in) {
        0 => match dice.roll(12) {
            0 => Fault::Reset,
            1 => Fault::LostReply,
            2 if matches!(kind, Kind::Get | Kind::List) => Fault::Cut,
            3 => Fault::Status(403),
            4 => Fault::Status(429),
            5 => Fault::Status(500),
            6 => Fault::Status(503),
            // It is full; keys that have run out, or were changed.
            9 if matches!(kind, Kind::Put | Kind::Begin | Kind::Part | Kind::Complete) => Fault::Status(507),
            10 => Fault::Status(400),
            11 => Fault::Status(401),
            7 if dice.roll(40) == 0 => Fault::Hangs,
            // What it keeps is not what it was sent: it would show only later.
            8 if dice.roll(4) == 0 && matches!(kind, Kind::Part) => Fault::Rots,
            _ if kind == Kind::List => Fault::Stale(1 + dice.roll(300) as i64),
            _ => Fault::LostReply,
        },
        _ => Fault::None,
    }
}

type Opens = fn(&Server, Limits) -> Result<Store, Error>;

/// Hosts that back up, copy, remove, sweep, read and start again, while their server fails now and then.
struct Life {
    server: Server,
    store: Store,
    /// As another host has it.
    other: Store,
    opens: Opens,
    here: Store,
    _folder: tempfile::TempDir,
    /// Backups of which a write was told to have gone well, with their bytes; not those whose removal was begun.
    good: BTreeMap<ChainId, (Manifest, Vec<u8>)>,
    /// Runs that failed, or whose copy did.
    dead: BTreeSet<ChainId>,
    number: i64,
}

impl Life {
    fn new(opens: Opens) -> Life {
        let server = Server::new(now());
        let (folder, here) = crate::store::tests::store();
        Life {
            store: opens(&server, HASTY).unwrap(),
            other: opens(&server, HASTY).unwrap(),
            opens,
            server,
            here,
            _folder: folder,
            good: BTreeMap::new(),
            dead: BTreeSet::new(),
            number: 0,
        }
    }

    fn next(&mut self, dice: &mut Dice) -> (Manifest, Vec<u8>) {
        self.number += 1;
        let bytes = match dice.roll(12) {
            0 => PART + dice.roll(PART),
            1 => 0,
            _ => dice.roll(5000),
        };
        let content = content(bytes);
        let id = format!("20261120T101530Z-{:08x}", self.number);
        (backup(&content, &id, 10 + self.number), content)
    }

    /// One thing, and what it has begun: the time of the server goes on faster than that of what hangs.
    fn step(&mut self, dice: &mut Dice) {
        self.server.pass(SignedDuration::from_secs(30));
        // Its clock is set; and another host writes to it, too.
        match dice.roll(40) {
            0 => self.server.pass(SignedDuration::from_hours(1)),
            1 => self.server.pass(SignedDuration::from_hours(-1)),
            2..=9 => std::mem::swap(&mut self.store, &mut self.other),
            _ => {}
        }
        self.act(dice);
        while self.store.hangs_still() || self.other.hangs_still() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn act(&mut self, dice: &mut Dice) {
        match dice.roll(8) {
            0..=2 => {
                let (backup, content) = self.next(dice);
                let written = write(&self.store, &backup, &content);
                self.ended(backup, content, written.is_ok());
            }
            3 => {
                let (backup, content) = self.next(dice);
                write(&self.here, &backup, &content).unwrap();
                let copied = bring(&self.here, &self.store, &backup);
                self.ended(backup, content, copied.is_ok());
            }
            4 => {
                let Some(id) = self.good.keys().next().cloned().filter(|_| self.good.len() > 3) else {
                    return;
                };
                let (backup, _) = self.good.remove(&id).unwrap();
                // As retention does: the manifest first.
                if self.store.remove(&backup.name()).is_ok() && self.store.remove(&backup.object_name()).is_err() {
                    self.dead.insert(id);
                }
            }
            5 => {
                let begun = crate::store::Begun {
                    dead: self.dead.clone(),
                    ..crate::store::Begun::default()
                };
                self.store.sweep(&begun).ok();
            }
            6 => {
                let which = dice.roll(1 + self.good.len() as u64) as usize;
                let Some((backup, _)) = self.good.values().nth(which) else {
                    return;
                };
                if let Ok(read) = self.store.read_back(&backup.object_name()) {
                    assert_eq!((read.bytes, read.sha256), (backup.stored.bytes, backup.stored.sha256));
                }
            }
            _ => {
                if let Ok(again) = (self.opens)(&self.server, HASTY) {
                    assert_eq!(again.id(), self.store.id(), "one store has one marker");
                    self.store = again;
                }
            }
        }
    }

    fn ended(&mut self, backup: Manifest, content: Vec<u8>, is_good: bool) {
        match is_good {
            true => {
                self.good.insert(backup.chain.clone(), (backup, content));
            }
            false => {
                self.dead.insert(backup.chain);
            }
        }
    }

    /// With a server that works again, and after some days: all that was told to be good is, and nothing else is left.
    fn looks_as_it_should(mut self) {
        self.server.work();
        // And some hours more: its clock may have been set back.
        self.server.pass(SignedDuration::from_hours(96));
        let begun = crate::store::Begun::default();
        self.store = (self.opens)(&self.server, HASTY).unwrap();
        self.store.sweep(&begun).unwrap();
        assert_eq!(self.server.open_uploads(), 0);
        let catalog = self.store.catalog("s3").unwrap();
        assert!(catalog.damaged().is_empty() && catalog.incomplete().is_empty());
        let found: BTreeSet<&ChainId> = catalog.backups().iter().map(|backup| backup.id()).collect();
        assert_eq!(found.len(), catalog.backups().len(), "none is there twice");
        for backup in catalog.backups() {
            let manifest = backup.manifest();
            let key = format!("etcd/prod/{}/full.db.zst.age", manifest.chain_path());
            let bytes = self.server.content(&key);
            let digest = bytes.map(|bytes| Digest(Sha256::digest(&bytes).into()));
            assert_eq!(digest, Some(manifest.stored.sha256), "{}", manifest.chain);
        }
        for id in self.good.keys() {
            assert!(found.contains(id), "{id} was good, and is lost");
        }
    }
}

/// `LIFEBOAT_SEED=N` runs one of them again, `LIFEBOAT_SEEDS=1000` more of them.
#[test]
fn whatever_goes_wrong_nothing_good_is_lost_and_nothing_wrong_is_called_good() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds: Vec<u64> = match number("LIFEBOAT_SEED") {
        Some(seed) => vec![seed],
        // Of the last one a sweep that trusts the listing loses a backup.
        None => (1..=number("LIFEBOAT_SEEDS").unwrap_or(30)).chain([142]).collect(),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ seed);
            dice.roll(2);
            let mut life = Life::new([store_with, unread_store][dice.roll(2) as usize]);
            let one_in = [4, 10, 40][dice.roll(3) as usize];
            life.server.fail(mishaps(Dice(seed.wrapping_mul(77_777) | 1), one_in));
            for _ in 0..40 {
                life.step(&mut dice);
            }
            life.looks_as_it_should();
        });
        assert!(run.is_ok(), "LIFEBOAT_SEED={seed}");
    }
}

#[test]
fn a_server_that_takes_a_name_twice_loses_nothing_of_runs_that_have_names_of_their_own() {
    let server = Server::new(now());
    server.ignore_conditions();
    let (first, second) = (store(&server), store(&server));
    assert_eq!(first.id(), second.id());
    let content = content(PART + 1);
    for (store, id, revision) in [
        (&first, "20261120T101530Z-00000001", 10),
        (&second, "20261120T101530Z-00000002", 11),
    ] {
        let backup = backup(&content, id, revision);
        write(store, &backup, &content).unwrap();
    }
    assert_eq!(first.catalog("s3").unwrap().backups().len(), 2);
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
