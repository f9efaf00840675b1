//! How fast a snapshot is drawn from its member: the faster, the longer the member's clients wait meanwhile.
//!
//! Two things hold a member back. It sends no further ahead of us than its connection lets it, and we rest where it was
//! faster than it is to be. The rests are a pure function of what came and how long it took; to take them is left to the
//! caller.

use std::str::FromStr;
use std::time::Duration;

use crate::etcd::Ahead;
use crate::model::ByteSize;

/// What a timer can still measure; less is saved up.
const SHORTEST_REST: Duration = Duration::from_millis(2);

/// How much of what was slower than it should be is made up for: what late timers cost, not what the member did.
const MOST_CREDIT: f64 = 0.02;

/// No rest is longer, so that the stream is never silent.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as a member is that pauses for us again and again: which takes up to twice as long.
    Auto,
    /// As fast as it goes.
    Off,
    /// At most so many bytes a second.
    AtMost(ByteSize),
}

/// What is no pace.
#[derive(Debug, thiserror::Error)]
#[error("`{given}` is not {EXPECTED}")]
pub struct NoPace {
    given: String,
}

const EXPECTED: &str = "\"auto\", \"off\" or a rate from \"1 MiB/s\"";
const SLOWEST: u64 = 1 << 20;

impl FromStr for Pace {
    type Err = NoPace;

    fn from_str(text: &str) -> Result<Pace, NoPace> {
        let rate = || {
            let rate: ByteSize = text.strip_suffix("/s")?.parse().ok()?;
            (rate.0 >= SLOWEST).then_some(Pace::AtMost(rate))
        };
        match text {
            "auto" => Ok(Pace::Auto),
            "off" => Ok(Pace::Off),
            _ => rate().ok_or_else(|| NoPace { given: text.to_owned() }),
        }
    }
}

impl Pace {
    /// About how long a database of so many bytes takes at the least: etcd sends some 300 MB a second.
    pub fn takes(self, bytes: u64) -> Duration {
        let rate = match self {
            Pace::Off => 300_000_000,
            Pace::Auto => 150_000_000,
            Pace::AtMost(rate) => rate.0.clamp(1, 300_000_000),
        };
        Duration::from_secs(bytes / rate)
    }

    /// How far the member may send ahead.
    pub fn ahead(self) -> Ahead {
        match self {
            Pace::Auto | Pace::AtMost(_) => Ahead::Little,
            Pace::Off => Ahead::Far,
        }
    }
}

/// The rests of one stream.
#[derive(Debug)]
pub struct Pacer {
    pace: Pace,
    /// Seconds of rest; negative where rests were too long.
    owed: f64,
}

impl Pacer {
    /// For a stream that begins.
    pub fn new(pace: Pace) -> Pacer {
        Pacer { pace, owed: 0.0 }
    }

    /// How long to rest after `bytes` that took `worked`, if it is worth it already.
    pub fn rest(&mut self, bytes: usize, worked: Duration) -> Option<Duration> {
        let rate = match self.pace {
            Pace::Off | Pace::Auto => return None,
            Pace::AtMost(rate) => rate.0 as f64,
        };
        let due = bytes as f64 / rate.max(1.0);
        self.owed = (self.owed + due - worked.as_secs_f64()).max(-MOST_CREDIT);
        if self.owed < SHORTEST_REST.as_secs_f64() {
            return None;
        }
        let rest = Duration::from_secs_f64(self.owed).min(LONGEST_REST);
        self.owed -= rest.as_secs_f64();
        Some(rest)
    }

    /// Takes note of how long a rest of `wanted` really was: timers are late.
    pub fn rested(&mut self, wanted: Duration, real: Duration) {
        self.owed = (self.owed - real.saturating_sub(wanted).as_secs_f64()).max(-MOST_CREDIT);
    }
}

/// Whether a member sends fast enough to finish in time. Only the time that it was waited for counts: what a destination
/// or a rest takes is not the member's.
#[derive(Debug)]
pub struct Slowness {
    total: u64,
    within: Duration,
    /// So long is looked at before a judgement: a stream may falter for a moment.
    window: Duration,
    received: u64,
    waited: Duration,
    window_bytes: u64,
    window_waited: Duration,
}

/// A member that is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow {
    /// Bytes that it sends in a second.
    pub rate: u64,
    /// Bytes that have come.
    pub received: u64,
    /// How long the rest would take.
    pub left: Duration,
}

/// A window is no shorter.
const SHORTEST_WINDOW: Duration = Duration::from_secs(10);

impl Slowness {
    /// For a stream of `total` bytes that is to end `within` so long.
    pub fn new(total: u64, within: Duration, window: Duration) -> Slowness {
        Slowness {
            total,
            within,
            window: window.max(SHORTEST_WINDOW),
            received: 0,
            waited: Duration::ZERO,
            window_bytes: 0,
            window_waited: Duration::ZERO,
        }
    }

    /// Takes note of `bytes` that it took so long to wait for; says whether the rest would come too late at the pace of the
    /// window that ends with them.
    pub fn after(&mut self, bytes: u64, waited: Duration) -> Option<TooSlow> {
        self.received += bytes;
        self.waited += waited;
        self.window_bytes += bytes;
        self.window_waited += waited;
        // A stream that is complete is not too slow, however long it took.
        let is_complete = self.total > 0 && self.received >= self.total;
        if self.window_waited < self.window || is_complete {
            return None;
        }
        let rate = self.window_bytes as f64 / self.window_waited.as_secs_f64();
        (self.window_bytes, self.window_waited) = (0, Duration::ZERO);
        let seconds = self.total.saturating_sub(self.received) as f64 / rate.max(f64::MIN_POSITIVE);
        let left = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        (self.waited.saturating_add(left) > self.within).then_some(TooSlow {
            rate: rate as u64,
            received: self.received,
            left,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time that a stream takes whose chunks have these sizes and take so long.
    fn total(pace: Pace, chunks: &[(usize, Duration)]) -> Duration {
        let mut pacer = Pacer::new(pace);
        let rests = chunks.iter().filter_map(|(bytes, worked)| pacer.rest(*bytes, *worked));
        rests.sum::<Duration>() + chunks.iter().map(|(_, worked)| *worked).sum::<Duration>()
    }

    #[test]
    fn a_rate_is_kept_whether_chunks_are_large_or_small() {
        let rate = Pace::AtMost(ByteSize(10 << 20));
        let worked = Duration::from_micros(100);
        for chunk in [32 << 10, 1 << 20] {
            let chunks = vec![(chunk, worked); (100 << 20) / chunk];
            let took = total(rate, &chunks).as_secs_f64();
            assert!((9.9..10.1).contains(&took), "{took}");
        }
        let slower = vec![(1 << 20, Duration::from_secs(1)); 10];
        assert_eq!(total(rate, &slower), Duration::from_secs(10));
    }

    #[test]
    fn what_a_late_timer_took_too_much_is_given_back_up_to_a_bound() {
        let mut pacer = Pacer::new(Pace::AtMost(ByteSize(1 << 20)));
        let rest = pacer.rest(1 << 20, Duration::ZERO).unwrap();
        assert_eq!(rest, Duration::from_secs(1));
        pacer.rested(rest, 2 * rest);
        let next = pacer.rest(1 << 20, Duration::ZERO).unwrap().as_secs_f64();
        assert!((next - (1.0 - MOST_CREDIT)).abs() < 1e-6, "{next}");
    }

    #[test]
    fn a_member_whose_pace_cannot_finish_in_time_is_slow_though_never_silent() {
        const HOUR: Duration = Duration::from_secs(3600);
        let slowness = |total| Slowness::new(total, 2 * HOUR, Duration::from_secs(60));
        let second = Duration::from_secs(1);
        // 1 KiB/s for 100 MiB would be 28 hours; that is told after a minute.
        let mut slow = slowness(100 << 20);
        let told: Vec<Option<TooSlow>> = (0..60).map(|_| slow.after(1 << 10, second)).collect();
        assert!(told[..59].iter().all(Option::is_none), "{told:?}");
        let TooSlow { rate, received, left } = told[59].unwrap();
        assert_eq!((rate, received), (1 << 10, 60 << 10));
        assert!(left > 28 * HOUR && left < 29 * HOUR, "{left:?}");
        // 100 KiB/s does it in 17 minutes, a pause of half a minute included.
        let mut slow_enough = slowness(100 << 20);
        for at in 0..1024 {
            let waited = if at == 500 { 30 * second } else { second };
            assert_eq!(slow_enough.after(100 << 10, waited), None, "{at}");
        }
        // One that begins well and then trickles is not waited for until the end of time.
        let mut trickles = slowness(100 << 20);
        assert_eq!(trickles.after(99 << 20, second), None);
        assert!((0..120).any(|_| trickles.after(1, second).is_some()));
        // One that is complete is kept, though its end came late.
        let mut late = slowness(100 << 20);
        assert_eq!(late.after(99 << 20, second), None);
        assert_eq!(late.after(1 << 20, 3 * HOUR), None);
    }

    #[test]
    fn a_pace_reads_as_it_is_written() {
        let rate = Pace::AtMost(ByteSize(100 << 20));
        for (text, pace) in [("auto", Pace::Auto), ("off", Pace::Off), ("100 MiB/s", rate)] {
            assert_eq!(text.parse::<Pace>().unwrap(), pace);
        }
        for text in ["", "100 MiB", "0 MiB/s", "1 KiB/s", "fast", "Auto"] {
            let error = text.parse::<Pace>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("`{text}` is not \"auto\", \"off\" or a rate from \"1 MiB/s\"")
            );
        }
    }
}
