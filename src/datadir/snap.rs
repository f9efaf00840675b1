//! The `.snap` file of a member: the members as the snapshot of raft's log, in the form of the old v2 store. Written for a
//! restored member; of one that is left behind it is read how far it goes.
//!
//! Lines up to 3.5 take the member list from it, 3.6 compares it, 3.7 does not read it. Without it a member that is
//! added later to a cluster of 3.6 or older starts with an empty database.
//!
//! Invariant: the bytes depend on the members alone, so they are the same on every host.
//!
//! Source of the format: etcd `server/etcdserver/api/snap/snapshotter.go`, `api/v2store/{store,node,event_queue,
//! stats}.go` of 3.5, as `etcdutl` uses them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Membership, SnapshotMark, raft};
use crate::keyspace::go_json;
use crate::keyspace::wire::{Fields, WireError, put_bytes, put_uint64};

/// The name of the file beside the database.
#[must_use]
pub fn file_name(membership: &Membership) -> String {
    format!("{:016x}-{:016x}.snap", raft::TERM, raft::last_index(membership))
}

/// The bytes of the file.
#[must_use]
pub fn file(membership: &Membership) -> Vec<u8> {
    let mut metadata = Vec::new();
    put_bytes(&mut metadata, 1, &raft::conf_state(membership));
    put_uint64(&mut metadata, 2, raft::last_index(membership));
    put_uint64(&mut metadata, 3, raft::TERM);
    let mut snapshot = Vec::new();
    put_bytes(&mut snapshot, 1, go_json(&Store::of(membership)).as_bytes());
    put_bytes(&mut snapshot, 2, &metadata);
    let mut file = Vec::new();
    put_uint64(&mut file, 1, u64::from(crc32c::crc32c(&snapshot)));
    put_bytes(&mut file, 2, &snapshot);
    file
}

/// Whether etcd would take a file of that name in the directory of snapshots for one of its own.
pub fn is_snapshot(name: &str) -> bool {
    let is_number = |text: &str| text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let numbers = name.strip_suffix(".snap").and_then(|name| name.split_once('-'));
    numbers.is_some_and(|(term, index)| is_number(term) && is_number(index))
}

/// What is wrong with a `.snap` file; etcd passes over such a one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Nothing is in it.
    #[error("it is empty")]
    Empty,
    /// Its checksum does not fit.
    #[error("its checksum does not match")]
    Checksum,
    /// It does not decode.
    #[error("it cannot be read: {0}")]
    Malformed(#[from] WireError),
}

/// Up to where a `.snap` file covers the log.
///
/// Fails when etcd would not take the file.
pub fn read(file: &[u8]) -> Result<SnapshotMark, Unreadable> {
    let (mut crc, mut snapshot) = (0, &[][..]);
    for field in Fields::of(file) {
        let field = field?;
        match field.number {
            // As protocol buffers read a 32-bit number.
            1 => crc = field.uint64()? as u32,
            2 => snapshot = field.bytes()?,
            _ => {}
        }
    }
    if snapshot.is_empty() || crc == 0 {
        return Err(Unreadable::Empty);
    }
    if crc32c::crc32c(snapshot) != crc {
        return Err(Unreadable::Checksum);
    }
    let mut metadata = &[][..];
    for field in Fields::of(snapshot) {
        let field = field?;
        match field.number {
            1 => drop(field.bytes()?),
            2 => metadata = field.bytes()?,
            _ => {}
        }
    }
    let mut mark = SnapshotMark { index: 0, term: 0 };
    for field in Fields::of(metadata) {
        let field = field?;
        match field.number {
            2 => mark.index = field.uint64()?,
            3 => mark.term = field.uint64()?,
            _ => {}
        }
    }
    Ok(mark)
}

/// How many events the history of a v2 store holds; the reader uses the length of the list as the ring's size.
const HISTORY: usize = 1000;

/// The v2 store. Fields are in the order of etcd's structs, which is the order of the JSON text.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Store {
    root: Node,
    watcher_hub: WatcherHub,
    current_index: u64,
    stats: Stats,
    current_version: u64,
}

impl Store {
    fn of(membership: &Membership) -> Self {
        let mut members = BTreeMap::new();
        let mut events = Vec::with_capacity(HISTORY);
        for (index, member) in (1..).zip(membership.members()) {
            let directory = format!("/0/members/{}", member.id);
            let key = format!("{directory}/raftAttributes");
            let value = go_json(&RaftAttributes {
                peer_urls: &member.peer_urls,
            });
            events.push(Some(Event::create(index, key.clone(), value.clone())));
            let attributes = ("raftAttributes".to_owned(), Node::file(key, index, value));
            members.insert(member.id.to_string(), Node::directory(&directory, index, [attributes]));
        }
        let count = events.len();
        events.resize_with(HISTORY.max(count), || None);
        let capacity = events.len();
        let last_index = raft::last_index(membership);
        let members = ("members".to_owned(), Node::directory("/0/members", 1, members));
        let tops = [("0", vec![members]), ("1", Vec::new())];
        let tops = tops.map(|(name, children)| (name.to_owned(), Node::directory(&format!("/{name}"), 0, children)));
        Store {
            root: Node::directory("/", 0, tops),
            watcher_hub: WatcherHub {
                event_history: EventHistory {
                    queue: Queue {
                        events,
                        size: count,
                        front: 0,
                        back: count % capacity,
                        capacity,
                    },
                    start_index: 1,
                    last_index,
                },
            },
            current_index: last_index,
            stats: Stats {
                create_success: last_index,
                ..Stats::default()
            },
            current_version: 2,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    path: String,
    created_index: u64,
    modified_index: u64,
    expire_time: &'static str,
    value: String,
    /// `None` for a file.
    children: Option<BTreeMap<String, Node>>,
}

impl Node {
    fn directory(path: &str, index: u64, children: impl IntoIterator<Item = (String, Node)>) -> Self {
        Node {
            children: Some(children.into_iter().collect()),
            ..Node::file(path.to_owned(), index, String::new())
        }
    }

    fn file(path: String, index: u64, value: String) -> Self {
        // Go's zero time: it never expires.
        let expire_time = "0001-01-01T00:00:00Z";
        Node {
            path,
            created_index: index,
            modified_index: index,
            expire_time,
            value,
            children: None,
        }
    }
}

/// The text that a member's file in the store holds.
#[derive(Serialize)]
struct RaftAttributes<'a> {
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WatcherHub {
    event_history: EventHistory,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EventHistory {
    queue: Queue,
    start_index: u64,
    last_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Queue {
    events: Vec<Option<Event>>,
    size: usize,
    front: usize,
    back: usize,
    capacity: usize,
}

#[derive(Serialize)]
struct Event {
    action: &'static str,
    node: EventNode,
}

impl Event {
    fn create(index: u64, key: String, value: String) -> Self {
        Event {
            action: "create",
            node: EventNode {
                key,
                value,
                modified_index: index,
                created_index: index,
            },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventNode {
    key: String,
    value: String,
    modified_index: u64,
    created_index: u64,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    gets_success: u64,
    gets_fail: u64,
    sets_success: u64,
    sets_fail: u64,
    delete_success: u64,
    delete_fail: u64,
    update_success: u64,
    update_fail: u64,
    create_success: u64,
    create_fail: u64,
    compare_and_swap_success: u64,
    compare_and_swap_fail: u64,
    compare_and_delete_success: u64,
    compare_and_delete_fail: u64,
    expire_count: u64,
    watchers: u64,
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// The membership that the official tools restored to, see the README of the fixtures.
    pub(in crate::datadir) fn members_of_the_fixtures() -> Membership {
        let cluster = "m1=http://127.0.0.1:23801,m2=http://127.0.0.1:23802,m3=http://127.0.0.1:23803";
        Membership::new(&cluster.parse().unwrap(), "tok-B").unwrap()
    }

    pub(in crate::datadir) fn fixture(line: &str, name: &str) -> Vec<u8> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/fixtures");
        std::fs::read(fixtures.join(format!("official-restore-{line}")).join(name)).unwrap()
    }

    /// The parts of a file: the v2 store and raft's metadata. Checks the checksum.
    fn parts(file: &[u8]) -> (Value, Vec<u8>) {
        let fields = |message| Fields::of(message).map(Result::unwrap).collect::<Vec<_>>();
        let outer = fields(file);
        let snapshot = outer[1].bytes().unwrap();
        assert_eq!(outer[0].uint64(), Ok(u64::from(crc32c::crc32c(snapshot))));
        let inner = fields(snapshot);
        (
            serde_json::from_slice(inner[0].bytes().unwrap()).unwrap(),
            inner[1].bytes().unwrap().to_vec(),
        )
    }

    /// Takes out what the tools of 3.6 and 3.7 leave to chance: they create the members in random order.
    fn without_order(mut store: Value) -> Value {
        store["Stats"]["getsFail"] = Value::Null;
        let unordered = |node: &mut Value, keys: [&str; 2]| keys.map(|key| node[key] = Value::Null);
        let node_keys = ["CreatedIndex", "ModifiedIndex"];
        for member in store["Root"]["Children"]["0"]["Children"]["members"]["Children"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            unordered(member, node_keys);
            unordered(&mut member["Children"]["raftAttributes"], node_keys);
        }
        let events = store["WatcherHub"]["EventHistory"]["Queue"]["Events"]
            .as_array_mut()
            .unwrap();
        for event in events.iter_mut().filter(|event| !event.is_null()) {
            unordered(&mut event["node"], ["createdIndex", "modifiedIndex"]);
        }
        events.sort_by_key(|event| (event.is_null(), event["node"]["key"].to_string()));
        store
    }

    #[test]
    fn the_file_equals_those_of_3_4_and_3_5_to_the_letter() {
        let membership = members_of_the_fixtures();
        assert_eq!(file_name(&membership), "0000000000000001-0000000000000003.snap");
        let file = file(&membership);
        assert_eq!(file.len(), 7566);
        for line in ["3.4", "3.5"] {
            assert!(
                fixture(line, &file_name(&membership)) == file,
                "official file of {line}"
            );
        }
    }

    #[test]
    fn the_file_equals_those_of_3_6_and_3_7_after_decoding() {
        let membership = members_of_the_fixtures();
        let (ours, metadata) = parts(&file(&membership));
        for line in ["3.6", "3.7"] {
            let (official, official_metadata) = parts(&fixture(line, &file_name(&membership)));
            assert_eq!(
                without_order(official),
                without_order(ours.clone()),
                "official file of {line}"
            );
            // 3.7 leaves `auto_leave = false` out of the voters.
            let stripped = |bytes: &[u8]| bytes.strip_suffix(b"\x28\x00\x10\x03\x18\x01").map(<[u8]>::to_vec);
            let plain = |bytes: &[u8]| bytes.strip_suffix(b"\x10\x03\x18\x01").map(<[u8]>::to_vec);
            let voters = |bytes: &[u8]| stripped(bytes).or_else(|| plain(bytes)).unwrap()[2..].to_vec();
            assert_eq!(voters(&official_metadata), voters(&metadata), "official file of {line}");
        }
    }

    #[test]
    fn files_of_all_lines_read_and_changed_ones_do_not() {
        let membership = members_of_the_fixtures();
        let name = file_name(&membership);
        assert!(is_snapshot(&name) && !is_snapshot("db") && !is_snapshot("0000000000000001.snap.db"));
        let mark = SnapshotMark { index: 3, term: 1 };
        assert_eq!(read(&file(&membership)), Ok(mark));
        for line in ["3.4", "3.5", "3.6", "3.7"] {
            let whole = fixture(line, &name);
            assert_eq!(read(&whole), Ok(mark), "{line}");
            for at in (0..whole.len()).step_by(101) {
                let mut changed = whole.clone();
                changed[at] ^= 4;
                assert!(read(&changed).is_err(), "{line} at {at}");
                assert!(read(&whole[..at]).is_err(), "{line} cut at {at}");
            }
        }
        assert_eq!(read(b""), Err(Unreadable::Empty));
    }

    #[test]
    fn raft_metadata_names_the_voters_in_order() {
        let (_, metadata) = parts(&file(&members_of_the_fixtures()));
        let hex: String = metadata.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0a210884b7f093a0ce87fe0a08a6d7a8c4e699fba8450883edded4a4b4caa1b401280010031801"
        );
    }

    #[test]
    fn members_are_listed_by_hexadecimal_name_but_counted_by_id() {
        let (store, _) = parts(&file(&members_of_the_fixtures()));
        let members = store["Root"]["Children"]["0"]["Children"]["members"]["Children"]
            .as_object()
            .unwrap();
        let index = |id: &str| members[id]["CreatedIndex"].as_u64();
        assert_eq!(
            [
                index("afc1e72027c1b84"),
                index("4551ecce688a2ba6"),
                index("b44329a24a97b683")
            ],
            [1, 2, 3].map(Some)
        );
        let queue = &store["WatcherHub"]["EventHistory"]["Queue"];
        assert_eq!(queue["Events"].as_array().unwrap().len(), 1000);
        assert_eq!((queue["Size"].as_u64(), queue["Back"].as_u64()), (Some(3), Some(3)));
    }
}
