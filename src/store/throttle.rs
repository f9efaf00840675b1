//! How fast a store is written to: a bucket of bytes that fills at a rate, and that every write empties.
//!
//! A pure function of what was written and when; to rest is left to the caller.

use std::time::{Duration, Instant};

/// What may go at once after a pause, at the least.
const BURST: u64 = 8 << 20;

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
    fn a_clock_that_goes_back_gives_nothing_away() {
        let now = Instant::now();
        let mut throttle = Throttle::new(MIB, now);
        throttle.take(BURST, now + Duration::from_secs(1));
        let rest = throttle.take(MIB, now);
        assert_eq!(rest, throttle.take(0, now));
        assert!(rest > Duration::ZERO);
    }
}
