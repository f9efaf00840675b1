//! What follows a full backup in its chain: deltas, packs of deltas, marks and gaps.
//!
//! A delta, a pack and a mark are one file each:
//!
//! ```text
//! lifeboat delta 1 0000001187        kind, version, the place of the first byte of the body, counted from 1
//! {"format":1,"kind":"delta",…}      the header: one JSON document in one line, signed like every other document
//! body                               of a delta: age of zstd of its records
//!                                    of a pack: deltas, each byte by byte as it was stored, then the index
//!                                    of a mark: nothing
//! ```
//!
//! So `tail -c +1187 X.delta | age -d -i KEY | zstd -d` gives the records. The header holds the digest of the body, and is
//! signed under the object's name: a file that was cut, zeroed, renamed or put together of two is none.
//!
//! A gap and an epoch are plain documents.

mod index;
mod records;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::instant;
use super::manifest::{Cluster, FORMAT, Fault, Stream, Writer, read_document};
pub(crate) use super::names::Span;
use super::names::{ChainPath, Epoch, ObjectName};
use super::records::document;
use crate::model::{ChainId, Digest, LineageId, Revision};
pub use index::{IndexEntry, PackedKind};
pub use records::{Change, Decoder, Encoder, Put, Record, RecordFault};

/// The longest header that is read, its line feed included.
pub const HEADER_MAX: usize = 64 << 10;

/// What a reader has to fetch to be sure that it has the header.
pub const HEAD_MAX: usize = PREFIX_MAX + HEADER_MAX;

/// The most bytes of records that one delta holds: what a reader must be ready to keep in memory.
pub const PLAIN_MAX: u64 = 256 << 20;

const PREFIX_MAX: usize = "lifeboat delta 1 0123456789\n".len();

/// At that time, every change up to the revision had come, and none behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeMark {
    /// The last revision that had come.
    pub revision: Revision,
    /// When, by the clock of the host that captured it.
    #[serde(with = "instant")]
    pub time: Timestamp,
    /// By how much that clock may have been wrong, in milliseconds; none where the system could not tell.
    pub uncertainty_ms: Option<u32>,
}

/// What follows the first line of a delta, a pack or a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// All changes of some revisions.
    Delta,
    /// Deltas, one behind the other.
    Pack,
    /// Nothing but the word that nothing was written.
    Mark,
}

impl LinkKind {
    fn prefix(self) -> &'static str {
        match self {
            LinkKind::Delta => "lifeboat delta 1 ",
            LinkKind::Pack => "lifeboat pack 1 ",
            LinkKind::Mark => "lifeboat mark 1 ",
        }
    }
}

/// The header of a delta, a pack or a mark, without its signer and signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version, 1.
    pub format: u64,
    /// What the body is.
    pub kind: LinkKind,
    /// The cluster.
    pub cluster: Cluster,
    /// The history.
    pub lineage: LineageId,
    /// The chain.
    pub chain: ChainId,
    /// The time of its writer.
    pub epoch: Epoch,
    /// Which one it is, among those of its kind under its epoch: counted from 1.
    pub number: u64,
    /// The first revision in it; of a mark the same as the last.
    pub from_revision: Revision,
    /// The last revision in it.
    pub to_revision: Revision,
    /// Its first time mark.
    pub first_mark: TimeMark,
    /// Its last time mark.
    pub last_mark: TimeMark,
    /// How many records it holds; of a pack, how many objects.
    pub records: u64,
    /// The digest of the header before it: of the delta that ends where this one begins, or of the manifest of the full.
    /// None where its writer does not know it.
    pub previous: Option<Digest>,
    /// The records, before they were compressed and encrypted; nothing of a pack or a mark.
    pub plain: Option<Stream>,
    /// The body; nothing of a mark.
    pub stored: Option<Stream>,
    /// Of the body of a pack, how much is its index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Stream>,
    /// Who can open it.
    pub recipients: Vec<String>,
    /// When it was written.
    #[serde(with = "instant")]
    pub issued_at: Timestamp,
    /// Until when the next one follows, if its writer lives.
    #[serde(with = "instant")]
    pub next_by: Timestamp,
    /// Who wrote it.
    pub writer: Writer,
}

/// The head of a file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What stands in it.
    pub header: Header,
    /// The header's line as it is stored, its line feed included: what is signed, and what the next one refers to.
    pub document: Vec<u8>,
    /// Where the body begins, from 0.
    pub body: u64,
}

impl Header {
    /// The revisions.
    pub fn span(&self) -> Result<Span, Fault> {
        Span::new(self.from_revision, self.to_revision).ok_or_else(|| Fault::Disagrees {
            field: "to_revision",
            content: self.to_revision.to_string(),
            expected: format!("{} or more", self.from_revision),
        })
    }

    /// Where its chain lies.
    pub fn chain_path(&self) -> ChainPath {
        ChainPath {
            cluster: self.cluster.id,
            chain: self.chain.clone(),
        }
    }

    /// The name under which it is stored.
    pub fn name(&self) -> Result<ObjectName, Fault> {
        let (chain, span, epoch) = (self.chain_path(), self.span()?, self.epoch);
        Ok(match self.kind {
            LinkKind::Delta => ObjectName::Delta(chain, span, epoch),
            LinkKind::Pack => ObjectName::Pack(chain, span, epoch),
            LinkKind::Mark => ObjectName::Mark(chain, span.to(), whole_second(self.last_mark.time), epoch),
        })
    }

    /// Reads the header's line.
    pub fn from_document(line: &[u8]) -> Result<Header, Fault> {
        read_document(line)
    }

    /// The document, still unsigned: one line.
    pub fn to_document(&self) -> Vec<u8> {
        document(self)
    }

    /// The head of the file whose header is stored as `document`, which is one line.
    pub fn head(kind: LinkKind, document: &[u8]) -> Vec<u8> {
        let body = kind.prefix().len() + "0123456789\n".len() + document.len() + 1;
        let mut head = format!("{}{body:010}\n", kind.prefix()).into_bytes();
        head.extend_from_slice(document);
        head
    }
}

impl Head {
    /// Reads the head of the object of that name from its first [`HEAD_MAX`] bytes, or all of them.
    ///
    /// Fails where it has none, where it has one of another object, and where it is of a later version.
    pub fn read(name: &ObjectName, bytes: &[u8]) -> Result<Head, Fault> {
        let malformed = |detail: &str| Fault::Malformed {
            detail: detail.to_owned(),
        };
        let first = bytes.iter().take(PREFIX_MAX).position(|byte| *byte == b'\n');
        let first = first.ok_or_else(|| malformed("its first line does not end"))? + 1;
        let (prefix, rest) = bytes.split_at(first);
        let kinds = [LinkKind::Delta, LinkKind::Pack, LinkKind::Mark];
        let (kind, place) = kinds
            .into_iter()
            .find_map(|kind| Some((kind, prefix.strip_prefix(kind.prefix().as_bytes())?)))
            .ok_or_else(|| malformed("it does not begin as a delta, a pack or a mark of format 1"))?;
        let line = rest.iter().take(HEADER_MAX).position(|byte| *byte == b'\n');
        let line = line.ok_or_else(|| malformed("its header does not end"))? + 1;
        let body = first + line;
        if place != format!("{:010}\n", body + 1).as_bytes() {
            return Err(malformed("its first line does not tell where its body begins"));
        }
        let document = rest.get(..line).unwrap_or_default();
        let header: Header = read_document(document)?;
        let found = header.name()?;
        if header.kind != kind || found != *name {
            return Err(Fault::Disagrees {
                field: "place",
                content: found.to_string(),
                expected: name.to_string(),
            });
        }
        if header.plain.is_some_and(|plain| plain.bytes > PLAIN_MAX) {
            return Err(malformed("it holds more records than fit into memory"));
        }
        Ok(Head {
            header,
            document: document.to_vec(),
            body: body as u64,
        })
    }

    /// The digest by which the next one refers to it.
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(&self.document).into())
    }
}

/// A time as it stands in the name of a mark.
pub fn whole_second(time: Timestamp) -> Timestamp {
    let second = time.as_millisecond().div_euclid(1000);
    Timestamp::from_second(second).unwrap_or(time)
}

/// `FROM.EPOCH.gap`: the chain ends before that revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    format: u64,
    /// The chain.
    pub chain: ChainId,
    /// The first revision that the chain does not have.
    pub from_revision: Revision,
    /// Why.
    pub reason: GapReason,
    /// The same, with what was found.
    pub detail: String,
    /// When it was found.
    #[serde(with = "instant")]
    pub found_at: Timestamp,
    /// By whom.
    pub writer: Writer,
}

/// Why a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// etcd had compacted what was not captured yet.
    Compacted,
    /// etcd left a revision out, or sent it twice in different ways.
    Missed,
    /// Another cluster answers.
    ClusterChanged,
    /// etcd's revision went back, or its data was replaced.
    WentBack,
    /// There was no more room for what had not reached its destinations.
    SpoolFull,
    /// A revision had more changes than a delta can hold.
    TooLarge,
    /// Users, roles or passwords changed: only a full backup holds them.
    AuthChanged,
    /// A full backup has taken its place, or capture was switched off.
    Ended,
}

impl GapReason {
    /// All there are.
    pub const ALL: [GapReason; 8] = [
        GapReason::Compacted,
        GapReason::Missed,
        GapReason::ClusterChanged,
        GapReason::WentBack,
        GapReason::SpoolFull,
        GapReason::TooLarge,
        GapReason::AuthChanged,
        GapReason::Ended,
    ];

    /// As it stands in the document.
    pub fn name(self) -> &'static str {
        match self {
            GapReason::Compacted => "compacted",
            GapReason::Missed => "missed",
            GapReason::ClusterChanged => "cluster_changed",
            GapReason::WentBack => "went_back",
            GapReason::SpoolFull => "spool_full",
            GapReason::TooLarge => "too_large",
            GapReason::AuthChanged => "auth_changed",
            GapReason::Ended => "ended",
        }
    }
}

impl Gap {
    /// The word that a chain ends before `from`.
    pub fn new(chain: ChainId, from: Revision, why: (GapReason, String), now: Timestamp, writer: Writer) -> Gap {
        Gap {
            format: FORMAT,
            chain,
            from_revision: from,
            reason: why.0,
            detail: why.1,
            found_at: now,
            writer,
        }
    }

    /// The document to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        document(self)
    }

    /// Reads the document.
    pub fn from_bytes(bytes: &[u8]) -> Result<Gap, Fault> {
        read_document(bytes)
    }
}

/// `epochs/EPOCH.json`: who writes the deltas of a chain, from which revision on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochWord {
    format: u64,
    /// The chain.
    pub chain: ChainId,
    /// The epoch.
    pub epoch: Epoch,
    /// The first revision that its writer captures.
    pub from_revision: Revision,
    /// When it began, by the writer's clock.
    #[serde(with = "instant")]
    pub began_at: Timestamp,
    /// Who writes.
    pub writer: Writer,
}

impl EpochWord {
    /// The word of a writer that captures from `from` on.
    pub fn new(chain: ChainId, epoch: Epoch, from: Revision, now: Timestamp, writer: Writer) -> EpochWord {
        EpochWord {
            format: FORMAT,
            chain,
            epoch,
            from_revision: from,
            began_at: now,
            writer,
        }
    }

    /// The document to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        document(self)
    }

    /// Reads the document.
    pub fn from_bytes(bytes: &[u8]) -> Result<EpochWord, Fault> {
        read_document(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::layout::manifest::tests::manifest;

    /// The header of a delta of those revisions.
    pub(crate) fn header(from: i64, to: i64) -> Header {
        let full = manifest(0xab, "20261120T101530Z-00000001", 6);
        let mark = |revision| TimeMark {
            revision: Revision::new(revision).unwrap(),
            time: "2026-11-20T10:15:40.5Z".parse().unwrap(),
            uncertainty_ms: Some(3),
        };
        let stream = Stream {
            bytes: 5,
            sha256: Digest([7; 32]),
        };
        Header {
            format: FORMAT,
            kind: LinkKind::Delta,
            cluster: full.cluster,
            lineage: full.lineage,
            chain: full.chain,
            epoch: Epoch(1),
            number: 1,
            from_revision: Revision::new(from).unwrap(),
            to_revision: Revision::new(to).unwrap(),
            first_mark: mark(from),
            last_mark: mark(to),
            records: 3,
            previous: None,
            plain: Some(stream),
            stored: Some(stream),
            index: None,
            recipients: vec!["age1x".to_owned()],
            issued_at: "2026-11-20T10:15:41Z".parse().unwrap(),
            next_by: "2026-11-20T10:16:41Z".parse().unwrap(),
            writer: full.writer,
        }
    }

    #[test]
    fn a_head_tells_where_the_body_begins() {
        for kind in [LinkKind::Delta, LinkKind::Pack, LinkKind::Mark] {
            let header = Header { kind, ..header(7, 9) };
            let document = header.to_document();
            let mut bytes = Header::head(kind, &document);
            let body = bytes.len();
            bytes.extend_from_slice(b"body");
            let head = Head::read(&header.name().unwrap(), &bytes).unwrap();
            assert_eq!(
                (&head.header, &head.document, head.body),
                (&header, &document, body as u64)
            );
            let first = std::str::from_utf8(&bytes).unwrap().lines().next().unwrap();
            let place: usize = first.rsplit(' ').next().unwrap().parse().unwrap();
            assert_eq!(&bytes[place - 1..], b"body", "tail -c +{place}");
        }
    }

    #[test]
    fn what_is_not_the_head_of_that_object_is_refused() {
        let header = header(7, 9);
        let bytes = Header::head(LinkKind::Delta, &header.to_document());
        let name = header.name().unwrap();
        for end in 0..bytes.len() {
            assert!(Head::read(&name, &bytes[..end]).is_err(), "{end}");
        }
        assert!(Head::read(&name, &vec![0; bytes.len()]).is_err());
        let other = Header {
            to_revision: Revision::new(10).unwrap(),
            ..header.clone()
        };
        assert!(Head::read(&other.name().unwrap(), &bytes).is_err());
        let as_pack = Header::head(LinkKind::Pack, &header.to_document());
        assert!(Head::read(&name, &as_pack).is_err());
        let backwards = Header {
            to_revision: Revision::new(6).unwrap(),
            ..header
        };
        assert!(backwards.name().is_err());
    }
}
