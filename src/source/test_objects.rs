//! Deltas, packs and marks as tests need them.

use std::io::Write as _;
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::delta::Belongs;
use crate::layout::delta::{
    Change, Encoder, Header, IndexEntry, LinkKind, PackedKind, Put, Record, TimeMark, tests::header,
};
use crate::layout::{Epoch, ObjectName, Span, Stream};
use crate::model::{Digest, Revision};
use crate::pipeline::Identities;
use crate::store::Store;

/// What makes the objects of one chain, encrypted to a key of its own.
pub(crate) struct Maker {
    identity: age::x25519::Identity,
}

/// An object under its name.
pub(crate) type Made = (ObjectName, Vec<u8>);

pub(crate) fn revision(revision: i64) -> Revision {
    Revision::new(revision).unwrap()
}

/// The time of the mark behind each revision.
pub(crate) fn time(revision: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + revision).unwrap()
}

/// The key that a revision changes.
pub(crate) fn key(revision: i64) -> String {
    format!("/key/{}", revision % 5)
}

/// Whether a revision deletes its key.
pub(crate) fn deletes(revision: i64) -> bool {
    revision % 7 == 0
}

/// Which put of a life of its key a revision is.
fn version(at: i64) -> i64 {
    let before = (1..).take_while(|back| at - 5 * back > 0 && !deletes(at - 5 * back));
    1 + before.count() as i64
}

fn mark(at: i64) -> TimeMark {
    TimeMark {
        revision: revision(at),
        time: time(at),
        uncertainty_ms: Some(2),
    }
}

fn stream(bytes: &[u8]) -> Stream {
    Stream {
        bytes: bytes.len() as u64,
        sha256: Digest(Sha256::digest(bytes).into()),
    }
}

impl Maker {
    pub(crate) fn new() -> Maker {
        Maker {
            identity: age::x25519::Identity::generate(),
        }
    }

    pub(crate) fn identities(&self) -> Arc<Identities> {
        let text = self.identity.to_string();
        Arc::new(Identities::parse(text.expose_secret().as_bytes(), "it").unwrap())
    }

    /// The chain that all are of.
    pub(crate) fn belongs(&self) -> Belongs {
        let header = header(1, 1);
        Belongs {
            chain: header.chain_path(),
            lineage: header.lineage,
        }
    }

    /// All changes of these revisions, with a mark behind each.
    pub(crate) fn delta(&self, from: i64, to: i64, epoch: u32) -> Made {
        self.delta_by(from, to, epoch, 0)
    }

    /// The same by a host whose clock is so many seconds ahead.
    pub(crate) fn delta_by(&self, from: i64, to: i64, epoch: u32, ahead: i64) -> Made {
        self.delta_of((from, to), (epoch, 1), ahead, version)
    }

    /// The same with a mark behind each revision that is a multiple of `marked`, and at the end.
    pub(crate) fn delta_marked(&self, from: i64, to: i64, epoch: u32, marked: i64) -> Made {
        self.delta_of((from, to), (epoch, marked), 0, version)
    }

    /// The same, as if every key had been put once more before.
    pub(crate) fn with_lives_from(&self, from: i64, to: i64, epoch: u32) -> Made {
        self.delta_of((from, to), (epoch, 1), 0, |at| version(at) + 1)
    }

    fn delta_of(
        &self,
        (from, to): (i64, i64),
        (epoch, marked): (u32, i64),
        ahead: i64,
        version: impl Fn(i64) -> i64,
    ) -> Made {
        let mark = |at| TimeMark {
            time: time(at + ahead),
            ..mark(at)
        };
        let mut records = Encoder::new(revision(from));
        for at in from..=to {
            let (name, value) = (key(at), at.to_string());
            let version = version(at);
            let put = Put {
                create_revision: revision((at - 5 * (version - 1)).max(1)),
                version,
                lease: 0,
                value: value.as_bytes(),
            };
            let change = Change {
                revision: revision(at),
                sub: 0,
                key: name.as_bytes(),
                put: (!deletes(at)).then_some(put),
            };
            records.put(&Record::Change(change)).unwrap();
            if at % marked == 0 || at == to {
                records.put(&Record::Mark(mark(at))).unwrap();
            }
        }
        let count = records.records();
        let plain = records.finish();
        let packed = zstd::encode_all(plain.as_slice(), 3).unwrap();
        let recipient = self.identity.to_public();
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
        let mut body = Vec::new();
        let mut writer = encryptor.wrap_output(&mut body).unwrap();
        writer.write_all(&packed).unwrap();
        writer.finish().unwrap();
        let header = Header {
            epoch: Epoch(epoch),
            first_mark: mark(from),
            last_mark: mark(to),
            records: count,
            plain: Some(stream(&plain)),
            stored: Some(stream(&body)),
            ..header(from, to)
        };
        made(&header, &body)
    }

    /// These deltas in one.
    pub(crate) fn pack(&self, deltas: &[Made]) -> Made {
        let (mut body, mut index) = (Vec::new(), Vec::new());
        let mut span: Option<Span> = None;
        for (name, bytes) in deltas {
            let ObjectName::Delta(_, of, epoch) = name else {
                panic!("{name} is no delta")
            };
            index.push(IndexEntry {
                kind: PackedKind::Delta,
                epoch: *epoch,
                span: *of,
                offset: body.len() as u64,
                bytes: bytes.len() as u64,
                first_time: time(of.from().get()),
                last_time: time(of.to().get()),
                sum: crc32c::crc32c(bytes),
            });
            body.extend_from_slice(bytes);
            span = Span::new(span.map_or(of.from(), Span::from), of.to());
        }
        let index = IndexEntry::encode(&index);
        body.extend_from_slice(&index);
        let (from, to) = span.map(|span| (span.from().get(), span.to().get())).unwrap();
        let header = Header {
            kind: LinkKind::Pack,
            first_mark: mark(from),
            last_mark: mark(to),
            plain: None,
            stored: Some(stream(&body)),
            index: Some(stream(&index)),
            records: deltas.len() as u64,
            ..header(from, to)
        };
        made(&header, &body)
    }

    /// That nothing was written from that revision on until `second` after its mark.
    pub(crate) fn mark(&self, at: i64, seconds: i64) -> Made {
        let last = TimeMark {
            time: time(at + seconds),
            ..mark(at)
        };
        let header = Header {
            kind: LinkKind::Mark,
            first_mark: last,
            last_mark: last,
            plain: None,
            stored: None,
            ..header(at, at)
        };
        made(&header, &[])
    }
}

fn made(header: &Header, body: &[u8]) -> Made {
    let mut bytes = Header::head(header.kind, &header.to_document());
    bytes.extend_from_slice(body);
    (header.name().unwrap(), bytes)
}

/// Puts objects into a store.
pub(crate) fn put<'a>(store: &Store, objects: impl IntoIterator<Item = &'a Made>) {
    for (name, bytes) in objects {
        store.put_new(name, bytes).unwrap();
    }
}
