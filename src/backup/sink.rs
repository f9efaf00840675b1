//! One object of a backup on its way into one destination.

use std::io::{self, Write};
use std::ops::ControlFlow;

use super::Pulse;
use super::destinations::DestinationError;
use super::uncommitted::AtWork;
use crate::layout::{ObjectName, Stream};
use crate::model::ByteSize;
use crate::store::{self, Faster, ReadBack, Store, Upload};

/// How often it is looked at whether there is room.
const SPACE_CHECK_BYTES: u64 = 8 << 20;

/// An object in the making that leaves some room on its file system: etcd's own log may be on the same.
pub struct Sink {
    upload: Upload,
    store: Store,
    /// Bytes written since the room was last looked at.
    unchecked: u64,
    at_work: AtWork,
}

impl Sink {
    /// Begins it.
    pub fn begin(store: &Store, object: &ObjectName, at_work: &AtWork) -> Result<Sink, store::Error> {
        Ok(Sink {
            upload: store.begin(object)?,
            store: store.clone(),
            unchecked: 0,
            at_work: at_work.clone(),
        })
    }

    /// What it does where more comes than it may write.
    pub fn when_faster(&mut self, faster: Faster) {
        self.upload.when_faster(faster);
    }

    /// Makes it visible in the destination `name`, reads it back from the disk and compares.
    pub fn commit(
        self,
        name: &str,
        object: &ObjectName,
        stored: &Stream,
        pulse: &Pulse,
    ) -> Result<(), DestinationError> {
        let Sink {
            upload, store, at_work, ..
        } = self;
        // Under a name that nobody else has: what is there already may be our own, whose reply was lost. What is read tells.
        let is_own = match upload.commit() {
            Ok(()) => true,
            Err(store::Error::AlreadyExists { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        at_work.placed(name, &store, object);
        if !store.reads_back() {
            // Its checksum has been compared; of what was there already it has not.
            return match is_own {
                true => Ok(store.lock(object)?),
                false => Err(store::Error::AlreadyExists {
                    at: store.address_of(object),
                }
                .into()),
            };
        }
        let read = store.read_back_while(object, |_| {
            pulse.beat();
            match at_work.is_given_up() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        let Some(ReadBack { bytes, sha256 }) = read else {
            return Ok(()); // Nobody asks any more: it is removed once this has ended.
        };
        if bytes == stored.bytes && sha256 == stored.sha256 {
            return Ok(store.lock(object)?);
        }
        // Should it stay, it has no manifest, and is swept as a leaving.
        if is_own {
            store.remove(object).ok();
        }
        Err(DestinationError::ReadBack {
            object: object.to_string(),
            found: sha256,
            written: stored.sha256,
        })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.at_work.is_given_up() {
            return Err(io::Error::other("nobody wants the backup any more"));
        }
        if self.unchecked >= SPACE_CHECK_BYTES {
            self.unchecked = 0;
            if let Some(space) = self.store.free_space().map_err(io::Error::other)?
                && space.available < space.spare()
            {
                let (free, spare) = (ByteSize(space.available), ByteSize(space.spare()));
                let left = format!("{free} left, and {spare} must stay free");
                return Err(io::Error::new(io::ErrorKind::StorageFull, left));
            }
        }
        let written = self.upload.write(bytes)?;
        self.unchecked += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.upload.flush()
    }
}
