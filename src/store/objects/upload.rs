//! A new object on its way into a bucket, part by part; how large a part is, `bucket_options` says.
//!
//! The headers of its requests are in `upload_headers`.

use std::io::{self, Write};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use opendal::{Metadata, Operator, Writer};

use super::super::Error;
use super::super::backend::NewObject;
use super::super::runtime::wait;
use super::receipt::{Sent, Whole};
use super::s3_requests::Requests;
use super::{HANDED_ON, failure, is_there_already};

/// A new object that is sent part by part.
pub(super) struct NewUpload {
    /// Taken when it is completed or given up.
    pub(super) writer: Option<Writer>,
    pub(super) operator: Operator,
    pub(super) path: String,
    pub(super) at: String,
    /// Not handed on yet.
    pub(super) waiting: Vec<u8>,
    pub(super) bytes: u64,
    /// Where nothing is read back, what a store's own checksum is compared with.
    pub(super) sent: Option<Sent>,
    pub(super) requests: Option<Arc<Requests>>,
}

impl NewUpload {
    fn hand_on(&mut self) -> Result<(), Error> {
        let block = std::mem::replace(&mut self.waiting, Vec::with_capacity(HANDED_ON));
        let writer = self.writer.as_mut().expect("only completing and giving up take it");
        let sent = wait(writer.write(block));
        sent.map_err(|error| failure("write", self.at.clone(), &error))
    }

    /// Whether the store has what was sent, by what it says itself.
    fn acknowledged(&self, sent: &Whole, etag: Option<&str>) -> Result<(), Error> {
        if etag.is_some_and(|etag| sent.has_etag(etag)) {
            return Ok(());
        }
        let at = self.at.clone();
        let Some(requests) = &self.requests else {
            return Err(Error::Unacknowledged { at });
        };
        let told = wait(requests.crc32c_of(&self.path)).map_err(|error| failure("look at", at.clone(), &error))?;
        match told {
            Some(told) if sent.has_crc32c(&told) => Ok(()),
            Some(_) => Err(Error::Altered { at }),
            None => Err(Error::Unacknowledged { at }),
        }
    }

    /// What there is of its name: how many bytes, and the ETag.
    fn found(&self, by: Asking) -> Option<(u64, Option<String>)> {
        let told = |found: &Metadata| (found.content_length(), found.etag().map(str::to_owned));
        wait(async {
            if by == Asking::ItsName {
                return self.operator.stat(&self.path).await.ok().as_ref().map(told);
            }
            let mut listed = self.operator.lister_with(&self.path).recursive(true).await.ok()?;
            while let Some(entry) = listed.try_next().await.ok()? {
                if entry.path() == self.path {
                    return Some(told(entry.metadata()));
                }
            }
            None
        })
    }

    /// What an error of completing comes to. The reply may have been lost, and the same tried again: then there is no such
    /// upload any more, or the name is taken, by these bytes. It is taken by these also where a run was killed after it.
    fn settled(&self, sent: Option<&Whole>, error: &opendal::Error) -> Result<(), Error> {
        let is_taken = is_there_already(error);
        let refused = match is_taken {
            true => Error::AlreadyExists { at: self.at.clone() },
            false => failure("complete", self.at.clone(), error),
        };
        match sent {
            // Who commits reads the bytes back.
            None if is_taken => Err(refused),
            None => match self.found(Asking::ItsName) {
                Some((bytes, _)) if bytes == self.bytes => Ok(()),
                Some(_) | None => Err(refused),
            },
            Some(sent) => match self.found(Asking::AListing) {
                Some((bytes, etag)) if bytes == self.bytes => match self.acknowledged(sent, etag.as_deref()) {
                    // Other bytes, or nobody can tell: another's, as far as is known.
                    Err(Error::Altered { .. } | Error::Unacknowledged { .. } | Error::Refused { .. }) if is_taken => {
                        Err(refused)
                    }
                    told => told,
                },
                Some(_) | None => Err(refused),
            },
        }
    }
}

/// How it is asked for what is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    ItsName,
    /// Who may only write may not be let at an object, and lists all the same.
    AListing,
}

impl Write for NewUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(HANDED_ON - self.waiting.len());
        let block = bytes.get(..taken).unwrap_or_default();
        self.waiting.extend_from_slice(block);
        self.bytes += taken as u64;
        if let Some(sent) = &mut self.sent {
            sent.take(block);
        }
        if self.waiting.len() == HANDED_ON {
            self.hand_on().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewObject for NewUpload {
    fn commit(mut self: Box<Self>) -> Result<(), Error> {
        if !self.waiting.is_empty() {
            self.hand_on()?;
        }
        let mut writer = self.writer.take().expect("it is completed once");
        let sent = self.sent.take().map(Sent::end);
        let error = match wait(writer.close()) {
            Ok(written) => return sent.map_or(Ok(()), |sent| self.acknowledged(&sent, written.etag())),
            Err(error) => error,
        };
        let settled = self.settled(sent.as_ref(), &error);
        // Of one that was completed nothing is left to give up.
        wait(writer.abort()).ok();
        settled
    }

    fn forget(mut self: Box<Self>) {
        drop(self.writer.take());
    }
}

impl Drop for NewUpload {
    fn drop(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            // What stays is for the bucket's rule for uploads that were not completed.
            wait(writer.abort()).ok();
        }
    }
}
