//! All of a backup is read, to no other end than to know that a key opens it and that it is right.

use super::source::{Found, source_failure};
use super::{Exit, Failure, Listener, stores};
use crate::catalog::Backup;
use crate::destinations::Destinations;
use crate::layout::Manifest;
use crate::pipeline::Identities;
use crate::source::{self, SnapshotHasher, Source};

/// Reads all of a backup: that one of `keys` opens it, and that its bytes are those that were backed up.
pub fn read_through(
    listener: &dyn Listener,
    backup: &Backup,
    places: &Destinations,
    keys: Identities,
) -> Result<(), Failure> {
    let (manifest, _) = stores::manifest(places, backup)?;
    let found = Found::stored(backup, manifest.clone(), places, keys);
    let expected = backup.manifest().plain.sha256;
    let progress = listener.progress("reading");
    let read = |mut source: Source, _: Option<&Manifest>| {
        let (mut hasher, mut block, mut done) = (SnapshotHasher::default(), Vec::new(), 0);
        while source.next_block(&mut block).map_err(Unread::Source)? {
            hasher.update(&block);
            done += block.len() as u64;
            progress(done, backup.manifest().plain.bytes);
        }
        match hasher.finish().sha256 == expected {
            true => Ok(()),
            false => Err(Unread::Differs(source.name().to_owned())),
        }
    };
    let failure = |error: Unread| match error {
        Unread::Source(error) => source_failure(&error, Some(&manifest)),
        Unread::Differs(name) => Failure::new(
            Exit::Damaged,
            format!("{name}: its SHA-256 is not the one in its manifest"),
        ),
    };
    found.with_each(listener, read, |_| false, failure)
}

enum Unread {
    Source(source::Error),
    Differs(String),
}
