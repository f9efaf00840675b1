//! The use case of verification: whether the copies of a backup are what was stored, and how far that is proven.
//!
//! Each copy is read back from the disk and compared with the manifest (`stored`). With an identity one good copy is opened
//! (`content`): what holds for its bytes holds for every copy with the same bytes. So is what follows it in its chain, copy by
//! copy (`chain`). The result is written beside the backup (`record`), from where `catalog` takes it. Which backups to take first is
//! decided in `choose_share`.
//!
//! No lock is held, because this may take hours. Backups may come and go meanwhile: one that is gone is passed over.
//!
//! Invariant: a copy is called wrong only if its bytes were read and differ, or if it is missing beside its manifest.
//! Invariant: plain bytes are in memory only.

mod chain;
mod choose_share;
mod content;
mod record;
mod stored;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

pub use chain::{Behind, Chain, Fault, Going, Opened, behind};
pub use choose_share::{Share, Turn, least_recently_read, until_read};
pub use record::{RecordError, Recorded, record};

use crate::catalog::Backup;
use crate::error_chain::with_causes;
use crate::layout::{Manifest, Proof};
use crate::pipeline::{Identities, Unlock};
use crate::source::{self, Source};
use crate::store::{self, Store};
use content::Content;
use stored::{missing, stored};

/// A copy that is to be checked.
#[derive(Debug, Clone, Copy)]
pub struct Copy<'a> {
    /// The destination's name.
    pub destination: &'a str,
    /// Its store.
    pub store: &'a Store,
    /// How far these bytes were proven before; they still are if they are unchanged.
    pub before: Proof,
}

/// One backup to verify.
pub struct Job<'a> {
    /// What it should be.
    pub manifest: &'a Manifest,
    /// Where it lies.
    pub copies: &'a [Copy<'a>],
    /// What opens it; without, the stored bytes are compared and no more.
    pub identities: Option<&'a Identities>,
    /// The largest database that is taken into memory.
    pub memory: u64,
    /// Set from outside: end as soon as possible.
    pub stop: &'a AtomicBool,
}

/// What was found out about a copy.
#[derive(Debug)]
pub enum Found {
    /// It is what was stored, and proven that far.
    Good(Proof),
    /// It is not.
    Wrong(Vec<String>),
    /// The backup was removed meanwhile.
    Gone,
    /// It could not be read, which says nothing about its bytes.
    Unread(String),
}

/// What was found out about a backup.
#[derive(Debug)]
pub struct Verified {
    /// For each copy, in the order of the job.
    pub copies: Vec<Found>,
    /// Why it could not be proven further, if it was opened.
    pub short_of: Option<String>,
    /// What is no damage of its database, and still not as it should be.
    pub warnings: Vec<String>,
    /// Why it was not opened, although there is an identity.
    pub unopened: Option<source::Error>,
}

/// Somebody asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped before it was checked")]
pub struct Stopped;

/// Checks the copies of one backup. `progress` hears of bytes that were read, stored and plain ones.
pub fn verify(job: &Job<'_>, mut progress: impl FnMut(u64)) -> Result<Verified, Stopped> {
    let mut going = |bytes| {
        progress(bytes);
        match job.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let mut verified = Verified {
        copies: Vec::with_capacity(job.copies.len()),
        short_of: None,
        warnings: Vec::new(),
        unopened: None,
    };
    for copy in job.copies {
        verified.copies.push(stored(job.manifest, copy, &mut going)?);
    }
    if let Some(identities) = job.identities {
        open_one(job, identities, &mut verified, &mut going)?;
    }
    Ok(verified)
}

/// How many bytes [`verify`] reports at most.
pub fn work(backup: &Backup, opened: bool) -> u64 {
    let outline = backup.manifest();
    let stored = outline.stored.bytes.saturating_mul(backup.copies.len() as u64);
    let behind = backup.copies.iter().map(|copy| chain::bytes_of(&copy.links));
    let all = behind.fold(stored, u64::saturating_add);
    all.saturating_add(if opened { outline.plain.bytes } else { 0 })
}

/// Opens the first good copy that can be read, and says of all good ones what it showed.
fn open_one(
    job: &Job<'_>,
    identities: &Identities,
    verified: &mut Verified,
    going: &mut impl FnMut(u64) -> ControlFlow<()>,
) -> Result<(), Stopped> {
    for (copy, found) in job.copies.iter().zip(&mut verified.copies) {
        if !matches!(found, Found::Good(_)) {
            continue;
        }
        let source = match open(job.manifest, copy, identities) {
            Ok(source) => source,
            Err(unread) => {
                *found = unread;
                continue;
            }
        };
        let content = match source {
            Ok(source) => content::prove(source, job.manifest, job.memory, &mut *going)?,
            Err(error) => content::failed(error),
        };
        match content {
            Content::Proven {
                proof,
                short_of,
                warnings,
            } => {
                verified.short_of = short_of;
                verified.warnings = warnings;
                raise(&mut verified.copies, proof);
            }
            Content::Wrong(faults) => condemn(&mut verified.copies, &faults),
            Content::Unopened(error) => verified.unopened = Some(error),
            Content::Unread(error) => {
                *found = Found::Unread(with_causes(&error));
                continue;
            }
        }
        return Ok(());
    }
    Ok(())
}

fn open(manifest: &Manifest, copy: &Copy<'_>, identities: &Identities) -> Result<Result<Source, source::Error>, Found> {
    let object = manifest.object_name();
    let (file, bytes) = copy.store.open_object(&object).map_err(|error| match error {
        store::Error::NotFound { .. } => missing(manifest, copy),
        other => Found::Unread(with_causes(&other)),
    })?;
    let name = format!("`{object}` in destination {}", copy.destination);
    let opened = Source::open(name, file, Some(bytes), Some(Unlock::stored(identities)));
    Ok(opened.map(|source| source.with_length(manifest.plain.bytes)))
}

/// The good copies have the same bytes: what was proven of one is proven of all.
fn raise(copies: &mut [Found], reached: Proof) {
    for found in copies {
        if let Found::Good(proof) = found {
            *proof = reached.max(*proof);
        }
    }
}

fn condemn(copies: &mut [Found], faults: &[String]) {
    for found in copies {
        if let Found::Good(_) = found {
            *found = Found::Wrong(faults.to_vec());
        }
    }
}
