//! `lifeboat release`: the data that restores have kept is given up.

use super::{Context, Exit, Failure};
use crate::jobs::restore::{KeptOf, Releasing, need_root};
use crate::json;
use crate::model::ByteSize;
use crate::restore::RestoreId;
use crate::terminal::{Format, ask, need_somebody};

/// Give up, for good, the data that restores have kept
///
/// That is the data from before each restore, and what a rollback has set aside. Nothing else ever deletes it. From the
/// moment it begins, nothing of it comes back; a release that is cut off is finished by the next one.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat release --dry-run\n  lifeboat release\n  lifeboat release --restore 20261120T101530Z-9f3c4a1b --yes"
)]
pub struct Args {
    /// Only that of this restore
    #[arg(long, value_name = "ID")]
    restore: Option<RestoreId>,
    /// Only say what would be given up
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    need_root("release")?;
    let releasing = Releasing::find(args.restore.as_ref())?;
    let rows = &releasing.kept;
    let kept_in = |row: &KeptOf| {
        let paths: Vec<String> = row.paths.iter().map(|path| path.display().to_string()).collect();
        format!("{} in {}", ByteSize(row.bytes), paths.join(", "))
    };
    for row in rows.iter().filter(|_| !args.dry_run) {
        context.output.detail(format!("restore {}: {}", row.id, kept_in(row)));
    }
    if releasing.begins() && !args.yes && !args.dry_run {
        need_somebody(false, "release")?;
        ask("delete all of it for good?")?;
    }
    if !args.dry_run {
        releasing.carry_out(&context.output, context.runtime.handle())?;
    }
    match context.output.format {
        Format::Json => context
            .output
            .json(&json::release::Document::of(&releasing, args.dry_run)),
        Format::Text if rows.is_empty() => context.output.line("nothing is kept"),
        Format::Text if args.dry_run => {
            for row in rows {
                context
                    .output
                    .sentence(format!("would release {}, {}", row.id, kept_in(row)));
            }
            context.output.line("nothing was removed (--dry-run)");
        }
        Format::Text => {
            for row in rows {
                context
                    .output
                    .line(format!("released {}, {}", row.id, ByteSize(row.bytes)));
            }
        }
    }
    Ok(Exit::Done)
}
