//! A restore that begins: what is here, what is restored, whether it may be; then the new data, and the exchange.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::errors::{failure, refused_here};
use super::find_etcd::settings_now;
use super::first_backup::FirstBackup;
use super::running_members::refuse_running;
use super::this_host::Here;
use super::warnings::told_of_quota;
use super::{Ended, restore_source};
use crate::config::Config;
use crate::datadir::InitialCluster;
use crate::durable::{self, room_at};
use crate::error_chain::with_causes;
use crate::etcd::PeerPort;
use crate::health::first_problem;
use crate::jobs::inspect::refuse_living;
use crate::jobs::rebuild::refused_by;
use crate::jobs::source::{self, Found};
use crate::jobs::{Exit, Failure, Listener, configuration, failed, host};
use crate::model::ByteSize;
use crate::rebuild::{self, DigestRule, Progress, Rewrite};
use crate::restore::{
    Error, Ledger, LedgerPaths, LedgerStore, Nonce, OverDbus, OverQuota, Patience, Plan, PlanError, Presence,
    RESUME_UNIT, RestoreId, Run, Step, Tools, Units, Wanted, Wish, decide_bump, look_around, open_ledger,
    refuse_other_ways, refuse_unready,
};
use crate::systemd::Systemd;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What is restored, and what opens it.
    pub source: source::Asked<'a>,
    /// A file with the members of the new cluster, instead of the configured ones.
    pub members: Option<&'a Path>,
    /// Members that are gone for good.
    pub without: &'a [String],
    /// The token of the new cluster, where the members are not to meet.
    pub token: Option<&'a str>,
    /// Whether a source needs a digest at its end.
    pub digest: DigestRule,
    /// Whether the backup's pages are kept; where they are asked to be, but for a database that would be over its quota.
    pub rewrite: Rewrite,
    /// Whether members of another cluster may run.
    pub despite_running_members: bool,
    /// Whether it is only looked what would be done.
    pub dry_run: bool,
}

/// A restore that may begin.
pub struct Prepared {
    /// This host.
    pub here: Here,
    /// What is going to be done.
    pub plan: Plan,
    /// How many keys the backup has, if that is recorded.
    pub keys: Option<u64>,
    found: Found,
    digest: DigestRule,
    ledger: Ledger,
}

/// Finds out all that has to be known, and refuses what would go wrong. Changes nothing.
pub fn prepare(
    asked: &Asked<'_>,
    listener: &dyn Listener,
    runtime: &Handle,
    interrupted: &AtomicBool,
) -> Result<Prepared, Failure> {
    restore_source::refuse_data_dir(asked.source.source)?;
    refuse_living(asked.source.source)?;
    let ledger_paths = LedgerPaths::default();
    match asked.dry_run {
        true => may_be_unseen(listener, refuse_open(&ledger_paths))?,
        false => refuse_open(&ledger_paths)?,
    }
    let config = optional_configuration(listener, &asked.source)?;
    let here = Here::find(runtime, config.as_ref())?;
    let members = restore_source::members(asked.members, config.as_ref(), &here.etcd.settings)?;
    let members = members
        .without(asked.without)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let wanted = Wanted {
        member: &here.member(config.as_ref(), &members)?,
        members: &members,
        token: asked.token,
        despite: asked.despite_running_members,
    };
    refuse_running(runtime, listener, config.as_ref(), &here, &wanted)?;
    let of_unit = identity_of_unit().filter(|_| asked.source.key_files.is_empty());
    let source = source::Asked {
        key_files: of_unit.as_ref().map_or(asked.source.key_files, std::slice::from_ref),
        ..asked.source
    };
    let found = source.find(listener).map_err(|failure| match (failure.exit, &of_unit) {
        (Exit::WrongKey, Some(_)) => failure.next(
            "put the key that opens the backups into /etc/lifeboat/identity, or name it with `LoadCredential=identity:…` in \
             a drop-in",
        ),
        _ => failure,
    })?;
    let found = match (asked.source.source, asked.dry_run) {
        ("-", false) => found.spooled(&ledger_paths.folder)?,
        (_, _) => found,
    };
    let told = (listener, runtime);
    let planned = plan(
        asked,
        told,
        config.as_ref(),
        &here,
        &found,
        members.clone(),
        interrupted,
    )?;
    let free = free_bytes(&planned.plan.host.site.data_dir);
    let ready = refuse_unready(&here.etcd.unit, here.etcd.is_up, &planned.plan, free).map_err(refused_here);
    match asked.dry_run {
        true => may_be_unseen(listener, ready)?,
        false => ready?,
    }
    if asked.dry_run {
        refuse_disagreement(&look_for_others(runtime, &planned.plan, &here)())?;
    }
    Ok(Prepared {
        here,
        plan: planned.plan,
        // Recorded is what the full backup has.
        keys: (found.manifest.as_ref())
            .and_then(|manifest| manifest.keys)
            .filter(|_| found.changes().is_none()),
        found,
        digest: asked.digest,
        ledger: planned.ledger,
    })
}

/// What the ledger begins with.
struct Planned {
    plan: Plan,
    ledger: Ledger,
}

fn plan(
    asked: &Asked<'_>,
    (listener, runtime): (&dyn Listener, &Handle),
    config: Option<&Config>,
    here: &Here,
    found: &Found,
    members: InitialCluster,
    interrupted: &AtomicBool,
) -> Result<Planned, Failure> {
    refuse_other_ways(&here.etcd.unit, &here.etcd.settings).map_err(refused_here)?;
    let backup = restore_source::backup(listener, found, asked.digest, interrupted)?;
    let member = here.member(config, &members)?;
    let etcd_line = config.and_then(|config| config.host.etcd_version);
    let mut site = here.etcd.site(&member, etcd_line).map_err(refused_here)?;
    if here.etcd.is_up {
        site.etcd_version = restore_source::version_here(runtime, here);
    }
    let restore = config.map(|config| config.restore).unwrap_or_default();
    let bump = decide_bump(restore.bump_revision);
    let id = RestoreId::new(host::now(), getrandom::u32().map_err(failed)?);
    let wish = Wish {
        id,
        backup,
        members,
        bump,
        token: asked.token.map(str::to_owned),
        nonce: Nonce(durable::random::<16>().map_err(failed)?),
        in_place: here.etcd.in_place().map_err(refused_here)?,
        rewrite: rewrite(asked.rewrite, site.quota_bytes),
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

/// What is compacted where it would not fit its quota otherwise is what nobody has asked to be written anew.
fn rewrite(asked: Rewrite, quota: Option<u64>) -> Rewrite {
    match (asked, quota) {
        (Rewrite::Not, Some(quota)) => Rewrite::ToFit {
            below: OverQuota::first_over(quota),
        },
        (asked, _) => asked,
    }
}

/// Who sees how far a restore is.
pub struct Watching<'a> {
    /// Hears of each step before it is taken.
    pub step: &'a dyn Fn(Step),
    /// Hears how far the new data is, and of how many bytes.
    pub build: &'a dyn Fn(Progress, u64),
}

impl Prepared {
    /// Says which point of the history it is, where it is not just a full backup.
    pub fn say_point(&self, listener: &dyn Listener) {
        self.found.say_point(listener);
    }

    /// Carries it out; waits for the others if it is asked to.
    pub fn carry_out(
        self,
        configuration: &Path,
        wait: bool,
        (listener, runtime): (&dyn Listener, &Handle),
        watching: &Watching<'_>,
        interrupted: &AtomicBool,
    ) -> Result<Ended, Failure> {
        let units = OverDbus::new(&self.here.systemd, runtime);
        let step = |step: Step| {
            (watching.step)(step);
            ControlFlow::Continue(())
        };
        let stop = || interrupted.load(Ordering::Relaxed);
        let tools = Tools {
            units: &units,
            access: &self.here.access,
            runtime,
            now: host::now,
            listener: &step,
            stop: &stop,
            tell: &|words| listener.detail(words),
        };
        let ledger_store = LedgerStore::open(LedgerPaths::default()).map_err(|error| failure(error.into()))?;
        let mut run = Run::begin(ledger_store, self.ledger, tools).map_err(failure)?;
        let bytes = self.plan.cluster.backup.bytes;
        let look = look_for_others(runtime, &self.plan, &self.here);
        let built = build_while_looking(look, |is_refused| {
            let progress = |progress: Progress| {
                (watching.build)(progress, bytes);
                match stop() || is_refused() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            self.found.with_each(
                listener,
                |source, _| run.build(source, self.found.changes(), self.digest, &progress),
                rebuild::Error::is_fault_of_source,
                |error| refused_by(&error, self.found.manifest.as_ref()),
            )
        });
        self.found.tell_notes(listener);
        match built {
            Ok(built) => {
                let told = told_of_quota(&self.plan, built.database_bytes, built.rewritten, built.compacted_bytes);
                told.iter().for_each(|told| listener.warn(told));
            }
            Err(refused) => {
                run.abandon(refused.message()).map_err(failure)?;
                return Err(refused);
            }
        }
        let patience = match wait {
            true => Patience::Healthy,
            false => Patience::Started,
        };
        let outcome = run.go(patience).map_err(failure)?;
        let to_change = settings_now(runtime, configuration, &run.ledger().plan).to_change;
        Ok(Ended::of(&run, outcome, to_change, FirstBackup::after(configuration)))
    }
}

/// Somebody has to see the others come, and close the ledger then.
pub fn finish_in_background(listener: &dyn Listener, runtime: &Handle, systemd: &Systemd) {
    if let Err(error) = OverDbus::new(systemd, runtime).start(RESUME_UNIT) {
        listener.warn(&format!(
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

/// The configuration; what names its store or file itself goes without one, and by the last good one where it is broken: an
/// error in it must not stand between a dead cluster and its backup.
fn optional_configuration(listener: &dyn Listener, asked: &source::Asked<'_>) -> Result<Option<Config>, Failure> {
    let is_named = asked.from.is_some() || asked.source == "-" || asked.source.contains('/');
    if !is_named {
        let read = configuration::read(asked.configuration, listener);
        return read
            .map(Some)
            .map_err(|failure| match failure.next_step().map(str::to_owned) {
                Some(step) if !step.contains("--from") => failure.next(format!(
                    "{step}; to restore by the last good one, name the store: `--from DIR`"
                )),
                Some(_) | None => failure,
            });
    }
    let read = configuration::read_last_if_any(asked.configuration, listener)?;
    Ok(read.map(|(config, broken)| {
        if let Some(broken) = broken {
            let wrong = first_problem(broken.message());
            listener.warn(&format!(
                "the configuration is wrong, this uses the last valid one: {wrong}"
            ));
        }
        config
    }))
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
    runtime: &Handle,
    plan: &Plan,
    here: &Here,
) -> impl FnOnce() -> BTreeMap<String, Presence> + Send + use<> {
    let (plan, access, runtime) = (plan.clone(), here.access.clone(), runtime.clone());
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
fn may_be_unseen(listener: &dyn Listener, seen: Result<(), Failure>) -> Result<(), Failure> {
    match seen {
        Err(failure) if failure.exit == Exit::Failed && !nix::unistd::geteuid().is_root() => {
            let what = failure.message().to_owned();
            listener.warn(&format!("not all could be seen without being root: {what}"));
            Ok(())
        }
        seen => seen,
    }
}

/// How much room is left where a directory is or will be.
fn free_bytes(path: &Path) -> Option<ByteSize> {
    Some(ByteSize(room_at(path)?.available))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn only_what_nobody_asked_to_be_written_anew_is_held_to_the_quota() {
        let below = (8 << 20) - (257 << 10);
        for (asked, quota, planned) in [
            (Rewrite::Not, None, Rewrite::Not),
            (Rewrite::Not, Some(8 << 20), Rewrite::ToFit { below }),
            (Rewrite::Defragmented, Some(8 << 20), Rewrite::Defragmented),
            (Rewrite::Compacted, Some(8 << 20), Rewrite::Compacted),
        ] {
            assert_eq!(rewrite(asked, quota), planned);
        }
    }

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
}
