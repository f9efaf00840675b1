//! One full backup without etcd: made of the newest full backup and the deltas behind it.
//!
//! What is made is plain while it is made: it is held in memory, or in a file without a name where the operator has said in
//! which folder.

use std::cell::Cell;
use std::fs::File;
use std::io::Seek as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::backup::{self, end, take_in};
use super::backup_now::{open_and_read, refuse_sample_recipient, wanted_destinations};
use super::give_way::{restore_opened, stop_for_restore};
use super::named_backup::chosen;
use super::point::{Chosen, Point, Search};
use super::rebuild::{expected, refused_by};
use super::source::{Found, source_failure};
use super::{Exit, Failure, Listener, clock, copy, failed, host, last_seen, recipients, stores};
use crate::backup::{Made, Outcome, Progress, SyntheticJob, synthetic};
use crate::catalog::Pinned;
use crate::config::Config;
use crate::destinations::Destinations;
use crate::durable::{nameless, room_at};
use crate::layout::{Manifest, Stream, Synthetic, Writer};
use crate::model::ByteSize;
use crate::pipeline::{Encoding, Identities};
use crate::process::Interrupt;
use crate::rebuild::{self, Applied, ContentProof, Exported, Wanted, export_at};
use crate::source;
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

/// Why nothing was made of a source.
enum NotMade {
    Rebuild(rebuild::Error),
    /// A delta cannot be read, once so many revisions were applied.
    Unread(source::Error, u64),
    /// More than may be taken of the memory.
    TooLarge,
}

impl From<rebuild::Error> for NotMade {
    fn from(error: rebuild::Error) -> NotMade {
        NotMade::Rebuild(error)
    }
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
    clock::note(listener, &state);
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
    let work = Work::begin(&base, &point, asked.work_dir.as_deref())?;
    let made = work.make(&found, listener, &is_stopped);
    found.tell_notes(listener);
    let exported = made?;
    let made = made_of(&base, &point, &exported, work.file)?;
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
        encoding: Encoding {
            level: config.compression.level,
            threads: config.compression.threads,
            recipients: config.encryption.recipients.clone(),
            stall_limit: config.backup.idle_timeout,
        },
        note: asked.note,
        pinned: asked.pinned,
        writer: Writer {
            host: host::host_name().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run: format!("{random:08x}"),
        },
        host: host::host_name(),
        started,
        now: host::now,
    };
    let progress = Arc::new(Progress::default());
    let taken = runtime.block_on(async {
        let watcher = show(progress.clone());
        let gives_way = async {
            tokio::select! {
                () = interrupt.raised() => {}
                () = restore_opened() => {}
            }
        };
        let outcome = synthetic(&job, opened, &destinations.catalog, &progress, gives_way).await;
        watcher.abort();
        // Wait until it is gone, so that no bar is drawn over the result.
        drop(watcher.await);
        outcome
    });
    end(begun, &taken, &progress);
    let mut outcome = taken.map_err(backup::failure)?;
    take_in(&mut destinations, &outcome);
    outcome.warnings.extend(warnings(&exported));
    outcome.warnings.extend(other_recipients);
    copy::bring_to_slow(listener, &mut destinations, &mut outcome, &stop, &|_| {
        stop_for_restore(&stop)
    });
    outcome
        .warnings
        .extend(last_seen::remember(&state, &destinations).err());
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

/// Where it is made.
struct Work {
    file: File,
    /// What it is called in errors.
    path: PathBuf,
    /// How long it may become.
    most: u64,
}

/// How much longer deltas are once they are opened, for a first look at whether there is room.
const OPENED: u64 = 4;

impl Work {
    fn begin(base: &Manifest, point: &Chosen, work_dir: Option<&Path>) -> Result<Work, Failure> {
        let needed = base.plain.bytes.saturating_add(point.bytes().saturating_mul(OPENED));
        let Some(folder) = work_dir else {
            let most = host::spare_memory();
            return match needed <= most {
                true => Ok(Work {
                    file: nameless::in_memory().map_err(failed)?,
                    path: "the snapshot in memory".into(),
                    most,
                }),
                false => Err(too_large(needed, most)),
            };
        };
        if let Some(room) = room_at(folder).filter(|room| room.available < needed) {
            let (free, needed) = (ByteSize(room.available), ByteSize(needed));
            let message = format!("{} has {free} free, and about {needed} are needed", folder.display());
            return Err(Failure::new(Exit::Failed, message).next("name a folder on another disk with `--work-dir`"));
        }
        let file = nameless::in_folder(folder)
            .map_err(|error| failed(error).next("name a folder that this user may write to"))?;
        Ok(Work {
            file,
            path: folder.to_owned(),
            most: u64::MAX,
        })
    }

    fn make(&self, found: &Found, listener: &dyn Listener, is_stopped: &dyn Fn() -> bool) -> Result<Exported, Failure> {
        found.with_each(
            listener,
            |source, manifest| {
                let (is_too_large, applied) = (Cell::new(false), Cell::new(0));
                // What an earlier copy has left.
                let emptied = self.file.set_len(0).and_then(|()| (&self.file).rewind());
                emptied.map_err(|error| self.refused(error))?;
                let shown = listener.progress("opening");
                let length = source.length();
                let each = |progress: rebuild::Progress| {
                    match progress {
                        rebuild::Progress::Reading { bytes } => shown(bytes, length.unwrap_or(bytes)),
                        rebuild::Progress::Applying { revisions, .. } => applied.set(revisions),
                        rebuild::Progress::Checking | rebuild::Progress::Publishing => {}
                    }
                    let bytes = self.file.metadata().map_or(0, |metadata| metadata.len());
                    is_too_large.set(bytes > self.most);
                    match is_too_large.get() || is_stopped() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                };
                let wanted = Wanted {
                    digest: rebuild::DigestRule::Required,
                    expected: manifest.map(expected),
                };
                // There are some: it was looked whether anything follows.
                let changes = found.changes().ok_or(rebuild::Error::Interrupted)?;
                let made = export_at(source, changes, (&self.file, &self.path), wanted, &each);
                made.map_err(|error| match error {
                    rebuild::Error::Interrupted if is_too_large.get() => NotMade::TooLarge,
                    rebuild::Error::Source(error) if applied.get() > 0 => NotMade::Unread(error, applied.get()),
                    error => NotMade::Rebuild(error),
                })
            },
            |error| matches!(error, NotMade::Rebuild(error) if error.is_fault_of_source()),
            |error| match error {
                NotMade::TooLarge => too_large(self.most, self.most),
                NotMade::Rebuild(error) => not_made(&error, found.manifest.as_ref()),
                NotMade::Unread(error, applied) => {
                    let failure = source_failure(&error, None);
                    let base = found.manifest.as_ref().map_or(0, |manifest| manifest.to_revision.get());
                    let good = base.saturating_add(i64::try_from(applied).unwrap_or(i64::MAX));
                    Failure::new(failure.exit, failure.message()).next(instead(good))
                }
            },
        )
    }

    fn refused(&self, error: std::io::Error) -> rebuild::Error {
        crate::durable::failed("empty", &self.path)(error).into()
    }
}

fn too_large(needed: u64, most: u64) -> Failure {
    let (needed, most) = (ByteSize(needed), ByteSize(most));
    let message = format!("it takes {needed} of memory or more, and {most} of this host's may be used");
    Failure::new(Exit::Failed, message).next(
        "name a folder with `--work-dir DIR`: the plain data lies there, in a file without a name, until it is done",
    )
}

fn not_made(error: &rebuild::Error, manifest: Option<&Manifest>) -> Failure {
    let failure = refused_by(error, manifest);
    match error {
        rebuild::Error::BrokenChanges { good, .. } => {
            Failure::new(failure.exit, failure.message()).next(instead(good.get()))
        }
        _ => failure,
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
    let Applied { checkpoints, .. } = exported.applied;
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
            deltas: exported.applied.deltas,
            computed: exported.hash_kv,
            checkpoints: checkpoints.found,
            matched: checkpoints.report,
        },
    })
}

/// What the operator should know of it.
fn warnings(exported: &Exported) -> Vec<String> {
    let leases = exported.guessed_leases.len();
    let guessed = (leases > 0).then(|| {
        format!("how long {leases} of the leases live that keys hang on is in no delta: an hour was taken for each")
    });
    guessed.into_iter().collect()
}
