//! How fast a store is written to: a bucket of bytes that fills at a rate, and that every write empties.
//!
//! A pure function of what was written and when; to rest is left to the caller. There is one for each destination: a store is
//! opened anew for each job, and what the one before has written counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What may go at once after a pause, at the least.
const BURST: u64 = 8 << 20;

/// Those of this process, each by whose it is.
static ALL: Mutex<BTreeMap<String, Arc<Mutex<Throttle>>>> = Mutex::new(BTreeMap::new());

/// A limit.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes a second.
    rate: f64,
    burst: f64,
    /// What may go at once; negative where more went.
    left: f64,
    at: Instant,
}

impl Throttle {
    /// That of a destination; a new one where it is written to for the first time, or its rate is another now.
    pub fn of(destination: &str, rate: u64, now: Instant) -> Arc<Mutex<Throttle>> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Throttle::new(rate, now);
        let is_same =
            |known: &Arc<Mutex<Throttle>>| known.lock().unwrap_or_else(PoisonError::into_inner).rate == new.rate;
        match all.get(destination).filter(|known| is_same(known)) {
            Some(known) => known.clone(),
            None => {
                let new = Arc::new(Mutex::new(new));
                all.insert(destination.to_owned(), new.clone());
                new
            }
        }
    }

    /// At most so many bytes a second, from now on.
    pub fn new(rate: u64, now: Instant) -> Throttle {
        let burst = rate.max(BURST) as f64;
        Throttle {
            rate: rate.max(1) as f64,
            burst,
            left: burst,
            at: now,
        }
    }

    /// How long to rest before so many bytes more go.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + since * self.rate).min(self.burst) - bytes as f64;
        Duration::try_from_secs_f64((-self.left / self.rate).max(0.0)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// How long so much takes in blocks, by a clock that stands still but for the rests.
    fn lasts(throttle: &mut Throttle, now: &mut Instant, bytes: u64, block: u64) -> Duration {
        let begun = *now;
        for _ in 0..bytes / block {
            *now += throttle.take(block, *now);
        }
        *now - begun
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        for rate in [MIB, 20 * MIB, 500 * MIB] {
            let mut now = Instant::now();
            let mut throttle = Throttle::new(rate, now);
            let burst = rate.max(BURST);
            assert_eq!(lasts(&mut throttle, &mut now, burst, MIB / 4), Duration::ZERO);
            let took = lasts(&mut throttle, &mut now, 10 * rate, MIB / 4).as_secs_f64();
            assert!((9.9..10.1).contains(&took), "{took}");
            // A pause fills it again, and no more than once.
            now += Duration::from_secs(3600);
            assert_eq!(lasts(&mut throttle, &mut now, burst, MIB / 4), Duration::ZERO);
            assert!(throttle.take(MIB, now) > Duration::ZERO);
        }
    }

    #[test]
    fn a_destination_that_is_opened_again_has_no_other_burst() {
        let now = Instant::now();
        let open = |rate| Throttle::of("sftp://keeper@far/a", rate, now);
        let take = |rate| open(rate).lock().unwrap().take(BURST, now);
        assert!(take(MIB).is_zero() && !take(MIB).is_zero());
        assert!(take(2 * MIB).is_zero(), "another rate");
        let other = Throttle::of("sftp://keeper@far/b", 2 * MIB, now);
        assert!(other.lock().unwrap().take(BURST, now).is_zero());
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let now = Instant::now();
        let mut throttle = Throttle::new(MIB, now);
        throttle.take(BURST, now + Duration::from_secs(1));
        let rest = throttle.take(MIB, now);
        assert_eq!(rest, throttle.take(0, now));
        assert!(rest > Duration::ZERO);
    }
}
