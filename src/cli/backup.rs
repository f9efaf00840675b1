//! `lifeboat backup`: one full backup now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueHint;
use serde::Serialize;

use super::host::{self, failed};
use super::output::{Format, Output};
use super::progress::Bar;
use super::stores::{open_the_others, open_to_write, warn_of_unreadable};
use super::{Context, Exit, Failure, Interrupt, accept_lineage, user};
use crate::backup::{self, Error, Job, Outcome, Pace, Progress, full};
use crate::catalog::{Origin, Pinned, Writer};
use crate::config::{Config, Kind, MemberChoice};
use crate::destinations::{Destination, Destinations};
use crate::etcd::choose::{NoChoice, Wanted, choose, may_answer_yet};
use crate::etcd::{Access, Ahead, survey};
use crate::model::{ByteSize, ChainId, Revision, with_causes};
use crate::pipeline::Encoding;
use crate::state::{BegunChain, Holder, State};

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

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "expected a duration with a unit, such as 10m".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "expected a duration of 0 or more".to_owned())
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
    let config = host::configuration(context)?;
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
    user::settle()?;
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
    let mut destinations = read_and_sweep(context, &config, &state, &opened);
    opened.truncate(written_to);
    // What keeps the backup out of a destination is told at the end, once.
    let told_later = opened.iter().filter(|destination| destination.store.is_err());
    let told_later: Vec<String> = told_later.map(|destination| destination.name.clone()).collect();
    warn_of_unreadable(context, &destinations, &told_later);
    for damaged in destinations.catalog.damaged() {
        context.output.warn(format!("{damaged}: {}", damaged.fault));
    }
    let random = getrandom::u32().map_err(failed)?;
    let now = host::now();
    let chain = destinations.catalog.next_chain(now, random);
    let job = job(&config, &args, chain.clone(), access)?;
    let begun = state
        .begin_chain(&chain, &Holder::this("backup", now))
        .map_err(failed)?;
    let progress = Arc::new(Progress::default());
    let taken = take(context, &job, opened, &destinations, &progress, interrupt);
    end(begun, &taken, &progress);
    let mut outcome = taken.map_err(failure)?;
    take_in(&mut destinations, &outcome);
    accept_if_restored(context, &destinations, &mut outcome);
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
    let (wanted, members) = (wanted(config, args.member.as_deref())?, host::endpoints(config));
    let silent = async {
        loop {
            let surveyed = survey(&members, access, Ahead::Far).await;
            let candidates: Vec<_> = surveyed.into_iter().map(|member| member.candidate).collect();
            let Err(NoChoice::NoneAnswered { reasons }) = choose(&candidates, &wanted) else {
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
    /// What a schedule asks for: a backup to these destinations.
    pub(super) fn to(destinations: Vec<String>) -> Args {
        Args {
            schedule: None,
            to: destinations,
            member: None,
            wait: Duration::ZERO,
            pace: None,
            pin: false,
            note: None,
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

pub(super) fn job(config: &Config, args: &Args, chain: ChainId, access: Access) -> Result<Job, Failure> {
    let host = host::host_name();
    let run = format!("{:08x}", getrandom::u32().map_err(failed)?);
    Ok(Job {
        chain,
        cluster: config.cluster.name.clone(),
        members: host::endpoints(config),
        wanted: wanted(config, args.member.as_deref())?,
        access,
        hash_kv: config.backup.hash_kv,
        idle_timeout: config.backup.idle_timeout,
        finish_within: config.backup.finish_within,
        pace: args.pace.unwrap_or(config.backup.pace),
        encoding: Encoding {
            level: config.compression.level,
            threads: config.compression.threads,
            recipients: config.encryption.recipients.clone(),
            stall_limit: config.backup.idle_timeout,
        },
        origin: Origin::Manual,
        schedule: args.schedule.clone(),
        slot: None,
        note: args.note.clone(),
        pinned: if args.pin { Pinned::Yes } else { Pinned::No },
        writer: Writer {
            host: host.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run,
        },
        host,
        now: host::now,
    })
}

fn wanted(config: &Config, asked_for: Option<&str>) -> Result<Wanted, Failure> {
    let here = || host::this_host().map(|host| config.local_member(&host));
    let local = || {
        let local = here()?;
        match local.name() {
            Some(name) => Ok(Wanted::Named(name.to_string())),
            None => {
                Err(Failure::new(Exit::Failed, &local).next("set `[host] member`, or name a member with `--member`"))
            }
        }
    };
    match (asked_for, &config.backup.member) {
        (Some(name), _) if config.members.contains_key(name) => Ok(Wanted::Named(name.to_owned())),
        (Some("local"), _) | (None, MemberChoice::Local) => local(),
        // Refused with the names there are when a member is chosen.
        (Some(name), _) => Ok(Wanted::Named(name.to_owned())),
        (None, MemberChoice::Named(name)) => Ok(Wanted::Named(name.to_string())),
        (None, MemberChoice::Auto) => Ok(Wanted::Any {
            // Where that cannot be found out, no member is nearer than others.
            near: here().ok().and_then(|local| local.name().map(ToString::to_string)),
        }),
    }
}

/// Reads what was opened, which is all there is, and removes what runs of this host that died have left there, and what
/// nobody has answered for in a day.
pub(super) fn read_and_sweep(
    context: &Context,
    config: &Config,
    state: &State,
    opened: &[Destination],
) -> Destinations {
    let begun = state.begun();
    if let Err(error) = &begun {
        let why = with_causes(error);
        context
            .output
            .warn(format!("leavings of earlier runs are not removed: {why}"));
    }
    let begun = begun.ok();
    let read = Destinations::read(config.cluster.name.clone(), opened, begun.as_ref());
    for (name, swept) in &read.swept {
        match swept {
            Ok(swept) => {
                for left in swept {
                    let size = ByteSize(left.bytes);
                    context.output.detail(format!("{name}: removed {} ({size})", left.path));
                }
            }
            Err(error) => {
                let why = with_causes(error);
                context.output.warn(format!("{name}: leavings are not removed: {why}"));
            }
        }
    }
    // A run that is dead is forgotten once nothing of it is anywhere.
    let dead = begun.iter().flat_map(|begun| &begun.dead);
    for dead in dead.filter(|_| read.are_all_swept()) {
        if let Err(error) = state.forget_chain(dead) {
            context.output.warn(with_causes(&error));
        }
    }
    read
}

/// Takes the backup in where it was written.
pub(super) fn take_in(destinations: &mut Destinations, outcome: &Outcome) {
    let written = outcome.destinations.iter().filter(|written| written.result.is_ok());
    destinations.take_in(&outcome.manifest, written.map(|written| written.destination.as_str()));
}

fn take(
    context: &Context,
    job: &Job,
    to: Vec<Destination>,
    destinations: &Destinations,
    progress: &Arc<Progress>,
    interrupt: Interrupt,
) -> Result<Outcome, Error> {
    context.runtime.block_on(async {
        let watcher = tokio::spawn(watch(context.output, progress.clone()));
        let gives_way = async {
            tokio::select! {
                () = interrupt.raised() => {}
                () = super::restore_opened() => {}
            }
        };
        let outcome = full(job, to, &destinations.catalog, progress, gives_way).await;
        watcher.abort();
        // Wait until it is gone, so that no bar is drawn over the result.
        drop(watcher.await);
        outcome
    })
}

/// Accepts the history of the backup where a restore has opened it; says what keeps it from that.
pub(super) fn accept_if_restored(context: &Context, destinations: &Destinations, outcome: &mut Outcome) {
    if outcome.unaccepted.is_none() {
        return;
    }
    match accept_lineage::by_restore(destinations, &outcome.manifest) {
        None => {}
        Some(Ok(done)) => {
            outcome.unaccepted = None;
            context.output.detail(done);
        }
        Some(Err(why)) => outcome.warnings.push(format!(
            "the history that a restore has opened is not accepted yet ({why}): the next backup tries again"
        )),
    }
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

/// Forgets the chain when nothing of it is left to sweep: it is a backup everywhere, was begun nowhere, or was taken
/// back.
pub(super) fn end(begun: BegunChain, taken: &Result<Outcome, Error>, progress: &Progress) {
    let leaves_nothing = match taken {
        Ok(outcome) => outcome.destinations.iter().all(|written| written.result.is_ok()),
        Err(Error::Interrupted { left }) if left.is_empty() => true,
        Err(_) => !progress.has_written(),
    };
    if leaves_nothing {
        // Should it fail, the next run finds nothing to sweep and forgets it then.
        drop(begun.finish());
    }
}

fn failure(error: Error) -> Failure {
    let text = with_causes(&error);
    match &error {
        Error::NoMember(NoChoice::Unknown { .. }) => Failure::new(Exit::Usage, text),
        Error::NoMember(NoChoice::SeveralClusters { .. }) => Failure::new(Exit::Refused, text)
            .next("correct [members], or name the one that is meant with `--member NAME`"),
        Error::NoMember(NoChoice::NoneAnswered { .. }) => Failure::new(Exit::Failed, text)
            .next("`lifeboat check --online` tries every member; [members], [cluster.tls] and [cluster.auth] say where and how"),
        Error::Etcd(crate::etcd::Error::Denied { .. }) => {
            Failure::new(Exit::Failed, text).next("a snapshot needs a user with the role root in [cluster.auth]")
        }
        Error::Etcd(_) | Error::Slow { .. } => {
            Failure::new(Exit::Failed, text).next("nothing was kept; try again, or another member with `--member NAME`")
        }
        Error::Content { .. } => Failure::new(Exit::Damaged, text)
            .next("nothing was kept; try another member with `--member NAME` and look at this one's disk and log"),
        Error::NoDestination(_) => {
            Failure::new(Exit::Failed, text).next("when the cause is gone: `lifeboat check --online` tries every destination")
        }
        Error::Encode(_) | Error::Interrupted { .. } => Failure::new(Exit::Failed, text),
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
