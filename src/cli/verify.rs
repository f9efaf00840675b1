//! `lifeboat verify`: reads stored backups back, opens them if it can, and writes down what it found.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use clap::ValueHint;
use jiff::Timestamp;
use serde::Serialize;

use super::host;
use super::identity::{self, IdentityArgs};
use super::output::{Format, Output, clean, count};
use super::progress::Bar;
use super::source::{chosen, source_failure};
use super::stores::{self, From, read_configured, read_within};
use super::{Context, Exit, Failure, user};
use crate::catalog::{Backup, HostName, Manifest, Proof, Standing};
use crate::config::Config;
use crate::destinations::Destinations;
use crate::model::{ChainId, with_causes};
use crate::pipeline::Identities;
use crate::store::Limits;
use crate::verify::{self, Copy, Found, Job, Recorded, Share, Stopped, Turn, Verified, least_recently_read};

/// Read backups back from the disk and prove that they are good
///
/// Each copy is compared with what was stored. With an identity it is decrypted too, every page and entry of the database
/// is checked, and its HashKV is compared with what the member reported. The result is kept beside the backup: one that is
/// bad is no longer `latest`, and retention counts it for nothing. Exit code 5 if any is bad.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat verify --identity backup-key.txt\n  lifeboat verify --all\n  \
    lifeboat verify --sample 10\n  lifeboat verify 20261120T101530Z --destination far"
)]
pub struct Args {
    /// The backup's ID, a unique beginning or the last 8 digits of it, or `latest`, which it is without
    #[arg(value_name = "ID", conflicts_with_all = ["all", "sample"])]
    id: Option<String>,
    /// All backups
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// This share of the backups: the newest if it was never checked, then those that were read least recently
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    sample: Option<Share>,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Only what this destination has
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other, conflicts_with = "from")]
    destination: Option<String>,
    #[command(flatten)]
    pub(super) from: From,
}

fn percent(text: &str) -> Result<Share, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let share = number.parse().ok().and_then(Share::percent);
    share.ok_or_else(|| "give a number above 0 and up to 100".to_owned())
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    checked: Vec<Checked>,
    /// What was removed, as by retention, before it came to be checked.
    gone: Vec<ChainId>,
    /// Of what could not be checked, or whose result could not be kept.
    errors: Vec<String>,
    /// How many were chosen and not reached, because the end was asked for.
    stopped_before: usize,
    #[serde(skip)]
    exit: Exit,
}

/// One backup, as programs see it.
#[derive(Serialize)]
struct Checked {
    id: ChainId,
    ok: bool,
    proof: Proof,
    faults: Vec<String>,
    /// Why it could not be proven further.
    note: Option<String>,
    destinations: Vec<CheckedCopy>,
}

#[derive(Serialize)]
struct CheckedCopy {
    name: String,
    ok: bool,
    proof: Proof,
    faults: Vec<String>,
    #[serde(skip)]
    depth: Depth,
}

/// How far this run has looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The stored bytes are those that were stored: what was proven of them before still is.
    Compared,
    /// They were opened.
    Opened,
}

/// What is the same for all backups of a run.
struct Run<'a> {
    places: &'a Destinations,
    identities: Option<Identities>,
    memory: u64,
    host: HostName,
    stop: &'a AtomicBool,
    /// Whether a result that cannot be kept is an error: not in a store that was only named.
    must_record: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let stop = super::interrupted_flag(context);
    let (places, identities) = if args.from.is_given() {
        let identities = args
            .identity
            .or_configured(host::configuration(context).ok().as_ref())?;
        (stores::read(context, &args.from)?, identities)
    } else {
        let config = host::configuration(context)?;
        let identities = args.identity.or_configured(Some(&config))?;
        user::settle()?;
        let places = read_configured(context, &config, args.destination.as_deref())?;
        (places, identities)
    };
    let run = Run {
        identities,
        memory: host::spare_memory(),
        host: host::host_name(),
        stop: &stop,
        must_record: !args.from.is_given(),
        places: &places,
    };
    let wanted = wanted(context, &args, &places)?;
    let mut document = Document::new();
    if args.id.is_none() {
        document.damaged(&places, args.all);
    }
    let bar = Bar::new(&context.output, "verify");
    verify_each(&run, &wanted, |done, total| bar.share(done, total), &mut document);
    drop(bar);
    match context.output.format {
        Format::Json => context.output.json(&document),
        Format::Text => print(&context.output, &document, run.must_record),
    }
    document.errors.iter().for_each(|error| context.output.problem(error));
    match document.stopped_before {
        0 => Ok(document.exit),
        left => Failure::new(
            worse(document.exit, Exit::Failed),
            format!(
                "stopped before {}; what was checked is kept",
                count(left as u64, "backup")
            ),
        )
        .after_result(&context.output),
    }
}

/// What is to be verified.
struct Wanted<'a> {
    /// In this order.
    backups: Vec<&'a Backup>,
    /// Until so many were read.
    enough: usize,
    /// After that none is begun.
    until: Option<Timestamp>,
}

impl<'a> Wanted<'a> {
    fn all(backups: Vec<&'a Backup>) -> Wanted<'a> {
        Wanted {
            enough: backups.len(),
            backups,
            until: None,
        }
    }

    fn share(places: &'a Destinations, share: Share) -> Wanted<'a> {
        let backups = least_recently_read(&places.catalog);
        Wanted {
            enough: share.of(backups.len()),
            backups,
            until: None,
        }
    }
}

fn wanted<'a>(context: &Context, args: &Args, places: &'a Destinations) -> Result<Wanted<'a>, Failure> {
    let wanted = match (&args.id, args.all, args.sample) {
        (Some(id), ..) => return Ok(Wanted::all(vec![chosen(context, places, id)?])),
        (None, true, _) => Wanted::all(places.catalog.backups().iter().collect()),
        (None, false, Some(share)) => Wanted::share(places, share),
        (None, false, None) => return Ok(Wanted::all(vec![chosen(context, places, "latest")?])),
    };
    if places.stores.is_empty() && !places.unreadable.is_empty() {
        return Err(Failure::new(Exit::Failed, "no destination could be read"));
    }
    Ok(wanted)
}

/// What a schedule verifies at a time: little enough to be soon done, enough to come to all in time.
const SHARE_OF_A_ROUND: f64 = 10.0;

/// What a round came to.
pub(super) struct Round {
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
pub(super) fn round(
    config: &Config,
    destination: &str,
    stop: &AtomicBool,
    until: Timestamp,
    sign: impl Fn(),
) -> Result<Round, Failure> {
    let places = read_within(config, Some(destination), Limits::default())?;
    if let Some((name, error)) = places.unreadable.first() {
        return Err(Failure::new(Exit::Failed, format!("destination {name}: {error}")));
    }
    let run = Run {
        identities: identity::configured(config)?,
        memory: host::spare_memory(),
        host: host::host_name(),
        stop,
        must_record: true,
        places: &places,
    };
    let share = Share::percent(SHARE_OF_A_ROUND).expect("it is between 0 and 100");
    let wanted = Wanted {
        until: Some(until),
        ..Wanted::share(&places, share)
    };
    let mut document = Document::new();
    verify_each(&run, &wanted, |_, _| sign(), &mut document);
    let bad = document.checked.iter().filter(|checked| !checked.ok);
    Ok(Round {
        checked: document.checked.len(),
        wrong: bad
            .map(|bad| format!("{} is bad in {}", bad.id, bad.faults.join("; ")))
            .collect(),
        short: document
            .checked
            .iter()
            .filter_map(|checked| Some(format!("{} is proven less far: {}", checked.id, checked.note.as_ref()?)))
            .collect(),
        errors: document.errors,
    })
}

/// Verifies one after the other.
fn verify_each(run: &Run<'_>, wanted: &Wanted<'_>, mut at: impl FnMut(u64, u64), document: &mut Document) {
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
        let turn = match verify_one(run, backup, progress) {
            Ok(one) => document.take(run, backup, one),
            Err(Unchecked::Stopped) => {
                document.stopped_before = wanted.enough - read;
                return ControlFlow::Break(());
            }
            Err(Unchecked::Failed(failure)) => document.failed(backup, &failure),
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
    Failed(Failure),
}

/// A backup that was checked, and by whom.
struct One<'a> {
    manifest: Manifest,
    copies: Vec<Copy<'a>>,
    verified: Verified,
    now: Timestamp,
}

fn verify_one<'a>(run: &Run<'a>, backup: &'a Backup, progress: impl FnMut(u64)) -> Result<One<'a>, Unchecked> {
    let (manifest, _) = stores::manifest(run.places, backup).map_err(Unchecked::Failed)?;
    let copies = backup.copies.iter().filter_map(|copy| {
        Some(Copy {
            destination: &copy.destination,
            store: run.places.stores.get(&copy.destination)?,
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
    let verified = verify::verify(&job, progress).map_err(|Stopped| Unchecked::Stopped)?;
    Ok(One {
        manifest,
        copies,
        verified,
        now: host::now(),
    })
}

impl Document {
    fn new() -> Document {
        Document {
            schema: 1,
            checked: Vec::new(),
            gone: Vec::new(),
            errors: Vec::new(),
            stopped_before: 0,
            exit: Exit::Done,
        }
    }

    /// What the listing alone shows: documents that cannot be used, destinations that cannot be read.
    fn damaged(&mut self, places: &Destinations, all: bool) {
        for damaged in places.catalog.damaged() {
            self.errors.push(format!("{damaged}: {}", damaged.fault));
            if all && damaged.object.is_manifest() {
                self.exit = worse(self.exit, Exit::Damaged);
            }
        }
        for (name, error) in &places.unreadable {
            self.errors.push(format!("destination {name}: {error}"));
            self.exit = worse(self.exit, Exit::Partly);
        }
    }

    /// A backup whose manifest could not be had any more.
    fn failed(&mut self, backup: &Backup, failure: &Failure) -> Turn {
        match failure.exit {
            // Nothing is wrong with that.
            Exit::NotFound => {
                self.gone.push(backup.id().clone());
                Turn::Taken
            }
            exit => {
                self.errors.push(format!("{}: {}", backup.id(), failure.message()));
                self.exit = worse(self.exit, exit);
                Turn::Passed
            }
        }
    }

    /// Keeps the results of one backup, and takes them in.
    fn take(&mut self, run: &Run<'_>, backup: &Backup, one: One<'_>) -> Turn {
        let One {
            manifest,
            copies,
            verified,
            now,
        } = one;
        let depth = match run.identities.is_some() && verified.unopened.is_none() {
            true => Depth::Opened,
            false => Depth::Compared,
        };
        let is_unread = |found: &Found| matches!(found, Found::Unread(_));
        // One copy that cannot be read keeps the backup at the head of the queue.
        let turn = match verified.copies.iter().any(is_unread) {
            true => Turn::Passed,
            false => Turn::Taken,
        };
        let mut rows = Vec::new();
        for (copy, found) in copies.iter().zip(&verified.copies) {
            match verify::record(copy.store, &manifest, found, &run.host, now) {
                Ok(Recorded::Yes | Recorded::Nothing) => {}
                Err(error) => {
                    let name = copy.destination;
                    self.errors.push(format!(
                        "{} in destination {name}: {}",
                        backup.id(),
                        with_causes(&error)
                    ));
                    if run.must_record {
                        self.exit = worse(self.exit, Exit::Partly);
                    }
                }
            }
            rows.extend(self.row(backup, copy, found, depth));
        }
        if let Some(error) = &verified.unopened {
            let failure = source_failure(error, Some(&manifest));
            self.errors.push(failure.to_string());
            self.exit = worse(self.exit, failure.exit);
        }
        if rows.is_empty() {
            if verified.copies.iter().all(|found| matches!(found, Found::Gone)) {
                self.gone.push(backup.id().clone());
            }
            return turn;
        }
        self.checked.push(Checked {
            id: backup.id().clone(),
            ok: rows.iter().all(|row| row.ok),
            proof: rows.iter().map(|row| row.proof).max().unwrap_or(Proof::None),
            faults: rows
                .iter()
                .flat_map(|row| row.faults.iter().map(|fault| format!("{}: {fault}", row.name)))
                .collect(),
            note: verified.short_of,
            destinations: rows,
        });
        turn
    }

    fn row(&mut self, backup: &Backup, copy: &Copy<'_>, found: &Found, depth: Depth) -> Option<CheckedCopy> {
        let row = |ok, proof, faults: &[String]| CheckedCopy {
            name: copy.destination.to_owned(),
            ok,
            proof,
            faults: faults.to_vec(),
            depth,
        };
        match found {
            Found::Good(proof) => Some(row(true, *proof, &[])),
            Found::Wrong(faults) => {
                self.exit = worse(self.exit, Exit::Damaged);
                Some(row(false, Proof::None, faults))
            }
            Found::Gone => None,
            Found::Unread(error) => {
                let name = copy.destination;
                self.errors.push(format!(
                    "{} in destination {name} was not checked: {error}",
                    backup.id()
                ));
                self.exit = worse(self.exit, Exit::Partly);
                None
            }
        }
    }
}

/// Of two ends the one that must not be overlooked.
fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Damaged => 4,
        Exit::WrongKey => 3,
        Exit::Done => 0,
        Exit::Partly => 1,
        Exit::Failed | Exit::Usage | Exit::NotFound | Exit::Locked | Exit::Refused | Exit::Configuration => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn print(output: &Output, document: &Document, may_give_up: bool) {
    for checked in &document.checked {
        let id = &checked.id;
        for copy in &checked.destinations {
            let name = &copy.name;
            match copy.ok {
                true if copy.depth == Depth::Compared && copy.proof > Proof::Stored => output.line(format!(
                    "good  {id} in {name}: stored, unchanged since it was proven to be {}",
                    copy.proof
                )),
                true => output.line(format!("good  {id} in {name}: {}", copy.proof)),
                false => output.line(format!("BAD   {id} in {name}: {}", clean(&copy.faults.join("; ")))),
            }
        }
        // `prune` knows the configured stores alone.
        if !checked.ok && may_give_up {
            output.line(format!("      to give it up: `lifeboat prune --damaged {id}`"));
        }
        if let Some(note) = &checked.note {
            output.line(format!("      {}", clean(note)));
        }
    }
    for id in &document.gone {
        output.line(format!("gone  {id}: removed since it was listed, as retention does"));
    }
    if document.checked.is_empty() && document.gone.is_empty() && document.errors.is_empty() {
        output.line("there is no backup to verify");
    }
}
