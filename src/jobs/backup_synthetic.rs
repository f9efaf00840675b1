//! One full backup without etcd: made of the newest full backup and the deltas behind it.
//!
//! What is made is plain while it is made: it is held in memory, or in a file without a name where the operator has said in
//! which folder.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::backup::{self, end, take_in};
use super::backup_by_hand::{encoding, watched, wind_up, writer};
use super::backup_now::{open_and_read, refuse_sample_recipient, wanted_destinations};
use super::give_way_to_restore::stop_for_restore;
use super::named_backup::chosen;
use super::point::{Chosen, Point, Search};
use super::point_snapshot::{NotMade, Room, needed_bytes};
use super::source::{Found, source_failure};
use super::{Exit, Failure, Listener, clock_set_back, failed, host, point_snapshot, recipients, stores};
use crate::backup::{Made, Outcome, Progress, SyntheticJob, synthetic};
use crate::catalog::Pinned;
use crate::config::Config;
use crate::destinations::Destinations;
use crate::layout::{Manifest, Stream, Synthetic};
use crate::pipeline::Identities;
use crate::process::Interrupt;
use crate::rebuild::{self, Applied, ContentProof, Exported, Rewrite};
use crate::state::Holder;

/// What is asked for.
#[derive(Debug)]
pub struct Asked {
    /// To the destinations of this schedule.
    pub schedule: Option<String>,
    /// Only to these destinations; to all if it names none.
    pub to: Vec<String>,
    /// Whether it is excluded from retention.
    pub pinned: Pinned,
    /// The operator's words.
    pub note: Option<String>,
    /// How long another run or a restore is waited for.
    pub wait: Duration,
    /// Where it is made, if not in memory.
    pub work_dir: Option<PathBuf>,
}

/// Makes it; also hands back what all destinations hold with it. `listen` begins to listen for whoever asks to stop, `show`
/// begins to show how far it is.
pub fn make_now(
    config: &Config,
    asked: Asked,
    identities: Option<Identities>,
    (listener, runtime): (&dyn Listener, &Handle),
    listen: impl FnOnce() -> Interrupt,
    show: impl FnOnce(Arc<Progress>) -> JoinHandle<()>,
) -> Result<(Outcome, Destinations), Failure> {
    refuse_sample_recipient(config)?;
    let identities = identities.ok_or_else(|| {
        Failure::new(
            Exit::WrongKey,
            "no identity is given: the full backup and its deltas have to be opened",
        )
        .next("`lifeboat backup --synthetic --identity FILE`")
    })?;
    let identities = Arc::new(identities);
    let state = host::state(&config.cluster.name)?;
    host::settle()?;
    let interrupt = listen();
    let _lock = host::jobs_lock(&state, "backup", asked.wait)?;
    clock_set_back::note(listener, &state);
    let started = host::now();
    let to = wanted_destinations(config, asked.schedule.as_deref(), &asked.to)?;
    let (opened, mut destinations) = open_and_read(listener, config, &state, &to)?;
    let (found, base, point) = find(listener, &destinations, &identities)?;
    found.say_point(listener);
    let stop = interrupt.flag.clone();
    let is_stopped = || {
        stop_for_restore(&stop);
        stop.load(Ordering::Relaxed)
    };
    let room = Room::begin(needed_bytes(&found), asked.work_dir.as_deref(), Rewrite::Not)?;
    let refused = |error: &NotMade| not_made(error, &base);
    let made = room.make(&found, listener, &is_stopped, &refused);
    found.tell_notes(listener);
    let exported = made?;
    let made = made_of(&base, &point, &exported, room.into_file())?;
    let random = getrandom::u32().map_err(failed)?;
    // It is as old as what is in it.
    let chain = destinations.catalog.next_chain(made.time, random);
    let begun = state
        .begin_chain(&chain, &Holder::this("backup", host::now()))
        .map_err(failed)?;
    let other_recipients = recipients::changed_since(listener, config, &state, &destinations);
    let job = SyntheticJob {
        chain,
        base,
        made,
        encoding: encoding(config),
        note: asked.note,
        pinned: asked.pinned,
        writer: writer(random),
        host: host::host_name(),
        started,
        now: host::now,
    };
    let progress = Arc::new(Progress::default());
    let taken = watched(runtime, interrupt, &progress, show, async |gives_way| {
        synthetic(&job, opened, &destinations.catalog, &progress, gives_way).await
    });
    end(begun, &taken, &progress);
    let mut outcome = taken.map_err(backup::failure)?;
    take_in(&mut destinations, &outcome);
    outcome.warnings.extend(point_snapshot::warnings(&exported));
    outcome.warnings.extend(other_recipients);
    wind_up((listener, &state), &mut destinations, &mut outcome, &stop);
    Ok((outcome, destinations))
}

/// The newest point, and what leads to it.
fn find(
    listener: &dyn Listener,
    destinations: &Destinations,
    identities: &Arc<Identities>,
) -> Result<(Found, Manifest, Chosen), Failure> {
    let latest = chosen(listener, destinations, "latest")?;
    let search = Search {
        places: destinations,
        identities: Some(identities.clone()),
        listener,
    };
    let (backup, point) = search.choose(latest, false, &Point::OfSource)?;
    if !point.is_behind() {
        let message = format!(
            "nothing follows backup {}: one made of it would hold the same (revision {})",
            backup.id(),
            backup.revision()
        );
        return Err(Failure::new(Exit::NotFound, message)
            .next("`lifeboat list` shows what was captured behind it; `lifeboat backup` takes a full one of etcd"));
    }
    let manifest = stores::manifest(destinations, backup)?.0;
    let found = Found::behind(
        backup,
        manifest.clone(),
        destinations,
        Some(identities.clone()),
        point.clone(),
    );
    Ok((found, manifest, point))
}

/// Why none was made, and what to do instead.
fn not_made(error: &NotMade, base: &Manifest) -> Failure {
    match error {
        NotMade::Rebuild(rebuild::Error::BrokenChanges { good, .. }) => {
            let failure = error.refused(Some(base));
            Failure::new(failure.exit, failure.message()).next(instead(good.get()))
        }
        NotMade::Unread(error, applied) => {
            let failure = source_failure(error, None);
            let good = base.to_revision.get();
            let good = good.saturating_add(i64::try_from(*applied).unwrap_or(i64::MAX));
            Failure::new(failure.exit, failure.message()).next(instead(good))
        }
        NotMade::Rebuild(_) | NotMade::TooLarge { .. } => error.refused(Some(base)),
    }
}

/// What to do where deltas are of no use behind a revision.
fn instead(good: i64) -> String {
    format!("take a full backup of etcd: `lifeboat backup`; of this chain, revision {good} is the last that can be had")
}

/// What is known of it.
fn made_of(base: &Manifest, point: &Chosen, exported: &Exported, file: File) -> Result<Made, Failure> {
    let mark = point.mark.ok_or_else(|| {
        let message = format!(
            "when revision {} was the last one cannot be read from the deltas",
            exported.revision
        );
        Failure::new(Exit::Failed, message).next("`lifeboat backup` takes a full backup of etcd")
    })?;
    let Some(Applied {
        checkpoints, deltas, ..
    }) = exported.applied
    else {
        return Err(Failure::new(Exit::Failed, "no change was applied"));
    };
    Ok(Made {
        file: Arc::new(file),
        plain: Stream {
            bytes: exported.bytes,
            sha256: exported.sha256,
        },
        revision: exported.revision,
        time: mark.time,
        keys: exported.live_keys,
        reported: checkpoints.report.filter(|_| exported.proof == ContentProof::HashKv),
        of: Synthetic {
            chain: base.chain.clone(),
            base_revision: base.to_revision,
            deltas,
            computed: exported.hash_kv,
            checkpoints: checkpoints.found,
            matched: checkpoints.report,
        },
    })
}
