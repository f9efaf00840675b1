//! The lock of an object in a bucket that speaks S3: until a date, nobody without a right of its own removes that version.
//!
//! In such a bucket a removal always seems to succeed: it hides the object, and its bytes stay. So whoever removes asks first.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};

use super::requests::{Question, Requests};
use super::{Objects, wait};
use crate::store::Error;
use crate::store::backend::Backend as _;

impl Objects {
    /// Locks it from now on, by the server's clock.
    pub(super) fn lock_for(&self, requests: &Requests, path: &str, lock: Duration) -> Result<(), Error> {
        let until = SignedDuration::try_from(lock)
            .ok()
            .and_then(|lock| self.now().ok()?.checked_add(lock).ok())
            .ok_or_else(|| Error::Io {
                doing: "lock",
                at: self.address(path),
                source: std::io::Error::other("no such date"),
            })?;
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>GOVERNANCE</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let reply = wait(requests.ask(&Question {
            method: Method::PUT,
            path: Some(path),
            query: &[("retention", "")],
            headers: &[("content-md5", BASE64.encode(Md5::digest(&body)))],
            body: body.as_bytes(),
        }))
        .map_err(self.failed("lock", path))?;
        match reply.status.is_success() {
            true => Ok(()),
            false => Err(self.refused("lock", path, &reply)),
        }
    }

    /// Until when it is locked.
    pub(super) fn lock_of(&self, requests: &Requests, path: &str) -> Result<Option<Timestamp>, Error> {
        let doing = "ask for the lock of";
        let reply = wait(requests.ask(&Question {
            method: Method::HEAD,
            path: Some(path),
            ..Question::default()
        }))
        .map_err(self.failed(doing, path))?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => match reply.header("x-amz-object-lock-retain-until-date") {
                None => Ok(None),
                Some(told) => told.parse().map(Some).map_err(|_| Error::Io {
                    doing,
                    at: self.address(path),
                    source: std::io::Error::other(format!("`{told}` is no date")),
                }),
            },
            _ => Err(self.refused(doing, path, &reply)),
        }
    }
}
