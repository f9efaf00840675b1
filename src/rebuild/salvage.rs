//! What the log of a dead member holds beyond its database, executed: the other half of a rebuild from a data directory.

use std::path::{Path, PathBuf};

use super::Error;
use super::log_dir::{Segments, read_log};
use crate::bbolt;
use crate::datadir::Tail;
use crate::datadir::wal_reader::{End, SegmentName};
use crate::durable::{self, failed};
use crate::keyspace::Summary;
use crate::keyspace::entries::{CannotExecute, Executed, execute};
use crate::model::Revision;

/// What a dead member left behind.
#[derive(Debug, Clone)]
pub struct LeftBehind {
    /// Its database.
    pub database: PathBuf,
    /// The directory of its log.
    pub wal_dir: PathBuf,
}

/// What came from a log, beyond the database beside it.
#[derive(Debug, Clone, Copy)]
pub struct Salvaged {
    /// How many entries there were, of all kinds.
    pub entries: u64,
    /// How many were left out, because it is not known whether they were committed.
    pub uncommitted: u64,
    /// The first revision that they made, if they made any.
    pub first: Option<Revision>,
    /// The last revision.
    pub last: Revision,
    /// Where the log was given up, because a write had not come to its end.
    pub torn: Option<(SegmentName, u64)>,
}

/// Refuses a database that a running etcd holds: it changes while it is read.
pub(super) fn refuse_living(left: &LeftBehind) -> Result<(), Error> {
    let path = &left.database;
    let file = durable::open_given(path).map_err(failed("open", path))?;
    match durable::is_held_by_another(&file) {
        true => Err(Error::Alive { path: path.clone() }),
        false => Ok(()),
    }
}

/// Executes what the log in `dir` holds beyond the database `file`, called `name`, of which `summary` is.
pub(super) fn beyond(
    dir: &Path,
    name: &str,
    file: &bbolt::File<'_>,
    summary: &Summary,
) -> Result<(Executed, Salvaged), Error> {
    let after = summary.meta.consistent_index.unwrap_or(0);
    let log = read_log(dir, after, Segments::Wanted)?;
    let tail = Tail::of(&log, summary).map_err(|error| Error::LogUnusable {
        path: dir.to_owned(),
        error,
    })?;
    let executed = execute(file, summary, &tail.requests).map_err(|error| match error {
        CannotExecute::Database(error) => Error::Content {
            name: name.to_owned(),
            error,
        },
        CannotExecute::Refused { .. } => Error::CannotExecute { error },
    })?;
    let salvaged = Salvaged {
        entries: tail.entries,
        uncommitted: tail.uncommitted,
        first: executed.first,
        last: executed.revision,
        torn: match log.end {
            End::Torn { segment, offset, .. } => Some((segment, offset)),
            End::Whole | End::Damaged => None,
        },
    };
    Ok((executed, salvaged))
}
