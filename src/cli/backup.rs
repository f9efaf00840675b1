//! `lifeboat backup`: one full backup now.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueHint;

use super::arguments::{IdentityArgs, duration};
use super::{Context, Exit, Failure, host};
use crate::backup::{Outcome, Pace, Progress};
use crate::catalog::Pinned;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::jobs::Listener;
use crate::jobs::backup::Request;
use crate::jobs::backup_now::{Asked, First, take_now};
use crate::jobs::backup_synthetic::{self, make_now};
use crate::json;
use crate::layout::{Origin, Proof};
use crate::model::ByteSize;
use crate::terminal::{Bar, Format, Output};
use crate::text::count;

/// Take one full backup now and print its id
///
/// Asks a healthy follower where there is one, the leader otherwise. Nothing but ciphertext is written. The backup
/// exists when its manifest does: after etcd's digest matched and the stored bytes were read back.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat backup\n  lifeboat backup --to local --member m2 --pin --note 'before the upgrade'\n  \
    lifeboat backup --synthetic --identity backup-key.txt"
)]
pub struct Args {
    /// To the destinations of this schedule of full backups
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other, conflicts_with = "to")]
    schedule: Option<String>,
    /// Only to these destinations; may be given several times
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other, value_delimiter = ',')]
    to: Vec<String>,
    /// Make it of the newest full backup and the deltas behind it, with an identity; etcd is not asked
    #[arg(long, conflicts_with_all = ["member", "pace"])]
    synthetic: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Where the plain data of a synthetic one lies until it is done, in a file without a name; without it, in memory
    #[arg(long, value_name = "DIR", requires = "synthetic")]
    work_dir: Option<PathBuf>,
    /// Ask this member and no other; `local` is the one on this host
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    member: Option<String>,
    /// Wait this long for a member to answer, and for another run, a restore, or the first backup of another host, to end
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

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration_and_doubts(context)?;
    let output = context.output;
    let show = |progress| context.runtime.spawn(watch(output, progress));
    let listen = || super::listen(context);
    let around: (&dyn Listener, _) = (&output, context.runtime.handle());
    let (outcome, destinations) = match args.synthetic {
        true => {
            let identities = args.identity.or_configured(Some(&config))?;
            make_now(&config, args.of_deltas(), identities, around, listen, show)?
        }
        false if !args.identity.files().is_empty() => {
            let message =
                "`--identity` goes with `--synthetic`: what is taken of etcd is encrypted, and nothing is opened";
            return Err(Failure::new(Exit::Usage, message).next("leave it out, or add `--synthetic`"));
        }
        false => {
            let asked = Asked {
                request: args.request(),
                to: args.to,
                wait: args.wait,
                first: First::IsClaimed,
            };
            take_now(&config, asked, around, listen, show)?
        }
    };
    report(&output, &outcome, &destinations);
    let everywhere = outcome.destinations.iter().all(|written| written.result.is_ok());
    match (outcome.manifest.faults.is_empty(), everywhere) {
        (false, _) => Ok(Exit::Damaged),
        (true, true) => Ok(Exit::Done),
        (true, false) => Ok(Exit::Partly),
    }
}

impl Args {
    fn of_deltas(self) -> backup_synthetic::Asked {
        backup_synthetic::Asked {
            schedule: self.schedule,
            to: self.to,
            pinned: if self.pin { Pinned::Yes } else { Pinned::No },
            note: self.note,
            wait: self.wait,
            work_dir: self.work_dir,
        }
    }

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
    if !manifest.faults.is_empty() {
        output.alarm(format!(
            "this backup is bad: {}. It is kept, and `latest` passes it over; look at the disk and log of {}, and compare the \
             members: `etcdctl endpoint hashkv --cluster`",
            manifest.faults.join("; "),
            outcome.member
        ));
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
    let proven = match (manifest.proof.unwrap_or(Proof::Stored), &manifest.proof_reason) {
        (Proof::HashKv, _) => "proven equal to the member's data (HashKV)".to_owned(),
        (proof, Some(reason)) => format!("proven: {proof}; not hash_kv: {reason}"),
        (proof, None) => format!("proven: {proof}"),
    };
    if let Some(of) = &manifest.synthetic {
        output.detail(format!(
            "made of backup {} at revision {} and {} behind it; HashKV computed of it is {} at revision {}",
            of.chain,
            of.base_revision,
            count(of.deltas, "delta"),
            of.computed.hash,
            of.computed.revision
        ));
    }
    output.detail(format!(
        "revision {} of {} ({}), {} stored as {} in {}; {proven}",
        manifest.to_revision,
        manifest.member.name,
        manifest.etcd_version,
        ByteSize(manifest.plain.bytes),
        ByteSize(manifest.stored.bytes),
        took(outcome.took),
    ));
    match output.format {
        Format::Text => output.line(manifest.chain.as_str()),
        Format::Json => output.json(&json::backup::Document::of(outcome)),
    }
}

/// How long it took, with a digit that is not 0.
fn took(took: Duration) -> String {
    match took.as_millis() {
        millis @ ..1000 => format!("{} ms", millis.max(1)),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}
