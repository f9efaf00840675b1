//! Work of a command that may take hours, piece by piece: between two pieces others get the lock, a due backup above all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Exit, Failure, Listener, host};
use crate::state::{JobsLock, State};

/// How long it may hold up others, but for a single piece that takes longer.
const HELD_FOR: Duration = Duration::from_secs(30);

/// How long it leaves the lock to others: a slot that waits for it looks each second.
const LEFT_FOR: Duration = Duration::from_millis(2500);

/// How often it looks whether it may go on, or is to stop.
const LOOKED_EVERY: Duration = Duration::from_millis(500);

/// The right to be the only job on this host, for the length of a piece.
pub struct LongWork<'a> {
    state: &'a State,
    command: &'static str,
    lock: Option<JobsLock>,
    since: Instant,
}

impl<'a> LongWork<'a> {
    /// Takes the lock for `command`; waits for it up to `wait`.
    pub fn begin(state: &'a State, command: &'static str, wait: Duration) -> Result<LongWork<'a>, Failure> {
        Ok(LongWork {
            state,
            command,
            lock: Some(host::jobs_lock(state, command, wait)?),
            since: Instant::now(),
        })
    }

    /// To be called between two pieces: where it has had the lock for long, others may take it, and it is waited for until
    /// they have done, or until it is to stop.
    pub fn pause(&mut self, listener: &dyn Listener, stop: &AtomicBool) -> Result<(), Failure> {
        if self.since.elapsed() < HELD_FOR {
            return Ok(());
        }
        drop(self.lock.take());
        std::thread::sleep(LEFT_FOR);
        let mut is_told = false;
        while !stop.load(Ordering::Relaxed) {
            match host::jobs_lock(self.state, self.command, LOOKED_EVERY) {
                Ok(lock) => {
                    self.lock = Some(lock);
                    self.since = Instant::now();
                    break;
                }
                Err(failure) if failure.exit != Exit::Locked => return Err(failure),
                Err(failure) if !is_told => listener.detail(&format!("waits: {}", failure.message())),
                Err(_) => {}
            }
            is_told = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::copy::tests::Silent;

    fn work<'a>(state: &'a State, held_for: Duration) -> LongWork<'a> {
        let mut work = LongWork::begin(state, "copy", Duration::ZERO).unwrap();
        work.since = Instant::now().checked_sub(held_for).unwrap();
        work
    }

    #[test]
    fn others_get_the_lock_between_two_pieces_once_it_was_held_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path(), &"test".parse().unwrap());
        let (stop, now) = (AtomicBool::new(false), Duration::ZERO);
        let mut short = work(&state, now);
        short.pause(&Silent, &stop).unwrap();
        assert!(host::jobs_lock(&state, "agent", now).is_err(), "not after a moment");
        drop(short);

        let mut long = work(&state, HELD_FOR);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let lock = host::jobs_lock(&state, "agent", Duration::from_secs(20)).unwrap();
                std::thread::sleep(LEFT_FOR + Duration::from_secs(1));
                drop(lock);
                Instant::now()
            });
            long.pause(&Silent, &stop).unwrap();
            let went_on = Instant::now();
            assert!(other.join().unwrap() <= went_on, "it waits until the other has done");
        });
        assert!(host::jobs_lock(&state, "agent", now).is_err(), "and holds it again");

        // Asked to stop, it waits for nobody.
        long.since = Instant::now().checked_sub(HELD_FOR).unwrap();
        stop.store(true, Ordering::Relaxed);
        long.pause(&Silent, &stop).unwrap();
        assert!(host::jobs_lock(&state, "agent", now).is_ok());
    }
}
