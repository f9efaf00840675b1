//! Documents that are read once.

use super::*;

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
