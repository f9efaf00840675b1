//! Memory that goes round: what one object was unpacked in, the next one is.
//!
//! Memory that is taken anew for each object, the kernel has to find, clear and map page by page, and to take back
//! afterwards.
//!
//! Invariant: of what nobody uses no more is kept than [`KEPT`] times [`LARGEST`], and none of it outlives those that use it.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// How many buffers are kept that nobody uses.
const KEPT: usize = 12;

/// The longest that are kept: twice what a delta has by default.
const LARGEST: usize = 8 << 20;

/// A buffer is made so much longer than is asked for that it will do for the next object, which hardly ever has the same
/// length. Memory that nothing is written to is not taken.
const STEP: usize = 1 << 20;

/// Memory for those who work on objects of one kind, on whichever threads.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// Bytes whose memory goes back to where it came from.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// An empty buffer with room for `bytes`, which may grow.
    pub fn with_room(&self, bytes: usize) -> Buffer {
        // The one that was given back last is the most likely to be in the processor's cache still.
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fits = |kept: &Vec<u8>| kept.capacity() >= bytes;
        // One that is too short is not made longer: nothing in it is to be copied.
        let made = || Vec::with_capacity(bytes.checked_next_multiple_of(STEP).unwrap_or(bytes));
        Buffer {
            bytes: kept.filter(fits).unwrap_or_else(made),
            home: self.clone(),
        }
    }
}

impl Buffer {
    /// The bytes, to be written.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl From<Vec<u8>> for Buffer {
    /// Bytes that came from elsewhere.
    fn from(bytes: Vec<u8>) -> Buffer {
        let home = Buffers::default();
        Buffer { bytes, home }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if (1..=LARGEST).contains(&bytes.capacity()) {
            bytes.clear();
            let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT {
                kept.push(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(buffers: &Buffers) -> Vec<usize> {
        buffers.0.lock().unwrap().iter().map(Vec::capacity).collect()
    }

    #[test]
    fn what_was_used_is_used_again_and_nothing_of_it_shows() {
        let buffers = Buffers::default();
        let mut first = buffers.with_room(3);
        first.bytes().extend_from_slice(b"one");
        let place = first.as_ptr();
        drop(first);
        let mut next = buffers.with_room(STEP);
        assert_eq!((next.as_ptr(), next.len()), (place, 0));
        next.bytes().extend_from_slice(b"two");
        assert_eq!(&*next, b"two");
        // One that is wanted meanwhile is another, and one that is too short is made anew.
        assert_ne!(buffers.with_room(3).as_ptr(), place);
        drop(next);
        assert!(buffers.with_room(STEP + 1).bytes().capacity() > STEP);
    }

    #[test]
    fn no_more_is_kept_than_a_bound_however_many_and_however_large_they_were() {
        let buffers = Buffers::default();
        let many: Vec<Buffer> = (0..3 * KEPT).map(|_| buffers.with_room(LARGEST)).collect();
        assert!(kept(&buffers).is_empty());
        drop(many);
        assert_eq!(kept(&buffers), [LARGEST; KEPT]);
        let buffers = Buffers::default();
        drop(buffers.with_room(LARGEST + 1));
        drop(buffers.with_room(0));
        drop(Buffer::from(vec![7; 10]));
        assert!(kept(&buffers).is_empty());
    }
}
