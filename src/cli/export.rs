//! `lifeboat export`: the plain snapshot file.

use std::path::PathBuf;

use clap::ValueHint;

use super::arguments::{PointArgs, SourceArgs};
use super::{Context, Exit, Failure};
use crate::jobs::export::{DigestRule, export, is_stdout, refuse_place};
use crate::jobs::export_point::export_point;
use crate::jobs::inspect::refuse_living;
use crate::jobs::point::Point;
use crate::jobs::source::described;
use crate::json;
use crate::model::ByteSize;
use crate::rebuild::Rewrite;
use crate::terminal::Format;

/// Write the plain snapshot, as `etcdctl snapshot save` would have written it
///
/// The file is plaintext: whoever reads it reads the cluster. It gets its name only when all of it is there and right.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat export latest snapshot.db --identity backup-key.txt\n  \
    lifeboat export ./full.db.zst.age - --identity backup-key.txt > snapshot.db\n\n\
    As it was a quarter of an hour ago, sent on without a file:\n  \
    lifeboat export latest - --to-time '15m ago' --identity backup-key.txt | ssh other-host 'cat > snapshot.db'"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    #[command(flatten)]
    point: PointArgs,
    /// The file to write, which must not exist; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Accept a source without a SHA-256 at its end, such as a copied member/snap/db; what is written gets one
    #[arg(long)]
    skip_hash_check: bool,
    /// Leave out free pages and what etcd's compaction has given up, as `lifeboat compact` does
    #[arg(long)]
    compact: bool,
    /// Where a point behind a full backup that goes to standard output is made, if not in memory: in a file without a name
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    work_dir: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let point = args.point.point();
    refuse_place(&args.file, context.output.format == Format::Json)?;
    if args.compact {
        refuse_living(args.source.source())?;
    }
    let interrupted = super::interrupted_flag(context);
    let found = args.source.find_point(context, &point)?;
    if args.compact && point == Point::OfSource && found.changes().is_none() {
        found.say_point(&context.output);
        return super::compact::write(context, &found, args.file, args.skip_hash_check);
    }
    let manifest = found.manifest.clone();
    let rule = match args.skip_hash_check {
        true => DigestRule::Appended,
        false => DigestRule::Required,
    };
    let stop = || interrupted.load(std::sync::atomic::Ordering::Relaxed);
    found.say_point(&context.output);
    let rewrite = match args.compact {
        true => Rewrite::Compacted,
        false => Rewrite::Not,
    };
    let exported = match found.changes().is_some() || args.compact {
        true => export_point(
            &found,
            rewrite,
            (&args.file, args.work_dir.as_deref()),
            &context.output,
            &stop,
        )?,
        false => export(&found, rule, &args.file, &context.output, &stop)?,
    };
    warn_of_copy(context, exported.digest);
    match context.output.format {
        Format::Json => {
            let document = json::export::Document::of(&exported, &args.file, manifest.as_ref());
            context.output.json(&document);
        }
        Format::Text if !is_stdout(&args.file) => {
            if let Some(manifest) = &manifest {
                context.output.sentence(format!("backup  {}", described(manifest)));
            }
            context
                .output
                .sentence(format!("written {}, {}", args.file.display(), ByteSize(exported.bytes)));
        }
        Format::Text => {}
    }
    Ok(Exit::Done)
}

/// Says what a copy of a database file may miss.
pub(super) fn warn_of_copy(context: &Context, digest: DigestRule) {
    if digest == DigestRule::Appended {
        context.output.warn(
            "the source is a copy of a database file: changes that were only in its write-ahead log are not in it, and a \
             copy of a running etcd's file may miss more",
        );
    }
}
