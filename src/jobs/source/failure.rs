//! Why a source could not be opened or read, and what to do next.

use std::collections::BTreeSet;
use std::path::Path;

use super::STDIN;
use crate::jobs::{Exit, Failure};
use crate::layout::Manifest;
use crate::pipeline::{DecodeError, Recipient, Window};
use crate::source::{self, FileKind};
use crate::text::clean;

/// A failure of opening the file that was named.
pub(super) fn cannot_open(path: &Path, error: &std::io::Error) -> Failure {
    let (exit, next) = match error.kind() {
        std::io::ErrorKind::NotFound => (
            Exit::NotFound,
            "correct the path; `lifeboat list` shows the stored backups",
        ),
        _ => (Exit::Failed, "run as a user that may read it"),
    };
    Failure::new(exit, format!("cannot open {}: {error}", path.display())).next(next)
}

/// A failure of reading a source.
pub fn source_failure(error: &source::Error, manifest: Option<&Manifest>) -> Failure {
    match error {
        source::Error::NoIdentity { .. } => {
            Failure::new(Exit::WrongKey, error).next("give the key with `--identity FILE`")
        }
        source::Error::Decode {
            error: DecodeError::WrongKey,
            ..
        } => Failure::new(Exit::WrongKey, error).next(match manifest {
            Some(manifest) => format!(
                "it is encrypted to {}: give the identity of one of them{}",
                recipients(manifest),
                programs(manifest)
            ),
            None => "give the identity of one of its recipients".to_owned(),
        }),
        source::Error::Decode {
            error: DecodeError::Plugins(_),
            ..
        } => Failure::new(Exit::WrongKey, error).next("mend that, or give another identity with `--identity FILE`"),
        source::Error::Decode {
            error: DecodeError::Window { granted },
            ..
        } => Failure::new(Exit::Refused, error).next(match *granted == Window::STORED {
            // Not every command that reads stored objects grants more.
            true => "another program made it; `lifeboat export SOURCE FILE --long 31` can read it, with up to 2 GiB of memory",
            false => "grant it more with `--long`: up to 2 GiB of memory with `--long 31`",
        }),
        source::Error::OtherFile { name, kind, encrypted } => {
            let failure = Failure::new(Exit::Usage, error);
            match (manifest, unpacking(name, *kind, *encrypted)) {
                (None, Some(command)) => failure.next(format!("unpack it: `{command}`")),
                (None, None) => failure.next(NAME_ANOTHER),
                (Some(_), _) => Failure::new(Exit::Damaged, error).next("choose another backup: `lifeboat list`"),
            }
        }
        source::Error::Empty { .. } if manifest.is_none() => Failure::new(Exit::Damaged, error).next(NAME_ANOTHER),
        source::Error::Decode {
            error: DecodeError::Damaged { .. },
            ..
        }
        | source::Error::NotADatabase { .. }
        | source::Error::Empty { .. } => {
            Failure::new(Exit::Damaged, error).next("choose another backup: `lifeboat list`")
        }
        source::Error::Hole { reached } => Failure::new(Exit::Damaged, error).next(format!(
            "what is before it can be had: `--to-revision {reached}`"
        )),
        source::Error::Decode {
            error: DecodeError::Read(_),
            ..
        }
        | source::Error::Read { .. } => Failure::new(Exit::Failed, error),
    }
}

/// What to do about a file that is none of those.
pub(super) const NAME_ANOTHER: &str =
    "name a file of `etcdctl snapshot save`, a stored `.db.zst.age` file, or a backup's ID: `lifeboat list`";

/// The command that gets a snapshot out of the file called `name`.
fn unpacking(name: &str, kind: FileKind, encrypted: bool) -> Option<String> {
    let file = if name == STDIN { "FILE" } else { name };
    kind.command(file, encrypted)
}

/// Which programs open it beside keys in files, in words.
fn programs(manifest: &Manifest) -> String {
    let keys = manifest
        .recipients
        .iter()
        .filter_map(|key| key.parse::<Recipient>().ok());
    let names = keys.filter_map(|key| Some(key.plugin()?.file_name()?.to_string_lossy().into_owned()));
    let names: BTreeSet<String> = names.collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(
            "; those of plugins need their programs ({})",
            names.into_iter().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// To whom a backup is encrypted, in words.
pub fn recipients(manifest: &Manifest) -> String {
    let keys: Vec<_> = manifest.recipients.iter().map(|key| clean(key)).collect();
    keys.join(", ")
}
