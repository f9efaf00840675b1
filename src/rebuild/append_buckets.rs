//! What a restore changes of a database, written behind its pages.
//!
//! Invariant: the metas point to new pages only once these are on the disk.

use std::fs::File;
use std::path::Path;

use super::Error;
use super::database::mapped;
use crate::bbolt::{self, Rules, check_over};
use crate::datadir;
use crate::durable::failed;
use crate::keyspace::{Change, Restored};

/// Writes the new buckets behind the old pages, to which the metas still point.
pub(super) fn graft(
    file: &File,
    source: &bbolt::File<'_>,
    report: &bbolt::Report,
    restored: &Restored,
) -> Result<bbolt::Unsealed<File>, Error> {
    let sink = file.try_clone().map_err(failed("keep open", Path::new(datadir::DB)))?;
    let mut writer = bbolt::Writer::over(sink, source, report).map_err(Error::Build)?;
    write_buckets(&mut writer, source, restored).map_err(Error::Build)?;
    writer.finish().map_err(Error::Build)
}

/// Lets the metas point to the new pages, once these are on the disk. Returns the length of the database.
pub(super) fn seal(mut unsealed: bbolt::Unsealed<File>) -> Result<u64, Error> {
    let synced = unsealed.sink().sync_data();
    synced.map_err(failed("sync", Path::new(datadir::DB)))?;
    let (_, written) = unsealed.seal().map_err(Error::Build)?;
    Ok(written.len)
}

fn write_buckets(
    writer: &mut bbolt::Writer<'_, File>,
    source: &bbolt::File<'_>,
    restored: &Restored,
) -> Result<(), bbolt::Error> {
    for bucket in source.buckets()? {
        let (name, _) = bucket?;
        if !restored.buckets.iter().any(|(known, _)| known.as_bytes() == name) {
            writer.keep(name)?;
        }
    }
    for (name, change) in &restored.buckets {
        let name = name.as_bytes();
        let exists = source.bucket(name)?.is_some();
        let (mut bucket, entries) = match change {
            Change::Kept if exists => {
                writer.keep(name)?;
                continue;
            }
            Change::Kept => (writer.bucket(name)?, [].as_slice()),
            Change::Replaced(entries) => (writer.bucket(name)?, entries.as_slice()),
            Change::Extended(entries) if exists => (writer.extend(name)?, entries.as_slice()),
            Change::Extended(entries) => (writer.bucket(name)?, entries.as_slice()),
        };
        for (key, value) in entries {
            bucket.put(key, value)?;
        }
        bucket.finish()?;
    }
    Ok(())
}

/// Reads what was written of the finished database, as bbolt would check it. The pages that it kept have been checked as
/// those of the source, of which `report` is, and were not written to since.
pub(super) fn check_built(file: &File, len: u64, report: &bbolt::Report) -> Result<(), Error> {
    file.set_len(len)
        .map_err(failed("set the length of", Path::new(datadir::DB)))?;
    let map = mapped(file)?;
    let unsound = |fault: &dyn std::fmt::Display| Error::BuiltUnsound {
        fault: fault.to_string(),
    };
    let built = bbolt::File::open(&map).map_err(|error| unsound(&error))?;
    match check_over(&built, Rules::Bbolt, report).faults().first() {
        None => Ok(()),
        Some(fault) => Err(unsound(fault)),
    }
}
