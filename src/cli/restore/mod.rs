//! `lifeboat restore`: this host's etcd gets the data of a backup.

mod report;
mod resume;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::arguments::{From, IdentityArgs, SourceArgs, WindowArgs};
use super::host::{self, failed};
use super::{Context, Exit, Failure};
use crate::config::{self, Config};
use crate::datadir::InitialCluster;
use crate::durable::{self, room_at};
use crate::error_chain::with_causes;
use crate::etcd::PeerPort;
use crate::health::Level;
use crate::jobs::rebuild::refused_by;
use crate::jobs::restore::{Here, failure, finding, leave_session, refuse_running, refused_here, settings_now};
use crate::jobs::source::Found;
use crate::model::ByteSize;
use crate::rebuild::{self, DigestRule, Progress};
use crate::restore::{
    Error, Ledger, LedgerPaths, LedgerStore, Nonce, Outcome, OverDbus, Patience, Plan, PlanError, Presence,
    RESUME_UNIT, RestoreId, Run, Step, Tools, Units, Wanted, Wish, decide_bump, look_around, open_ledger,
};
use crate::terminal::{Bar, ask, need_somebody};

pub(super) use report::not_revived;

/// Give this host's etcd the data of a backup
///
/// The new data is made and checked beside the old while etcd runs. Only then etcd is stopped, old and new change places,
/// and etcd starts as a member of a new cluster. If it fails its health check, everything is rolled back by itself. The old
/// data is kept until `lifeboat release`; `lifeboat rollback` brings it back.
///
/// On several hosts, run the same command on each: the same backup and the same [members] make one cluster. A member that
/// waits for the others is no failure; the rest is done in the background.
#[derive(clap::Args)]
#[command(
    override_usage = "lifeboat restore [OPTIONS] SOURCE\n       lifeboat restore [OPTIONS] --wait",
    after_help = "Examples:\n  lifeboat restore latest --identity backup-key.txt --dry-run\n  \
    lifeboat restore latest --identity backup-key.txt\n  \
    lifeboat restore ./full.db.zst.age --identity backup-key.txt --yes\n  lifeboat restore --wait"
)]
pub struct Args {
    /// A backup's ID or a unique beginning of one, `latest`, a file (anything with a `/`), or `-`; none with --wait to
    /// finish the restore that is open
    #[arg(value_name = "SOURCE", required_unless_present_any = ["wait", "resume"])]
    source: Option<String>,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    pub(super) from: From,
    /// The new cluster's token, which was never used before; the same on every host. The members do not meet then: each
    /// starts by itself
    #[arg(long, value_name = "TOKEN")]
    cluster_token: Option<String>,
    /// Members of the new cluster, `name=URL` on each line, instead of [members]; the same on every host
    #[arg(long, value_name = "FILE")]
    members: Option<PathBuf>,
    /// Leave out this member, which is gone for good; the same on every host
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// Accept a source without a SHA-256 at its end, such as a copied member/snap/db
    #[arg(long)]
    skip_hash_check: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until the other members have come and the cluster serves
    #[arg(long)]
    wait: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Go on although members of another cluster run: such as have lost their quorum, or are none of the new cluster
    #[arg(long)]
    despite_running_members: bool,
    /// Take up the restore that is open (for the unit that does so)
    #[arg(long, hide = true, conflicts_with_all = ["source", "dry_run"])]
    resume: bool,
}

impl Args {
    /// Whether it does more than to look.
    pub fn changes_something(&self) -> bool {
        !self.dry_run
    }
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match (&args.source, args.resume) {
        (Some(source), false) => begin(context, &args, source),
        (Some(_) | None, _) => resume::finish(context, &args),
    }
}

fn begin(context: &Context, args: &Args, source: &str) -> Result<Exit, Failure> {
    let interrupted = super::interrupted_flag(context);
    let ledger_paths = LedgerPaths::default();
    match args.dry_run {
        true => may_be_unseen(context, refuse_open(&ledger_paths))?,
        false => {
            need_root("restore")?;
            need_somebody(args.yes, "restore")?;
            refuse_open(&ledger_paths)?;
        }
    }
    let config = optional_configuration(context, args, source)?;
    let here = Here::find(context.runtime.handle(), config.as_ref())?;
    let members = finding::members(args.members.as_deref(), config.as_ref(), &here.etcd.settings)?;
    let members = members
        .without(&args.without)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let wanted = Wanted {
        member: &here.member(config.as_ref(), &members)?,
        members: &members,
        token: args.cluster_token.as_deref(),
        despite: args.despite_running_members,
    };
    refuse_running(
        context.runtime.handle(),
        &context.output,
        config.as_ref(),
        &here,
        &wanted,
    )?;
    let of_unit = identity_of_unit().filter(|_| !args.identity.is_given());
    let identity = of_unit.clone().map_or_else(|| args.identity.clone(), IdentityArgs::of);
    let found = SourceArgs::of(source, identity, args.window, args.from.clone()).find(context);
    let found = found.map_err(|failure| match (failure.exit, &of_unit) {
        (Exit::WrongKey, Some(_)) => failure.next(
            "put the key that opens the backups into /etc/lifeboat/identity, or name it with `LoadCredential=identity:…` in \
             a drop-in",
        ),
        _ => failure,
    })?;
    let found = match (source, args.dry_run) {
        ("-", false) => found.spooled(&ledger_paths.folder)?,
        (_, _) => found,
    };
    let planned = plan(
        context,
        args,
        config.as_ref(),
        &here,
        &found,
        members.clone(),
        &interrupted,
    )?;
    let free = free_bytes(&planned.plan.host.site.data_dir);
    let ready = here.etcd.refuse_unready(&planned.plan, free).map_err(refused_here);
    match args.dry_run {
        true => may_be_unseen(context, ready)?,
        false => ready?,
    }
    if args.dry_run {
        refuse_disagreement(&look_for_others(context, &planned.plan, &here)())?;
    }
    let keys = found.manifest.as_ref().and_then(|manifest| manifest.keys);
    if args.dry_run {
        report::plan(&context.output, &planned.plan, &here, keys);
        return Ok(Exit::Done);
    }
    match args.yes {
        true => report::over_quota(&planned.plan)
            .iter()
            .for_each(|over| context.output.warn(over)),
        false => {
            report::plan(&context.output, &planned.plan, &here, keys);
            ask("stop etcd and restore?")?;
        }
    }
    leave_session(context.runtime.handle(), &context.output, &here.systemd, "restore");
    carry_out(context, args, &here, &found, planned, &interrupted)
}

/// What the ledger begins with.
struct Planned {
    plan: Plan,
    ledger: Ledger,
}

fn plan(
    context: &Context,
    args: &Args,
    config: Option<&Config>,
    here: &Here,
    found: &Found,
    members: InitialCluster,
    interrupted: &AtomicBool,
) -> Result<Planned, Failure> {
    here.etcd.refuse_other_ways().map_err(refused_here)?;
    let backup = finding::backup(&context.output, found, digest_rule(args), interrupted)?;
    let member = here.member(config, &members)?;
    let etcd_line = config.and_then(|config| config.host.etcd_version);
    let mut site = here.etcd.site(&member, etcd_line).map_err(refused_here)?;
    if here.etcd.is_up {
        site.etcd_version = finding::version_here(context.runtime.handle(), here);
    }
    let restore = config.map(|config| config.restore).unwrap_or_default();
    let bump = decide_bump(restore.bump_revision);
    let id = RestoreId::new(host::now(), getrandom::u32().map_err(failed)?);
    let wish = Wish {
        id,
        backup,
        members,
        bump,
        token: args.cluster_token.clone(),
        nonce: Nonce(durable::random::<16>().map_err(failed)?),
        in_place: here.etcd.in_place().map_err(refused_here)?,
        site,
        health_timeout: restore.health_timeout,
    };
    let plan = Plan::new(wish).map_err(|error| match error {
        PlanError::InPlace { .. } => Failure::new(Exit::Refused, &error).next(
            "give a token that was never used before, on every host, or none: then the members meet and find one",
        ),
        PlanError::Members(_) | PlanError::Token { .. } => Failure::new(Exit::Usage, &error),
    })?;
    let (overlay, stale) = here.etcd.files(&plan).map_err(refused_here)?;
    let plan = plan.with_settings(overlay, stale);
    if plan.has_to_meet() {
        let listens = PeerPort::check(&plan.host.site.listen_peer_urls, &here.access.peer);
        listens.map_err(|error| {
            Failure::new(Exit::Refused, with_causes(&error)).next(
                "the members meet at their peer addresses: mend that, or give a token that was never used before on every \
                 host, with --cluster-token",
            )
        })?;
    }
    let guard = here.etcd.guard(&plan, &LedgerPaths::default());
    let ledger = Ledger::new(plan.clone(), guard, host::now());
    Ok(Planned { plan, ledger })
}

fn carry_out(
    context: &Context,
    args: &Args,
    here: &Here,
    found: &Found,
    planned: Planned,
    interrupted: &AtomicBool,
) -> Result<Exit, Failure> {
    let units = OverDbus::new(&here.systemd, context.runtime.handle());
    let bar = Bar::new(&context.output, "restore");
    let listener = |step: Step| {
        bar.now(step.words());
        context.output.copy(Level::Info, step.words());
        ControlFlow::Continue(())
    };
    let stop = || interrupted.load(Ordering::Relaxed);
    let tools = Tools {
        units: &units,
        access: &here.access,
        runtime: context.runtime.handle(),
        now: host::now,
        listener: &listener,
        stop: &stop,
        tell: &|words| context.output.detail(words),
    };
    let ledger_store = LedgerStore::open(LedgerPaths::default()).map_err(|error| failure(error.into()))?;
    let mut run = Run::begin(ledger_store, planned.ledger, tools).map_err(failure)?;
    let bytes = planned.plan.cluster.backup.bytes;
    let built = build_while_looking(look_for_others(context, &planned.plan, here), |is_refused| {
        let progress = |progress: Progress| {
            match progress {
                Progress::Reading { bytes: read } => bar.at(read, bytes),
                Progress::Checking => bar.now("checking"),
                Progress::Publishing => {}
            }
            match stop() || is_refused() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        found.with_each(
            &context.output,
            |source, _| run.build(source, digest_rule(args), &progress),
            rebuild::Error::is_fault_of_source,
            |error| refused_by(&error, found.manifest.as_ref()),
        )
    });
    if let Err(refused) = built {
        run.abandon(refused.message()).map_err(failure)?;
        return Err(refused);
    }
    let patience = match args.wait {
        true => Patience::Healthy,
        false => Patience::Started,
    };
    let outcome = run.go(patience).map_err(failure)?;
    bar.clear();
    let to_change = settings_now(context.runtime.handle(), &context.config, &run.ledger().plan).to_change;
    let exit = report::outcome(&context.output, &run, &outcome, &to_change);
    drop(run);
    if let Outcome::Waiting { .. } = outcome {
        finish_in_background(context, &units);
    }
    Ok(broken_off(&outcome, exit?, stop()))
}

/// Whoever is told to stop before etcd was seen to be as it was waited for has not done what was asked; otherwise, a member
/// that waits for others is as far as one goes alone.
fn broken_off(outcome: &Outcome, exit: Exit, is_told_to_stop: bool) -> Exit {
    match (outcome, is_told_to_stop) {
        (Outcome::Waiting { .. }, true) => Exit::Failed,
        (Outcome::Waiting { .. }, false) | (Outcome::Restored | Outcome::Undone { .. }, _) => exit,
    }
}

/// Somebody has to see the others come, and close the ledger then.
fn finish_in_background(context: &Context, units: &OverDbus<'_>) {
    if let Err(error) = units.start(RESUME_UNIT) {
        context.output.warn(format!(
            "{RESUME_UNIT} does not start ({error}): when the other members are there, run `lifeboat restore --wait`"
        ));
    }
}

/// The key that systemd has brought along, where this runs as a unit of ours.
fn identity_of_unit() -> Option<PathBuf> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    let path = PathBuf::from(folder).join("identity");
    path.is_file().then_some(path)
}

/// The configuration; what names its store or file itself goes without one.
fn optional_configuration(context: &Context, args: &Args, source: &str) -> Result<Option<Config>, Failure> {
    let is_named = args.from.is_given() || source == "-" || source.contains('/');
    match config::load(&context.config) {
        Err(config::Error::Missing { .. } | config::Error::Blank { .. }) if is_named => Ok(None),
        _ => host::configuration(context).map(Some),
    }
}

fn digest_rule(args: &Args) -> DigestRule {
    match args.skip_hash_check {
        true => DigestRule::Skipped,
        false => DigestRule::Required,
    }
}

fn refuse_open(ledger_paths: &LedgerPaths) -> Result<(), Failure> {
    let open = open_ledger(ledger_paths).map_err(|error| failure(error.into()))?;
    match open {
        None => Ok(()),
        // Whoever builds has the lock; what a dead run left is removed.
        Some(open) if open.touched_nothing() => Ok(()),
        Some(open) => Err(failure(Error::Open {
            id: open.id().clone(),
            step: open.step,
        })),
    }
}

/// Looks how the other members are, for which they are given a moment; nobody where nobody has to meet.
fn look_for_others(
    context: &Context,
    plan: &Plan,
    here: &Here,
) -> impl FnOnce() -> BTreeMap<String, Presence> + Send + use<> {
    let (plan, access, runtime) = (plan.clone(), here.access.clone(), context.runtime.handle().clone());
    // Whoever cannot be asked is missed, and says why, when they meet.
    move || match plan.has_to_meet() {
        true => look_around(&plan, &access, &runtime).unwrap_or_default(),
        false => BTreeMap::new(),
    }
}

/// Refuses where a host that waits already restores something else, or waits for an earlier restore of this host: nothing
/// would come of it.
fn refuse_disagreement(around: &BTreeMap<String, Presence>) -> Result<(), Failure> {
    let disagrees = around
        .iter()
        .filter(|(_, presence)| matches!(presence, Presence::Differs(_) | Presence::Elsewhere));
    let words: Vec<String> = disagrees.map(|(name, presence)| presence.words(name)).collect();
    match words.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Refused, words.join("; "))),
    }
}

/// Builds while it is looked how the others are. The build, which takes longer, is asked to leave off as soon as one of them
/// disagrees, and that is why it did.
fn build_while_looking<T>(
    look: impl FnOnce() -> BTreeMap<String, Presence> + Send,
    build: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let is_refused = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let agreed = refuse_disagreement(&look());
            is_refused.store(agreed.is_err(), Ordering::Relaxed);
            agreed
        });
        let built = build(&|| is_refused.load(Ordering::Relaxed));
        looking.join().expect("a panic aborts the process")?;
        built
    })
}

/// For whoever only looks: what only root may see keeps nobody from the rest, and is said.
fn may_be_unseen(context: &Context, seen: Result<(), Failure>) -> Result<(), Failure> {
    match seen {
        Err(failure) if failure.exit == Exit::Failed && !nix::unistd::geteuid().is_root() => {
            let what = failure.message().to_owned();
            context
                .output
                .warn(format!("not all could be seen without being root: {what}"));
            Ok(())
        }
        seen => seen,
    }
}

/// Refuses whoever is not root.
pub(super) fn need_root(command: &str) -> Result<(), Failure> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Failed,
            format!("`{command}` stops and starts etcd and changes its data: only root may"),
        )
        .next(format!("run it again as `sudo lifeboat {command} …`"))),
    }
}

/// How much room is left where a directory is or will be.
fn free_bytes(path: &std::path::Path) -> Option<ByteSize> {
    Some(ByteSize(room_at(path)?.available))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_build_leaves_off_as_soon_as_another_host_is_seen_to_disagree() {
        let broken_off = || Failure::new(Exit::Failed, "interrupted");
        let until_told = |is_refused: &dyn Fn() -> bool| {
            let began = Instant::now();
            while !is_refused() {
                assert!(began.elapsed() < Duration::from_secs(30), "nobody tells it");
                std::thread::sleep(Duration::from_millis(1));
            }
            Err::<(), _>(broken_off())
        };
        let around = |presence| move || BTreeMap::from([("m2".to_owned(), presence)]);
        for disagrees in [Presence::Differs(vec!["backup b".to_owned()]), Presence::Elsewhere] {
            let words = disagrees.words("m2");
            let refused = build_while_looking(around(disagrees), until_told).unwrap_err();
            assert_eq!((refused.exit, refused.message()), (Exit::Refused, words.as_str()));
        }
        // Whoever is only not there yet stops nobody, and what else fails is told as it is.
        for well in [Presence::Missing, Presence::Present] {
            let look = around(well);
            assert_eq!(build_while_looking(look.clone(), |_| Ok(1)).unwrap(), 1);
            let failed = build_while_looking(look, |_| Err::<(), _>(broken_off())).unwrap_err();
            assert_eq!(failed.message(), "interrupted");
        }
    }

    #[test]
    fn a_run_that_is_told_to_stop_while_it_waits_has_not_done_what_was_asked() {
        let waiting = Outcome::Waiting { there: 0 };
        assert_eq!(broken_off(&waiting, Exit::Done, true), Exit::Failed);
        assert_eq!(broken_off(&waiting, Exit::Done, false), Exit::Done);
        assert_eq!(broken_off(&Outcome::Restored, Exit::Done, true), Exit::Done);
    }
}
