//! Object stores whose server fails in each way.

mod document_cache;
mod enforced;
mod mishaps;
mod not_read_back;
mod open_uploads;
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

fn backup_of(content: &[u8]) -> Manifest {
    backup(content, "20261120T111530Z-00000002", 20)
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
fn it_keeps_the_promises_of_every_store() {
    let server = Server::new(now());
    crate::store::conformance::conforms(&|| store(&server), PART, true);
}
