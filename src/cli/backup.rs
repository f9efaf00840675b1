//! `lifeboat backup`: one full backup now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueHint;
use serde::Serialize;

use super::arguments::duration;
use super::host::{self, failed};
use super::{Context, Exit, Failure, Interrupt};
use crate::backup::{self, Error, Job, Outcome, Pace, Progress};
use crate::catalog::Pinned;
use crate::config::{Config, Kind};
use crate::destinations::{Destination, Destinations};
use crate::error_chain::with_causes;
use crate::etcd::choose::{NoChoice, choose, may_answer_yet};
use crate::etcd::{Access, Ahead, survey};
use crate::jobs;
use crate::jobs::backup::{Request, read_and_sweep};
use crate::jobs::give_way::{restore_opened, stop_for_restore};
use crate::jobs::stores::{open_the_others, open_to_write, warn_of_unreadable};
use crate::layout::Origin;
use crate::model::{ByteSize, ChainId, Revision};
use crate::state::{BegunChain, Holder};
use crate::terminal::{Bar, Format, Output};

/// Take one full backup now and print its id
///
/// Asks a healthy follower where there is one, the leader otherwise. Nothing but ciphertext is written. The backup
/// exists when its manifest does: after etcd's digest matched and the stored bytes were read back from the disk.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat backup\n  lifeboat backup --to local --member m2 --pin --note 'before the upgrade'"
)]
pub struct Args {
    /// To the destinations of this schedule of full backups
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other, conflicts_with = "to")]
    schedule: Option<String>,
    /// Only to these destinations; may be given several times
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other, value_delimiter = ',')]
    to: Vec<String>,
    /// Ask this member and no other; `local` is the one on this host
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    member: Option<String>,
    /// Wait this long for a member to answer, and for another run, or a restore, to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    wait: Duration,
    /// How fast etcd is read from, instead of `backup.pace`: auto, off or such as `100 MiB/s`
    #[arg(long, value_name = "PACE")]
    pace: Option<Pace>,
    /// Exclude the backup from retention
    #[arg(long)]
    pin: bool,
    /// Words to keep with it
    #[arg(long, value_name = "TEXT", value_hint = ValueHint::Other)]
    note: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    id: &'a ChainId,
    chain: &'a ChainId,
    revision: Revision,
    bytes: u64,
    stored_bytes: u64,
    seconds: f64,
    new_lineage: bool,
    destinations: Vec<DestinationDocument<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct DestinationDocument<'a> {
    name: &'a str,
    ok: bool,
    error: Option<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration_and_doubts(context)?;
    if config.has_sample_recipient() {
        return Err(Failure::new(
            Exit::Configuration,
            "the recipient is the sample's: nobody could open the backup",
        )
        .next(
            "make a key with `lifeboat keygen --identity FILE` and put what it prints into [encryption] recipients",
        ));
    }
    // Before anything is made, so that a secret that is missing leaves nothing.
    let access = host::access(&config)?;
    let state = host::state(&config.cluster.name)?;
    host::settle()?;
    // From here on it is listened to; what hangs in a store before the first await ends at the second signal.
    let interrupt = super::listen(context);
    let begun = Instant::now();
    wait_for_member(context, &config, &args, &access, &interrupt)?;
    let _lock = host::jobs_lock(&state, "backup", args.wait.saturating_sub(begun.elapsed()))?;
    let to = wanted_destinations(&config, &args)?;
    let mut opened = open_to_write(&config, &state, &to)?;
    let written_to = opened.len();
    // A history goes on in all destinations, also in those that this backup does not go to.
    opened.extend(open_the_others(&config, &state, &opened));
    let mut destinations = read_and_sweep(&context.output, &config, &state, &opened);
    opened.truncate(written_to);
    // What keeps the backup out of a destination is told at the end, once.
    let told_later = opened.iter().filter(|destination| destination.store.is_err());
    let told_later: Vec<String> = told_later.map(|destination| destination.name.clone()).collect();
    warn_of_unreadable(&context.output, &destinations, &told_later);
    for damaged in destinations.catalog.damaged() {
        context.output.warn(format!("{damaged}: {}", damaged.fault));
    }
    let random = getrandom::u32().map_err(failed)?;
    let now = host::now();
    let chain = destinations.catalog.next_chain(now, random);
    let job = jobs::backup::job(&config, args.request(), chain.clone(), access)?;
    let begun = state
        .begin_chain(&chain, &Holder::this("backup", now))
        .map_err(failed)?;
    let other_recipients = jobs::recipients::changed_since(&context.output, &config, &state, &destinations);
    let stop = interrupt.flag.clone();
    let taken = take(context, &job, opened, &mut destinations, begun, interrupt);
    let mut outcome = taken.map_err(jobs::backup::failure)?;
    outcome.warnings.extend(other_recipients);
    jobs::copy::bring_to_slow(&mut destinations, &mut outcome, &stop, &|_| stop_for_restore(&stop));
    report(&context.output, &outcome, &destinations);
    match outcome.destinations.iter().all(|written| written.result.is_ok()) {
        true => Ok(Exit::Done),
        false => Ok(Exit::Partly),
    }
}

/// How often it is asked whether a member answers.
const LOOK_FOR_MEMBER_EVERY: Duration = Duration::from_millis(500);

/// Returns when a member answers that may be asked, none can without a change, or the time is over: then the backup itself says what is wrong.
fn wait_for_member(
    context: &Context,
    config: &Config,
    args: &Args,
    access: &Access,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    if args.wait.is_zero() {
        return Ok(());
    }
    let (wanted, members) = (
        jobs::backup::wanted(config, args.member.as_deref())?,
        host::endpoints(config),
    );
    let silent = async {
        loop {
            let surveyed = survey(&members, access, Ahead::Far).await;
            let candidates: Vec<_> = surveyed.into_iter().map(|member| member.candidate).collect();
            let Err(NoChoice::NoneAnswered { reasons }) = choose(&candidates, &wanted, &[]) else {
                return;
            };
            if !may_answer_yet(&candidates, &wanted) {
                return;
            }
            context
                .output
                .detail(format!("waiting for a member to answer: {}", reasons.join("; ")));
            tokio::time::sleep(LOOK_FOR_MEMBER_EVERY).await;
        }
    };
    context.runtime.block_on(async {
        tokio::select! {
            answered = tokio::time::timeout(args.wait, silent) => {
                answered.ok();
                Ok(())
            }
            () = interrupt.clone().raised() => Err(Failure::new(Exit::Failed, "interrupted; nothing was kept")),
        }
    })
}

impl Args {
    fn request(&self) -> Request {
        Request {
            origin: Origin::Manual,
            schedule: self.schedule.clone(),
            slot: None,
            member: self.member.clone(),
            pace: self.pace,
            pinned: if self.pin { Pinned::Yes } else { Pinned::No },
            note: self.note.clone(),
        }
    }
}

/// The destinations that were asked for; none where all are meant.
fn wanted_destinations(config: &Config, args: &Args) -> Result<Vec<String>, Failure> {
    let Some(name) = &args.schedule else {
        return Ok(args.to.clone());
    };
    let of_kind = config
        .schedules
        .iter()
        .filter(|(_, schedule)| schedule.kind == Kind::Full);
    if let Some((_, schedule)) = of_kind.clone().find(|(known, _)| known.as_str() == name) {
        return Ok(schedule.destinations.iter().map(ToString::to_string).collect());
    }
    let known: Vec<&str> = of_kind.map(|(name, _)| name.as_str()).collect();
    let next = match known.is_empty() {
        true => "there is none: name destinations with `--to`".to_owned(),
        false => format!("one of: {}", known.join(", ")),
    };
    Err(Failure::new(
        Exit::Usage,
        format!("no schedule `{name}` of full backups is configured"),
    )
    .next(next))
}

fn take(
    context: &Context,
    job: &Job,
    to: Vec<Destination>,
    destinations: &mut Destinations,
    begun: BegunChain,
    interrupt: Interrupt,
) -> Result<Outcome, Error> {
    let progress = Arc::new(Progress::default());
    context.runtime.block_on(async {
        let watcher = tokio::spawn(watch(context.output, progress.clone()));
        let gives_way = async {
            tokio::select! {
                () = interrupt.raised() => {}
                () = restore_opened() => {}
            }
        };
        let outcome = jobs::backup::take(&context.output, job, to, destinations, begun, &progress, gives_way).await;
        watcher.abort();
        // Wait until it is gone, so that no bar is drawn over the result.
        drop(watcher.await);
        outcome
    })
}

async fn watch(output: Output, progress: Arc<Progress>) {
    let bar = Bar::new(&output, "snapshot");
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (received, total) = progress.bytes();
        bar.at(received, total);
        if progress.is_streamed() {
            bar.now("reading back");
        }
    }
}

fn report(output: &Output, outcome: &Outcome, destinations: &Destinations) {
    let manifest = &outcome.manifest;
    for written in &outcome.destinations {
        if let Err(error) = &written.result {
            output.warn(format!(
                "destination {} does not have it: {}",
                written.destination,
                with_causes(error)
            ));
        }
    }
    if let Some(unaccepted) = &outcome.unaccepted {
        output.alarm(unaccepted);
    }
    if let (true, Some((unread, _))) = (
        manifest.lineage.is_opened_by(&manifest.chain),
        destinations.unreadable.first(),
    ) {
        output.alarm(format!(
            "this backup opens lineage {}, but destination {unread} could not be read: the history may have begun there",
            manifest.lineage
        ));
    }
    for warning in &outcome.warnings {
        output.warn(warning);
    }
    let hash_kv = match (&manifest.hash_kv, &manifest.hash_kv_reason) {
        (Some(hash), _) => format!("HashKV {} recorded", hash.hash),
        (None, Some(reason)) => format!("no HashKV: {reason}"),
        (None, None) => "no HashKV".to_owned(),
    };
    output.detail(format!(
        "revision {} of {} ({}), {} stored as {} in {}; {hash_kv}",
        manifest.to_revision,
        manifest.member.name,
        manifest.etcd_version,
        ByteSize(manifest.plain.bytes),
        ByteSize(manifest.stored.bytes),
        took(outcome.took),
    ));
    match output.format {
        Format::Text => output.line(manifest.chain.as_str()),
        Format::Json => output.json(&document(outcome)),
    }
}

/// How long it took, with a digit that is not 0.
fn took(took: Duration) -> String {
    match took.as_millis() {
        millis @ ..1000 => format!("{} ms", millis.max(1)),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}

fn document(outcome: &Outcome) -> Document<'_> {
    let manifest = &outcome.manifest;
    let destination = |written: &'_ backup::Written| -> (bool, Option<String>) {
        let error = written.result.as_ref().err();
        (error.is_none(), error.map(|error| with_causes(error)))
    };
    Document {
        schema: 1,
        id: &manifest.chain,
        chain: &manifest.chain,
        revision: manifest.to_revision,
        bytes: manifest.plain.bytes,
        stored_bytes: manifest.stored.bytes,
        seconds: outcome.took.as_secs_f64(),
        new_lineage: outcome.opening.is_some(),
        destinations: outcome
            .destinations
            .iter()
            .map(|written| {
                let (ok, error) = destination(written);
                let name = &written.destination;
                DestinationDocument { name, ok, error }
            })
            .collect(),
        warnings: &outcome.warnings,
    }
}
