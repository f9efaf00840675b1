//! Verification: reads stored backups back, opens them if it can, and writes down what it found.

mod deltas;
mod results;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::Serialize;

use super::named_backup::chosen;
use super::stores::read_within;
use super::{Exit, Failure, Listener, host, signing};
use crate::catalog::{Backup, Odd, Standing};
use crate::config::Config;
use crate::destinations::{Destinations, ManifestError};
use crate::layout::{HostName, Manifest, Proof};
use crate::model::ChainId;
use crate::pipeline::Identities;
use crate::source;
use crate::store::Limits;
use crate::verify::{self, Behind, Copy, Found, Job, Share, Stopped, Turn, Verified, least_recently_read};

pub use deltas::{CheckedDeltas, DeltaFault};

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Results {
    /// What was checked.
    pub checked: Vec<Checked>,
    /// What was removed, as by retention, before it came to be checked.
    pub gone: Vec<ChainId>,
    /// Of what could not be checked, or whose result could not be kept.
    pub errors: Vec<String>,
    /// Objects that are missing, not ours, orphaned or unfinished, where all that is listed was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Vec<Odd>>,
    /// How many were chosen and not reached, because the end was asked for.
    pub stopped_before: usize,
    /// How it ends.
    #[serde(skip)]
    pub exit: Exit,
}

/// One backup, as programs see it.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Which.
    pub id: ChainId,
    /// Whether it is good.
    pub ok: bool,
    /// How far it is proven.
    pub proof: Proof,
    /// What is wrong with it.
    pub faults: Vec<String>,
    /// Why neither its database nor the records of its deltas were looked at; nothing where they were opened.
    pub not_opened: Option<String>,
    /// Why it could not be proven further.
    pub note: Option<String>,
    /// What is no damage of its database, and still not as it should be.
    pub warnings: Vec<String>,
    /// Its copies.
    pub destinations: Vec<CheckedCopy>,
}

/// One copy of it.
#[derive(Debug, Serialize)]
pub struct CheckedCopy {
    /// The destination.
    pub name: String,
    /// Whether it is good.
    pub ok: bool,
    /// How far it is proven.
    pub proof: Proof,
    /// What is wrong with it.
    pub faults: Vec<String>,
    /// What follows it in its chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deltas: Option<CheckedDeltas>,
    /// How far it was looked at.
    #[serde(skip)]
    pub depth: Depth,
}

/// How far this run has looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The stored bytes are those that were stored: what was proven of them before still is.
    Compared,
    /// They were opened.
    Opened,
}

/// What is the same for all backups of a run.
pub struct Run<'a> {
    /// Where the backups are.
    pub destinations: &'a Destinations,
    /// What opens them.
    pub identities: Option<Identities>,
    /// How much memory it may take.
    pub memory: u64,
    /// Who checks.
    pub host: HostName,
    /// Raised when it is to stop.
    pub stop: &'a AtomicBool,
    /// Whether a result that cannot be kept is an error: not in a store that was only named.
    pub must_record: bool,
    /// What to say of one that cannot be opened.
    pub explain: fn(&source::Error, &Manifest) -> Failure,
}

/// What is to be verified.
pub struct Wanted<'a> {
    /// In this order.
    pub backups: Vec<&'a Backup>,
    /// Until so many were read.
    pub enough: usize,
    /// After that none is begun.
    pub until: Option<Timestamp>,
}

/// Which backups an operator asks for.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// One, by its id or `latest`.
    Named(&'a str),
    /// All.
    All,
    /// A share, the least recently read first.
    Share(Share),
}

impl<'a> Wanted<'a> {
    /// What an operator asks for.
    pub fn of(
        which: Which<'_>,
        destinations: &'a Destinations,
        listener: &dyn Listener,
    ) -> Result<Wanted<'a>, Failure> {
        let wanted = match which {
            Which::Named(id) => return Ok(Wanted::all(vec![chosen(listener, destinations, id)?])),
            Which::All => Wanted::all(destinations.catalog.backups().iter().collect()),
            Which::Share(share) => Wanted::share(destinations, share),
        };
        if destinations.stores.is_empty() && !destinations.unreadable.is_empty() {
            return Err(Failure::new(Exit::Failed, "no destination could be read"));
        }
        Ok(wanted)
    }

    /// All of these.
    fn all(backups: Vec<&'a Backup>) -> Wanted<'a> {
        Wanted {
            enough: backups.len(),
            backups,
            until: None,
        }
    }

    /// A share of what there is, the least recently read first.
    fn share(destinations: &'a Destinations, share: Share) -> Wanted<'a> {
        let backups = least_recently_read(&destinations.catalog);
        Wanted {
            enough: share.of(backups.len()),
            backups,
            until: None,
        }
    }
}

/// What a schedule verifies at a time: little enough to be soon done, enough to come to all in time.
const SHARE_OF_A_ROUND: f64 = 10.0;

/// What a round came to.
pub struct Round {
    /// How many backups were verified.
    pub checked: usize,
    /// Those that are bad, and why.
    pub wrong: Vec<String>,
    /// Those that could not be proven as far as they might be, and why.
    pub short: Vec<String>,
    /// What could not be done.
    pub errors: Vec<String>,
}

/// Verifies a share of what `destination` has, and begins with none after `until`; `sign` hears that it gets on.
pub fn round(
    config: &Config,
    destination: &str,
    stop: &AtomicBool,
    until: Timestamp,
    sign: impl Fn(),
) -> Result<Round, Failure> {
    signing::prepare(config, &host::state(&config.cluster.name)?)?;
    let destinations = read_within(config, Some(destination), Limits::default())?;
    if let Some((name, error)) = destinations.unreadable.first() {
        return Err(Failure::new(Exit::Failed, format!("destination {name}: {error}")));
    }
    let run = Run {
        identities: host::identities(config)?,
        memory: host::spare_memory(),
        host: host::host_name(),
        stop,
        must_record: true,
        destinations: &destinations,
        explain: |error, _| Failure::new(Exit::Failed, error),
    };
    let share = Share::percent(SHARE_OF_A_ROUND).expect("it is between 0 and 100");
    let wanted = Wanted {
        until: Some(until),
        ..Wanted::share(&destinations, share)
    };
    let mut results = Results::default();
    verify_each(&run, &wanted, |_, _| sign(), &mut results);
    let each = results.checked.iter().flat_map(|checked| {
        let copies = checked.destinations.iter();
        copies.map(move |copy| (&checked.id, copy))
    });
    let (mut wrong, mut short) = (Vec::new(), Vec::new());
    for (id, copy) in each {
        let CheckedCopy {
            name, faults, deltas, ..
        } = copy;
        wrong.extend((!copy.ok).then(|| format!("{id} is bad in {name}: {}", faults.join("; "))));
        wrong.extend(deltas.iter().filter_map(|deltas| deltas::wrong(id, name, deltas)));
        let left = deltas.iter().filter(|deltas| deltas.left > 0);
        short.extend(left.map(|deltas| format!("deltas of {id} in {name}: {}", deltas.good())));
    }
    short.extend(results.checked.iter().filter_map(|checked| {
        let note = checked.note.as_ref()?;
        Some(format!("{} could not be proven further: {note}", checked.id))
    }));
    Ok(Round {
        checked: results.checked.len(),
        wrong,
        short,
        errors: results.errors,
    })
}

/// Verifies one after the other; `at` hears how far it has come, of how much.
pub fn verify_each(run: &Run<'_>, wanted: &Wanted<'_>, mut at: impl FnMut(u64, u64), results: &mut Results) {
    let opened = run.identities.is_some();
    let work = |backup: &&Backup| verify::work(backup, opened);
    let total = wanted.backups.iter().take(wanted.enough).map(work).sum();
    let (mut before, mut read) = (0, 0);
    verify::until_read(&wanted.backups, wanted.enough, |index, backup| {
        if index > 0 && wanted.until.is_some_and(|until| host::now() >= until) {
            return ControlFlow::Break(());
        }
        let mut done = 0;
        let progress = |bytes| {
            done += bytes;
            at((before + done).min(total), total);
        };
        let turn = match verify_one(run, backup, wanted.until, progress) {
            Ok(one) if one.is_cut() => {
                // What was read of it is kept.
                results.take(run, backup, one);
                results.stopped_before = wanted.enough - read;
                return ControlFlow::Break(());
            }
            Ok(one) => results.take(run, backup, one),
            Err(Unchecked::Stopped) => {
                results.stopped_before = wanted.enough - read;
                return ControlFlow::Break(());
            }
            Err(Unchecked::Failed(error)) => results.failed(backup, &error),
        };
        if turn == Turn::Taken {
            before += work(&backup);
            read += 1;
        }
        // One that cannot be read gives no other sign.
        at(before.min(total), total);
        ControlFlow::Continue(turn)
    });
}

enum Unchecked {
    Stopped,
    Failed(ManifestError),
}

/// A backup that was checked, and by whom.
struct One<'a> {
    manifest: Manifest,
    copies: Vec<Copy<'a>>,
    verified: Verified,
    /// What follows each copy.
    behind: Vec<Option<Behind>>,
    now: Timestamp,
}

impl One<'_> {
    fn is_cut(&self) -> bool {
        self.behind.iter().flatten().any(|behind| behind.is_cut)
    }
}

fn verify_one<'a>(
    run: &Run<'a>,
    backup: &'a Backup,
    until: Option<Timestamp>,
    mut progress: impl FnMut(u64),
) -> Result<One<'a>, Unchecked> {
    let (manifest, document) = run.destinations.manifest(backup).map_err(Unchecked::Failed)?;
    let copies = backup.copies.iter().filter_map(|copy| {
        Some(Copy {
            destination: &copy.destination,
            store: run.destinations.stores.get(&copy.destination)?,
            before: match &copy.standing {
                Standing::Good(proof) => *proof,
                Standing::Bad(_) => Proof::Stored,
            },
        })
    });
    let copies: Vec<Copy<'a>> = copies.collect();
    let job = Job {
        manifest: &manifest,
        copies: &copies,
        identities: run.identities.as_ref(),
        memory: run.memory,
        stop: run.stop,
    };
    let verified = verify::verify(&job, &mut progress).map_err(|Stopped| Unchecked::Stopped)?;
    let reading = deltas::Reading {
        backup,
        manifest: &manifest,
        document: &document,
        identities: run.identities.as_ref().filter(|_| verified.unopened.is_none()),
        until,
        now: host::now,
    };
    let is_there = verified.copies.iter().any(|found| !matches!(found, Found::Gone));
    let behind = match is_there {
        true => reading.read(&copies, |bytes| {
            progress(bytes);
            match run.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }),
        false => Vec::new(),
    };
    Ok(One {
        manifest,
        copies,
        verified,
        behind,
        now: host::now(),
    })
}

/// Of two ends the one that must not be overlooked.
pub fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Damaged => 4,
        Exit::WrongKey => 3,
        Exit::Done => 0,
        Exit::Partly => 1,
        Exit::Failed | Exit::Usage | Exit::NotFound | Exit::Locked | Exit::Refused | Exit::Configuration => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}
