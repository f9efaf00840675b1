//! Who writes to a chain under an epoch: the headers of what is written, one after the other.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::assembly::Batch;
use crate::layout::delta::{EpochWord, Gap, GapReason, Header, LinkKind, PLAIN_MAX, TimeMark};
use crate::layout::{ChainPath, Cluster, Epoch, FORMAT, Fault, ObjectName, Stream, Writer};
use crate::model::{ByteSize, ChainId, Digest, LineageId, Revision};
use crate::signing::Authority;

/// The writer of a chain under one epoch.
#[derive(Debug, Clone)]
pub struct DeltaWriter {
    /// The cluster.
    pub cluster: Cluster,
    /// The history.
    pub lineage: LineageId,
    /// The chain.
    pub chain: ChainId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Who can open what it writes.
    pub recipients: Vec<String>,
    /// Who it is.
    pub writer: Writer,
    /// The digest of the document that its next one refers to, if that is known.
    pub previous: Option<Digest>,
    /// How many deltas it has written.
    pub deltas: u64,
    /// How many marks it has written.
    pub marks: u64,
}

/// A finished object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its name.
    pub name: ObjectName,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Why a delta is not written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// No reader would take it.
    #[error("revisions {from} to {to} are {bytes} of changes, more than the {most} that a delta holds")]
    TooLarge {
        /// Its first revision.
        from: Revision,
        /// Its last revision.
        to: Revision,
        /// How large it is.
        bytes: ByteSize,
        /// How large it may be.
        most: ByteSize,
    },
    /// Its header would be none.
    #[error(transparent)]
    Header(#[from] Fault),
}

/// When a header is issued, and until when the next one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issue {
    /// When.
    pub at: Timestamp,
    /// Until when.
    pub next_by: Timestamp,
}

impl DeltaWriter {
    /// Where the chain lies.
    pub fn path(&self) -> ChainPath {
        ChainPath {
            cluster: self.cluster.id,
            chain: self.chain.clone(),
        }
    }

    /// The word that it writes from `from` on.
    pub fn epoch_word(&self, from: Revision, now: Timestamp, authority: &Authority) -> Finished {
        let name = ObjectName::Epoch(self.path(), self.epoch);
        let word = EpochWord::new(self.chain.clone(), self.epoch, from, now, self.writer.clone());
        let bytes = authority.sign(&name, &word.to_bytes());
        Finished { name, bytes }
    }

    /// The word that the chain ends before `from`.
    pub fn gap(&self, from: Revision, why: (GapReason, String), now: Timestamp, authority: &Authority) -> Finished {
        let name = ObjectName::Gap(self.path(), from, self.epoch);
        let gap = Gap::new(self.chain.clone(), from, why, now, self.writer.clone());
        let bytes = authority.sign(&name, &gap.to_bytes());
        Finished { name, bytes }
    }

    /// The delta of a batch, whose records have become `body`. Fails where no reader would take it.
    pub fn delta(
        &mut self,
        batch: &Batch,
        body: &[u8],
        issue: Issue,
        authority: &Authority,
    ) -> Result<Finished, Unwritten> {
        batch.fits_into(PLAIN_MAX)?;
        let header = Header {
            number: self.deltas.saturating_add(1),
            records: batch.records,
            plain: Some(stream_of(&batch.plain)),
            stored: Some(stream_of(body)),
            ..self.header(
                LinkKind::Delta,
                (batch.from, batch.to),
                (batch.first_mark, batch.last_mark),
                issue,
            )
        };
        let (mut finished, digest) = head_of(&header, authority)?;
        finished.bytes.extend_from_slice(body);
        self.deltas = header.number;
        self.previous = Some(digest);
        Ok(finished)
    }

    /// The word that nothing was written behind the mark's revision.
    pub fn mark(&mut self, mark: TimeMark, issue: Issue, authority: &Authority) -> Result<Finished, Fault> {
        let header = Header {
            number: self.marks.saturating_add(1),
            ..self.header(LinkKind::Mark, (mark.revision, mark.revision), (mark, mark), issue)
        };
        let (finished, _) = head_of(&header, authority)?;
        self.marks = header.number;
        Ok(finished)
    }

    fn header(
        &self,
        kind: LinkKind,
        (from, to): (Revision, Revision),
        (first_mark, last_mark): (TimeMark, TimeMark),
        issue: Issue,
    ) -> Header {
        Header {
            format: FORMAT,
            kind,
            cluster: self.cluster.clone(),
            lineage: self.lineage.clone(),
            chain: self.chain.clone(),
            epoch: self.epoch,
            number: 1,
            from_revision: from,
            to_revision: to,
            first_mark,
            last_mark,
            records: 0,
            previous: self.previous,
            plain: None,
            stored: None,
            index: None,
            recipients: self.recipients.clone(),
            issued_at: issue.at,
            next_by: issue.next_by,
            writer: self.writer.clone(),
        }
    }
}

impl Batch {
    /// Fails where it has more bytes than `most`.
    pub(super) fn fits_into(&self, most: u64) -> Result<(), Unwritten> {
        let bytes = self.plain.len() as u64;
        match bytes > most {
            false => Ok(()),
            true => Err(Unwritten::TooLarge {
                from: self.from,
                to: self.to,
                bytes: ByteSize(bytes),
                most: ByteSize(most),
            }),
        }
    }
}

/// The head, and the digest by which the next one refers to it.
fn head_of(header: &Header, authority: &Authority) -> Result<(Finished, Digest), Fault> {
    let name = header.name()?;
    let document = authority.sign(&name, &header.to_document());
    let digest = Digest(Sha256::digest(&document).into());
    let bytes = Header::head(header.kind, &document);
    Ok((Finished { name, bytes }, digest))
}

fn stream_of(bytes: &[u8]) -> Stream {
    Stream {
        bytes: bytes.len() as u64,
        sha256: Digest(Sha256::digest(bytes).into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::layout::delta::Head;

    pub(crate) fn scribe() -> DeltaWriter {
        let header = crate::layout::delta::tests::header(7, 9);
        DeltaWriter {
            cluster: header.cluster,
            lineage: header.lineage,
            chain: header.chain,
            epoch: Epoch(2),
            recipients: vec!["age1x".to_owned()],
            writer: header.writer,
            previous: None,
            deltas: 0,
            marks: 0,
        }
    }

    pub(crate) fn batch(from: i64, to: i64) -> Batch {
        let header = crate::layout::delta::tests::header(from, to);
        Batch {
            from: header.from_revision,
            to: header.to_revision,
            first_mark: header.first_mark,
            last_mark: header.last_mark,
            records: 3,
            plain: b"plain".to_vec(),
        }
    }

    fn issue() -> Issue {
        Issue {
            at: "2026-11-20T10:15:41Z".parse().unwrap(),
            next_by: "2026-11-20T10:16:41Z".parse().unwrap(),
        }
    }

    #[test]
    fn each_delta_refers_to_the_one_before_and_has_the_next_number() {
        let authority = Authority::anybody(&"prod".parse().unwrap());
        let mut scribe = scribe();
        let full = Digest([9; 32]);
        scribe.previous = Some(full);
        let first = scribe.delta(&batch(7, 9), b"body", issue(), &authority).unwrap();
        let head = Head::read(&first.name, &first.bytes).unwrap();
        assert_eq!((head.header.number, head.header.previous), (1, Some(full)));
        assert_eq!(&first.bytes[usize::try_from(head.body).unwrap()..], b"body");
        assert_eq!(head.header.stored, Some(stream_of(b"body")));
        let mark = scribe.mark(batch(9, 9).last_mark, issue(), &authority).unwrap();
        assert!(matches!(mark.name, ObjectName::Mark(..)));
        Head::read(&mark.name, &mark.bytes).unwrap();
        let second = scribe.delta(&batch(10, 12), b"body", issue(), &authority).unwrap();
        let next = Head::read(&second.name, &second.bytes).unwrap();
        assert_eq!((next.header.number, next.header.previous), (2, Some(head.digest())));
    }
    #[test]
    fn what_no_reader_takes_is_not_written() {
        let batch = batch(7, 9);
        batch.fits_into(5).unwrap();
        let refused = batch.fits_into(4).unwrap_err().to_string();
        assert_eq!(
            refused,
            "revisions 7 to 9 are 5 B of changes, more than the 4 B that a delta holds"
        );
    }
}
