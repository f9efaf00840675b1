//! `lifeboat copy`: backups that one destination has, brought to another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::ValueHint;
use serde::Serialize;

use super::arguments::duration;
use super::{Context, Exit, Failure, host};
use crate::catalog::{Backup, BackupCopy, Standing};
use crate::config::Config;
use crate::destinations::Destinations;
use crate::jobs;
use crate::jobs::copy::{Brought, NotBrought, gives, is_followed, is_good, lacks_links};
use crate::jobs::give_way::stop_for_restore;
use crate::jobs::last_seen;
use crate::jobs::named_backup::not_found;
use crate::jobs::stores::{blame, known_destination, open_to_write};
use crate::model::ChainId;
use crate::terminal::{Bar, Format};

/// Copy backups from one destination to another, as they are
///
/// Nothing is decrypted and no key is needed. Each copy is compared with the digest in its manifest on its way and read
/// back. What is there already is not copied again, so that a copy that was cut off goes on where it was. Deltas come along,
/// and those that a chain has got since it was copied; those at the end of a chain that the agent is writing there it brings
/// itself. The agent does the same by itself for a destination that was away.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat copy --from local --to far\n  lifeboat copy --from local --to far 20261120T101530Z-9f3c4a1b"
)]
pub struct Args {
    /// The destination that has them
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other)]
    from: String,
    /// The destination that is to have them
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other)]
    to: String,
    /// These backups: IDs, or unique beginnings; without any all that are good and not there yet, or not with all that follows
    /// them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Wait this long for another run, or a restore, to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    from: String,
    to: String,
    copied: Vec<ChainId>,
    /// What was there, and has got what followed it.
    completed: Vec<ChainId>,
    /// What was there already, with all that follows it.
    had: Vec<ChainId>,
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    id: ChainId,
    error: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    known_destination(&config, &args.from)?;
    known_destination(&config, &args.to)?;
    if args.from == args.to {
        return Err(Failure::new(Exit::Usage, "--from and --to name the same destination"));
    }
    host::settle()?;
    let state = host::state(&config.cluster.name)?;
    let stop = super::interrupted_flag(context);
    let _lock = host::jobs_lock(&state, "copy", args.wait)?;
    let opened = open_to_write(&config, &state, &[args.from.clone(), args.to.clone()])?;
    let mut destinations = Destinations::read(config.cluster.name.clone(), &opened, None);
    for name in [&args.from, &args.to] {
        if let Some(why) = destinations.why_unreadable(name) {
            return Err(Failure::new(Exit::Failed, format!("destination {name}: {why}")));
        }
    }
    let wanted = wanted(&config, &destinations, &args)?;
    let mut document = Document {
        schema: 1,
        from: args.from,
        to: args.to,
        copied: Vec::new(),
        completed: Vec::new(),
        had: Vec::new(),
        failed: Vec::new(),
    };
    let work = |backup: &&Backup| jobs::copy::work(backup, &document.from, &document.to);
    let total: u64 = wanted.iter().map(work).sum();
    let (bar, done) = (Bar::new(&context.output, "copy"), std::sync::atomic::AtomicU64::new(0));
    let each = |bytes: u64| {
        bar.at((done.fetch_add(bytes, Ordering::Relaxed) + bytes).min(total), total);
        stop_for_restore(&stop);
    };
    for backup in wanted {
        let id = backup.id().clone();
        match jobs::copy::bring(&destinations, backup, &document.to, Some(&document.from), &stop, &each) {
            Ok(Brought { backup: Some(_), .. }) => document.copied.push(id),
            Ok(Brought { links, .. }) if links.is_empty() => document.had.push(id),
            Ok(_) => document.completed.push(id),
            Err(NotBrought::Failed(error)) => document.failed.push(Failed { id, error }),
            Err(NotBrought::Stopped) => break,
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    drop(bar);
    for id in document.copied.iter().chain(&document.completed) {
        destinations.take_copy_in(id, std::iter::once(document.from.as_str()), &document.to);
    }
    if let Err(why) = last_seen::remember(&state, &destinations) {
        context.output.warn(why);
    }
    match context.output.format {
        Format::Json => context.output.json(&document),
        Format::Text => {
            for id in &document.copied {
                context.output.sentence(format!("copied {id} to {}", document.to));
            }
            for id in &document.completed {
                context
                    .output
                    .sentence(format!("copied what follows {id} to {}", document.to));
            }
            for id in &document.had {
                context.output.sentence(format!("{id} is in {} already", document.to));
            }
            let is_stopped = stop.load(Ordering::Relaxed);
            let Document {
                copied,
                completed,
                had,
                failed,
                ..
            } = &document;
            let is_any = !(copied.is_empty() && completed.is_empty() && had.is_empty() && failed.is_empty());
            if !is_any && !is_stopped {
                context.output.sentence(format!("{} lacks nothing", document.to));
            }
        }
    }
    for Failed { id, error } in &document.failed {
        context.output.problem(format!("{id} is not copied: {error}"));
    }
    match (
        document.failed.is_empty(),
        document.copied.is_empty() && document.completed.is_empty(),
    ) {
        (true, _) if stop.load(Ordering::Relaxed) => Failure::new(
            Exit::Failed,
            "stopped by a signal or by a restore; the same command goes on",
        )
        .after_result(&context.output),
        (true, _) => Ok(Exit::Done),
        (false, false) => Ok(Exit::Partly),
        (false, true) => Ok(Exit::Failed),
    }
}

/// What is to be copied, the one begun first at the head.
fn wanted<'a>(config: &Config, destinations: &'a Destinations, args: &Args) -> Result<Vec<&'a Backup>, Failure> {
    let copy_in = |backup: &'a Backup, name: &str| backup.copies.iter().find(|copy| copy.destination == name);
    if args.ids.is_empty() {
        // A bad one in the way is told of: until it is given up, the backup is not there.
        let lacks = |backup: &'a Backup| match copy_in(backup, &args.to) {
            Some(copy) if is_good(copy) => lacks_links(config, destinations, backup, &args.from, &args.to),
            Some(_) | None => true,
        };
        // What was made anew for other recipients goes in the place of the old one, or is there; unless changes follow the old.
        let led = destinations.catalog.led();
        let is_of_use =
            |backup: &Backup, copy: &BackupCopy| !led.contains(&backup.manifest().chain_path()) || is_followed(copy);
        let all = destinations.catalog.backups().iter();
        let all = all.filter(|backup| {
            let source = copy_in(backup, &args.from).filter(|copy| gives(copy, copy_in(backup, &args.to)));
            source.is_some_and(|source| is_of_use(backup, source)) && lacks(backup)
        });
        return Ok(all.collect());
    }
    let found = args.ids.iter().map(|id| {
        let found = destinations.catalog.find(id);
        let found = found.map_err(|error| blame(destinations, not_found(&error)))?;
        let (from, id) = (&args.from, found.id());
        let source = copy_in(found, from);
        match source.map(|copy| &copy.standing) {
            Some(Standing::Good(_)) => Ok(found),
            Some(Standing::Bad(_)) if source.is_some_and(|copy| gives(copy, copy_in(found, &args.to))) => Ok(found),
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
