//! Whether what came is what was recorded: the digest of a manifest, and the one at the end of a snapshot.

use std::path::Path;

use super::copy_in::{Copied, Hashing};
use super::database::Sound;
use super::{DigestRule, Error, Wish, database};
use crate::datadir;
use crate::durable::failed;
use crate::source::{Source, TrailingDigest, trailing_digest};

/// Checks what was copied, while it is still being hashed. A wrong digest is told before what else may be wrong.
pub(super) fn checked(source: &Source, landed: Copied, wish: &Wish) -> Result<Sound, Error> {
    let file = landed.file.try_clone();
    let file = file.map_err(failed("keep open", Path::new(datadir::DB)))?;
    let sound = Sound::check(source.name(), file, landed.bytes, wish);
    check_digest(source, landed, wish)?;
    sound
}

/// Fails where the bytes that landed are not those of the manifest, or not those that the member sent.
fn check_digest(source: &Source, landed: Copied, wish: &Wish) -> Result<(), Error> {
    let name = source.name().to_owned();
    let hashed = landed.hashed.map(Hashing::finish).transpose()?;
    let not_as_recorded = |what| Error::NotAsRecorded {
        name: name.clone(),
        what,
    };
    let digest = match (hashed, wish.expected) {
        (Some(hashed), Some(expected)) if expected.sha256 != hashed.sha256 => {
            let what = format!("SHA-256 {} instead of {}", hashed.sha256, expected.sha256);
            return Err(not_as_recorded(what));
        }
        (Some(hashed), _) => hashed.digest,
        // The source has seen to the stored bytes; whoever recorded them has compared etcd's digest.
        (None, _) => match source.length().filter(|length| *length != landed.bytes) {
            Some(length) => return Err(not_as_recorded(format!("{} bytes instead of {length}", landed.bytes))),
            None if trailing_digest(landed.bytes) > 0 => TrailingDigest::Matches,
            None => TrailingDigest::Absent,
        },
    };
    match (digest, wish.digest) {
        (TrailingDigest::Matches, _) | (_, DigestRule::Skipped) => Ok(()),
        (TrailingDigest::Differs, DigestRule::Required) => Err(Error::DigestDiffers { name }),
        // What is cut short is not to be let through by a flag.
        (TrailingDigest::Absent, DigestRule::Required) => {
            database::is_whole(&name, &landed.file)?;
            Err(Error::NoDigest { name })
        }
    }
}
