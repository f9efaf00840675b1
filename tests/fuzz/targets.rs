//! The list of targets: what reads bytes that somebody else wrote.

mod databases;
mod documents;
mod logs;
mod settings;

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
use databases::{
    bbolt_check, bbolt_open, bbolt_scan, databases, entries, inspection, mend_metas, of_buckets, rewriting,
};
use documents::{documents, manifest, names, object, object_name, objects, roll, signers};
use logs::{logs, mend_log, mend_snap, snap_file, snaps, wal_head, wal_log};
use settings::{
    argument, arguments, calendar, calendars, configuration, configurations, environment, environments,
    initial_cluster, told, yaml, yamls,
};

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
