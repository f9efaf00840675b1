//! Backups that an operator has copied from one destination to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Brought, NotBrought, bring, gives, is_followed, is_good, lacks_links, work};
use crate::catalog::{Backup, BackupCopy, Standing};
use crate::config::Config;
use crate::destinations::Destinations;
use crate::jobs::give_way_to_restore::stop_for_restore;
use crate::jobs::named_backup::not_found;
use crate::jobs::stores::{blame, known_destination, open_to_write};
use crate::jobs::{Exit, Failure, Listener, host, last_seen};
use crate::model::ChainId;

/// What is asked for.
#[derive(Debug)]
pub struct Asked {
    /// The destination that has them.
    pub from: String,
    /// The destination that is to have them.
    pub to: String,
    /// Which backups; without any all that are good and not there yet, or not with all that follows them.
    pub ids: Vec<String>,
    /// How long it is waited for another run to end.
    pub wait: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Copied {
    /// The destination that has them.
    pub from: String,
    /// The destination that got them.
    pub to: String,
    /// What was not there.
    pub copied: Vec<ChainId>,
    /// What was there, and has got what followed it.
    pub completed: Vec<ChainId>,
    /// What was there already, with all that follows it.
    pub had: Vec<ChainId>,
    /// What could not be copied.
    pub failed: Vec<Failed>,
    /// Whether it was told to stop.
    pub is_stopped: bool,
}

/// A backup that could not be copied.
#[derive(Debug)]
pub struct Failed {
    /// The backup.
    pub id: ChainId,
    /// Why.
    pub error: String,
}

impl Copied {
    /// Whether the destination has got anything.
    pub fn is_any_copied(&self) -> bool {
        !(self.copied.is_empty() && self.completed.is_empty())
    }

    /// Whether there was nothing to do.
    pub fn is_nothing(&self) -> bool {
        !self.is_any_copied() && self.had.is_empty() && self.failed.is_empty()
    }
}

/// Copies what is asked for, one after the other; `at` hears how far it has come, of how much.
pub fn carry_out(
    config: &Config,
    asked: Asked,
    listener: &dyn Listener,
    stop: &Arc<AtomicBool>,
    at: &(dyn Fn(u64, u64) + Sync),
) -> Result<Copied, Failure> {
    known_destination(config, &asked.from)?;
    known_destination(config, &asked.to)?;
    if asked.from == asked.to {
        return Err(Failure::new(Exit::Usage, "--from and --to name the same destination"));
    }
    host::settle()?;
    let state = host::state(&config.cluster.name)?;
    let _lock = host::jobs_lock(&state, "copy", asked.wait)?;
    let opened = open_to_write(config, &state, &[asked.from.clone(), asked.to.clone()])?;
    let mut destinations = Destinations::read(config.cluster.name.clone(), &opened, None);
    for name in [&asked.from, &asked.to] {
        if let Some(why) = destinations.why_unreadable(name) {
            return Err(Failure::new(Exit::Failed, format!("destination {name}: {why}")));
        }
    }
    let wanted = wanted(config, &destinations, &asked)?;
    let mut copied = Copied {
        from: asked.from,
        to: asked.to,
        copied: Vec::new(),
        completed: Vec::new(),
        had: Vec::new(),
        failed: Vec::new(),
        is_stopped: false,
    };
    let work = |backup: &&Backup| work(backup, &copied.from, &copied.to);
    let total: u64 = wanted.iter().map(work).sum();
    let done = AtomicU64::new(0);
    let each = |bytes: u64| {
        at((done.fetch_add(bytes, Ordering::Relaxed) + bytes).min(total), total);
        stop_for_restore(stop);
    };
    for backup in wanted {
        let id = backup.id().clone();
        match bring(&destinations, backup, &copied.to, Some(&copied.from), stop, &each) {
            Ok(Brought { backup: Some(_), .. }) => copied.copied.push(id),
            Ok(Brought { links, .. }) if links.is_empty() => copied.had.push(id),
            Ok(_) => copied.completed.push(id),
            Err(NotBrought::Failed(error)) => copied.failed.push(Failed { id, error }),
            Err(NotBrought::Stopped) => break,
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    for id in copied.copied.iter().chain(&copied.completed) {
        destinations.take_copy_in(id, std::iter::once(copied.from.as_str()), &copied.to);
    }
    if let Err(why) = last_seen::remember(&state, &destinations) {
        listener.warn(&why);
    }
    copied.is_stopped = stop.load(Ordering::Relaxed);
    Ok(copied)
}

/// What is to be copied, the one begun first at the head.
fn wanted<'a>(config: &Config, destinations: &'a Destinations, asked: &Asked) -> Result<Vec<&'a Backup>, Failure> {
    let copy_in = |backup: &'a Backup, name: &str| backup.copies.iter().find(|copy| copy.destination == name);
    if asked.ids.is_empty() {
        // A bad one in the way is told of: until it is given up, the backup is not there.
        let lacks = |backup: &'a Backup| match copy_in(backup, &asked.to) {
            Some(copy) if is_good(copy) => lacks_links(config, destinations, backup, &asked.from, &asked.to),
            Some(_) | None => true,
        };
        // What was made anew for other recipients goes in the place of the old one, or is there; unless changes follow the old.
        let led = destinations.catalog.led();
        let is_of_use =
            |backup: &Backup, copy: &BackupCopy| !led.contains(&backup.manifest().chain_path()) || is_followed(copy);
        let all = destinations.catalog.backups().iter();
        let all = all.filter(|backup| {
            let source = copy_in(backup, &asked.from).filter(|copy| gives(copy, copy_in(backup, &asked.to)));
            source.is_some_and(|source| is_of_use(backup, source)) && lacks(backup)
        });
        return Ok(all.collect());
    }
    let found = asked.ids.iter().map(|id| {
        let found = destinations.catalog.find(id);
        let found = found.map_err(|error| blame(destinations, not_found(&error)))?;
        let (from, id) = (&asked.from, found.id());
        let source = copy_in(found, from);
        match source.map(|copy| &copy.standing) {
            Some(Standing::Good(_)) => Ok(found),
            Some(Standing::Bad(_)) if source.is_some_and(|copy| gives(copy, copy_in(found, &asked.to))) => Ok(found),
            Some(Standing::Bad(faults)) => Err(Failure::new(
                Exit::Damaged,
                format!("the copy of {id} in destination {from} is bad: {}", faults.join("; ")),
            )
            .next(format!(
                "name another destination with `--from`: `lifeboat show {id}` tells which copies are good"
            ))),
            None => Err(Failure::new(
                Exit::NotFound,
                format!("destination {from} does not have {id}"),
            )),
        }
    });
    let mut found = found.collect::<Result<Vec<_>, Failure>>()?;
    found.sort_by_key(|backup| backup.id().clone());
    found.dedup_by_key(|backup| backup.id().clone());
    Ok(found)
}
