//! An object while it is being written.
//!
//! Invariant: until `commit` returns nobody sees the object; dropped before that, nothing of it is left.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use super::backend::NewObject;
use super::deadline::ask;
use super::throttle::Throttle;

/// No rest is for more than this, so that what is slow is not taken for what hangs.
const MOST_AT_ONCE: usize = 256 << 10;

/// A new object. Written to as a stream; `commit` makes it visible.
#[must_use]
pub struct Upload {
    /// Taken by `commit`; dropped, it removes what was written.
    object: Option<Box<dyn NewObject>>,
    /// What people know it by.
    at: String,
    /// Whose store it is, and how long that may say nothing.
    whom: String,
    limit: Duration,
    /// How fast it is written to, if there is a limit, and what becomes of what is faster.
    throttle: Option<Arc<Mutex<Throttle>>>,
    faster: Faster,
}

/// What becomes of what is written faster than the store may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faster {
    /// It waits.
    Waits,
    /// It fails: others would have to wait for it.
    Fails,
}

impl Upload {
    pub(super) fn of(object: Box<dyn NewObject>, at: String, whom: String, limit: Duration) -> Upload {
        Upload {
            object: Some(object),
            at,
            whom,
            limit,
            throttle: None,
            faster: Faster::Waits,
        }
    }

    pub(super) fn throttled(mut self, throttle: Option<Arc<Mutex<Throttle>>>) -> Upload {
        self.throttle = throttle;
        self
    }

    /// What becomes of what is written faster than the store may be written to.
    pub fn when_faster(&mut self, faster: Faster) {
        self.faster = faster;
    }

    /// Rests for as long as so many bytes more have to wait.
    fn rest(&self, bytes: usize) -> io::Result<()> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = throttle.take(bytes as u64, Instant::now());
        drop(throttle);
        match self.faster {
            _ if rest.is_zero() => Ok(()),
            Faster::Waits => {
                std::thread::sleep(rest);
                Ok(())
            }
            Faster::Fails => Err(io::Error::other(Error::Limited { at: self.at.clone() })),
        }
    }

    /// Makes the object durable and visible; `AlreadyExists` if another was faster.
    pub fn commit(mut self) -> Result<(), Error> {
        self.object
            .take()
            .expect("only commit and drop take it, and each comes once")
            .commit()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upload").field(&self.at).finish()
    }
}

impl Write for Upload {
    /// Errors carry a `store::Error`, so that they name the object wherever they surface.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = bytes.get(..MOST_AT_ONCE).unwrap_or(bytes);
        self.rest(bytes.len())?;
        let object = self
            .object
            .as_mut()
            .expect("only commit and drop take it, and each comes once");
        object.write(bytes).map_err(|source| match source.kind() {
            io::ErrorKind::Interrupted => source,
            kind => io::Error::new(kind, Error::at("write", self.at.clone(), source)),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        // Where the store is not asked, it is not removed by this thread either.
        let left = Arc::new(Mutex::new(Some(object)));
        let own = left.clone();
        let take = move |left: &Mutex<Option<_>>| left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let removing = ask(&self.whom, self.limit, move |_| drop(take(&own)));
        match removing {
            // What a store that hangs keeps is swept later.
            Ok(asked) => drop(asked.answer()),
            Err(_) => {
                if let Some(object) = take(&left) {
                    object.forget();
                }
            }
        }
    }
}
