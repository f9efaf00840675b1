//! What a bucket that speaks S3 enforces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, StatusCode};

use super::receipt::{Sent, Whole};
use super::requests::{Question, Reply, Requests};
use super::{Objects, wait};
use crate::store::Error;
use crate::store::probe::{Answer, OfKind};

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
        let written = put(&[])?;
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
        let mut checksums = Vec::new();
        for (name, header, value) in wrong {
            if !put(&[(header, value)])?.status.is_success() {
                checksums.push(name);
            }
        }
        let lock = ask(&Question {
            query: &[("object-lock", "")],
            ..Question::default()
        })?;
        Ok(OfKind {
            checksums: Some(checksums),
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

/// Whether a bucket says that objects in it can be locked.
fn is_locking(reply: &Reply) -> Answer {
    match reply.status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Answer::Unknown,
        status if status.is_success() => {
            let said = String::from_utf8_lossy(&reply.body);
            said.contains("<ObjectLockEnabled>Enabled").into()
        }
        _ => Answer::No,
    }
}
