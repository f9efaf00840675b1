//! Gives up, for good, what restores that ended have kept.
//!
//! Invariant: what is being given up is never brought back. The ledger says so before the first name is touched, and it is
//! finished by the next release wherever it was cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::exchange_dir::{self, ExchangeDir, gone_paths, kept_path, made_path};
use super::init_system::Units;
use super::ledger::{Kept, Ledger, LedgerPaths, LedgerStore};
use super::plan::RestoreId;
use super::transitions::End;
use super::{Error, settings_files};
use crate::etcd_settings::{NewFile, Overlay};

/// A step of a release, in order. Each can be taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GiveUp {
    /// The ledger says that it has begun.
    Record,
    /// What is kept loses its name.
    Condemn,
    /// It is deleted.
    Delete,
    /// What it laid over etcd's settings goes, as far as nobody has changed it since.
    Settings,
    /// etcd may start, where this restore has kept it from starting.
    Unhold,
    /// The ledger says that it is done.
    Close,
}

impl GiveUp {
    /// All of them.
    pub const ALL: [GiveUp; 6] = [
        GiveUp::Record,
        GiveUp::Condemn,
        GiveUp::Delete,
        GiveUp::Settings,
        GiveUp::Unhold,
        GiveUp::Close,
    ];
}

/// What is given up when the old data of restores that ended is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The restores.
    pub ledgers: Vec<Ledger>,
    /// Which restore keeps etcd from starting, if that is none of those: its ledger was moved away.
    pub stray: Option<String>,
}

/// What a release would give up.
///
/// Fails while a restore is open.
pub fn releasable(ledger_paths: &LedgerPaths) -> Result<Release, Error> {
    if let Some(open) = super::ledger::open_ledger(ledger_paths)? {
        let (id, step) = (open.id().clone(), open.step);
        return Err(Error::Open { id, step });
    }
    let closed = super::ledger::closed(ledger_paths)?;
    let is_there = |ledger: &Ledger| ledger.kept != Kept::Released;
    let ledgers: Vec<Ledger> = closed.into_iter().filter(is_there).collect();
    let is_stray = |held: &String| ledgers.iter().all(|ledger| ledger.id().to_string() != *held);
    let stray = super::ledger::held(ledger_paths)?.filter(is_stray);
    Ok(Release { ledgers, stray })
}

/// Lets etcd start that a restore keeps down of which nobody knows any more.
pub fn release_stray(ledger_store: &LedgerStore) -> Result<(), Error> {
    match releasable(ledger_store.paths())?.stray {
        Some(_) => Ok(settings_files::remove(&ledger_store.paths().lock())?),
        None => Ok(()),
    }
}

/// Gives the old data of one restore up, for good: the only place where that is deleted. `listener` hears of each step
/// before it is taken, and may end it there.
pub fn release(
    ledger_store: &LedgerStore,
    id: &RestoreId,
    units: &dyn Units,
    listener: &dyn Fn(GiveUp) -> ControlFlow<()>,
) -> Result<(), Error> {
    if let Some(open) = ledger_store.ledger()? {
        let (id, step) = (open.id().clone(), open.step);
        return Err(Error::Open { id, step });
    }
    for mut ledger in ledger_store.closed()?.into_iter().filter(|ledger| ledger.id() == id) {
        let exchanges = exchange_dirs_of(&ledger)?;
        for step in GiveUp::ALL {
            if listener(step).is_break() {
                let id = id.clone();
                return Err(Error::Releasing { id });
            }
            take(step, ledger_store, &mut ledger, &exchanges, units)?;
        }
        // After all else: where our folder is gone, it cannot be told from one that is not mounted.
        for exchange in exchanges {
            exchange.tidy(id).ok();
        }
    }
    Ok(())
}

/// Removes folders of ours with nothing in them, as a release leaves them that was cut off at its very end.
pub fn tidy_released(ledger_store: &LedgerStore) -> Result<(), Error> {
    let closed = ledger_store.closed()?;
    for ledger in closed.iter().filter(|ledger| ledger.kept == Kept::Released) {
        for path in ledger.plan.host.site.dirs() {
            if let Ok(Some(exchange)) = ExchangeDir::find(path) {
                // What stays is empty, and harms nobody.
                exchange.tidy(ledger.id()).ok();
            }
        }
    }
    Ok(())
}

fn take(
    step: GiveUp,
    ledger_store: &LedgerStore,
    ledger: &mut Ledger,
    exchanges: &[ExchangeDir],
    units: &dyn Units,
) -> Result<(), Error> {
    let id = ledger.id().clone();
    let reload = || units.reload().map_err(Error::units("reload", "systemd"));
    match step {
        GiveUp::Record => {
            ledger.kept = Kept::Releasing;
            ledger_store.write_closed(ledger)?;
        }
        GiveUp::Condemn => exchanges.iter().try_for_each(|exchange| exchange.condemn(&id))?,
        GiveUp::Delete => exchanges
            .iter()
            .try_for_each(|exchange| exchange.discard_condemned(&id))?,
        GiveUp::Settings => {
            let (drop_ins, others) = unneeded(&ledger_store.closed()?, ledger)?;
            // systemd must not start etcd by what refers to a file that is gone.
            drop_ins.iter().try_for_each(|path| settings_files::remove(path))?;
            if !drop_ins.is_empty() || !others.is_empty() {
                reload()?;
            }
            others.iter().try_for_each(|path| settings_files::remove(path))?;
        }
        GiveUp::Unhold => {
            if ledger_store.held()?.is_some_and(|held| held == id.to_string()) {
                // Both were kept where nothing could come back: see `Step::BackStart`. Those of another are its own.
                settings_files::remove(&ledger.guard.path)?;
                reload()?;
                settings_files::remove(&ledger_store.paths().lock())?;
            }
        }
        GiveUp::Close => {
            ledger.kept = Kept::Released;
            ledger_store.write_closed(ledger)?;
        }
    }
    Ok(())
}

/// What a restore that ended has laid over etcd's settings. etcd needs none of it once its directory is laid out.
fn laid(ledger: &Ledger) -> Vec<NewFile> {
    let plan = &ledger.plan;
    if !is_good(ledger) {
        return plan.host.overlay.iter().flat_map(Overlay::files_of_old).collect();
    }
    let of_old = plan.host.files.iter().chain(&ledger.settled).map(|file| NewFile {
        path: file.path.clone(),
        content: file.content.clone(),
    });
    let laid = plan.host.overlay.iter().zip(&plan.host.identity);
    let laid = laid.flat_map(|(overlay, identity)| overlay.files(&identity.token));
    of_old.chain(laid).collect()
}

/// Which of it is to go, drop-ins apart: they refer to the others. Nothing, where somebody has changed a part of it, or a
/// later restore has laid on something of the same name.
fn unneeded(closed: &[Ledger], ledger: &Ledger) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let later = closed.iter().skip_while(|other| other.id() != ledger.id()).skip(1);
    let later = later.filter(|other| is_good(other) && other.kept != Kept::Released);
    let later: BTreeSet<PathBuf> = later.flat_map(laid).map(|file| file.path).collect();
    // The same name may have been given twice: at first, and once etcd served.
    let mut contents: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for file in laid(ledger) {
        contents.entry(file.path).or_default().push(file.content);
    }
    let mut unneeded = Vec::new();
    for (path, contents) in contents {
        let Some(is) = settings_files::before(&path)?.content else {
            continue;
        };
        if later.contains(&path) || !contents.contains(&is) || keeps_from_harm(&is) {
            return Ok((Vec::new(), Vec::new()));
        }
        unneeded.push(path);
    }
    let is_drop_in = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "conf");
    Ok(unneeded.into_iter().partition(is_drop_in))
}

fn is_good(ledger: &Ledger) -> bool {
    ledger.end.is_some_and(|(end, _)| end == End::Restored)
}

/// Whether what an older version laid on switches off what would begin a new cluster at etcd's next start.
fn keeps_from_harm(content: &str) -> bool {
    let content = content.to_ascii_lowercase().replace('_', "-");
    content.contains("force-new-cluster")
}

/// Our folders in the directories of a restore.
fn exchange_dirs_of(ledger: &Ledger) -> Result<Vec<ExchangeDir>, Error> {
    let mut exchanges = Vec::new();
    for path in ledger.plan.host.site.dirs() {
        match ExchangeDir::find(path)? {
            Some(exchange) => exchanges.push(exchange),
            // Else what is on a disk that comes later would stay there, and nobody would know of it.
            None if kept_something(ledger) && !is_where_it_was(ledger) => {
                let path = path.display().to_string();
                return Err(exchange_dir::Error::Missing { path }.into());
            }
            None => {}
        }
    }
    Ok(exchanges)
}

/// Whether a restore that ended left data behind, unless somebody took that away.
fn kept_something(ledger: &Ledger) -> bool {
    match ledger.end {
        Some((End::Undone, _)) => ledger.service.started,
        Some((End::Restored, _)) | None => ledger.had_data(),
    }
}

/// Whether etcd uses data that the restore has made or replaced: then the directory is there, and our folder in it is not.
fn is_where_it_was(ledger: &Ledger) -> bool {
    let known = [
        ledger.before.data.as_ref().and_then(|before| before.member),
        ledger.built.as_ref().map(|built| built.member),
    ];
    let live = fs::symlink_metadata(ledger.plan.host.site.data_dir.join(exchange_dir::MEMBER));
    live.is_ok_and(|live| known.contains(&Some(live.ino())))
}

/// The folders that are kept of a restore, and how much is in them.
pub fn kept_folders(ledger: &Ledger) -> (Vec<PathBuf>, u64) {
    let (id, dirs) = (ledger.id(), ledger.plan.host.site.dirs());
    let folders = dirs.flat_map(|dir| {
        [kept_path(dir, id), made_path(dir, id)]
            .into_iter()
            .chain(gone_paths(dir, id))
    });
    let paths: Vec<PathBuf> = folders.filter(|path| path.exists()).collect();
    let bytes = paths.iter().map(|path| bytes_below(path)).sum();
    (paths, bytes)
}

fn bytes_below(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
