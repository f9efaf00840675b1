//! `lifeboat rollback`: the data from before the last restore comes back.

use std::ops::ControlFlow;

use serde::Serialize;

use super::{Context, Exit, Failure, host};
use crate::jobs::restore::{failure, leave_session, need_root, not_revived, reach, refuse_mounts, take_over};
use crate::restore::{
    Access, End, Error, Kept, Ledger, LedgerPaths, Outcome, OverDbus, Patience, RESUME_UNIT, Run, Step, Tools, Units,
    closed, made_path, open_ledger, peers,
};
use crate::terminal::{Format, ask, need_somebody};

/// Put the data and the settings from before the last restore back
///
/// What has been since is set aside and not deleted. A restore that is open is taken back as far as it came; if there was
/// no data before it, etcd is kept from starting until another backup is restored. Where other members serve the restored
/// cluster, that is refused: this member would leave it. Where etcd does not come up on the old data either, that is said,
/// and the exit code is 1.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat rollback")]
pub struct Args {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Go back although other members serve the restored cluster
    #[arg(long)]
    although_serving: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    id: String,
    outcome: &'static str,
    data_dir: String,
    set_aside: Option<String>,
    warnings: Vec<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    need_root("rollback")?;
    need_somebody(args.yes, "rollback")?;
    let ledger_paths = LedgerPaths::default();
    let Some(ledger) = meant(&ledger_paths)? else {
        return Err(Failure::new(
            Exit::NotFound,
            "no restore on this host can be taken back",
        ));
    };
    let (systemd, access) = reach(context.runtime.handle(), &context.output, &context.config, &ledger)?;
    refuse_mounts(&ledger.plan.host.site)?;
    if !args.although_serving {
        refuse_serving(context, &ledger, &access)?;
    }
    if !args.yes {
        let (id, backup) = (&ledger.plan.host.id, &ledger.plan.cluster.backup.name);
        ask(&match ledger.had_nothing() {
            true => format!("take restore {id} ({backup}) back? There was no data before it, so etcd will not run."),
            false => {
                format!("put the data from before restore {id} ({backup}) back, and set aside what was written since?")
            }
        })?;
    }
    // Should this be killed, an open restore is taken up, and goes on as its ledger says: that must say first that the way is
    // back.
    let is_open = ledger.end.is_none();
    if !is_open {
        leave_session(context.runtime.handle(), &context.output, &systemd, "rollback");
    }
    let units = OverDbus::new(&systemd, context.runtime.handle());
    let listener = |_: Step| ControlFlow::Continue(());
    let tools = Tools {
        units: &units,
        access: &access,
        runtime: context.runtime.handle(),
        now: host::now,
        listener: &listener,
        stop: &|| false,
        tell: &|_| {},
    };
    let turned = take_over(context.runtime.handle(), &ledger_paths).map_err(Into::into);
    let mut run = turned
        .and_then(|ledger_store| Run::roll_back(ledger_store, tools))
        .map_err(|error| {
            if is_open {
                // Whoever waited in the background does so again.
                units.start(RESUME_UNIT).ok();
            }
            failure(error)
        })?;
    if is_open {
        leave_session(context.runtime.handle(), &context.output, &systemd, "rollback");
    }
    let outcome = run.go(Patience::Healthy).map_err(failure)?;
    report(context, &run, &outcome)
}

/// The restore that would be taken back.
fn meant(ledger_paths: &LedgerPaths) -> Result<Option<Ledger>, Failure> {
    let unreadable = |error: crate::restore::LedgerError| failure(error.into());
    if let Some(open) = open_ledger(ledger_paths).map_err(unreadable)? {
        return Ok(Some(open));
    }
    let ended = closed(ledger_paths).map_err(unreadable)?;
    let good = |ledger: &Ledger| ledger.end.is_some_and(|(end, _)| end == End::Restored);
    let Some(last) = ended.into_iter().rev().find(good) else {
        return Ok(None);
    };
    let id = last.id().clone();
    match last.kept {
        Kept::Here => Ok(Some(last)),
        Kept::Releasing => Err(failure(Error::Releasing { id })),
        Kept::Released => Err(failure(Error::Released { id })),
    }
}

fn refuse_serving(context: &Context, ledger: &Ledger, access: &Access) -> Result<(), Failure> {
    let plan = &ledger.plan;
    let answers = context.runtime.block_on(peers(plan, access));
    let serving: Vec<&str> = answers
        .iter()
        .filter(|(_, answer)| {
            answer
                .as_ref()
                .is_some_and(|answer| Some(answer.cluster) == plan.cluster_id())
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if serving.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{} run as members of the restored cluster, which this member would leave",
        serving.join(", ")
    );
    Err(Failure::new(Exit::Refused, message)
        .next("stop etcd there and roll back on every host; or go on here alone with --although-serving"))
}

fn report(context: &Context, run: &Run<'_>, outcome: &Outcome) -> Result<Exit, Failure> {
    let (ledger, output) = (run.ledger(), &context.output);
    let plan = &ledger.plan;
    let aside = made_path(&plan.host.site.data_dir, &plan.host.id);
    let set_aside = aside.exists().then(|| aside.display().to_string());
    match output.format {
        Format::Json => output.json(&Document {
            schema: 1,
            id: plan.host.id.to_string(),
            outcome: match outcome {
                Outcome::Undone { .. } => "undone",
                Outcome::Restored => "restored",
                Outcome::Waiting { .. } => "waiting",
            },
            data_dir: plan.host.site.data_dir.display().to_string(),
            set_aside,
            warnings: run.notes().to_vec(),
        }),
        Format::Text => {
            output.line(match ledger.had_nothing() {
                true => format!("restore {} is taken back", plan.host.id),
                false => format!("the data from before restore {} is back", plan.host.id),
            });
            if let Some(aside) = set_aside {
                output.line(format!(
                    "what was written since is kept in {aside} until `lifeboat release`"
                ));
            }
        }
    }
    run.notes().iter().for_each(|note| output.warn(note));
    match outcome {
        Outcome::Undone { down: Some(words), .. } => Err(Failure::new(Exit::Failed, not_revived(ledger, words))),
        Outcome::Undone { down: None, .. } | Outcome::Restored | Outcome::Waiting { .. } => Ok(Exit::Done),
    }
}
