//! How fast a snapshot is drawn from its member: the faster, the longer the member's clients wait meanwhile.
//!
//! The member sends no faster than it is read from, but for what the connection buffers. So it is not enough to rest now
//! and then, as long as the buffer lasts: the rate is held below what the member can do, and that is measured again and
//! again. A pure function of what came and how long it took; the resting is left to the caller.

use std::str::FromStr;
use std::time::Duration;

use crate::model::ByteSize;

/// How much of what the member can send is drawn. With what is drawn for the measurements a stream then takes up to 1.45
/// times as long.
const SHARE: f64 = 0.7;

/// What is drawn without rests to find out what the member can send: so many slices of so many bytes, of which the median
/// counts. Some are slow because we were held up, and the next ones fast because something was buffered meanwhile.
const SLICES: usize = 9;
const SLICE_BYTES: usize = 512 << 10;
/// What the connection has buffered, which says nothing of the member.
const BUFFERED_BYTES: usize = 4 << 20;

/// How long a measurement counts: hosts have other work too, but each measurement is felt.
const MEASURED_EVERY: Duration = Duration::from_secs(10);

/// How much of the last measurement counts at the least after a slower one, which may have been an accident.
const REMEMBERED: f64 = 0.8;

/// What a timer can still measure; less is saved up.
const SHORTEST_REST: Duration = Duration::from_millis(2);

/// How much of what was slower than it should be is made up for: what late timers cost, not what the member did.
const MOST_CREDIT: f64 = 0.02;

/// No rest is longer, so that the stream is never silent.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Slower than the member could, so that it takes up to half as long again.
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

/// The rests of one stream.
#[derive(Debug)]
pub struct Pacer {
    pace: Pace,
    phase: Phase,
    /// What the member can send, in bytes a second.
    can_send: f64,
    /// Seconds of rest; negative where rests were too long.
    owed: f64,
}

#[derive(Debug)]
enum Phase {
    /// So many bytes come from the buffer.
    Draining { left: usize },
    Measuring {
        bytes: usize,
        took: Duration,
        /// Bytes a second of the slices before.
        slices: Vec<f64>,
    },
    /// The rate is held, for so long already.
    Holding { since: Duration },
}

impl Pacer {
    /// For a stream that begins; the connection has buffered its first bytes while all was made ready.
    pub fn new(pace: Pace) -> Pacer {
        Pacer {
            pace,
            phase: Phase::Draining { left: BUFFERED_BYTES },
            can_send: 0.0,
            owed: 0.0,
        }
    }

    /// How long to rest after `bytes` that took `worked`, if it is worth it already.
    pub fn rest(&mut self, bytes: usize, worked: Duration) -> Option<Duration> {
        let rate = match self.pace {
            Pace::Off => return None,
            Pace::Auto => self.rate(bytes, worked)?,
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
        if let Phase::Holding { since } = &mut self.phase {
            *since += real;
        }
    }

    /// The rate to hold; none while it is measured.
    fn rate(&mut self, bytes: usize, worked: Duration) -> Option<f64> {
        match &mut self.phase {
            Phase::Draining { left } => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.phase = Phase::measuring();
                }
                None
            }
            Phase::Measuring {
                bytes: measured,
                took,
                slices,
            } => {
                *measured += bytes;
                *took += worked;
                if *measured < SLICE_BYTES {
                    return None;
                }
                slices.push(*measured as f64 / took.as_secs_f64().max(1e-6));
                (*measured, *took) = (0, Duration::ZERO);
                if slices.len() == SLICES {
                    let (_, median, _) = slices.select_nth_unstable_by(SLICES / 2, f64::total_cmp);
                    self.can_send = median.max(self.can_send * REMEMBERED);
                    self.phase = Phase::Holding { since: Duration::ZERO };
                }
                None
            }
            Phase::Holding { since } => {
                *since += worked;
                if *since >= MEASURED_EVERY {
                    self.phase = Phase::Draining { left: BUFFERED_BYTES };
                    self.owed = 0.0;
                }
                Some(self.can_send * SHARE)
            }
        }
    }
}

impl Phase {
    fn measuring() -> Phase {
        Phase::Measuring {
            bytes: 0,
            took: Duration::ZERO,
            slices: Vec::with_capacity(SLICES),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// How long a stream of `bytes` takes from a member that sends `rate` bytes a second into a buffer, as a connection
    /// has it, and that stops now and then for a while.
    fn streamed(pace: Pace, rate: f64, bytes: usize, pause_every: usize) -> f64 {
        const CHUNK: usize = 32 << 10;
        let (mut pacer, mut now, mut buffered, mut member) = (Pacer::new(pace), 0.0, 0.0, 0.0);
        for chunk in 1..=bytes / CHUNK {
            let begun = now;
            // What it had time for since it last had room.
            buffered = f64::min(buffered + (now - member) * rate, BUFFERED_BYTES as f64);
            member = now;
            if buffered < CHUNK as f64 {
                now += (CHUNK as f64 - buffered) / rate;
                buffered = CHUNK as f64;
                member = now;
            }
            buffered -= CHUNK as f64;
            now += 20e-6 + if chunk % pause_every == 0 { 0.03 } else { 0.0 };
            if let Some(rest) = pacer.rest(CHUNK, Duration::from_secs_f64(now - begun)) {
                assert!((SHORTEST_REST..=LONGEST_REST).contains(&rest), "{rest:?}");
                let late = Duration::from_millis(1);
                now += (rest + late).as_secs_f64();
                pacer.rested(rest, rest + late);
            }
        }
        now
    }

    #[test]
    fn a_member_that_is_fast_enough_to_be_felt_is_held_back() {
        for rate in [100e6, 300e6] {
            let [unpaced, paced] = [Pace::Off, Pace::Auto].map(|pace| streamed(pace, rate, 1 << 30, 5000));
            assert!(paced > unpaced * 1.25, "{paced} of {unpaced}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_paced_stream_takes_up_to_half_as_long_again_whatever_is_buffered(
            rate in 20e6..900e6, pause_every in 500..5000_usize
        ) {
            let (unpaced, paced) = (
                streamed(Pace::Off, rate, 1 << 30, pause_every),
                streamed(Pace::Auto, rate, 1 << 30, pause_every),
            );
            prop_assert!(paced >= unpaced * 0.99 && paced < unpaced * 1.5, "{paced} of {unpaced}");
        }
    }
}
