//! `lifeboat release`: the data that restores have kept is given up.

use serde::Serialize;

use super::{Context, Exit, Failure};
use crate::jobs::restore::{KeptOf, Releasing, need_root};
use crate::model::ByteSize;
use crate::restore::RestoreId;
use crate::terminal::{Format, ask, need_somebody};

/// Give up, for good, the data that restores have kept
///
/// That is the data from before each restore, and what a rollback has set aside. Nothing else ever deletes it. From the
/// moment it begins, nothing of it comes back; a release that is cut off is finished by the next one.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  lifeboat release\n  lifeboat release --restore 20261120T101530Z-9f3c4a1b --yes")]
pub struct Args {
    /// Only that of this restore
    #[arg(long, value_name = "ID")]
    restore: Option<RestoreId>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    released: &'a [KeptOf],
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    need_root("release")?;
    let releasing = Releasing::find(args.restore.as_ref())?;
    let rows = &releasing.kept;
    for row in rows {
        let paths: Vec<String> = row.paths.iter().map(|path| path.display().to_string()).collect();
        context.output.detail(format!(
            "restore {}: {} in {}",
            row.id,
            ByteSize(row.bytes),
            paths.join(", ")
        ));
    }
    if releasing.begins() && !args.yes {
        need_somebody(false, "release")?;
        ask("delete all of it for good?")?;
    }
    releasing.carry_out(&context.output, context.runtime.handle())?;
    match context.output.format {
        Format::Json => context.output.json(&Document {
            schema: 1,
            released: rows,
        }),
        Format::Text if rows.is_empty() => context.output.line("nothing is kept"),
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
