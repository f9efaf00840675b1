//! What every store promises, whatever keeps its bytes: one suite that each backend runs. The tests of the program run it
//! too, on real servers, so it uses nothing but what a store offers to all.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;

use sha2::{Digest as _, Sha256};

use super::layout::{ChainPath, Listed, ObjectName, SlotPath};
use super::model::{ClusterId, Digest, Revision};
use super::{Begun, Error, ReadBack, Store, Transfer};

/// Runs it on a store that is empty; `open` opens the same store once more. `part` is how large an object may be before it
/// is sent in parts; `enforces`, whether what keeps the bytes sees to it that a name is taken once. Of an emulator that does
/// not, objects that are written again are not asked for either.
pub(crate) fn conforms(open: &dyn Fn() -> Store, part: u64, enforces: bool) {
    let store = open();
    assert_eq!(open().id(), store.id(), "a store has one marker");
    objects_come_back_as_they_were(&store, part);
    a_name_is_taken_once(&store, enforces);
    what_is_dropped_was_never_there(&store, part);
    what_is_not_there_is_told(&store);
    a_listing_has_all_and_its_parts_have_theirs(&store);
    an_object_is_copied_whole_or_not_at_all(&store);
    the_highest_claim_counts(&store);
    host_and_store_have_a_clock_each(&store);
    if enforces {
        a_canary_comes_back_each_time(&store);
    }
    leavings_of_a_dead_run_go_and_backups_stay(&store);
}

fn chain(number: u32) -> ChainPath {
    ChainPath {
        cluster: ClusterId(0xab),
        chain: format!("20261120T101530Z-{number:08x}").parse().unwrap(),
    }
}

fn full(number: u32) -> ObjectName {
    ObjectName::Full(chain(number))
}

fn manifest(number: u32) -> ObjectName {
    ObjectName::FullManifest(chain(number), Revision::new(7).unwrap())
}

fn content(bytes: u64) -> Vec<u8> {
    let pattern: Vec<u8> = (0..=250).collect();
    let bytes = usize::try_from(bytes).unwrap();
    let mut content = pattern.repeat(bytes / pattern.len() + 1);
    content.truncate(bytes);
    content
}

fn digest(content: &[u8]) -> ReadBack {
    ReadBack {
        bytes: content.len() as u64,
        sha256: Digest(Sha256::digest(content).into()),
    }
}

fn write(store: &Store, name: &ObjectName, content: &[u8]) {
    let mut upload = store.begin(name).unwrap();
    for block in content.chunks(70_000) {
        upload.write_all(block).unwrap();
    }
    upload.commit().unwrap();
}

fn names(store: &Store) -> BTreeSet<String> {
    let listed = store.list().unwrap().into_iter();
    let names = listed.map(|object| match object.name {
        Listed::Ours(name) => name.to_string(),
        other => panic!("{other:?}"),
    });
    names.filter(|name| !name.starts_with("canary/")).collect()
}

fn objects_come_back_as_they_were(store: &Store, part: u64) {
    for (number, bytes) in (0..).zip([0, 1, part - 1, part, part + 1, 2 * part + 12345]) {
        let content = content(bytes);
        write(store, &full(number), &content);
        let (mut object, size) = store.open_object(&full(number)).unwrap();
        let mut read = Vec::new();
        object.read_to_end(&mut read).unwrap();
        assert!(read == content && size == bytes, "{bytes} bytes");
        assert_eq!(store.read_back(&full(number)).unwrap(), digest(&content));
        store.remove(&full(number)).unwrap();
        assert!(matches!(store.open_object(&full(number)), Err(Error::NotFound { .. })));
    }
    assert_eq!(names(store), ["store.json".to_owned()].into());
}

fn a_name_is_taken_once(store: &Store, enforces: bool) {
    let name = manifest(1);
    store.put_new(&name, b"first").unwrap();
    if enforces {
        let refused = store.put_new(&name, b"other");
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    }
    assert_eq!(store.read_small(&name, 5).unwrap(), b"first");
    assert!(matches!(store.read_small(&name, 4), Err(Error::Unfit { .. })));
    store.remove(&name).unwrap();
    store.put_new(&name, b"").unwrap();
    assert_eq!(store.read_small(&name, 5).unwrap(), b"", "an empty document is one");
    store.remove(&name).unwrap();
}

fn what_is_dropped_was_never_there(store: &Store, part: u64) {
    for bytes in [0, 100, 3 * part] {
        let mut upload = store.begin(&full(8)).unwrap();
        upload.write_all(&content(bytes)).unwrap();
        assert!(matches!(store.open_object(&full(8)), Err(Error::NotFound { .. })));
        drop(upload);
        assert_eq!(names(store), ["store.json".to_owned()].into());
    }
}

fn what_is_not_there_is_told(store: &Store) {
    assert!(matches!(
        store.read_small(&manifest(9), 10),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(store.open_object(&full(9)), Err(Error::NotFound { .. })));
    assert!(matches!(store.read_back(&full(9)), Err(Error::NotFound { .. })));
    assert_eq!(store.list_chain(&chain(9)).unwrap(), []);
    assert_eq!(store.checks_of(&chain(9)).unwrap(), []);
}

fn a_listing_has_all_and_its_parts_have_theirs(store: &Store) {
    let check = |name: &str| -> ObjectName { format!("{}/checks/{name}", chain(1)).parse().unwrap() };
    let checks = ["20261120T110000Z-node-1.json", "20261120T120000Z-node-1.json"].map(check);
    let all = [full(1), manifest(1), full(2), manifest(2)];
    let all: Vec<&ObjectName> = all.iter().chain(&checks).collect();
    for (number, name) in all.iter().enumerate() {
        store.put_new(name, &vec![7; number + 1]).unwrap();
    }
    let listed = store.list().unwrap();
    let now = store.now().unwrap();
    for (number, name) in all.iter().enumerate() {
        let found = listed
            .iter()
            .find(|object| object.name == Listed::Ours((*name).clone()));
        let found = found.unwrap_or_else(|| panic!("{name} is not listed"));
        assert_eq!(found.bytes, number as u64 + 1, "{name}");
        let age = now.duration_since(found.modified).as_secs();
        assert!((-5..120).contains(&age), "{name} was written {age} s ago");
    }
    let of_chain = store.list_chain(&chain(1)).unwrap();
    assert_eq!(of_chain.len(), 4, "{of_chain:?}");
    assert_eq!(store.checks_of(&chain(1)).unwrap(), checks);
    for name in all {
        store.remove(name).unwrap();
    }
    assert_eq!(names(store), ["store.json".to_owned()].into());
}

fn an_object_is_copied_whole_or_not_at_all(store: &Store) {
    let content = content(300_000);
    let goes_on = |_| ControlFlow::Continue(());
    let from = |bytes: &[u8]| std::io::Cursor::new(bytes.to_vec());
    let differs = store.write_from(&full(1), from(&content[1..]), digest(&content), goes_on);
    assert_eq!(differs.unwrap(), Transfer::Differs);
    let stopped = store.write_from(&full(1), from(&content), digest(&content), |_| ControlFlow::Break(()));
    assert_eq!(stopped.unwrap(), Transfer::Stopped);
    assert!(matches!(store.open_object(&full(1)), Err(Error::NotFound { .. })));
    let done = store.write_from(&full(1), from(&content), digest(&content), goes_on);
    assert_eq!(done.unwrap(), Transfer::Done);
    assert_eq!(store.read_back(&full(1)).unwrap(), digest(&content));
    store.remove(&full(1)).unwrap();
}

fn the_highest_claim_counts(store: &Store) {
    let slot = |text: &str| SlotPath::new("hourly".parse().unwrap(), text.parse().unwrap());
    let (slot, other) = (slot("2026-11-20T10:00:00Z"), slot("2026-11-20T11:00:00Z"));
    assert_eq!(store.newest_claim(&slot).unwrap(), (None, 1));
    for number in [1, 2, 3, 10] {
        let name = ObjectName::Claim(slot.clone(), number);
        store
            .put_new(&name, format!("{{\"number\":{number}}}").as_bytes())
            .unwrap();
    }
    store.put_new(&ObjectName::Claim(other, 11), b"{}").unwrap();
    let (found, next) = store.newest_claim(&slot).unwrap();
    let found = found.unwrap();
    assert_eq!(next, found.number + 1);
    assert_eq!(found.number, 10);
    let age = store.now().unwrap().duration_since(found.written_at).as_secs();
    assert!((-5..120).contains(&age), "it was written {age} s ago");
}

fn host_and_store_have_a_clock_each(store: &Store) {
    let (first, second) = (store.now().unwrap(), store.now().unwrap());
    // Some tell it to the second.
    let went_on = second.duration_since(first).as_secs();
    assert!((-1..60).contains(&went_on), "{first} {second}");
}

fn a_canary_comes_back_each_time(store: &Store) {
    for _ in 0..2 {
        store.try_canary(&"node-1".parse().unwrap()).unwrap();
    }
}

fn leavings_of_a_dead_run_go_and_backups_stay(store: &Store) {
    write(store, &full(1), b"left by a dead run");
    write(store, &full(2), b"of somebody");
    write(store, &full(3), b"of a backup");
    store.put_new(&manifest(3), b"{}").unwrap();
    let begun = Begun {
        dead: [chain(1).chain, chain(3).chain].into(),
        ..Begun::default()
    };
    let swept: Vec<String> = store
        .sweep(&begun)
        .unwrap()
        .into_iter()
        .map(|swept| swept.path)
        .collect();
    // Where a listing may be behind, the leavings of a dead run stay for a while.
    assert!(swept.is_empty() || swept == [full(1).to_string()], "{swept:?}");
    for name in [full(2), full(3), manifest(3)] {
        assert!(names(store).contains(&name.to_string()), "{name} has gone");
    }
}
