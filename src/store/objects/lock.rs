//! The lock of an object in a bucket that speaks S3: until a date, nobody without a right of its own removes that version.
//!
//! In such a bucket a removal always seems to succeed: it hides the object, and its bytes stay. So whoever removes asks first.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use serde::Deserialize;

use super::s3_requests::{Question, Reply, Requests};
use super::{Objects, wait};
use crate::store::Error;
use crate::store::backend::Backend as _;
use crate::store::probe::Answer;

/// Who may remove a locked version is up to a right of its own.
const MODE: &str = "GOVERNANCE";

const DOING: &str = "ask for the lock of";

/// What a server says of the lock of an object.
#[derive(Deserialize)]
struct Retention {
    #[serde(rename = "RetainUntilDate")]
    until: String,
}

impl Objects {
    /// Writes a small new object with its lock, so that at no moment it has none. `AlreadyExists` if another was faster.
    pub(super) fn put_locked(
        &self,
        requests: &Requests,
        path: &str,
        bytes: &[u8],
        lock: Duration,
    ) -> Result<(), Error> {
        let doing = "write";
        let reply = wait(requests.ask(&Question {
            method: Method::PUT,
            path: Some(path),
            headers: &[
                ("if-none-match", "*".to_owned()),
                ("content-md5", BASE64.encode(Md5::digest(bytes))),
                ("x-amz-object-lock-mode", MODE.to_owned()),
                ("x-amz-object-lock-retain-until-date", self.end_of(path, lock)?),
            ],
            body: bytes,
            ..Question::default()
        }));
        let refused = match reply {
            Ok(reply) if reply.status.is_success() => return Ok(()),
            Ok(reply) if matches!(reply.status, StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT) => {
                Error::AlreadyExists { at: self.address(path) }
            }
            Ok(reply) => self.refused(doing, path, &reply),
            Err(error) => self.failed(doing, path)(error),
        };
        // The reply to our own write may have been lost, and the same tried again: what is there tells.
        match self.content(path, (bytes.len() as u64).saturating_add(1)) {
            Ok(found) if found == bytes => Ok(()),
            Ok(_) | Err(_) => Err(refused),
        }
    }

    /// Locks it from now on, by the server's clock.
    pub(super) fn lock_for(&self, requests: &Requests, path: &str, lock: Duration) -> Result<(), Error> {
        let until = self.end_of(path, lock)?;
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{MODE}</Mode>\
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

    /// When a lock ends that begins now.
    fn end_of(&self, path: &str, lock: Duration) -> Result<String, Error> {
        let until = SignedDuration::try_from(lock)
            .ok()
            .and_then(|lock| self.now().ok()?.checked_add(lock).ok())
            .ok_or_else(|| Error::Io {
                doing: "lock",
                at: self.address(path),
                source: std::io::Error::other("no such date"),
            })?;
        Ok(until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }

    /// Until when it is locked. Asked wherever the bucket may have locks: another may have set it, or this host has before.
    pub(super) fn lock_of(&self, requests: &Requests, path: &str) -> Result<Option<Timestamp>, Error> {
        let locks = self.has_locks(requests)?;
        if locks == Answer::No {
            return Ok(None);
        }
        // It tells who has the right to see it; who has not hears nothing, as of what is not locked.
        let ask = |method, query| {
            let question = Question {
                method,
                path: Some(path),
                query,
                ..Question::default()
            };
            wait(requests.ask(&question)).map_err(self.failed(DOING, path))
        };
        let head = ask(Method::HEAD, &[])?;
        match head.status {
            StatusCode::NOT_FOUND => return Ok(None),
            status if status.is_success() => {
                if let Some(told) = head.header("x-amz-object-lock-retain-until-date") {
                    return self.date(path, told).map(Some);
                }
            }
            _ => {}
        }
        let reply = ask(Method::GET, &[("retention", "")])?;
        match reply.status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(None),
            // The bucket has no locks.
            StatusCode::BAD_REQUEST => Ok(None),
            // Nothing says that there are any.
            StatusCode::FORBIDDEN if locks == Answer::Unknown && self.object_lock.is_none() => Ok(None),
            status if status.is_success() => match quick_xml::de::from_reader::<_, Retention>(&*reply.body) {
                Ok(told) => self.date(path, &told.until).map(Some),
                // It knows no such question.
                Err(_) => Ok(None),
            },
            _ => Err(self.refused(DOING, path, &reply)),
        }
    }

    fn date(&self, path: &str, told: &str) -> Result<Timestamp, Error> {
        told.parse().map_err(|_| Error::Io {
            doing: DOING,
            at: self.address(path),
            source: std::io::Error::other(format!("`{told}` is no date")),
        })
    }

    /// Whether objects in the bucket can be locked; asked once.
    fn has_locks(&self, requests: &Requests) -> Result<Answer, Error> {
        if let Some(known) = self.locks.get() {
            return Ok(*known);
        }
        let reply = wait(requests.locks()).map_err(self.failed("ask for the locks of", ""))?;
        match is_locking(&reply) {
            Answer::Unknown if reply.status.is_server_error() || reply.status == StatusCode::TOO_MANY_REQUESTS => {
                Err(self.refused("ask for the locks of", "", &reply))
            }
            told => Ok(*self.locks.get_or_init(|| told)),
        }
    }
}

/// Whether a bucket says that objects in it can be locked.
pub(super) fn is_locking(reply: &Reply) -> Answer {
    match reply.status {
        StatusCode::NOT_IMPLEMENTED => Answer::No,
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Answer::Unknown,
        StatusCode::TOO_MANY_REQUESTS => Answer::Unknown,
        status if status.is_server_error() => Answer::Unknown,
        status if status.is_success() => {
            let said = String::from_utf8_lossy(&reply.body);
            said.contains("<ObjectLockEnabled>Enabled").into()
        }
        _ => Answer::No,
    }
}
