//! `lifeboat compact`: a smaller snapshot of the same keys.

use std::path::PathBuf;

use super::arguments::SourceArgs;
use super::{Context, Exit, Failure};
use crate::jobs::compact::{Compacted, Extent, compact};
use crate::jobs::export::{DigestRule, is_stdout, refuse_place};
use crate::jobs::host;
use crate::jobs::inspect::refuse_living;
use crate::jobs::source::{Found, described};
use crate::json;
use crate::model::ByteSize;
use crate::terminal::Format;
use crate::text::{compacted as compacted_words, count};

/// Write a smaller snapshot of the same keys, revision and HashKV
///
/// What etcd's compaction has given up is left out, whether etcd had come round to removing it or not, and so are free pages.
/// Every revision from the compacted one on reads as before; leases, users, members and all else are as they were. A store
/// that was never compacted keeps all of its history, and loses only its free pages.
///
/// The file is plaintext: whoever reads it reads the cluster. It gets its name when all of it is there and proven equal.
/// A plain SOURCE takes no memory; a stored backup is held in it, so that nothing else of it comes on a disk.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat compact latest smaller.db --identity backup-key.txt\n  \
    lifeboat compact ./snapshot.db ./smaller.db"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    /// The file to write, which must not exist; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Accept a source without a SHA-256 at its end, such as a copied member/snap/db; what is written gets one
    #[arg(long)]
    skip_hash_check: bool,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    refuse_place(&args.file, context.output.format == Format::Json)?;
    refuse_living(args.source.source())?;
    let found = args.source.find(context)?;
    found.say_what_follows(&context.output);
    write(context, &found, args.file, args.skip_hash_check)
}

/// Writes a smaller snapshot of what was found.
pub(super) fn write(context: &Context, found: &Found, file: PathBuf, skip_hash_check: bool) -> Result<Exit, Failure> {
    let interrupted = super::interrupted_flag(context);
    let rule = match skip_hash_check {
        true => DigestRule::Appended,
        false => DigestRule::Required,
    };
    let stop = || interrupted.load(std::sync::atomic::Ordering::Relaxed);
    let made = compact(found, rule, &file, host::spare_memory(), &context.output, &stop)?;
    super::export::warn_of_copy(context, made.digest);
    let used = found.manifest.as_ref();
    match context.output.format {
        Format::Json => context.output.json(&json::compact::Document::of(&made, &file, used)),
        Format::Text if is_stdout(&file) => {}
        Format::Text => {
            if let Some(manifest) = used {
                context.output.sentence(format!("backup  {}", described(manifest)));
            }
            context
                .output
                .sentence(format!("written {}, {}", file.display(), ByteSize(made.bytes)));
            print(context, &made);
        }
    }
    Ok(Exit::Done)
}

fn print(context: &Context, made: &Compacted) {
    let extent = |extent: Extent| {
        let (bytes, pages) = (ByteSize(extent.bytes), count(extent.pages, "page"));
        format!("{bytes} in {pages}, {}", count(extent.versions, "version"))
    };
    let line = |name: &str, value: String| context.output.sentence(format!("{name:<7} {value}"));
    line("before", extent(made.before));
    line("after", extent(made.after));
    line("same", count(made.live_keys, "live key"));
    let hash = made.hash_kv;
    line(
        "same",
        format!(
            "HashKV {} at revision {} ({})",
            hash.hash,
            hash.revision,
            compacted_words(hash)
        ),
    );
    if made.compacted.is_none() {
        line(
            "history",
            "all of it, as etcd was never told to compact: only free pages are gone".to_owned(),
        );
    }
}
