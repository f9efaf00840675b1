//! What a bucket that speaks S3 enforces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, StatusCode};
use md5::{Digest as _, Md5};

use super::lock::is_locking;
use super::receipt::{Sent, Whole};
use super::s3_requests::{Question, Requests};
use super::{Objects, wait};
use crate::store::probe::OfKind;
use crate::store::{Checksum, Error};

/// What is sent to see whether it is compared with its checksum.
const BYTES: &[u8] = b"canary";

impl Objects {
    /// `path` may be replaced.
    pub(super) fn probed(&self, requests: &Requests, path: &str) -> Result<OfKind, Error> {
        let ask = |question: &Question<'_>| wait(requests.ask(question)).map_err(self.failed("probe", path));
        let put = |headers: &[(&'static str, String)]| {
            ask(&Question {
                method: Method::PUT,
                path: Some(path),
                headers,
                body: BYTES,
                ..Question::default()
            })
        };
        // With the checksum that is configured: some tell of what they took only that.
        let crc = BASE64.encode(crc32c::crc32c(BYTES).to_be_bytes());
        let right = match self.checksum {
            Checksum::Crc32c => vec![("x-amz-checksum-crc32c", crc)],
            Checksum::Md5 => vec![("content-md5", BASE64.encode(Md5::digest(BYTES)))],
            Checksum::Auto | Checksum::Off => Vec::new(),
        };
        let written = put(&right)?;
        if !written.status.is_success() {
            return Err(self.refused("write", path, &written));
        }
        let acknowledges = match written.header("etag").is_some_and(|etag| sent().has_etag(etag)) {
            true => true,
            false => {
                let told = wait(requests.crc32c_of(path)).map_err(self.failed("probe", path))?;
                told.is_some_and(|told| sent().has_crc32c(&told))
            }
        };
        // Those of other bytes. A server that does not look at them takes it.
        let wrong = [
            ("crc32c", "x-amz-checksum-crc32c", BASE64.encode([0_u8; 4])),
            ("md5", "content-md5", BASE64.encode([0_u8; 16])),
        ];
        let mut checksums = Some(Vec::new());
        for (name, header, value) in wrong {
            let reply = put(&[(header, value)])?;
            match reply.status {
                StatusCode::BAD_REQUEST => checksums.iter_mut().for_each(|refused| refused.push(name)),
                status if status.is_success() => {}
                // It has too much to do, or says no to something else: nothing is known.
                _ => checksums = None,
            }
        }
        let lock = wait(requests.locks()).map_err(self.failed("probe", path))?;
        Ok(OfKind {
            checksums,
            acknowledges: acknowledges.into(),
            object_lock: is_locking(&lock),
            versioning: written
                .header("x-amz-version-id")
                .is_some_and(|version| version != "null")
                .into(),
        })
    }
}

fn sent() -> Whole {
    let mut sent = Sent::new(BYTES.len());
    sent.take(BYTES);
    sent.end()
}
