//! The manifest: the document that makes a stored object a backup.
//!
//! Version 1, one JSON object:
//!
//! ```text
//! {"format":1,
//! "kind":"full",
//! …                          one line for each key, in the order of `Manifest`'s fields
//! "previous":null,"signature":null}
//! ```
//!
//! Times are RFC 3339 in UTC, ids as etcd prints them (hexadecimal, not padded), digests hexadecimal. `signature` is the
//! last key; signed are the bytes before `,"signature"` (the last place where that text stands).
//!
//! Invariant: a manifest is written once and never again from its parsed form: copies are copies of the stored bytes,
//! which are known again by their digest.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::instant;
use super::names::{ChainPath, ObjectName, SlotPath};
use super::one_key_per_line::OneKeyPerLine;
use super::records::Proof;
use crate::model::{ChainId, ClusterId, ClusterName, Digest, HashKv, LineageId, MemberId, Revision};

/// The version of every document this program writes, but for the signed manifest.
pub const FORMAT: u64 = 1;

/// The version of a manifest whose signature counts. It differs from the first in that, and in the key `signer`.
pub const SIGNED_FORMAT: u64 = 2;

/// The largest document that is read.
pub const MAX_BYTES: usize = 1 << 20;

/// How `hash_kv_reason` begins where the data itself is in doubt: its member was said to be corrupt, or the others reported
/// another hash.
pub const IN_DOUBT: &str = "corrupt: ";

/// What makes a manifest, or another document of the store, unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A later version wrote it; that version can read it.
    #[error("it has format {found}, this version reads up to {known}: use a newer lifeboat")]
    UnknownFormat {
        /// Its format.
        found: u64,
        /// The highest that this version reads.
        known: u64,
    },
    /// It has a signature, which is not of what stands in it.
    #[error("{detail}")]
    Forged {
        /// What it looks like.
        detail: String,
    },
    /// It is larger than any document of ours.
    #[error("it has {bytes} bytes, more than the {MAX_BYTES} that are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not what its name says.
    #[error("it cannot be parsed: {detail}")]
    Malformed {
        /// Where and why.
        detail: String,
    },
    /// It says something else than its own name or the rest of itself.
    #[error("its {field} is {content}, but it should be {expected}")]
    Disagrees {
        /// The key.
        field: &'static str,
        /// What it holds.
        content: String,
        /// What it ought to hold.
        expected: String,
    },
    /// The store would not give it out.
    #[error("it cannot be read: {detail}")]
    Unreadable {
        /// What the store said.
        detail: String,
    },
    /// What has its name is none: a document of ours is a small file.
    #[error("it is no document: {detail}")]
    NoDocument {
        /// What the store found.
        detail: String,
    },
    /// Another destination holds other bytes under the same name.
    #[error("it differs from the one in destination `{other}`")]
    Differs {
        /// The destination whose manifest is taken.
        other: String,
    },
    /// The chain has a second manifest of a full backup.
    #[error("its chain has more than one full backup: {other} too")]
    NotAlone {
        /// The other one.
        other: String,
    },
}

/// What a stored object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One whole snapshot.
    Full,
}

/// Why a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A schedule's slot came.
    Schedule,
    /// Someone asked for it.
    Manual,
    /// Made from an earlier full backup and its deltas.
    Synthetic,
    /// Brought over from another destination.
    Copy,
    /// Made of another one, which was encrypted to other recipients.
    Rewrap,
}

/// Of which backup one was made anew, for other recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrapped {
    /// The chain of the one that was taken of etcd, however often it was made anew since.
    pub original: ChainId,
    /// How often that was.
    pub generation: u32,
}

/// What a backup was made of that was not taken of etcd: a full backup, and the deltas behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synthetic {
    /// The chain of both.
    pub chain: ChainId,
    /// The revision of that full backup.
    pub base_revision: Revision,
    /// How many deltas were applied to it.
    pub deltas: u64,
    /// HashKV, computed of what was made. Nobody has reported it, unless the manifest's `hash_kv` is there.
    pub computed: HashKv,
    /// How many reports of members the deltas hold, up to the revision of this backup.
    pub checkpoints: u64,
    /// The last report of a member that what was made was compared with, and equals.
    pub matched: Option<HashKv>,
}

/// The cluster that was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name in the configuration.
    pub name: ClusterName,
    /// Its id.
    pub id: ClusterId,
}

/// The compaction marks in the snapshot; null where the snapshot holds none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactRevision {
    /// Up to which revision a compaction was asked for.
    pub scheduled: Option<Revision>,
    /// Up to which revision it was carried out.
    pub finished: Option<Revision>,
}

/// The member that handed out the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
}

/// A byte stream, as it was seen to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// Who wrote the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The host.
    pub host: String,
    /// The version of this program.
    pub version: String,
    /// The run, as in the log.
    pub run: String,
}

/// The manifest, without its signer and signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version: 1, or 2 of one that is signed.
    pub format: u64,
    /// What the object holds.
    pub kind: Kind,
    /// The history that it belongs to.
    pub lineage: LineageId,
    /// The cluster.
    pub cluster: Cluster,
    /// The chain.
    pub chain: ChainId,
    /// The first revision that can be restored; of a full backup the same as the last.
    pub from_revision: Revision,
    /// The last revision that can be restored.
    pub to_revision: Revision,
    /// The compaction marks.
    pub compact_revision: CompactRevision,
    /// The member.
    pub member: Member,
    /// The version of etcd that the member ran.
    pub etcd_version: String,
    /// The version of the storage, where the snapshot says it.
    pub storage_version: Option<String>,
    /// The Raft term of the last applied entry, where the snapshot says it.
    pub raft_term: Option<u64>,
    /// The index of the last applied entry, where the snapshot says it.
    pub consistent_index: Option<u64>,
    /// When the backup began.
    #[serde(with = "instant")]
    pub started_at: jiff::Timestamp,
    /// When the first byte came.
    #[serde(with = "instant")]
    pub first_byte_at: jiff::Timestamp,
    /// When the last byte was stored.
    #[serde(with = "instant")]
    pub finished_at: jiff::Timestamp,
    /// The object, as it is named in the store.
    pub object: String,
    /// The snapshot as etcd sent it, its digest at the end included.
    pub plain: Stream,
    /// The object as it is stored.
    pub stored: Stream,
    /// What the member reported for the revision of this backup.
    pub hash_kv: Option<HashKv>,
    /// Why it is not known, if it is not.
    pub hash_kv_reason: Option<String>,
    /// How far it was proven while it was taken; of one that an earlier version took, that it was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Why no further, if it was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_reason: Option<String>,
    /// What is wrong with its data: a backup with faults is no good one, whatever a later check of its bytes says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// How many keys are alive at the last revision.
    pub keys: Option<u64>,
    /// Who can open the object.
    pub recipients: Vec<String>,
    /// Why it was made.
    pub origin: Origin,
    /// What it was made of, if that was another backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrapped: Option<Rewrapped>,
    /// What it was made of, if etcd was not asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthetic>,
    /// The schedule, if one asked for it.
    pub schedule: Option<String>,
    /// The instant of the schedule.
    #[serde(default, with = "instant::option")]
    pub slot: Option<jiff::Timestamp>,
    /// The operator's words.
    pub note: Option<String>,
    /// Who wrote it.
    pub writer: Writer,
    /// The digest of the manifest before it in the chain; none for a full backup.
    pub previous: Option<Digest>,
}

impl Manifest {
    /// Why the data is in doubt, if it is.
    pub fn doubt(&self) -> Option<&str> {
        self.hash_kv_reason.as_deref()?.strip_prefix(IN_DOUBT)
    }

    /// The document to store: a line for each key, then the empty signature.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2048);
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, OneKeyPerLine::default());
        self.serialize(&mut serializer)
            .expect("a manifest has only text keys and memory does not fail to write");
        let closing = bytes.pop();
        debug_assert_eq!(closing, Some(b'}'));
        bytes.extend_from_slice(b",\"signature\":null}\n");
        bytes
    }

    /// Reads a manifest of at most `MAX_BYTES`. Keys that only a later version knows are passed over.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, Fault> {
        read_up_to(SIGNED_FORMAT, bytes)
    }

    /// Where the manifest's chain lies in a store.
    pub fn chain_path(&self) -> ChainPath {
        ChainPath {
            cluster: self.cluster.id,
            chain: self.chain.clone(),
        }
    }

    /// The slot that the backup was taken for; none if the schedule's name is not one.
    pub fn slot_path(&self) -> Option<SlotPath> {
        let schedule = self.schedule.as_ref()?.parse().ok()?;
        Some(SlotPath::new(schedule, self.slot?))
    }

    /// The name under which the manifest itself is stored.
    pub fn name(&self) -> ObjectName {
        ObjectName::FullManifest(self.chain_path(), self.to_revision)
    }

    /// The name of the object that it describes.
    pub fn object_name(&self) -> ObjectName {
        ObjectName::Full(self.chain_path())
    }
}

/// Reads a JSON document of at most `MAX_BYTES` whose `format` is the one that this version knows.
pub(super) fn read_document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    read_up_to(FORMAT, bytes)
}

fn read_up_to<T: DeserializeOwned>(known: u64, bytes: &[u8]) -> Result<T, Fault> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    if bytes.len() > MAX_BYTES {
        return Err(Fault::TooLarge { bytes: bytes.len() });
    }
    let malformed = |error: serde_json::Error| Fault::Malformed {
        detail: error.to_string(),
    };
    let Head { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    if !(FORMAT..=known).contains(&format) {
        return Err(Fault::UnknownFormat { found: format, known });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

impl Manifest {
    /// Reads the manifest that lies at `chain` and `revision`; one that belongs elsewhere is at fault.
    pub fn read(chain: &ChainPath, revision: Revision, bytes: &[u8]) -> Result<Manifest, Fault> {
        let manifest = Manifest::from_bytes(bytes)?;
        agree("cluster id", manifest.cluster.id, chain.cluster)?;
        agree("chain", &manifest.chain, &chain.chain)?;
        agree("to_revision", manifest.to_revision, revision)?;
        agree("from_revision", manifest.from_revision, revision)?;
        agree("object", &manifest.object, &manifest.object_name().to_string())?;
        if let Some(hash_kv) = &manifest.hash_kv {
            agree("hash_kv.revision", hash_kv.revision, revision)?;
        }
        let of_cluster = format!("{}-", chain.cluster);
        if !manifest.lineage.to_string().starts_with(&of_cluster) {
            return Err(Fault::Disagrees {
                field: "lineage",
                content: manifest.lineage.to_string(),
                expected: format!("{of_cluster}…"),
            });
        }
        Ok(manifest)
    }
}

/// What a catalog keeps of a manifest: enough to list, to choose and to judge. Who needs the rest reads the document
/// again and knows it by its digest. Small, because there may be a hundred thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// What the object holds.
    pub kind: Kind,
    /// The history that it belongs to.
    pub lineage: LineageId,
    /// The id of the cluster.
    pub cluster: ClusterId,
    /// The chain.
    pub chain: ChainId,
    /// The first revision that can be restored.
    pub from_revision: Revision,
    /// The last revision that can be restored.
    pub to_revision: Revision,
    /// The Raft term of the last applied entry.
    pub raft_term: Option<u64>,
    /// The index of the last applied entry.
    pub consistent_index: Option<u64>,
    /// What a member reported of its data.
    pub hash_kv: Option<HashKv>,
    /// When the first byte came.
    pub first_byte_at: jiff::Timestamp,
    /// The snapshot as etcd sent it.
    pub plain: Stream,
    /// The object as it is stored.
    pub stored: Stream,
    /// The version of etcd that the member ran.
    pub etcd_version: Box<str>,
    /// How many keys are alive at the last revision.
    pub keys: Option<u64>,
    /// The slot that it was taken for, if a schedule asked for it.
    pub slot: Option<Box<SlotPath>>,
    /// The operator's words.
    pub note: Option<Box<str>>,
    /// Why the data is in doubt, if it is.
    pub doubt: Option<Box<str>>,
    /// How far it was proven while it was taken.
    pub proof: Proof,
    /// What is wrong with its data.
    pub faults: Box<[String]>,
    /// What it was made of, if that was another backup.
    pub rewrapped: Option<Box<Rewrapped>>,
    /// The digest of the document.
    pub document: Digest,
}

impl Outline {
    /// What to keep of `manifest`, which was read from `bytes`.
    pub fn of(manifest: Manifest, bytes: &[u8]) -> Outline {
        Outline {
            slot: manifest.slot_path().map(Box::new),
            doubt: manifest.doubt().map(Box::from),
            proof: manifest.proof.unwrap_or(Proof::Stored),
            faults: manifest.faults.into(),
            rewrapped: manifest.rewrapped.map(Box::new),
            kind: manifest.kind,
            lineage: manifest.lineage,
            cluster: manifest.cluster.id,
            chain: manifest.chain,
            from_revision: manifest.from_revision,
            to_revision: manifest.to_revision,
            raft_term: manifest.raft_term,
            consistent_index: manifest.consistent_index,
            hash_kv: manifest.hash_kv,
            first_byte_at: manifest.first_byte_at,
            plain: manifest.plain,
            stored: manifest.stored,
            etcd_version: manifest.etcd_version.into(),
            keys: manifest.keys,
            note: manifest.note.map(String::into),
            document: digest(bytes),
        }
    }

    /// Whether `bytes` are the document that this was taken from.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        digest(bytes) == self.document
    }

    /// Where the chain lies in a store.
    pub fn chain_path(&self) -> ChainPath {
        ChainPath {
            cluster: self.cluster,
            chain: self.chain.clone(),
        }
    }

    /// The name under which the manifest is stored.
    pub fn name(&self) -> ObjectName {
        ObjectName::FullManifest(self.chain_path(), self.to_revision)
    }

    /// The name of the object that it describes.
    pub fn object_name(&self) -> ObjectName {
        ObjectName::Full(self.chain_path())
    }
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn agree<T: PartialEq + ToString>(field: &'static str, content: T, expected: T) -> Result<(), Fault> {
    if content == expected {
        return Ok(());
    }
    Err(Fault::Disagrees {
        field,
        content: content.to_string().chars().take(200).collect(),
        expected: expected.to_string(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::names::tests::any_chain;
    use super::*;
    use proptest::prelude::*;

    /// A manifest of cluster `cluster`; its lineage is the one that its own chain would open.
    pub(crate) fn manifest(cluster: u64, chain: &str, revision: i64) -> Manifest {
        let chain: ChainId = chain.parse().unwrap();
        let id = ClusterId(cluster);
        let revision = Revision::new(revision).unwrap();
        Manifest {
            format: FORMAT,
            kind: Kind::Full,
            lineage: LineageId::opened_by(id, &chain),
            cluster: Cluster {
                name: "prod".parse().unwrap(),
                id,
            },
            from_revision: revision,
            to_revision: revision,
            compact_revision: CompactRevision {
                scheduled: None,
                finished: None,
            },
            member: Member {
                id: MemberId(0x0afc_1e72_027c_1b84),
                name: "m1".to_owned(),
            },
            etcd_version: "3.6.15".to_owned(),
            storage_version: Some("3.6.0".to_owned()),
            raft_term: Some(3),
            consistent_index: Some(1042),
            started_at: chain.started_at(),
            first_byte_at: chain.started_at(),
            finished_at: chain.started_at(),
            object: format!("{id}/{chain}/full.db.zst.age"),
            chain,
            plain: Stream {
                bytes: 40_992,
                sha256: Digest([1; 32]),
            },
            stored: Stream {
                bytes: 7_000,
                sha256: Digest([2; 32]),
            },
            hash_kv: Some(HashKv {
                revision,
                compact_revision: -1,
                hash: 0xdead_beef,
            }),
            hash_kv_reason: None,
            proof: None,
            proof_reason: None,
            faults: Vec::new(),
            keys: Some(12),
            recipients: vec!["age1example".to_owned()],
            origin: Origin::Manual,
            rewrapped: None,
            synthetic: None,
            schedule: None,
            slot: None,
            note: None,
            writer: Writer {
                host: "node-1".to_owned(),
                version: "0.1.0".to_owned(),
                run: "0011223344556677".to_owned(),
            },
            previous: None,
        }
    }

    const CHAIN: &str = "20261120T101530Z-9f3c4a1b";

    const VERSION_1: &str = r#"{"format":1,
"kind":"full",
"lineage":"cdf8-9f3c4a1b",
"cluster":{"name":"prod","id":"cdf8"},
"chain":"20261120T101530Z-9f3c4a1b",
"from_revision":4711,
"to_revision":4711,
"compact_revision":{"scheduled":null,"finished":null},
"member":{"id":"afc1e72027c1b84","name":"m1"},
"etcd_version":"3.6.15",
"storage_version":"3.6.0",
"raft_term":3,
"consistent_index":1042,
"started_at":"2026-11-20T10:15:30Z",
"first_byte_at":"2026-11-20T10:15:30Z",
"finished_at":"2026-11-20T10:15:30Z",
"object":"cdf8/20261120T101530Z-9f3c4a1b/full.db.zst.age",
"plain":{"bytes":40992,"sha256":"0101010101010101010101010101010101010101010101010101010101010101"},
"stored":{"bytes":7000,"sha256":"0202020202020202020202020202020202020202020202020202020202020202"},
"hash_kv":{"revision":4711,"compact_revision":-1,"hash":3735928559},
"hash_kv_reason":null,
"keys":12,
"recipients":["age1example"],
"origin":"manual",
"schedule":null,
"slot":null,
"note":null,
"writer":{"host":"node-1","version":"0.1.0","run":"0011223344556677"},
"previous":null,"signature":null}
"#;

    #[test]
    fn version_1_is_these_bytes() {
        let manifest = manifest(0xcdf8, CHAIN, 4711);
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), VERSION_1);
        assert_eq!(Manifest::from_bytes(VERSION_1.as_bytes()), Ok(manifest));
    }

    #[test]
    fn unknown_keys_and_a_signature_of_a_later_version_are_passed_over() {
        let later = VERSION_1
            .replace("\"kind\"", "\"colour\":{\"a\":[1,2]},\n\"kind\"")
            .replace("\"signature\":null", "\"signature\":{\"key\":\"k\",\"value\":\"v\"}");
        assert_ne!(later, VERSION_1);
        assert_eq!(
            Manifest::from_bytes(later.as_bytes()),
            Ok(manifest(0xcdf8, CHAIN, 4711))
        );
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let later = r#"{"format":3,"everything":"else"}"#;
        assert_eq!(
            Manifest::from_bytes(later.as_bytes()),
            Err(Fault::UnknownFormat { found: 3, known: 2 })
        );
    }

    #[test]
    fn damage_is_an_error() {
        let duplicate = VERSION_1.replace("\"keys\":12", "\"keys\":12,\"keys\":13");
        for text in [
            "",
            "{}",
            "null",
            &VERSION_1[..VERSION_1.len() - 3],
            &duplicate,
            &VERSION_1.replace("\"to_revision\":4711", "\"to_revision\":-1"),
            &VERSION_1.replace("\"keys\":12", "\"keys\":\"12\""),
            &VERSION_1.replace("\"kind\":\"full\"", "\"kind\":\"delta\""),
            &VERSION_1.replace("2026-11-20T10:15:30Z", "yesterday"),
            &format!("{VERSION_1}x"),
            &"[".repeat(100_000),
        ] {
            let result = Manifest::from_bytes(text.as_bytes());
            assert!(matches!(result, Err(Fault::Malformed { .. })), "{text}: {result:?}");
        }
        let large = format!("{VERSION_1}{}", " ".repeat(MAX_BYTES));
        assert_eq!(
            Manifest::from_bytes(large.as_bytes()),
            Err(Fault::TooLarge { bytes: large.len() })
        );
    }

    #[test]
    fn a_manifest_under_the_name_of_another_is_damaged() {
        let good = manifest(0xcdf8, CHAIN, 4711);
        let read = |manifest: &Manifest, path: &ChainPath, revision| {
            Manifest::read(path, Revision::new(revision).unwrap(), &manifest.to_bytes())
        };
        let path = good.chain_path();
        assert_eq!(read(&good, &path, 4711).as_ref(), Ok(&good));

        let field = |result: Result<Manifest, Fault>| match result {
            Err(Fault::Disagrees { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(read(&good, &path, 4712)), "to_revision");
        let mut other = path.clone();
        other.cluster = ClusterId(1);
        assert_eq!(field(read(&good, &other, 4711)), "cluster id");
        let mut other = path.clone();
        other.chain = "20261120T101530Z-00000000".parse().unwrap();
        assert_eq!(field(read(&good, &other, 4711)), "chain");
        let mut bad = good.clone();
        bad.object = "full.db.zst.age".to_owned();
        assert_eq!(field(read(&bad, &path, 4711)), "object");
        let mut bad = good.clone();
        bad.from_revision = Revision::new(1).unwrap();
        assert_eq!(field(read(&bad, &path, 4711)), "from_revision");
        let mut bad = good.clone();
        bad.hash_kv = bad.hash_kv.map(|hash| HashKv {
            revision: Revision::new(4710).unwrap(),
            ..hash
        });
        assert_eq!(field(read(&bad, &path, 4711)), "hash_kv.revision");
        let mut bad = good;
        bad.lineage = LineageId::opened_by(ClusterId(0xcdf), &bad.chain);
        assert_eq!(field(read(&bad, &path, 4711)), "lineage");
    }

    #[test]
    fn an_outline_knows_its_document_again() {
        let manifest = manifest(0xcdf8, CHAIN, 4711);
        let outline = Outline::of(manifest.clone(), VERSION_1.as_bytes());
        assert!(outline.is_of(VERSION_1.as_bytes()));
        assert!(!outline.is_of(VERSION_1.trim_end().as_bytes()));
        assert_eq!(outline.chain_path(), manifest.chain_path());
        assert_eq!(outline.name(), manifest.name());
        assert_eq!(outline.object_name(), manifest.object_name());
    }

    fn any_manifest() -> impl Strategy<Value = Manifest> {
        let known = (
            any::<u64>(),
            any_chain(),
            0..=i64::MAX,
            prop::option::of(any::<u64>()),
            prop::option::of(-377_705_023_201_i64..253_402_207_200),
        );
        let text = (
            prop::option::of(any::<String>()),
            prop::collection::vec(any::<String>(), 0..4),
            any::<String>(),
            any::<[u8; 32]>(),
        );
        (known, text).prop_map(
            |((cluster, chain, revision, number, second), (note, recipients, name, digest))| {
                let mut made = manifest(cluster, chain.as_str(), revision);
                made.consistent_index = number;
                made.raft_term = number.map(|n| n / 2);
                made.keys = number;
                made.slot = second.map(|s| jiff::Timestamp::new(s, 7_000).unwrap());
                made.hash_kv = made.hash_kv.filter(|_| number.is_some());
                made.hash_kv_reason = note.clone();
                made.note = note;
                made.recipients = recipients;
                made.member.name = name;
                made.plain.sha256 = Digest(digest);
                made.previous = number.map(|_| Digest(digest));
                made
            },
        )
    }

    proptest! {
        #[test]
        fn manifests_round_trip_to_the_byte(manifest in any_manifest()) {
            let bytes = manifest.to_bytes();
            let read = Manifest::from_bytes(&bytes);
            prop_assert_eq!(read.as_ref(), Ok(&manifest));
            prop_assert_eq!(read.unwrap().to_bytes(), bytes);
        }

        #[test]
        fn signed_are_all_keys_but_the_signature(manifest in any_manifest()) {
            let text = String::from_utf8(manifest.to_bytes()).unwrap();
            let (signed, rest) = text.split_at(text.rfind(",\"signature\"").unwrap());
            prop_assert_eq!(rest, ",\"signature\":null}\n");
            let closed = format!("{signed}}}");
            prop_assert_eq!(Manifest::from_bytes(closed.as_bytes()), Ok(manifest));
        }

        #[test]
        fn any_bytes_are_a_manifest_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Manifest::from_bytes(&bytes).is_err());
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0..VERSION_1.len(), byte in any::<u8>()) {
            let mut bytes = VERSION_1.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(read) = Manifest::from_bytes(&bytes) {
                prop_assert!((FORMAT..=SIGNED_FORMAT).contains(&read.format));
            }
        }
    }
}
