//! `lifeboat export`: the plain snapshot file.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::host::chain;
use super::output::Format;
use super::progress::Bar;
use super::source::{SourceArgs, Used, described, source_failure};
use super::{Context, Exit, Failure};
use crate::catalog::Manifest;
use crate::durable::{self, Partial};
use crate::model::ByteSize;
use crate::source::{self, Hashed, SnapshotHasher, Source, TrailingDigest};

/// Who may read an exported file: it is plaintext.
const FILE_MODE: u32 = 0o600;

/// Write the plain snapshot, as `etcdctl snapshot save` would have written it
///
/// The file is plaintext: whoever reads it reads the cluster. It gets its name only when all of it is there and right.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat export latest snapshot.db --identity backup-key.txt\n  \
    lifeboat export ./full.db.zst.age - --identity backup-key.txt | less"
)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// The file to write, which must not exist; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    backup: Option<Used>,
    file: PathBuf,
    bytes: u64,
    sha256: crate::model::Digest,
}

enum Error {
    Source(source::Error),
    Write(PathBuf, io::Error),
    Exists(PathBuf),
    Wrong(String),
    Interrupted,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let to_stdout = args.file.as_os_str() == "-";
    if to_stdout && io::stdout().is_terminal() {
        return Err(
            Failure::new(Exit::Usage, "standard output is a terminal").next("give a file, or send it on with `|`")
        );
    }
    if args.file.is_dir() {
        return Err(
            Failure::new(Exit::Usage, format!("{} is a directory", args.file.display()))
                .next("give the name of a file in it"),
        );
    }
    if to_stdout && context.output.format == Format::Json {
        return Err(Failure::new(Exit::Usage, "`--json` and `-` both want standard output").next("give a file"));
    }
    let interrupted = super::interrupted_flag(context);
    let found = args.source.find(context)?;
    let manifest = found.manifest.clone();
    // What has gone to standard output cannot be taken back, so another copy is no help then.
    let hashed = found.with_each(
        context,
        |source, manifest| {
            let bar = Bar::new(&context.output, "export");
            let stop = || interrupted.load(std::sync::atomic::Ordering::Relaxed);
            match to_stdout {
                true => copy(source, manifest, &mut io::stdout().lock(), &args.file, &bar, &stop),
                false => write(source, manifest, &args.file, &bar, &stop),
            }
        },
        |error| !to_stdout && matches!(error, Error::Source(_) | Error::Wrong(_)),
        |error| failure(error, manifest.as_ref()),
    )?;
    let bytes = hashed.database_bytes + crate::etcd::DIGEST_BYTES;
    match context.output.format {
        Format::Json => context.output.json(&Document {
            schema: 1,
            backup: manifest.as_ref().map(Used::of),
            file: args.file,
            bytes,
            sha256: hashed.sha256,
        }),
        Format::Text if !to_stdout => {
            if let Some(manifest) = &manifest {
                context.output.line(format!("backup  {}", described(manifest)));
            }
            context
                .output
                .line(format!("written {}, {}", args.file.display(), ByteSize(bytes)));
        }
        Format::Text => {}
    }
    Ok(Exit::Done)
}

fn write(
    source: Source,
    manifest: Option<&Manifest>,
    path: &Path,
    bar: &Bar,
    stop: &dyn Fn() -> bool,
) -> Result<Hashed, Error> {
    let refused = |error: durable::Error| match error {
        durable::Error::Exists { path } => Error::Exists(path),
        durable::Error::Io { path, source, .. } => Error::Write(path, source),
    };
    if path.exists() {
        return Err(Error::Exists(path.to_owned()));
    }
    let partial = Partial::create(path, FILE_MODE).map_err(refused)?;
    let hashed = copy(source, manifest, &mut partial.file(), path, bar, stop)?;
    partial.commit_new().map_err(refused)?;
    Ok(hashed)
}

fn copy(
    mut source: Source,
    manifest: Option<&Manifest>,
    to: &mut impl Write,
    path: &Path,
    bar: &Bar,
    stop: &dyn Fn() -> bool,
) -> Result<Hashed, Error> {
    let mut hasher = SnapshotHasher::default();
    let (mut block, mut done) = (Vec::new(), 0);
    while source.next_block(&mut block).map_err(Error::Source)? {
        if stop() {
            return Err(Error::Interrupted);
        }
        hasher.update(&block);
        to.write_all(&block)
            .map_err(|error| Error::Write(path.to_owned(), error))?;
        done += block.len() as u64;
        bar.at(done, source.length().unwrap_or(done));
    }
    to.flush().map_err(|error| Error::Write(path.to_owned(), error))?;
    let hashed = hasher.finish();
    match (hashed.digest, manifest) {
        (_, Some(manifest)) if manifest.plain.sha256 != hashed.sha256 => {
            let recorded = manifest.plain.sha256;
            Err(Error::Wrong(format!(
                "{}: SHA-256 {} instead of {recorded}",
                source.name(),
                hashed.sha256
            )))
        }
        (TrailingDigest::Matches, _) => Ok(hashed),
        (TrailingDigest::Differs, _) => Err(Error::Wrong(format!(
            "{}: its bytes do not match the SHA-256 at its end",
            source.name()
        ))),
        (TrailingDigest::Absent, _) => Err(Error::Wrong(format!(
            "{} has no SHA-256 at its end: it is not a whole snapshot",
            source.name()
        ))),
    }
}

fn failure(error: Error, manifest: Option<&Manifest>) -> Failure {
    match error {
        Error::Source(error) => source_failure(&error, manifest),
        Error::Write(path, error) => Failure::new(
            Exit::Failed,
            format!("cannot write {}: {}", path.display(), chain(&error)),
        ),
        Error::Exists(path) => Failure::new(Exit::Refused, format!("{} exists", path.display()))
            .next("give another file, or remove it first"),
        Error::Wrong(what) => Failure::new(Exit::Damaged, what).next("choose another backup: `lifeboat list`"),
        Error::Interrupted => Failure::new(Exit::Failed, "interrupted; nothing was kept"),
    }
}
