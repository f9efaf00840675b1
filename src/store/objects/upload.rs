//! A new object on its way into a bucket, part by part.

use std::io::{self, Write};
use std::sync::Arc;

use opendal::{Operator, Writer};

use super::super::Error;
use super::super::backend::NewObject;
use super::super::waiting::wait;
use super::receipt::Sent;
use super::requests::Requests;
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

    /// Whether the store took what was sent, by what it says itself; nothing to say where it is read back.
    fn acknowledge(&mut self, etag: Option<&str>) -> Result<(), Error> {
        let Some(sent) = self.sent.take() else { return Ok(()) };
        let sent = sent.end();
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
        let error = match wait(writer.close()) {
            Ok(written) => return self.acknowledge(written.etag()),
            Err(error) => error,
        };
        if is_there_already(&error) {
            wait(writer.abort()).ok();
            return Err(Error::AlreadyExists { at: self.at.clone() });
        }
        // The reply may have been lost, and the same tried again: then there is no such upload any more. Who commits reads
        // the bytes back.
        let found = wait(async { self.operator.stat(&self.path).await });
        if let Ok(found) = found
            && found.content_length() == self.bytes
        {
            return self.acknowledge(found.etag());
        }
        wait(writer.abort()).ok();
        Err(failure("complete", self.at.clone(), &error))
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
