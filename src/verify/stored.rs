//! The stored bytes of one copy: read back, and compared with what its manifest says.

use std::ops::ControlFlow;

use super::{Copy, Found, Stopped};
use crate::error_chain::with_causes;
use crate::layout::{Manifest, Proof};
use crate::store;

/// Compares the stored bytes with the manifest.
pub(super) fn stored(
    manifest: &Manifest,
    copy: &Copy<'_>,
    going: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Found, Stopped> {
    let read = match copy.store.read_back_while(&manifest.object_name(), going) {
        Ok(Some(read)) => read,
        Ok(None) => return Err(Stopped),
        Err(store::Error::NotFound { .. }) => return Ok(missing(manifest, copy)),
        Err(error @ store::Error::Unfit { .. }) => return Ok(Found::Wrong(vec![error.to_string()])),
        Err(error) => return Ok(Found::Unread(with_causes(&error))),
    };
    let expected = manifest.stored;
    if read.bytes != expected.bytes {
        let fault = format!("its object has {} bytes instead of {}", read.bytes, expected.bytes);
        return Ok(Found::Wrong(vec![fault]));
    }
    if read.sha256 != expected.sha256 {
        let fault = format!(
            "the object changed since it was stored (SHA-256 {} instead of {})",
            read.sha256, expected.sha256
        );
        return Ok(Found::Wrong(vec![fault]));
    }
    Ok(Found::Good(copy.before.max(Proof::Stored)))
}

/// An object that is not there: lost, unless the backup itself is no more.
pub(super) fn missing(manifest: &Manifest, copy: &Copy<'_>) -> Found {
    match copy.store.open_object(&manifest.name()) {
        Err(store::Error::NotFound { .. }) => Found::Gone,
        Err(error) => Found::Unread(with_causes(&error)),
        Ok(_) => Found::Wrong(vec!["its object is missing".to_owned()]),
    }
}
