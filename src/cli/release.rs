//! `lifeboat release`: the data that restores have kept is given up.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;

use super::{Context, Exit, Failure};
use crate::error_chain::with_causes;
use crate::jobs::restore::{connect, failure, need_root};
use crate::model::ByteSize;
use crate::restore::{
    Error, ExchangeDirError, Kept, Ledger, LedgerError, LedgerPaths, LedgerStore, OverDbus, Release, RestoreId,
    kept_folders, releasable, release, release_stray, tidy_released,
};
use crate::terminal::{Format, ask, need_somebody};

/// Give up, for good, the data that restores have kept
///
/// That is the data from before each restore, and what a rollback has set aside. Nothing else ever deletes it. From the
/// moment it begins, nothing of it comes back; a release that is cut off is finished by the next one.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat release\n  lifeboat release --restore 20261120T101530Z-9f3c4a1b --yes")]
pub struct Args {
    /// Only that of this restore
    #[arg(long, value_name = "ID")]
    restore: Option<RestoreId>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    released: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    paths: Vec<PathBuf>,
    bytes: u64,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    need_root("release")?;
    let ledger_paths = LedgerPaths::default();
    let Release {
        ledgers: mut meant,
        stray,
    } = releasable(&ledger_paths).map_err(failure)?;
    let is_meant = |held: &String| args.restore.as_ref().is_none_or(|id| id.to_string() == *held);
    let stray = stray.filter(is_meant);
    if let Some(id) = &args.restore {
        // What was begun is finished with it.
        if meant.iter().all(|ledger| ledger.id() != id) && stray.is_none() {
            return Err(Failure::new(Exit::NotFound, format!("nothing is kept of restore {id}")));
        }
        meant.retain(|ledger| ledger.id() == id || ledger.kept == Kept::Releasing);
    }
    // Of restores that never came to it, nothing is kept.
    let rows: Vec<Row> = meant.iter().map(row).filter(|row| !row.paths.is_empty()).collect();
    for row in &rows {
        let paths: Vec<String> = row.paths.iter().map(|path| path.display().to_string()).collect();
        context.output.detail(format!(
            "restore {}: {} in {}",
            row.id,
            ByteSize(row.bytes),
            paths.join(", ")
        ));
    }
    let is_asked_for = |row: &Row| {
        meant
            .iter()
            .any(|ledger| ledger.kept == Kept::Here && ledger.id().to_string() == row.id)
    };
    if rows.iter().any(is_asked_for) && !args.yes {
        need_somebody(false, "release")?;
        ask("delete all of it for good?")?;
    }
    // Looking for one must not make the folder.
    if ledger_paths.folder.exists() {
        let ledger_store = LedgerStore::open(ledger_paths).map_err(|error| failure(error.into()))?;
        if !meant.is_empty() {
            let systemd = connect(context.runtime.handle())?;
            let units = OverDbus::new(&systemd, context.runtime.handle());
            for ledger in &meant {
                let given_up = release(&ledger_store, ledger.id(), &units, &|_| ControlFlow::Continue(()));
                given_up.map_err(|error| cut_off(ledger.id(), error))?;
            }
        }
        if let Some(stray) = &stray {
            release_stray(&ledger_store).map_err(failure)?;
            context.output.warn(format!(
                "etcd was kept from starting by restore {stray}, whose ledger is gone; it may start again"
            ));
        }
        tidy_released(&ledger_store).map_err(failure)?;
    }
    match context.output.format {
        Format::Json => context.output.json(&Document {
            schema: 1,
            released: rows,
        }),
        Format::Text if rows.is_empty() => context.output.line("nothing is kept"),
        Format::Text => {
            for row in &rows {
                context
                    .output
                    .line(format!("released {}, {}", row.id, ByteSize(row.bytes)));
            }
        }
    }
    Ok(Exit::Done)
}

/// What is said of a release that does not come to its end.
fn cut_off(id: &RestoreId, error: Error) -> Failure {
    let text = with_causes(&error);
    match error {
        // Of data that somebody has to reach first, nothing is deleted.
        Error::ExchangeDir(ExchangeDirError::Files(_)) | Error::Files(_) | Error::Ledger(LedgerError::Files(_)) => {
            Failure::new(Exit::Failed, format!("what is kept of restore {id} is not all deleted: {text}")).next(
                "nothing of it comes back any more; when the cause is gone (a file that is immutable: `lsattr`, `chattr -i`), \
                 run `lifeboat release` again, which deletes the rest",
            )
        }
        Error::ExchangeDir(ExchangeDirError::Missing { .. }) => {
            Failure::new(Exit::Failed, text).next("when it is mounted, run it again: what is kept there stays until then")
        }
        other => failure(other),
    }
}

fn row(ledger: &Ledger) -> Row {
    let (paths, bytes) = kept_folders(ledger);
    Row {
        id: ledger.id().to_string(),
        paths,
        bytes,
    }
}
