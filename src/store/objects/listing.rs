//! What lies in a bucket, as its listing tells it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use opendal::Metadata;

use super::super::Error;
use super::super::document_cache::Sum;
use super::super::runtime::wait;
use super::Objects;
use crate::layout::{Listed, ListedObject};

/// All objects below a prefix, and the MD5 of each that has one; `sign` is called for each, as that may take long.
pub(super) fn below(
    objects: &Objects,
    prefix: &str,
    sign: &dyn Fn(),
) -> Result<(Vec<ListedObject>, Vec<Option<Sum>>), Error> {
    let mut lister = wait(async { objects.operator.lister_with(prefix).recursive(true).await })
        .map_err(objects.failed("list", prefix))?;
    let (mut found, mut sums) = (Vec::new(), Vec::new());
    while let Some(entry) = wait(lister.try_next()).map_err(objects.failed("list", prefix))? {
        sign();
        let (path, metadata) = entry.into_parts();
        if metadata.is_dir() {
            continue;
        }
        sums.push(sum_of(&metadata));
        found.push(ListedObject {
            name: Listed::file(&path),
            bytes: metadata.content_length(),
            // A time that cannot be told counts as just now: nothing is swept for it.
            modified: metadata.last_modified().map_or(Timestamp::MAX, Timestamp::from),
        });
    }
    Ok((found, sums))
}

/// The names that have others below them.
pub(super) fn folders(objects: &Objects) -> Result<Vec<String>, Error> {
    let mut lister = wait(async { objects.operator.lister_with("").await }).map_err(objects.failed("list", ""))?;
    let mut folders = Vec::new();
    while let Some(entry) = wait(lister.try_next()).map_err(objects.failed("list", ""))? {
        if let Some(name) = entry.path().strip_suffix('/').filter(|name| !name.is_empty()) {
            folders.push(name.to_owned());
        }
    }
    Ok(folders)
}

/// The MD5 that a listing tells of an object: as such, or as its ETag, which may be something else and is then no MD5 of it.
fn sum_of(metadata: &Metadata) -> Option<Sum> {
    let told = metadata
        .content_md5()
        .and_then(|told| BASE64.decode(told).ok()?.try_into().ok());
    told.or_else(|| {
        let etag = metadata.etag()?.trim_matches('"');
        if etag.len() != 32 || !etag.is_ascii() {
            return None;
        }
        Some(u128::from_str_radix(etag, 16).ok()?.to_be_bytes())
    })
}
