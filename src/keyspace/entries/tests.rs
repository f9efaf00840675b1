use proptest::prelude::*;

use super::super::wire::{put_bytes, put_int64, put_uint64};
use super::super::{EntryKind, Inspection, KeyValue, LiveKeys};
use super::*;
use crate::bbolt::{File, Writer};
use crate::model::MemberId;

/// A message of fields in the order in which they are given.
#[derive(Debug, Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u32, value: i64) -> Message {
        put_int64(&mut self.0, field, value);
        self
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Message {
        put_bytes(&mut self.0, field, value);
        self
    }
}

fn message() -> Message {
    Message::default()
}

/// An entry's data: a header with an id, and the request in its field.
fn request(field: u32, message: &Message) -> Vec<u8> {
    let mut data = Vec::new();
    put_bytes(&mut data, field, &message.0);
    put_bytes(&mut data, 100, &self::message().number(1, 99).0);
    data
}

fn asked_by(user: &str, auth_revision: i64, field: u32, message: &Message) -> Vec<u8> {
    let mut data = Vec::new();
    put_bytes(&mut data, field, &message.0);
    let header = self::message().number(1, 99).bytes(2, user.as_bytes());
    put_bytes(&mut data, 100, &header.number(3, auth_revision).0);
    data
}

fn put(key: &str, value: &str, lease: i64) -> Message {
    message()
        .bytes(1, key.as_bytes())
        .bytes(2, value.as_bytes())
        .number(3, lease)
}

fn delete(key: &str, end: &str) -> Message {
    message().bytes(1, key.as_bytes()).bytes(2, end.as_bytes())
}

/// `key` compared by `target` (0 version, 1 create, 2 mod, 4 lease) for equality with `number`.
fn equals(key: &str, target: i64, number: i64) -> Message {
    let field = [4, 5, 6, 7, 8][usize::try_from(target).unwrap()];
    message()
        .number(2, target)
        .bytes(3, key.as_bytes())
        .number(field, number)
}

fn txn(compares: &[Message], success: &[(u32, Message)], failure: &[(u32, Message)]) -> Message {
    let mut txn = message();
    for compare in compares {
        txn = txn.bytes(1, &compare.0);
    }
    for (branch, ops) in [(2, success), (3, failure)] {
        for (field, op) in ops {
            txn = txn.bytes(branch, &message().bytes(*field, &op.0).0);
        }
    }
    txn
}

const PUT: u32 = 4;
const DELETE: u32 = 5;
const TXN: u32 = 6;
const COMPACTION: u32 = 7;
const GRANT: u32 = 8;
const REVOKE: u32 = 9;
const ALARM: u32 = 10;

type Entries<'a> = &'a [(&'a [u8], &'a [u8])];

/// A database at revision 3: `a` was put twice, `b` hangs on lease 7, `c` names a lease that is gone.
fn database(more: &[(&str, Entries<'_>)]) -> Vec<u8> {
    let record = |key: &str, revision: [i64; 3], lease: i64| {
        let mut value = Vec::new();
        let [create_revision, mod_revision, version] = revision;
        let record = KeyValue {
            key: key.as_bytes(),
            create_revision,
            mod_revision,
            version,
            value: b"old",
            lease,
        };
        record.encode_into(&mut value);
        value
    };
    let at = |main, sub| {
        RevisionKey::new(Revision::new(main).unwrap(), sub, EntryKind::Put)
            .unwrap()
            .encode()
    };
    let log = [
        (at(2, 0), record("a", [2, 2, 1], 0)),
        (at(3, 0), record("a", [2, 3, 2], 0)),
        (at(3, 1), record("b", [3, 3, 1], 7)),
        (at(3, 2), record("c", [3, 3, 1], 8)),
    ];
    let log: Vec<_> = log
        .iter()
        .map(|(key, value)| (key.as_slice(), value.as_slice()))
        .collect();
    let lease = Lease::granted(LeaseId(7), 30);
    let (lease_key, lease_value) = (lease.key(), lease.encode());
    let mut buckets: BTreeMap<&str, Vec<bbolt::Entry<'_>>> = BTreeMap::from([
        ("key", log),
        ("lease", vec![(lease_key.as_slice(), lease_value.as_slice())]),
        ("authUsers", vec![]),
    ]);
    for (name, entries) in more {
        buckets.insert(name, entries.to_vec());
    }
    let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
    for (name, entries) in buckets {
        let mut bucket = writer.bucket(name.as_bytes()).unwrap();
        entries.iter().for_each(|(key, value)| bucket.put(key, value).unwrap());
        bucket.finish().unwrap();
    }
    writer.finish().unwrap().seal().unwrap().0
}

fn executed_on(bytes: &[u8], requests: &[Vec<u8>]) -> Result<Executed, CannotExecute> {
    let file = File::open(bytes).unwrap();
    let walk = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}).unwrap();
    assert!(walk.report.is_sound());
    let summary = walk.summary;
    assert_eq!(summary.fault_count, 0, "{:?}", summary.faults);
    let entries: Vec<_> = (50..)
        .zip(requests)
        .map(|(index, data)| LogEntry { index, data })
        .collect();
    execute(&file, &summary, &entries)
}

fn executed(requests: &[Vec<u8>]) -> Executed {
    executed_on(&database(&[]), requests).unwrap()
}

fn refused(bytes: &[u8], requests: &[Vec<u8>]) -> String {
    executed_on(bytes, requests).unwrap_err().to_string()
}

/// What was added, as text: `main/sub key=value created/version lease`, or `main/sub -key`.
fn added(executed: &Executed) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let at = RevisionKey::decode(key).unwrap();
        let record = KeyValue::decode(value).unwrap();
        let place = format!("{}/{}", at.main(), at.sub());
        match at.kind() {
            EntryKind::Tombstone => {
                assert_eq!(record, KeyValue::tombstone(record.key));
                format!("{place} -{}", text(record.key))
            }
            EntryKind::Put => {
                assert_eq!(record.mod_revision, at.main().get());
                let (created, version, lease) = (record.create_revision, record.version, record.lease);
                format!(
                    "{place} {}={} {created}/{version} {lease}",
                    text(record.key),
                    text(record.value)
                )
            }
        }
    };
    executed.log.iter().map(line).collect()
}

#[test]
fn puts_and_deletions_go_on_from_what_is_there() {
    let made = executed(&[
        request(PUT, &put("a", "new", 0)),
        request(DELETE, &delete("a", "")),
        request(DELETE, &delete("a", "")),
        request(PUT, &put("a", "again", 7)),
        request(DELETE, &delete("b", "\0")),
        request(PUT, &put("d", "", 0)),
        request(PUT, &message().bytes(1, b"a").number(5, 1).number(6, 1)),
        // Nobody asked for a key that is not there.
        request(PUT, &message().bytes(1, b"x").bytes(2, b"y").number(6, 1)),
        request(PUT, &put("x", "on a lease that is not there", 9)),
        request(DELETE, &delete("z", "y")),
    ]);
    assert_eq!(
        added(&made),
        [
            "4/0 a=new 2/3 0",
            "5/0 -a",
            "6/0 a=again 6/1 7",
            "7/0 -b",
            "7/1 -c",
            "8/0 d= 8/1 0",
            "9/0 a=again 6/2 7",
        ]
    );
    assert_eq!(
        (made.first.map(Revision::get), made.revision.get(), made.effective),
        (Some(4), 9, 6)
    );
    assert_eq!(made.last.map(|last| last.main().get()), Some(9));
    assert_eq!((made.compacted, made.leases.len()), (None, 1));
    let nothing = executed(&[]);
    assert_eq!((nothing.first, nothing.revision.get(), nothing.log.len()), (None, 3, 0));
}

#[test]
fn a_transaction_is_one_revision_or_nothing() {
    let made = executed(&[
        // All compares are answered before anything changes, those of inner ones too.
        request(
            TXN,
            &txn(
                &[equals("a", 0, 2), equals("n", 1, 0)],
                &[
                    (2, put("n", "1", 0)),
                    (
                        4,
                        txn(&[equals("n", 1, 0)], &[(2, put("m", "2", 7))], &[(3, delete("a", ""))]),
                    ),
                    (3, delete("m", "z")),
                    (2, put("a", "3", 0)),
                ],
                &[],
            ),
        ),
        // The other branch; what is in it that fails keeps all of it from being done.
        request(
            TXN,
            &txn(
                &[equals("a", 2, 77)],
                &[],
                &[(2, put("f", "1", 0)), (2, put("g", "2", 9))],
            ),
        ),
        request(
            TXN,
            &txn(
                &[],
                &[(2, put("f", "1", 0)), (2, message().bytes(1, b"q").number(5, 1))],
                &[],
            ),
        ),
        // Reads change nothing; where one of an inner one cannot be answered, nothing is done.
        request(
            TXN,
            &txn(
                &[],
                &[(1, message().bytes(1, b"a").number(4, 3)), (2, put("r", "1", 0))],
                &[],
            ),
        ),
        request(TXN, &txn(&[], &[(1, message().bytes(1, b"a").number(4, 999))], &[])),
        request(
            TXN,
            &txn(
                &[],
                &[
                    (2, put("s", "1", 0)),
                    (4, txn(&[], &[(1, message().bytes(1, b"a").number(4, 999))], &[])),
                ],
                &[],
            ),
        ),
        // Nothing at all.
        request(TXN, &txn(&[], &[(3, delete("none", ""))], &[])),
    ]);
    assert_eq!(
        added(&made),
        [
            "4/0 n=1 4/1 0",
            "4/1 m=2 4/1 7",
            "4/2 -m",
            "4/3 -n",
            "4/4 a=3 2/3 0",
            "5/0 r=1 5/1 0"
        ]
    );
}

#[test]
fn compares_are_those_of_etcd() {
    let compare = |target: i64, relation: i64, key: &str, end: &str, field: u32, number: i64| {
        let compare = message().number(1, relation).number(2, target).bytes(3, key.as_bytes());
        let compare = compare.bytes(64, end.as_bytes());
        match field {
            7 => compare.bytes(7, if number == 0 { b"old" } else { b"older" }),
            _ => compare.number(field, number),
        }
    };
    let (equal, greater, less, not_equal) = (0, 1, 2, 3);
    for (compare, holds) in [
        (compare(0, equal, "a", "", 4, 2), true),
        (compare(0, greater, "a", "", 4, 1), true),
        (compare(0, greater, "a", "", 4, 2), false),
        (compare(0, less, "a", "", 4, 3), true),
        (compare(1, equal, "a", "", 5, 2), true),
        (compare(2, equal, "a", "", 6, 3), true),
        (compare(2, not_equal, "a", "", 6, 3), false),
        (compare(3, equal, "a", "", 7, 0), true),
        (compare(3, less, "a", "", 7, 1), true),
        (compare(4, equal, "b", "", 8, 7), true),
        (compare(4, equal, "c", "", 8, 8), true),
        // What is not there has zeros, and no value at all.
        (compare(0, equal, "x", "", 4, 0), true),
        (compare(4, less, "x", "", 8, 1), true),
        (compare(3, not_equal, "x", "", 7, 0), false),
        // All of a range.
        (compare(2, equal, "a", "z", 6, 3), true),
        (compare(0, equal, "a", "z", 4, 1), false),
        (compare(0, equal, "b", "\0", 4, 1), true),
        (compare(0, equal, "x", "\0", 4, 0), true),
        (compare(0, equal, "z", "a", 4, 0), true),
        // What is set is not what is compared.
        (compare(0, equal, "a", "", 6, 2), false),
    ] {
        let made = executed(&[request(
            TXN,
            &txn(std::slice::from_ref(&compare), &[(2, put("k", "1", 0))], &[]),
        )]);
        assert_eq!(made.effective == 1, holds, "{compare:?}");
    }
}

#[test]
fn leases_take_their_keys_with_them() {
    let made = executed(&[
        request(GRANT, &message().number(1, 60).number(2, 9)),
        request(GRANT, &message().number(1, 90).number(2, 9)),
        request(GRANT, &message().number(1, 9_000_000_001).number(2, 10)),
        request(PUT, &put("z", "1", 9)),
        request(PUT, &put("aa", "1", 9)),
        request(PUT, &put("m", "1", 9)),
        // One goes to another lease, one is deleted.
        request(PUT, &put("m", "2", 7)),
        request(DELETE, &delete("aa", "")),
        request(PUT, &put("c2", "1", 9)),
        request(REVOKE, &message().number(1, 9)),
        request(REVOKE, &message().number(1, 9)),
        // `b` of the database hangs on this one, and `m` does now.
        request(REVOKE, &message().number(1, 7)),
        // Granted anew, it does not take `c`, which was put when there was none.
        request(GRANT, &message().number(1, 60).number(2, 8)),
        request(REVOKE, &message().number(1, 8)),
        request(GRANT, &message().number(1, 60).number(2, -5)),
        request(11, &message().bytes(1, &message().number(1, -5).number(2, 33).0)),
    ]);
    assert_eq!(
        added(&made)[3..],
        [
            "7/0 m=2 6/2 7",
            "8/0 -aa",
            "9/0 c2=1 9/1 9",
            "10/0 -c2",
            "10/1 -z",
            "11/0 -b",
            "11/1 -m"
        ]
    );
    let left = Lease {
        id: LeaseId(-5),
        ttl_seconds: 60,
        remaining_seconds: 33,
    };
    assert_eq!(made.leases, [left]);
}

#[test]
fn a_compaction_is_marked_and_counts_at_once() {
    let read_at = |revision| {
        let read = (1, message().bytes(1, b"a").number(4, revision));
        request(
            TXN,
            &txn(&[], &[(4, txn(&[], &[read, (2, put("k", "1", 0))], &[]))], &[]),
        )
    };
    let made = executed(&[
        read_at(2),
        request(COMPACTION, &message().number(1, 99)),
        request(COMPACTION, &message().number(1, 3).number(2, 1)),
        request(COMPACTION, &message().number(1, 2)),
        read_at(2),
        read_at(3),
    ]);
    assert_eq!(added(&made), ["4/0 k=1 4/1 0", "5/0 k=1 4/2 0"]);
    assert_eq!(made.compacted.map(Revision::get), Some(3));
}

#[test]
fn a_full_store_takes_deletions_only() {
    let alarm = |action, kind| message().number(1, action).number(2, 5).number(3, kind);
    let made = executed(&[
        request(ALARM, &alarm(1, 1)),
        request(PUT, &put("x", "1", 0)),
        request(GRANT, &message().number(1, 60).number(2, 9)),
        request(TXN, &txn(&[], &[(3, delete("a", ""))], &[(2, put("x", "1", 0))])),
        request(TXN, &txn(&[], &[(3, delete("a", ""))], &[])),
        request(ALARM, &alarm(2, 1)),
        request(PUT, &put("y", "1", 0)),
    ]);
    assert_eq!(added(&made), ["4/0 -a", "5/0 y=1 5/1 0"]);
    // One that was raised before.
    let full = database(&[("alarm", &[(b"\x08\x05\x10\x01", b"")])]);
    let made = executed_on(&full, &[request(PUT, &put("x", "1", 0))]).unwrap();
    assert_eq!(made.effective, 0);
    let said = refused(
        &database(&[]),
        &[request(ALARM, &alarm(1, 2)), request(PUT, &put("x", "1", 0))],
    );
    assert!(said.contains("entry 51") && said.contains("CORRUPT"), "{said}");
    let both = [
        request(ALARM, &alarm(1, 1)),
        request(ALARM, &alarm(1, 2)),
        request(ALARM, &alarm(2, 2)),
    ];
    assert!(refused(&database(&[]), &both).contains("two kinds"));
}

#[test]
fn what_a_restore_does_not_keep_is_passed_over_and_what_is_not_sure_is_refused() {
    let v2 = |path: &str| {
        let message = message().number(1, 7).bytes(2, b"PUT").bytes(3, path.as_bytes());
        message
            .bytes(4, b"{}")
            .number(5, 0)
            .bytes(6, b"")
            .number(7, 0)
            .number(15, 12)
            .0
    };
    let mut inside = Vec::new();
    put_bytes(&mut inside, 2, &v2("/0/version"));
    let passed = [
        v2("/0/members/5/attributes"),
        inside,
        request(3, &message().bytes(1, b"a")),
        request(1012, &message().bytes(1, b"root")),
        request(1300, &message().bytes(1, b"3.6.0")),
        request(1301, &message().number(1, 5)),
        request(1302, &message().number(1, 0)),
        request(9900, &message().bytes(1, b"3.6")),
    ];
    assert_eq!(executed(&passed).effective, 0);
    for (entry, says) in [
        (request(1000, &message()), "switches authentication on"),
        (request(1011, &message()), "switches authentication off"),
        (request(1100, &message().bytes(1, b"u")), "changes a user"),
        (request(1203, &message()), "changes a role"),
        (request(1400, &message()), "a later etcd knows"),
        (
            request(PUT, &put("a", "b", 0).number(7, 1)),
            "a field that a later etcd knows",
        ),
        (
            request(TXN, &txn(&[message().number(1, 9)], &[], &[])),
            "compares in a way",
        ),
        (request(ALARM, &message().number(1, 9)), "an alarm"),
        (b"\xff\xff\xff".to_vec(), "cannot be read"),
        (message().number(1, 5).0, "asks for nothing"),
    ] {
        let said = refused(&database(&[]), &[request(PUT, &put("x", "1", 0)), entry]);
        assert!(said.contains("entry 51 of the log") && said.contains(says), "{said}");
    }
    // etcd itself would end at these.
    let deleted_first = txn(
        &[],
        &[
            (4, txn(&[], &[(3, delete("a", ""))], &[])),
            (2, message().bytes(1, b"a").number(5, 1)),
        ],
        &[],
    );
    assert!(refused(&database(&[]), &[request(TXN, &deleted_first)]).contains("just deleted"));
    let keeps_gone = message().bytes(1, b"c").bytes(2, b"v").number(6, 1);
    assert!(refused(&database(&[]), &[request(PUT, &keeps_gone)]).contains("which is gone"));
    // What comes of this depends on the server's version, and up to 3.6 on which member was asked.
    let lost_read = (1, message().bytes(1, b"a").number(4, 999));
    let said = refused(
        &database(&[]),
        &[request(TXN, &txn(&[], &[lost_read, (2, put("r", "1", 0))], &[]))],
    );
    assert!(said.contains("servers differ"), "{said}");
    // So deep that a reader would run out of its stack.
    let mut deep = txn(&[], &[(2, put("a", "1", 0))], &[]);
    for _ in 0..2000 {
        deep = txn(&[], &[(4, deep)], &[]);
    }
    assert!(refused(&database(&[]), &[request(TXN, &deep)]).contains("too deep"));
}

#[test]
fn with_authentication_on_root_is_executed_and_others_are_refused() {
    let user = |name: &str, role: &str| message().bytes(1, name.as_bytes()).bytes(3, role.as_bytes()).0;
    let (admin, other) = (user("admin", "root"), user("other", "reader"));
    let users: Entries<'_> = &[(b"admin", &admin), (b"other", &other)];
    let revision = 7u64.to_be_bytes();
    let auth: Entries<'_> = &[(b"authEnabled", &[1]), (b"authRevision", &revision)];
    let on = database(&[("auth", auth), ("authUsers", users)]);
    let made = executed_on(
        &on,
        &[
            asked_by("admin", 7, PUT, &put("x", "1", 0)),
            // Whoever logged in before users were changed is told to do so again.
            asked_by("admin", 6, PUT, &put("y", "1", 0)),
            asked_by("other", 6, DELETE, &delete("x", "")),
            // These are not asked for by users.
            request(COMPACTION, &message().number(1, 3)),
            request(GRANT, &message().number(1, 60).number(2, 9)),
            asked_by("admin", 6, REVOKE, &message().number(1, 7)),
        ],
    );
    assert_eq!(added(&made.unwrap()), ["4/0 x=1 4/1 0", "5/0 -b"]);
    for entry in [
        asked_by("other", 7, PUT, &put("x", "1", 0)),
        asked_by("other", 6, REVOKE, &message().number(1, 7)),
        request(TXN, &txn(&[], &[], &[])),
        asked_by("nobody", 7, DELETE, &delete("x", "")),
    ] {
        assert!(refused(&on, &[entry]).contains("authentication is on"));
    }
    let off = database(&[("auth", &[(b"authEnabled", &[0])]), ("authUsers", users)]);
    assert_eq!(
        executed_on(&off, &[request(PUT, &put("x", "1", 0))]).unwrap().effective,
        1
    );
}

#[test]
fn revisions_follow_a_compaction_that_left_nothing() {
    let mark = RevisionKey::first_put(Revision::new(40).unwrap()).encode();
    let bytes = database(&[("key", &[]), ("meta", &[(b"finishedCompactRev", &mark)])]);
    let made = executed_on(&bytes, &[request(PUT, &put("a", "1", 0))]).unwrap();
    assert_eq!(added(&made), ["41/0 a=1 41/1 0"]);
}

#[test]
fn members_and_alarms_of_others_are_told_apart() {
    let mut alarm = Vec::new();
    put_uint64(&mut alarm, 1, 6);
    put_uint64(&mut alarm, 2, 1);
    assert_eq!(super::super::Alarm::decode(&alarm).unwrap().member, MemberId(6));
    let full = database(&[("alarm", &[(&alarm, b"")])]);
    let disarm = message().number(1, 2).number(2, 5).number(3, 1);
    let entries = [request(ALARM, &disarm), request(PUT, &put("x", "1", 0))];
    assert_eq!(executed_on(&full, &entries).unwrap().effective, 0);
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let field = prop_oneof![
        Just(1u32),
        Just(2),
        3u32..12,
        Just(64),
        Just(100),
        Just(1000),
        Just(1012)
    ];
    let any_field = (field, any::<bool>(), any::<i64>(), bytes());
    let of_fields = move |inner: Vec<(u32, bool, i64, Vec<u8>)>| {
        let mut built = message();
        for (field, is_number, number, bytes) in inner {
            built = match is_number {
                true => built.number(field, number),
                false => built.bytes(field, &bytes),
            };
        }
        built.0
    };
    let flat = proptest::collection::vec(any_field, 0..6).prop_map(of_fields);
    flat.prop_recursive(3, 20, 4, |inner| {
        proptest::collection::vec((2u32..9, inner), 1..4).prop_map(|parts| {
            let mut built = message();
            for (field, part) in parts {
                built = built.bytes(field, &part);
            }
            built.0
        })
    })
}

proptest! {
    #[test]
    fn no_entry_makes_it_panic_and_what_is_made_is_in_order(
        requests in proptest::collection::vec(any_request(), 0..6),
        raw in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let bytes = database(&[]);
        for requests in [requests, vec![raw]] {
            if let Ok(made) = executed_on(&bytes, &requests) {
                let keys: Vec<_> = made.log.iter().map(|(key, _)| RevisionKey::decode(key).unwrap()).collect();
                prop_assert!(keys.is_sorted());
                prop_assert!(keys.first().is_none_or(|first| first.main().get() == 4 && first.sub() == 0));
            }
        }
    }
}
