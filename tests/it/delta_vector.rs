//! A delta that another program wrote after the page on formats reads as the page says.

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat::layout::delta::{Change, Decoder, Head, Put, Record, TimeMark};
use lifeboat::layout::{ChainPath, ObjectName};
use lifeboat::model::{HashKv, Revision};
use lifeboat::pipeline::{Identities, Unlock, decode};

const FILE: &str = "00000000000000000828-00000000000000000829.00000001.delta";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/deltas")
}

fn revision(revision: i64) -> Revision {
    Revision::new(revision).unwrap()
}

#[test]
fn a_delta_that_another_program_wrote_is_read() {
    let bytes = fs::read(folder().join(FILE)).unwrap();
    let chain: ChainPath = ChainPath {
        cluster: "1d4760df1b11313e".parse().unwrap(),
        chain: "20261120T101530Z-9f3c4a1b".parse().unwrap(),
    };
    let name: ObjectName = format!("{chain}/{FILE}").parse().unwrap();
    let head = Head::read(&name, &bytes).unwrap();
    let mark = |at, time: &str, uncertainty_ms| TimeMark {
        revision: revision(at),
        time: time.parse().unwrap(),
        uncertainty_ms,
    };
    let first = mark(827, "2026-11-20T10:35:30.25Z", Some(3));
    let last = mark(829, "2026-11-20T10:35:40.5Z", None);
    assert_eq!((head.header.first_mark, head.header.last_mark), (first, last));

    let identity = fs::read(folder().join("identity.txt")).unwrap();
    let identities = Identities::parse(&identity, "it").expect("it is an identity");
    let body = bytes[usize::try_from(head.body).unwrap()..].to_vec();
    let mut decoded = decode(std::io::Cursor::new(body), Unlock::stored(&identities)).unwrap();
    let (mut plain, mut block) = (Vec::new(), Vec::new());
    while decoded.next_block(&mut block).unwrap() {
        plain.extend_from_slice(&block);
    }
    let put = |at, sub, key, (create, version, lease), value| {
        let put = Put {
            create_revision: revision(create),
            version,
            lease,
            value,
        };
        Record::Change(Change {
            revision: revision(at),
            sub,
            key,
            put: Some(put),
        })
    };
    let expected = [
        Record::Mark(first),
        put(828, 0, b"/a".as_slice(), (828, 1, 0x5eed), b"one".as_slice()),
        Record::Lease {
            id: 0x5eed,
            granted_ttl: 60,
        },
        Record::Mark(mark(828, "2026-11-20T10:35:31Z", Some(3))),
        put(829, 0, b"/b".as_slice(), (29, 7, 0), b"two".as_slice()),
        Record::Change(Change {
            revision: revision(829),
            sub: 1,
            key: b"/a",
            put: None,
        }),
        Record::Checkpoint(HashKv {
            revision: revision(829),
            compact_revision: -1,
            hash: 0xdead_beef,
        }),
        Record::Mark(last),
    ];
    let mut decoder = Decoder::new(&plain, head.header.span().unwrap()).unwrap();
    for record in expected {
        assert_eq!(decoder.next().unwrap(), Some(record));
    }
    assert_eq!(decoder.next().unwrap(), None);

    // The bytes stand in the page, taken apart.
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/formats.md")).unwrap();
    let told = page
        .split("<!-- records of the vector -->")
        .nth(1)
        .expect("the page has them");
    let told = told.lines().filter_map(|line| line.strip_prefix("| `"));
    let told = told.map(|line| line.split('`').next().unwrap_or_default());
    let told: Vec<u8> = told
        .flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    assert_eq!(told, plain);
}
