//! Documents are written at once, other objects as streams, from whoever calls or from a reader: nobody sees them before all
//! has come.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::super::Error;
use super::super::deadline::Signs;
use super::super::over_backend::{Inner, ReadBack};
use super::super::upload::Upload;
use super::{Store, time_to_sync};
use crate::layout::ObjectName;
use crate::model::Digest;

/// How much of an object is copied at once.
const COPIED_AT_ONCE: usize = 256 << 10;

/// How the writing of an object from a reader ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// The object is there.
    Done,
    /// The bytes are others than were expected: nothing is there.
    Differs,
    /// It was stopped: nothing is there.
    Stopped,
}

impl Store {
    /// Writes a small new object; `AlreadyExists` if another was faster.
    pub fn put_new(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let (object, bytes) = (object.clone(), bytes.to_vec());
        self.ask(move |store| store.backend().put_new(&object, &bytes))
    }

    /// Writes a new document, signed where this host has a key; `AlreadyExists` if another was faster.
    pub fn put_document(&self, name: &ObjectName, document: &[u8]) -> Result<(), Error> {
        self.put_new(name, &self.authority().sign(name, document))
    }

    /// Writes the list of signers, in the place of one that is there.
    pub fn put_signers(&self, document: &[u8]) -> Result<(), Error> {
        let document = document.to_vec();
        self.ask(move |store| store.backend().replace(&ObjectName::Signers, &document))
    }

    /// Begins a new object, to be written as a stream.
    pub fn begin(&self, object: &ObjectName) -> Result<Upload, Error> {
        let (at, whom) = (self.address_of(object), self.location.key());
        let (object, limit) = (object.clone(), self.limits.answer);
        // Of a store that answers too late, what was begun goes as it came: on the thread that was asked.
        let throttle = self.throttle.clone();
        self.ask(move |store| {
            let begun = store.backend().begin(&object)?;
            Ok(Upload::of(begun, at, whom, limit).throttled(throttle))
        })
    }

    /// Writes a new object from `reader`, if it has just these bytes; nothing is there before all of them came. `each`
    /// hears every so often how many more came, which may be none, and may stop it. The last sync has as long as a backup's.
    pub fn write_from(
        &self,
        object: &ObjectName,
        reader: impl Read + Send + 'static,
        expected: ReadBack,
        mut each: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Transfer, Error> {
        match self.pour(object, reader, &mut each)? {
            None => Ok(Transfer::Stopped),
            Some((written, _)) if written != expected => Ok(Transfer::Differs),
            Some((_, upload)) => {
                self.commit(upload, expected.bytes, &mut each)?;
                Ok(Transfer::Done)
            }
        }
    }

    /// Writes a new object from a `reader` of which only the end tells what it has; an error of it leaves nothing. Says what
    /// was written; nothing if it was stopped.
    pub fn write_stream(
        &self,
        object: &ObjectName,
        reader: impl Read + Send + 'static,
        mut each: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<ReadBack>, Error> {
        let Some((written, upload)) = self.pour(object, reader, &mut each)? else {
            return Ok(None);
        };
        self.commit(upload, written.bytes, &mut each)?;
        Ok(Some(written))
    }

    /// Writes what `reader` has to an object that nobody sees yet; nothing if it was stopped.
    fn pour(
        &self,
        object: &ObjectName,
        mut reader: impl Read + Send + 'static,
        each: &mut impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<(ReadBack, Upload)>, Error> {
        let mut upload = self.begin(object)?;
        let at = self.address_of(object);
        let (copied, is_stopped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, told_to_stop) = (copied.clone(), is_stopped.clone());
        let pour = move |_: &Inner, signs: &Signs| {
            let (mut hasher, mut bytes, mut block) = (Sha256::new(), 0_u64, vec![0; COPIED_AT_ONCE]);
            while !told_to_stop.load(Ordering::Relaxed) {
                let length = reader
                    .read(&mut block)
                    .map_err(|source| Error::at("read what is copied to", at.clone(), source))?;
                let read = block.get(..length).unwrap_or_default();
                if read.is_empty() {
                    break;
                }
                signs.give();
                hasher.update(read);
                bytes += length as u64;
                upload
                    .write_all(read)
                    .map_err(|source| Error::at("copy to", at.clone(), source))?;
                counted.fetch_add(length as u64, Ordering::Relaxed);
                signs.give();
            }
            let sha256 = Digest(hasher.finalize().into());
            Ok((ReadBack { bytes, sha256 }, upload))
        };
        let mut look = || {
            if each(copied.swap(0, Ordering::Relaxed)).is_break() {
                is_stopped.store(true, Ordering::Relaxed);
            }
        };
        let written = self.ask_while(self.limits.listing, pour, &mut look)?;
        look();
        Ok((!is_stopped.load(Ordering::Relaxed)).then_some(written))
    }

    fn commit(&self, upload: Upload, bytes: u64, each: &mut impl FnMut(u64) -> ControlFlow<()>) -> Result<(), Error> {
        let patience = self.limits.answer + time_to_sync(bytes);
        // Asked to stop, it is soon done all the same.
        let look = || _ = each(0);
        self.ask_while(patience, move |_, _| upload.commit(), look)
    }
}
