//! The plain bytes of a backup: are they those that etcd sent, is their structure whole, are they what the member had.
//!
//! The database is taken into memory, if it is no larger than the caller allows, and every entry is looked at; it is never
//! written to a disk. A larger one is followed as it passes, as when it was taken: its structure and HashKV are proven, its
//! records are not read.
//!
//! Invariant: memory is the database's length, and only if the caller allows that.

use std::ops::ControlFlow;

use super::Stopped;
use crate::backup::{ContentError, Observed, Verdict, judge};
use crate::bbolt;
use crate::keyspace::{Agreement, Inspection, LiveKeys};
use crate::layout::{Manifest, Proof};
use crate::model::{Digest, HashKv, Revision};
use crate::pipeline::{DecodeError, Observer};
use crate::source::{self, Held, NotHeld, Source, TrailingDigest};

/// How many faults of a database are named.
const NAMED_FAULTS: usize = 3;

/// What opening a copy showed.
pub(super) enum Content {
    /// It is good.
    Proven {
        /// How far.
        proof: Proof,
        /// Why no further.
        short_of: Option<String>,
        /// What is no damage, and still not as it should be; none of what was not read whole.
        warnings: Vec<String>,
    },
    /// It is not what was backed up.
    Wrong(Vec<String>),
    /// None of the identities opens it.
    Unopened(source::Error),
    /// The system could not read it.
    Unread(source::Error),
}

/// What an error of reading says of the content. The stored bytes were found to be right before, so that a header that
/// does not open is one for other keys.
pub(super) fn failed(error: source::Error) -> Content {
    match &error {
        source::Error::NoIdentity { .. }
        | source::Error::Decode {
            error: DecodeError::WrongKey | DecodeError::Plugins(_),
            ..
        } => Content::Unopened(error),
        source::Error::Decode {
            error: DecodeError::Read(_),
            ..
        }
        | source::Error::Read { .. } => Content::Unread(error),
        // It is what was stored, and it is no use to read it again with as much memory.
        source::Error::Decode {
            error: DecodeError::Window { .. },
            ..
        } => Content::Proven {
            proof: Proof::Stored,
            short_of: Some(format!(
                "not decrypted: {error}; another program made it, `lifeboat export SOURCE FILE --long 31` can read it"
            )),
            warnings: Vec::new(),
        },
        source::Error::Decode {
            error: DecodeError::Damaged { .. },
            ..
        } => Content::Wrong(vec![format!("it does not decrypt: {error}")]),
        source::Error::NotADatabase { .. }
        | source::Error::OtherFile { .. }
        | source::Error::Empty { .. }
        | source::Error::Hole { .. } => Content::Wrong(vec![format!("its snapshot is damaged: {error}")]),
    }
}

/// Reads all of `source` and compares it with the manifest.
pub(super) fn prove(
    mut source: Source,
    manifest: &Manifest,
    memory: u64,
    mut going: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Content, Stopped> {
    let mut before = 0;
    let held = source.hold(memory, |done| going(done - std::mem::replace(&mut before, done)));
    match held {
        Ok(held) => Ok(prove_held(&held, manifest)),
        // Nothing has been read of it.
        Err(NotHeld::TooLarge { .. }) => prove_passing(source, manifest, going),
        Err(NotHeld::Unread(error)) => Ok(failed(error)),
        Err(NotHeld::BrokenOff) => Err(Stopped),
    }
}

fn prove_held(held: &Held, manifest: &Manifest) -> Content {
    if held.hashed.digest != TrailingDigest::Matches {
        return Content::Wrong(vec![format!("its snapshot is damaged: {}", ContentError::Digest)]);
    }
    if let Some(fault) = other_bytes(held.hashed.sha256, manifest) {
        return Content::Wrong(vec![fault]);
    }
    walk(&held.database, manifest).unwrap_or_else(Content::Wrong)
}

/// The same of one that is not held, as it passes.
fn prove_passing(
    mut source: Source,
    manifest: &Manifest,
    mut going: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Content, Stopped> {
    let mut observed = Observed::new(manifest.plain.bytes);
    let mut block = Vec::new();
    loop {
        match source.next_block(&mut block) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Ok(failed(error)),
        }
        observed.observe(&block);
        if going(block.len() as u64).is_break() {
            return Err(Stopped);
        }
    }
    let wrong = |fault: String| Ok(Content::Wrong(vec![fault]));
    let facts = match observed.finish() {
        Ok(facts) => facts,
        Err(error) => return wrong(format!("its snapshot is damaged: {error}")),
    };
    if let Some(fault) = other_bytes(facts.sha256, manifest).or_else(|| other_revision(facts.revision, manifest)) {
        return wrong(fault);
    }
    Ok(match judge(&facts, reported(manifest), None) {
        Verdict::Proven { proof, short_of } => Content::Proven {
            proof,
            short_of,
            warnings: Vec::new(),
        },
        Verdict::Wrong(faults) => Content::Wrong(faults),
    })
}

fn other_bytes(found: Digest, manifest: &Manifest) -> Option<String> {
    let recorded = manifest.plain.sha256;
    (found != recorded).then(|| format!("its snapshot has the SHA-256 {found} instead of {recorded}"))
}

fn other_revision(found: Revision, manifest: &Manifest) -> Option<String> {
    let recorded = manifest.to_revision;
    (found != recorded).then(|| format!("its snapshot has revision {found} instead of {recorded}"))
}

/// Checks every page and every entry, and compares with the manifest.
fn walk(database: &[u8], manifest: &Manifest) -> Result<Content, Vec<String>> {
    let unsound = |error: bbolt::Error| vec![error.to_string()];
    let file = bbolt::File::open(database).map_err(unsound)?;
    let recorded = manifest.hash_kv.map(|hash| hash.compact_revision);
    let inspected = Inspection::of(&file, LiveKeys::Counted, recorded, |_, _, _| {}).map_err(unsound)?;
    let mut faults = faults(&inspected);
    if faults.is_empty() {
        faults.extend(other_revision(inspected.summary.revision(), manifest));
    }
    match faults.is_empty() {
        true => Ok(compare(&file, &inspected, manifest)),
        false => Err(faults),
    }
}

fn faults(inspected: &Inspection) -> Vec<String> {
    let mut named: Vec<String> = inspected.faults().take(NAMED_FAULTS).collect();
    let more = inspected.fault_count().checked_sub(named.len() as u64);
    if let Some(more) = more.filter(|more| *more > 0) {
        named.push(format!("and {more} faults more"));
    }
    named
}

/// What the member reported when the backup was taken, or why that is not known.
fn reported(manifest: &Manifest) -> Result<HashKv, &str> {
    let reason = manifest.hash_kv_reason.as_deref();
    manifest.hash_kv.ok_or(reason.unwrap_or("no HashKV was recorded"))
}

fn compare(file: &bbolt::File<'_>, walked: &Inspection, manifest: &Manifest) -> Content {
    let content = |short_of: String| Content::Proven {
        proof: Proof::Content,
        short_of: Some(short_of),
        warnings: walked.warnings(),
    };
    let Some(recorded) = manifest.hash_kv else {
        let reason = manifest.hash_kv_reason.as_deref().unwrap_or("no reason was recorded");
        return content(format!("no HashKV was recorded: {reason}"));
    };
    match walked.compared_with(file, recorded) {
        Agreement::Equal => Content::Proven {
            proof: Proof::HashKv,
            short_of: None,
            warnings: walked.warnings(),
        },
        Agreement::Unknown => content(
            "HashKV cannot be compared: no key lives, and how far the member had compacted is not known".to_owned(),
        ),
        Agreement::Different => Content::Wrong(vec![format!(
            "its HashKV differs from the {} that the member reported for revision {}",
            recorded.hash, recorded.revision
        )]),
    }
}
