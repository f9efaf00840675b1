//! `lifeboat restore`: this host's etcd gets the data of a backup.

mod report;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::arguments::{From, IdentityArgs, PointArgs, SourceArgs, UnsignedArgs, WindowArgs};
use super::rebuild::rewrite;
use super::{Context, Exit, Failure, interrupted_flag};
use crate::health::Level;
use crate::jobs::restore::{
    Asked, By, Prepared, Watching, finish, finish_in_background, leave_session, need_root, over_quota, prepare,
};
use crate::jobs::source;
use crate::rebuild::{DigestRule, Progress};
use crate::restore::{Outcome, Step};
use crate::terminal::{Bar, ask, need_somebody};

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
    #[command(flatten)]
    unsigned: UnsignedArgs,
    #[command(flatten)]
    point: PointArgs,
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
    /// Write the database anew, without free pages
    #[arg(long)]
    defrag: bool,
    /// The same, and without what etcd's compaction has given up; where revisions jump, that is all history
    #[arg(long)]
    compact: bool,
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
        (Some(_) | None, _) => go_on(context, &args),
    }
}

fn begin(context: &Context, args: &Args, source: &str) -> Result<Exit, Failure> {
    let interrupted = interrupted_flag(context);
    let (output, runtime) = (&context.output, context.runtime.handle());
    if !args.dry_run {
        need_root("restore")?;
        need_somebody(args.yes, "restore")?;
    }
    let source = SourceArgs::of(
        source,
        args.identity.clone(),
        args.window,
        args.from.clone(),
        args.unsigned,
    );
    let point = args.point.point();
    let asked = Asked {
        source: source::Asked {
            point: Some(&point),
            ..source.asked(context)
        },
        members: args.members.as_deref(),
        without: &args.without,
        token: args.cluster_token.as_deref(),
        digest: match args.skip_hash_check {
            true => DigestRule::Skipped,
            false => DigestRule::Required,
        },
        rewrite: rewrite(args.defrag, args.compact),
        despite_running_members: args.despite_running_members,
        dry_run: args.dry_run,
    };
    let prepared = prepare(&asked, output, runtime, &interrupted)?;
    let Prepared { here, plan, keys, .. } = &prepared;
    prepared.say_point(output);
    if args.dry_run {
        report::plan(output, plan, here, *keys);
        return Ok(Exit::Done);
    }
    match args.yes {
        true => over_quota(plan).iter().for_each(|over| output.warn(over)),
        false => {
            report::plan(output, plan, here, *keys);
            ask("stop etcd and restore?")?;
        }
    }
    let systemd = here.systemd.clone();
    leave_session(runtime, output, &systemd, "restore");
    let bar = Bar::new(output, "restore");
    let watching = Watching {
        step: &|step: Step| {
            bar.now(step.words());
            output.copy(Level::Info, step.words());
        },
        build: &|progress, bytes| match progress {
            Progress::Reading { bytes: read } => bar.at(read, bytes),
            Progress::Checking => bar.now("checking"),
            Progress::Applying { .. } => bar.now("applying changes"),
            Progress::Publishing => {}
        },
    };
    let ended = prepared.carry_out(&context.config, args.wait, (output, runtime), &watching, &interrupted)?;
    bar.clear();
    let exit = report::outcome(output, &ended);
    if let Outcome::Waiting { .. } = ended.outcome {
        finish_in_background(output, runtime, &systemd);
    }
    Ok(broken_off(&ended.outcome, exit?, interrupted.load(Ordering::Relaxed)))
}

/// Goes on with the restore that is open.
fn go_on(context: &Context, args: &Args) -> Result<Exit, Failure> {
    need_root("restore")?;
    let interrupted = interrupted_flag(context);
    let by = match args.resume {
        true => By::Unit,
        false => By::Hand,
    };
    let finished = finish(
        by,
        &context.config,
        &context.output,
        context.runtime.handle(),
        &interrupted,
    )?;
    let Some(ended) = finished else {
        return Ok(Exit::Done);
    };
    let exit = report::outcome(&context.output, &ended).map_err(|mut failure| {
        if args.resume {
            // What was taken back is not tried again by the unit, which stays failed.
            failure.exit = Exit::Refused;
        }
        failure
    })?;
    // A unit that systemd stops has not failed.
    let is_told_to_stop = interrupted.load(Ordering::Relaxed) && !args.resume;
    Ok(broken_off(&ended.outcome, exit, is_told_to_stop))
}

/// Whoever is told to stop before etcd was seen to be as it was waited for has not done what was asked; otherwise, a member
/// that waits for others is as far as one goes alone.
fn broken_off(outcome: &Outcome, exit: Exit, is_told_to_stop: bool) -> Exit {
    match (outcome, is_told_to_stop) {
        (Outcome::Waiting { .. }, true) => Exit::Failed,
        (Outcome::Waiting { .. }, false) | (Outcome::Restored | Outcome::Undone { .. }, _) => exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_told_to_stop_while_it_waits_has_not_done_what_was_asked() {
        let waiting = Outcome::Waiting { there: 0 };
        assert_eq!(broken_off(&waiting, Exit::Done, true), Exit::Failed);
        assert_eq!(broken_off(&waiting, Exit::Done, false), Exit::Done);
        assert_eq!(broken_off(&Outcome::Restored, Exit::Done, true), Exit::Done);
    }
}
