//! The list of targets: what reads bytes that somebody else wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use lifeboat::bbolt::{self, File, Rules, Scanner, Writer};
use lifeboat::config;
use lifeboat::datadir::wal_reader::{Reader, SegmentName};
use lifeboat::datadir::{InitialCluster, Membership, Tail, snap, wal};
use lifeboat::etcd_settings::{self, Command, Environment, EnvironmentFile, Given, Unit};
use lifeboat::keyspace::{
    Alarm, CompactionMarks, History, Inspection, KeyValue, Lease, LeaseId, LiveKeys, META_KEYS, Member, Meta,
    NewContent, PassingLog, RevisionKey, RewrittenSize, Summary, Version, differences, restored, rewrite,
};
use lifeboat::layout::{Acceptance, Check, Claim, Listed, Manifest, ObjectName};
use lifeboat::model::{ClusterName, Revision, UnitName};
use lifeboat::pipeline::{Identities, Unlock, decode};
use lifeboat::restore::{Ledger, Told};
use lifeboat::sandbox::{Acl, of_unit_file};
use lifeboat::schedule::calendar::OnCalendar;
use lifeboat::signing::{Role, Roll, Signer, SigningKey, signer_of};

use super::deltas;
use super::mutator::Mutator;

/// Something that reads what somebody else wrote.
pub struct Target {
    pub name: &'static str,
    /// Samples that it understands.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Reads an input, whatever it is.
    pub run: fn(&[u8]),
    /// The most memory that it may take for an input of that length.
    pub memory: fn(usize) -> usize,
    /// Makes a changed input pass what would stop nearly all of them at the door, such as a checksum.
    pub mend: fn(&mut Vec<u8>, &mut Mutator),
    /// Words of the format.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "bbolt-open",
        corpus: databases,
        run: bbolt_open,
        memory: |length| (1 << 20) + 2 * length,
        mend: mend_metas,
        words: BUCKETS,
    },
    Target {
        name: "bbolt-check",
        corpus: databases,
        run: bbolt_check,
        memory: |length| (4 << 20) + 4 * length,
        mend: mend_metas,
        words: BUCKETS,
    },
    Target {
        name: "bbolt-scan",
        corpus: databases,
        run: bbolt_scan,
        memory: |length| (1 << 20) + 3 * length,
        mend: mend_metas,
        words: BUCKETS,
    },
    Target {
        name: "inspection",
        corpus: databases,
        run: inspection,
        memory: |length| (4 << 20) + 8 * length,
        mend: mend_metas,
        words: BUCKETS,
    },
    Target {
        name: "rewriting",
        corpus: databases,
        run: rewriting,
        memory: |length| (8 << 20) + 16 * length,
        mend: mend_metas,
        words: BUCKETS,
    },
    Target {
        name: "entries",
        corpus: entries,
        run: of_buckets,
        memory: |length| (1 << 20) + 16 * length,
        mend: as_it_is,
        words: &[
            "peerURLs",
            "clientURLs",
            "isLearner",
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            "3.6.0",
            "-alpha",
        ],
    },
    Target {
        name: "wal-head",
        corpus: || {
            fixtures(&[
                "official-restore-3.4/wal-first-4096",
                "official-restore-3.5/wal-first-4096",
                "official-restore-3.7/wal-first-4096",
            ])
        },
        run: wal_head,
        memory: |length| (64 << 10) + length,
        mend: as_it_is,
        words: &[],
    },
    Target {
        name: "wal",
        corpus: logs,
        run: wal_log,
        memory: |length| (256 << 10) + 16 * length,
        mend: mend_log,
        words: &[],
    },
    Target {
        name: "snap",
        corpus: snaps,
        run: snap_file,
        memory: |length| (64 << 10) + 8 * length,
        mend: mend_snap,
        words: &[],
    },
    Target {
        name: "manifest",
        corpus: || vectors(&["manifest-2.json"]),
        run: manifest,
        memory: DOCUMENT,
        mend: as_it_is,
        words: JSON,
    },
    Target {
        name: "documents",
        corpus: || vectors(&["acceptance-1.json", "check-1.json", "claim-1.json", "pin-1.json"]),
        run: documents,
        memory: DOCUMENT,
        mend: as_it_is,
        words: JSON,
    },
    Target {
        name: "signers",
        corpus: signers,
        run: roll,
        memory: DOCUMENT,
        mend: as_it_is,
        words: JSON,
    },
    Target {
        name: "object-names",
        corpus: names,
        run: object_name,
        memory: |length| (64 << 10) + 32 * length,
        mend: as_it_is,
        words: &[
            "full.db.zst.age",
            "full-",
            ".json",
            "pin.json",
            "checks/",
            "slots/",
            "lineages/",
            "canary/",
            "signers.json",
            "..",
            "//",
        ],
    },
    Target {
        name: "object",
        corpus: objects,
        run: object,
        memory: |length| (64 << 20) + 4 * length,
        mend: as_it_is,
        words: &[
            "-> X25519 ",
            "-> ssh-ed25519 ",
            "\n---",
            "age-encryption.org/v1\n",
            "(\u{b5}/\u{fd}",
        ],
    },
    Target {
        name: "identities",
        corpus: || {
            vec![
                IDENTITY.as_bytes().to_vec(),
                b"# a comment\n\nAGE-PLUGIN-YUBIKEY-1QQQQQQ\n".to_vec(),
            ]
        },
        run: |input| drop(Identities::parse(input, "it")),
        memory: |length| (4 << 20) + 32 * length,
        mend: as_it_is,
        words: &[
            "AGE-SECRET-KEY-1",
            "AGE-PLUGIN-",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "-----END OPENSSH PRIVATE KEY-----\n",
        ],
    },
    Target {
        name: "configuration",
        corpus: configurations,
        run: configuration,
        memory: |length| (4 << 20) + 256 * length,
        mend: as_it_is,
        words: &[
            "[",
            "]",
            "=",
            "\"",
            "{ file = \"/f\" }",
            "[destinations.x]\n",
            "url = \"s3://b/p\"\n",
            "enabled = false\n",
            "[schedules.s]\n",
            "every = \"6h\"\n",
            "99999999999999999999",
            "\\u0000",
        ],
    },
    Target {
        name: "calendar",
        corpus: calendars,
        run: calendar,
        memory: |length| (4 << 20) + 64 * length,
        mend: as_it_is,
        words: &[
            "*",
            "/",
            "..",
            "~",
            ",",
            "Mon",
            "Sun",
            "hourly",
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            ":",
            "-",
            "2199",
            "00",
        ],
    },
    Target {
        name: "etcd-yaml",
        corpus: yamls,
        run: yaml,
        memory: |length| (4 << 20) + 512 * length,
        mend: as_it_is,
        words: &[
            "data-dir: ",
            "name: ",
            "&a ",
            "*a ",
            "<<: ",
            "|\n",
            ">-\n",
            "- ",
            "{",
            "}",
            "? ",
            "!!binary ",
            "\"\\x00\"",
            "---\n",
            "client-transport-security:\n",
        ],
    },
    Target {
        name: "etcd-environment",
        corpus: environments,
        run: environment,
        memory: |length| (4 << 20) + 64 * length,
        mend: as_it_is,
        words: &[
            "ETCD_DATA_DIR=",
            "ETCD_NAME=",
            "'",
            "\"",
            "\\\n",
            "\\",
            "#",
            ";",
            "$",
            "%",
            "export ",
        ],
    },
    Target {
        name: "etcd-arguments",
        corpus: arguments,
        run: argument,
        memory: |length| (4 << 20) + 64 * length,
        mend: as_it_is,
        words: &[
            "--data-dir",
            "--name=",
            "-config-file",
            "${ETCD_ARGS}",
            "$X",
            "/bin/sh",
            "-c",
            "exec ",
            "--",
            "'",
            "\"",
            "\n",
        ],
    },
    Target {
        name: "unit-file",
        corpus: || project_files(&["systemd"]),
        run: |input| drop(of_unit_file(&String::from_utf8_lossy(input))),
        memory: |length| (1 << 20) + 64 * length,
        mend: as_it_is,
        words: &[
            "[Service]\n",
            "ProtectSystem=strict\n",
            "ReadWritePaths=",
            "BindPaths=/a:/b:rbind\n",
            "LoadCredential=x:/y\n",
            "\\x20",
            "%t",
        ],
    },
    Target {
        name: "acl",
        corpus: || vec![[&2_u32.to_le_bytes()[..], &[1, 0, 6, 0, 255, 255, 255, 255].repeat(4)].concat()],
        run: |input| drop(Acl::parse(input)),
        memory: |length| (64 << 10) + 8 * length,
        mend: as_it_is,
        words: &[],
    },
    Target {
        name: "initial-cluster",
        corpus: || vec![b"m1=http://10.0.0.1:2380,m2=https://[fd00::2]:2380,m2=unix://sock:1".to_vec()],
        run: initial_cluster,
        memory: |length| (1 << 20) + 256 * length,
        mend: as_it_is,
        words: &[
            "=", ",", "http://", "https://", "unix://", "[::1]", ":65536", "%25", "@",
        ],
    },
    Target {
        name: "rendezvous",
        corpus: || vec![TOLD.as_bytes().to_vec()],
        run: told,
        memory: DOCUMENT,
        mend: as_it_is,
        words: JSON,
    },
    Target {
        name: "ledger",
        corpus: || {
            fixtures(&[
                "ledgers-0.1/open-swapped.json",
                "ledgers-0.1/open-waiting.json",
                "ledgers-0.1/closed-undone.json",
                "ledgers-0.1/closed-restored.json",
            ])
        },
        run: |input| drop(serde_json::from_slice::<Ledger>(input)),
        memory: DOCUMENT,
        mend: as_it_is,
        words: JSON,
    },
    deltas::HEAD,
    deltas::RECORDS,
    deltas::INDEX,
];

const BUCKETS: &[&str] = &[
    "key",
    "meta",
    "lease",
    "members",
    "consistent_index",
    "finishedCompactRev",
    "scheduledCompactRev",
];
pub const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "-1",
    "1e999",
    "99999999999999999999",
    "\\ud800",
    "\"format\":2,",
    ",\"signature\":\"\"}",
    "\u{202e}",
];
pub const DOCUMENT: fn(usize) -> usize = |length| (1 << 20) + 64 * length;

const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";
const TOLD: &str = r#"{"format":1,"member":"m1","terms":{"backup":"20261120T101530Z-9f3c4a1b",
"sha256":"0101010101010101010101010101010101010101010101010101010101010101","revision":4711,"bump":1000000000,
"members":{"m1":["http://a:2380"],"m2":["http://b:2380"]}},"nonce":"00112233445566778899aabbccddeeff",
"seen":{"m2":"ffeeddccbbaa99887766554433221100"},"founders":{"m1":"00112233445566778899aabbccddeeff"},"ready":false}"#;

/// Nothing has to be mended.
pub fn as_it_is(_: &mut Vec<u8>, _: &mut Mutator) {}

pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn fixtures(names: &[&str]) -> Vec<Vec<u8>> {
    let read = |name: &&str| fs::read(project("tests/vectors/fixtures").join(name)).unwrap();
    names.iter().map(read).collect()
}

fn vectors(names: &[&str]) -> Vec<Vec<u8>> {
    let read = |name: &&str| fs::read(project("tests/vectors/signing").join(name)).unwrap();
    names.iter().map(read).collect()
}

fn project_files(folders: &[&str]) -> Vec<Vec<u8>> {
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(project(folder)).unwrap().flatten());
    let mut files: Vec<_> = files.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Small ones, so that many fit into the time: of real servers, and of each shape that the writer makes.
fn databases() -> Vec<Vec<u8>> {
    let mut all = fixtures(&[
        "etcd-3.4.23-rev6.snap",
        "etcd-3.4.23-rev97-base.snap",
        "official-restore-3.5-bump/db",
    ]);
    for page_size in [1024, 4096] {
        let mut writer = Writer::fresh(Vec::new(), page_size).unwrap();
        for bucket in ["alarm", "key", "lease", "members", "meta"] {
            let mut written = writer.bucket(bucket.as_bytes()).unwrap();
            let count = if bucket == "key" { 200_u8 } else { 3 };
            for number in 1..=count {
                let at = RevisionKey::first_put(Revision::new(i64::from(number)).unwrap()).encode();
                let mut record = Vec::new();
                let value = vec![number; if number % 50 == 0 { 5_000 } else { 20 }];
                let key = [b'k', number % 7];
                let one = KeyValue {
                    key: &key,
                    value: &value,
                    mod_revision: number.into(),
                    create_revision: 1,
                    version: 1,
                    lease: 0,
                };
                one.encode_into(&mut record);
                written.put(&at, &record).unwrap();
            }
            written.finish().unwrap();
        }
        all.push(writer.finish().unwrap().seal().unwrap().0);
    }
    all
}

/// Half of the changed databases get metas with right checksums: what was changed in them is believed then.
#[expect(clippy::ptr_arg, reason = "others change the length, too")]
fn mend_metas(input: &mut Vec<u8>, mutator: &mut Mutator) {
    if mutator.below(2) == 0 {
        return;
    }
    let page_size = input
        .get(24..28)
        .map_or(4096, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()) as usize);
    for at in [Some(16), page_size.checked_add(16)].into_iter().flatten() {
        if let Some(meta) = at.checked_add(64).and_then(|end| input.get_mut(at..end)) {
            let (content, checksum) = meta.split_at_mut(56);
            let fnv = content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            checksum.copy_from_slice(&fnv.to_le_bytes());
        }
    }
}

fn bbolt_open(input: &[u8]) {
    let Ok(file) = File::open(input) else {
        return;
    };
    for bucket in file.buckets().into_iter().flatten() {
        let Ok((name, bucket)) = bucket else { break };
        file.bucket(name).ok();
        for entry in bucket.iter() {
            let Ok((key, _)) = entry else { break };
            bucket.get(key).ok();
        }
    }
    CompactionMarks::read(&file);
    Meta::read(&file).ok();
}

fn bbolt_check(input: &[u8]) {
    let Ok(file) = File::open(input) else {
        return;
    };
    for rules in [Rules::Bbolt, Rules::Ours] {
        let mut entries = 0_u64;
        let report = bbolt::check(&file, rules, |_, _, _| entries += 1);
        assert_eq!(report.is_sound(), report.fault_count() == 0);
    }
}

/// What a check finds whole is whole in passing too, with the same last entry and the same HashKV; what it does not, is not.
fn bbolt_scan(input: &[u8]) {
    let mut scanner = Scanner::new(b"key", META_KEYS, PassingLog::default());
    let pieces = 1 + usize::from(input.first().copied().unwrap_or_default());
    let passed = input.chunks(pieces * 97).all(|piece| scanner.push(piece).is_ok());
    if !passed {
        return;
    }
    let Ok(scan) = scanner.finish() else {
        return;
    };
    scan.entries(b"meta").ok();
    let Ok(file) = File::open(input) else {
        return;
    };
    let Ok(walked) = Inspection::of(&file, LiveKeys::Counted, None, |_, _, _| {}) else {
        return;
    };
    if !walked.report.is_sound() {
        assert!(!scan.is_whole(), "{:?}", walked.report.faults());
        return;
    }
    if walked.fault_count() > 0 {
        return;
    }
    assert!(scan.is_whole() || scan.is_short_of_room(), "{:?}", scan.faults());
    let last = walked.summary.last.map(|last| last.main().get());
    assert_eq!(scan.last_key().map(|last| last.main()), last);
    if scan.is_whole() {
        let (revision, compacted) = (walked.summary.revision(), walked.compact_revision);
        let passed = scan.owner().hash_kv(scan.leaves(), revision.get(), compacted).unwrap();
        assert_eq!(passed.at(revision), walked.hash_kv());
    }
}

fn inspection(input: &[u8]) {
    let Ok(file) = File::open(input) else {
        return;
    };
    let Ok(mut size) = RewrittenSize::new(&file, History::asked_by(CompactionMarks::read(&file))) else {
        return;
    };
    let walked = Inspection::of(&file, LiveKeys::Counted, Some(3), |bucket, key, value| {
        size.entry(bucket, key, value);
    });
    let Ok(walked) = walked else { return };
    size.finish();
    let revision = walked.summary.revision();
    walked.hash_kv();
    walked.hash_kv_at(&file, revision).ok();
    walked.summary.dangling(&walked.replayed.leases);
    assert!(walked.faults().count() as u64 <= walked.fault_count());
}

/// What a restore would write, and a database that is written anew: what was whole stays whole, and where etcd could have
/// written it, it holds the same and is as long as was said before.
fn rewriting(input: &[u8]) {
    let Ok(file) = File::open(input) else {
        return;
    };
    let report = bbolt::check(&file, Rules::Bbolt, |_, _, _| {});
    let membership = Membership::new(&"m1=http://a:2380".parse().unwrap(), "token").unwrap();
    let wished = NewContent {
        members: membership.members(),
        last: None,
        bump: std::num::NonZeroU64::new(7),
        leases: &[Lease::granted(LeaseId(5), 30)],
        line: None,
        executed: None,
    };
    restored(&file, &wished).ok();
    if report.is_sound() {
        for history in [History::Whole, History::asked_by(CompactionMarks::read(&file))] {
            let Ok(unsealed) = rewrite(&file, history, Vec::new()) else {
                continue;
            };
            let (written, _) = unsealed.seal().unwrap();
            let again = File::open(&written).unwrap();
            let report = bbolt::check(&again, Rules::Ours, |_, _, _| {});
            assert!(report.is_sound(), "{:?}", report.faults());
            let mut size = RewrittenSize::new(&file, history).unwrap();
            let was = Inspection::of(&file, LiveKeys::Counted, None, |bucket, key, value| {
                size.entry(bucket, key, value);
            });
            let was = was.unwrap();
            if was.fault_count() == 0 {
                assert_eq!(size.finish().0, written.len() as u64);
                let is = Inspection::of(&again, LiveKeys::Counted, None, |_, _, _| {}).unwrap();
                let different = differences((&file, &was), (&again, &is), history).unwrap();
                assert!(different.is_empty(), "{different:?}");
            }
        }
    }
}

fn entries() -> Vec<Vec<u8>> {
    let mut record = Vec::new();
    let one = KeyValue {
        key: b"/a",
        create_revision: 2,
        mod_revision: 4,
        version: 2,
        value: b"3",
        lease: 9,
    };
    one.encode_into(&mut record);
    let member = br#"{"id":5,"peerURLs":["http://a:1"],"name":"m1","clientURLs":["http://a:2"]}"#;
    let revision = RevisionKey::first_put(Revision::new(40).unwrap()).encode();
    vec![
        record,
        member.to_vec(),
        revision,
        b"\x08\x05\x10\x02".to_vec(),
        b"3.6.0".to_vec(),
        Lease::granted(LeaseId(9), 30).encode(),
    ]
}

fn of_buckets(input: &[u8]) {
    if let Ok(record) = KeyValue::decode(input) {
        let mut again = Vec::new();
        record.encode_into(&mut again);
        assert_eq!(KeyValue::decode(&again), Ok(record));
    }
    if let Ok(at) = RevisionKey::decode(input) {
        assert_eq!(at.encode(), input);
    }
    Alarm::decode(input).ok();
    Lease::decode(input).ok();
    Version::decode(input).ok();
    Member::decode(b"5", input).ok();
    Member::decode(input, b"{}").ok();
}

fn wal_head(input: &[u8]) {
    wal::identity(input);
}

fn logs() -> Vec<Vec<u8>> {
    let lines = ["3.4", "3.5", "3.7"];
    let names = lines.map(|line| format!("official-restore-{line}/wal-first-4096"));
    fixtures(&names.each_ref().map(String::as_str))
}

fn snaps() -> Vec<Vec<u8>> {
    let name = "0000000000000001-0000000000000003.snap";
    let names = ["3.4", "3.5", "3.7"].map(|line| format!("official-restore-{line}/{name}"));
    fixtures(&names.each_ref().map(String::as_str))
}

fn snap_file(input: &[u8]) {
    snap::read(input).ok();
}

/// As the last segment, as one before another, and as that.
fn wal_log(input: &[u8]) {
    let name = |sequence, first_index| SegmentName { sequence, first_index };
    for after in [0, 2, u64::MAX] {
        let mut reader = Reader::after(after);
        let half = input.len() / 2;
        reader.segment(name(0, 0), input, false);
        reader.segment(name(1, 3), &input[half..], false);
        reader.segment(name(2, 4), input, true);
        let log = reader.finish();
        let indexes: Vec<u64> = log.entries.iter().map(|entry| entry.index).collect();
        assert!(
            indexes.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "a gap: {indexes:?}"
        );
        assert!(indexes.first().is_none_or(|first| *first > after));
        Tail::of(&log, &Summary::default()).ok();
        let mut alone = Reader::after(after);
        alone.segment(name(0, 0), input, true);
        alone.finish();
    }
}

/// Half of the changed logs get right checksums, as far as their records can be told apart.
fn mend_log(input: &mut Vec<u8>, mutator: &mut Mutator) {
    if mutator.below(2) == 0 {
        return;
    }
    let (mut mended, mut rolling, mut at) = (Vec::new(), 0_u32, 0);
    while let Some(word) = input.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().unwrap());
        let length = (word & 0x00ff_ffff_ffff_ffff) as usize;
        let padding = if word >> 63 == 1 { (word >> 56 & 7) as usize } else { 0 };
        let Some(record) = length.checked_add(at + 8).and_then(|end| input.get(at + 8..end)) else {
            break;
        };
        let Some((kind, data)) = kind_and_data(record).filter(|_| length > 0) else {
            break;
        };
        rolling = crc32c::crc32c_append(rolling, data);
        let mut again = vec![0x08, kind, 0x10];
        varint(&mut again, rolling.into());
        if !data.is_empty() {
            again.push(0x1a);
            varint(&mut again, data.len() as u64);
            again.extend_from_slice(data);
        }
        let padded = again.len().next_multiple_of(8);
        let word = again.len() as u64 | ((0x80 | (padded - again.len()) as u64) << 56);
        mended.extend_from_slice(&word.to_le_bytes());
        again.resize(padded, 0);
        mended.extend_from_slice(&again);
        at += 8 + length + padding;
    }
    mended.extend_from_slice(input.get(at..).unwrap_or_default());
    *input = mended;
}

fn kind_and_data(record: &[u8]) -> Option<(u8, &[u8])> {
    let [0x08, kind, 0x10, rest @ ..] = record else {
        return None;
    };
    let end = rest.iter().position(|byte| *byte < 0x80)?;
    let rest = &rest[end + 1..];
    let [0x1a, rest @ ..] = rest else {
        return Some((*kind, &[]));
    };
    let end = rest.iter().position(|byte| *byte < 0x80)?;
    Some((*kind, &rest[end + 1..]))
}

fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// Half of the changed files get a right checksum.
fn mend_snap(input: &mut Vec<u8>, mutator: &mut Mutator) {
    if mutator.below(2) == 0 {
        return;
    }
    let Some(end) = input
        .get(1..)
        .and_then(|rest| rest.iter().position(|byte| *byte < 0x80))
    else {
        return;
    };
    let rest = input.get(end + 3..).unwrap_or_default();
    let Some(length) = rest.iter().position(|byte| *byte < 0x80) else {
        return;
    };
    let content = &rest[length + 1..];
    let mut mended = vec![0x08];
    varint(&mut mended, crc32c::crc32c(content).into());
    mended.push(0x12);
    varint(&mut mended, content.len() as u64);
    mended.extend_from_slice(content);
    *input = mended;
}

fn cluster() -> ClusterName {
    "prod".parse().unwrap()
}

fn manifest(input: &[u8]) {
    let Ok(manifest) = Manifest::from_bytes(input) else {
        return;
    };
    signer_of(&cluster(), &manifest.name(), input);
    manifest.doubt();
    manifest.slot_path();
    Manifest::read(&manifest.chain_path(), manifest.to_revision, input).ok();
    // What is written of it is understood the same.
    let again = Manifest::from_bytes(&manifest.to_bytes()).unwrap();
    assert_eq!(again.to_bytes(), manifest.to_bytes());
}

fn documents(input: &[u8]) {
    if let Ok(check) = Check::from_bytes(input) {
        Check::from_bytes(&check.to_bytes()).unwrap();
    }
    if let Ok(acceptance) = Acceptance::from_bytes(input) {
        Acceptance::from_bytes(&acceptance.to_bytes()).unwrap();
    }
    if let Ok(claim) = Claim::from_bytes(input) {
        Claim::from_bytes(&claim.to_bytes()).unwrap();
    }
    signer_of(&cluster(), &ObjectName::Acceptance(1), input);
}

static ROOT: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::of_seed(Role::Root, [7; 32]));

fn signers() -> Vec<Vec<u8>> {
    let key = SigningKey::of_seed(Role::Signer, [9; 32]).public();
    let host = Signer {
        key,
        name: Some("etcd-1".to_owned()),
    };
    vec![serde_json::to_vec(&Roll::new(3, Timestamp::UNIX_EPOCH, vec![host])).unwrap()]
}

/// As if the root had signed it, and as it is.
fn roll(input: &[u8]) {
    let roots = BTreeSet::from([ROOT.public()]);
    Roll::read(&cluster(), &roots, input).ok();
    let signed = ROOT.sign(&cluster(), &ObjectName::Signers, input);
    if let Ok(roll) = Roll::read(&cluster(), &roots, &signed) {
        roll.keys().count();
    }
}

fn names() -> Vec<Vec<u8>> {
    let chain = "cdf8/20261120T101530Z-9f3c4a1b";
    [
        format!("{chain}/full.db.zst.age"),
        format!("{chain}/full-00000000000000004711.json"),
        format!("{chain}/pin.json"),
        format!("{chain}/checks/20261121T000000Z-etcd-1.json"),
        "slots/hourly/20261120T100000Z.1.json".to_owned(),
        "lineages/00000001.json".to_owned(),
        "store.json".to_owned(),
        "canary/etcd-1".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn object_name(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    drop(Listed::file(&text));
    if let Ok(name) = text.parse::<ObjectName>() {
        assert_eq!(name.to_string(), text, "a name is written in one way only");
    }
}

static KEYS: LazyLock<Identities> = LazyLock::new(|| {
    let identity = IDENTITY_FILE.clone();
    match Identities::parse(identity.as_bytes(), "it") {
        Ok(keys) => keys,
        Err(error) => panic!("{error}"),
    }
});

/// An identity of this run, made by the library that reads it.
static IDENTITY_FILE: LazyLock<String> = LazyLock::new(|| {
    use age::secrecy::ExposeSecret;
    age::x25519::Identity::generate().to_string().expose_secret().to_owned()
});

fn objects() -> Vec<Vec<u8>> {
    let identity: age::x25519::Identity = IDENTITY_FILE.parse().unwrap();
    let sealed = |plain: &[u8]| age::encrypt(&identity.to_public(), plain).unwrap();
    let zstd = |plain: &[u8]| zstd::encode_all(plain, 3).unwrap();
    let database = &fixtures(&["etcd-3.4.23-rev6.snap"])[0];
    vec![
        sealed(&zstd(database)),
        sealed(&zstd(b"")),
        sealed(database),
        sealed(&[zstd(b"one"), zstd(b"two")].concat()),
    ]
}

/// What a stored object has inside.
static INSIDE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let database = fixtures(&["etcd-3.4.23-rev6.snap"]).swap_remove(0);
    zstd::encode_all(&database[..], 3).unwrap()
});

/// As it is stored, and as what is inside: whoever knows the recipients can encrypt anything to them.
fn object(input: &[u8]) {
    let open = |stored: Vec<u8>| {
        let Ok(mut decoded) = decode(io::Cursor::new(stored), Unlock::stored(&KEYS)) else {
            return;
        };
        let (mut block, mut bytes) = (Vec::new(), 0_u64);
        while matches!(decoded.next_block(&mut block), Ok(true)) && bytes < 8 << 20 {
            bytes += block.len() as u64;
        }
    };
    open(input.to_vec());
    let identity: age::x25519::Identity = IDENTITY_FILE.parse().unwrap();
    let mut inside = INSIDE.clone();
    for (at, byte) in input.iter().rev().take(32).enumerate() {
        let place = usize::from(*byte) * 7 % inside.len();
        inside[place] ^= input[at];
    }
    open(age::encrypt(&identity.to_public(), &inside).unwrap());
}

fn configurations() -> Vec<Vec<u8>> {
    let all = ["config.example.toml"].map(|name| fs::read(project(name)).unwrap());
    let small = format!(
        "[cluster]\nname = \"prod\"\n[members.m1]\nclient_urls = [\"http://127.0.0.1:2379\"]\npeer_urls = [\"http://127.0.0.1:2380\"]\n\
         [encryption]\nrecipients = [\"{}\"]\n[schedules.hourly]\nkind = \"full\"\nwhen = \"hourly\"\n[destinations.local]\n\
         url = \"file:///var/backups/lifeboat\"\nretention = {{ keep_last = 24, keep_daily = 7 }}\n",
        "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    );
    let [example] = all;
    vec![example, small.into_bytes()]
}

fn configuration(input: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    let path = FOLDER.path().join("config.toml");
    fs::write(&path, input).unwrap();
    match config::load(&path) {
        Ok(_) => {}
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error.next_step();
        }
    }
}

fn calendars() -> Vec<Vec<u8>> {
    [
        "*-*-* 02:30:00",
        "Mon..Fri *-*~3/1 9..17:00/15 Europe/Berlin",
        "hourly",
        "*-02-29 0/5:*:*.5 UTC",
        "2026-11,12-* 12:00 CET",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn calendar(input: &[u8]) {
    static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::from_env);
    let text = String::from_utf8_lossy(input);
    let Ok(expression) = OnCalendar::parse(&text, &TimeZone::UTC, &ZONES) else {
        return;
    };
    drop(expression.to_string());
    let mut at: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
    for _ in 0..3 {
        expression.next_after(at);
        match expression.slot_after(at) {
            Some(next) => {
                assert!(next > at, "a slot comes after the one before it");
                at = next;
            }
            None => break,
        }
    }
}

fn told(input: &[u8]) {
    match Told::parse(input) {
        Some(told) => {
            assert_eq!(Told::parse(&told.to_bytes()).as_ref(), Some(&told));
            if let Some(founders) = &told.founders {
                told.terms.token(founders);
            }
            assert!(told.terms.agree(&told.terms));
        }
        None => assert_ne!(input, TOLD.as_bytes(), "the sample is understood"),
    }
}

fn unit(words: Vec<String>, files: &[&str]) -> Unit {
    let file = |path: &&str| EnvironmentFile {
        path: PathBuf::from(path),
        is_optional: false,
    };
    Unit {
        name: "etcd.service".parse::<UnitName>().unwrap(),
        files: vec![PathBuf::from("/usr/lib/systemd/system/etcd.service")],
        exec_start: vec![Command {
            program: PathBuf::from(words.first().map_or("", String::as_str)),
            words,
            flags: Vec::new(),
        }],
        environment: Environment {
            files: files.iter().map(file).collect(),
            ..Environment::default()
        },
        working_directory: Some(PathBuf::from("/")),
        root: None,
        user: Some("etcd".to_owned()),
    }
}

/// The settings of a unit whose files all hold the same.
fn discover(unit: &Unit, content: &[u8]) {
    let read = |_: &Path| Ok(content.to_vec());
    if let Err(error) = etcd_settings::discover(unit, &Given::default(), &read) {
        assert!(!error.to_string().is_empty());
        error.next_step();
    }
    etcd_settings::shadowed(unit, &Given::default(), &read).ok();
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|&word| word.to_owned()).collect()
}

fn yamls() -> Vec<Vec<u8>> {
    vec![
        b"name: m1\ndata-dir: /var/lib/etcd\nlisten-peer-urls: http://10.0.0.1:2380\ninitial-cluster: m1=http://10.0.0.1:2380\n\
          client-transport-security:\n  cert-file: /c\n  key-file: /k\n  client-cert-auth: true\nquota-backend-bytes: 8589934592\n"
            .to_vec(),
        b"# a comment\n'data-dir': \"/d\\x41\"\nx: &a [1, 2]\ny: *a\nz: |\n  text\n...\n".to_vec(),
    ]
}

fn yaml(input: &[u8]) {
    discover(
        &unit(words(&["/usr/bin/etcd", "--config-file", "/etc/etcd.yml"]), &[]),
        input,
    );
}

fn environments() -> Vec<Vec<u8>> {
    vec![
        b"ETCD_NAME=m1\nETCD_DATA_DIR=\"/var/lib/etcd\"\n# a comment\nETCD_INITIAL_CLUSTER='m1=http://a:2380'\nX=a\\\nb\n".to_vec(),
        b"ETCD_LISTEN_PEER_URLS=http://a:2380 \nETCD_QUOTA_BACKEND_BYTES=1\n; another\n".to_vec(),
    ]
}

fn environment(input: &[u8]) {
    discover(&unit(words(&["/usr/bin/etcd"]), &["/etc/default/etcd"]), input);
}

fn arguments() -> Vec<Vec<u8>> {
    vec![
        b"/usr/bin/etcd\n--name=m1\n--data-dir\n/var/lib/etcd\n--initial-cluster=m1=http://a:2380\n-auto-tls".to_vec(),
        b"/bin/sh\n-c\nexec /usr/bin/etcd --name \"$NAME\" --data-dir=/d ${ARGS}".to_vec(),
    ]
}

/// Each line is a word of `ExecStart=`, or a variable that is set.
fn argument(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    discover(&unit(lines.clone(), &[]), input);
    let mut with_variables = unit(words(&["/usr/bin/etcd", "$ARGS", "${NAME}"]), &[]);
    with_variables.environment.set = lines.clone();
    with_variables.environment.unset = lines;
    discover(&with_variables, input);
}

fn initial_cluster(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(cluster) = text.parse::<InitialCluster>() else {
        return;
    };
    let names: BTreeMap<_, _> = cluster.iter().collect();
    assert!(!names.is_empty());
    if let Ok(membership) = Membership::new(&cluster, "token") {
        assert_eq!(membership.members().len(), names.len());
    }
}
