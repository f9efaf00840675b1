//! `lifeboat rollback`: the data from before the last restore comes back.

use super::{Context, Exit, Failure};
use crate::jobs::restore::{Ended, WayBack, need_root, not_revived, set_aside};
use crate::json::rollback::Document;
use crate::restore::{Ledger, Outcome, kept_path, made_path};
use crate::terminal::{Format, Output, ask, need_somebody};

/// Put the data and the settings from before the last restore back
///
/// What has been since is set aside and not deleted. A restore that is open is taken back as far as it came; if there was
/// no data before it, etcd is kept from starting until another backup is restored. Where other members serve the restored
/// cluster, that is refused: this member would leave it. Where etcd does not come up on the old data either, that is said,
/// and the exit code is 1.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat rollback --dry-run\n  lifeboat rollback")]
pub struct Args {
    /// Only say what would be done
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Go back although other members serve the restored cluster
    #[arg(long)]
    although_serving: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    need_root("rollback")?;
    need_somebody(args.yes || args.dry_run, "rollback")?;
    let (output, runtime) = (&context.output, context.runtime.handle());
    let way_back = WayBack::find(args.although_serving, &context.config, output, runtime)?;
    let ledger = &way_back.ledger;
    if args.dry_run {
        preview(output, ledger);
        return Ok(Exit::Done);
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
    let ended = way_back.go(output, runtime)?;
    report(output, &ended)
}

/// Says what would be done.
fn preview(output: &Output, ledger: &Ledger) {
    let plan = &ledger.plan;
    let (id, data_dir) = (&plan.host.id, &plan.host.site.data_dir);
    let aside = made_path(data_dir, id);
    match output.format {
        Format::Json => output.json(&Document::planned(ledger)),
        Format::Text => {
            let field = |name: &str, value: String| output.field(name, value);
            field("restore", format!("{id} of {}", plan.cluster.backup.name));
            field("data", data_dir.display().to_string());
            field(
                "comes back",
                match ledger.had_nothing() {
                    true => format!(
                        "nothing: there was no data before it, so {} will not run",
                        plan.host.site.unit
                    ),
                    false => kept_path(data_dir, id).display().to_string(),
                },
            );
            field("set aside", format!("what was written since, in {}", aside.display()));
            output.sentence("nothing was done (--dry-run)");
        }
    }
}

fn report(output: &Output, ended: &Ended) -> Result<Exit, Failure> {
    let Ended {
        ledger, outcome, notes, ..
    } = ended;
    let plan = &ledger.plan;
    let aside = set_aside(ended);
    match output.format {
        Format::Json => output.json(&Document::of(ended, aside.as_deref())),
        Format::Text => {
            output.sentence(match ledger.had_nothing() {
                true => format!("restore {} is taken back", plan.host.id),
                false => format!("the data from before restore {} is back", plan.host.id),
            });
            if let Some(aside) = aside {
                output.sentence(format!(
                    "what was written since is kept in {} until `lifeboat release`",
                    aside.display()
                ));
            }
        }
    }
    notes.iter().for_each(|note| output.warn(note));
    match outcome {
        Outcome::Undone { down: Some(words), .. } => Err(Failure::new(Exit::Failed, not_revived(ledger, words))),
        Outcome::Undone { down: None, .. } | Outcome::Restored | Outcome::Waiting { .. } => Ok(Exit::Done),
    }
}
