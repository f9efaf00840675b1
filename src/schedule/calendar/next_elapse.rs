//! The next elapse of a pattern.
//!
//! From the largest unit to the smallest, each unit is moved forward to the next value that the pattern has for it; a unit
//! that has none carries into the next larger one. After each move the reading is checked against the wall clock: one that
//! does not exist (31 April, a skipped hour) becomes what the clock shows instead, and the walk starts anew from there.
//! The order of these steps is systemd's, because readings of a repeated hour are told apart by the step before.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::pattern::{DaysFrom, Pattern, SECOND, Span, Unit, Values};
use super::wall_clock::{Reading, Season, WallClock, weekday};

/// systemd's own bound.
const MOST_ROUNDS: usize = 1_000;
/// The last year that systemd looks at.
pub(super) const LAST_YEAR: i32 = 2199;

/// How a search ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elapse {
    At(Timestamp),
    /// There is none up to the last year.
    Never,
    /// None was found in the rounds that are allowed.
    GivenUp,
}

impl Elapse {
    /// What the wall clock leads to. If that is not later, systemd would stay there for ever.
    fn found(instant: Timestamp, after: Timestamp) -> Self {
        if instant > after {
            Elapse::At(instant)
        } else {
            Elapse::GivenUp
        }
    }

    pub(super) fn instant(self) -> Option<Timestamp> {
        match self {
            Elapse::At(instant) => Some(instant),
            Elapse::Never | Elapse::GivenUp => None,
        }
    }
}

/// The first elapse after `after`; instants before 1970 count as 1970.
pub(super) fn elapse(pattern: &Pattern, zone: &TimeZone, season: Option<Season>, after: Timestamp) -> Elapse {
    let first = after.as_microsecond().max(0).saturating_add(1);
    let (second, micros) = (first / i64::from(SECOND), first % i64::from(SECOND));
    let Some((clock, reading)) = WallClock::last_read_at(zone, second) else {
        return Elapse::Never;
    };
    let micros = i32::try_from(micros).expect("less than a second");
    let mut walk = Walk {
        pattern,
        clock,
        season: Asked::For(season),
        reading,
        micros,
    };
    for _ in 0..MOST_ROUNDS {
        match walk.round() {
            Round::Again => {}
            Round::Found if walk.is_before(&reading, micros) => walk.push_on(),
            Round::Found => {
                return walk
                    .instant()
                    .map_or(Elapse::Never, |found| Elapse::found(found, after));
            }
            Round::Never => return Elapse::Never,
        }
    }
    Elapse::GivenUp
}

enum Round {
    Found,
    /// A unit was moved; start anew from the largest.
    Again,
    Never,
}

/// Which of two readings of a repeated hour the wall clock is asked for.
enum Asked {
    /// This one, or any.
    For(Option<Season>),
    /// The one that the wall clock showed last.
    ForTheLast,
}

/// How a unit of the reading relates to the pattern.
enum Fit {
    Fits,
    /// It was moved forward to this.
    Next(i32),
    /// There is no value from here on.
    Exhausted,
}

/// Whether the wall clock shows a reading.
enum Shown {
    AsWanted,
    /// It shows a later one, which the walk has taken over.
    Later,
    /// It shows an earlier one, or none.
    Not,
}

struct Walk<'a> {
    pattern: &'a Pattern,
    clock: WallClock<'a>,
    season: Asked,
    reading: Reading,
    /// Behind the reading's second.
    micros: i32,
}

impl Walk<'_> {
    fn round(&mut self) -> Round {
        if let Some((_, shown)) = self.clock.instant_of(&self.reading) {
            self.reading = shown;
        }
        if let Asked::For(season) = self.season {
            self.reading.season = season;
        }
        for unit in Unit::ALL {
            match self.fit(unit) {
                Fit::Fits => {}
                Fit::Next(value) => self.advance(unit, value),
                Fit::Exhausted => return self.carry(unit),
            }
            match (self.check(), unit) {
                (Shown::AsWanted, _) => {}
                (Shown::Later | Shown::Not, Unit::Year) => return Round::Never,
                (Shown::Later, _) => return Round::Again,
                (Shown::Not, _) => return self.carry(unit),
            }
            if unit == Unit::Day && !self.is_on_weekday() {
                return self.carry(Unit::Hour);
            }
        }
        Round::Found
    }

    /// Whether the wall clock, for a skipped hour, has led back to before where the walk began.
    fn is_before(&self, reading: &Reading, micros: i32) -> bool {
        let order = Unit::ALL
            .into_iter()
            .map(|unit| self.reading.get(unit).cmp(&reading.get(unit)));
        let order = order.fold(Ordering::Equal, Ordering::then);
        order.then(self.micros.cmp(&micros)).is_lt()
    }

    /// Leaves such an hour behind.
    fn push_on(&mut self) {
        self.season = Asked::ForTheLast;
        self.reading.set(Unit::Hour, self.reading.get(Unit::Hour) + 1);
    }

    fn instant(&mut self) -> Option<Timestamp> {
        let (second, _) = self.clock.instant_of(&self.reading)?;
        let micros = second.checked_mul(SECOND.into())?.checked_add(self.micros.into())?;
        (second >= 0).then(|| Timestamp::from_microsecond(micros).ok())?
    }

    /// Sets a unit to a later value; what is smaller begins at its least.
    fn advance(&mut self, unit: Unit, value: i32) {
        if unit == Unit::Second {
            self.reading.set(unit, value / SECOND);
            self.micros = value % SECOND;
            return;
        }
        self.reading.set(unit, value);
        if let Some(smaller) = unit.smaller() {
            self.reading.reset_from(smaller);
        }
        self.micros = 0;
    }

    /// Goes to the next value of the unit above `unit`.
    fn carry(&mut self, unit: Unit) -> Round {
        let Some(larger) = unit.larger() else {
            return Round::Never;
        };
        self.reading.set(larger, self.reading.get(larger) + 1);
        self.reading.reset_from(unit);
        self.micros = 0;
        Round::Again
    }

    /// Compares the reading with the wall clock.
    fn check(&mut self) -> Shown {
        if self.reading.get(Unit::Year) > LAST_YEAR {
            return Shown::Not;
        }
        let Some((instant, mut shown)) = self.clock.instant_of(&self.reading) else {
            return Shown::Not;
        };
        if instant < 0 {
            return Shown::Not;
        }
        let difference = Unit::ALL
            .into_iter()
            .map(|unit| (unit, shown.get(unit).cmp(&self.reading.get(unit))))
            .find(|(_, order)| order.is_ne());
        let Some((unit, order)) = difference else {
            return Shown::AsWanted;
        };
        if order.is_lt() {
            return Shown::Not;
        }
        // The clock may have jumped over the beginning of the new unit (3-33 is 4-2, but 4-1 is to be looked at too).
        if let Some(smaller) = unit.smaller() {
            shown.set(smaller, smaller.least());
        }
        // systemd 252 does not do this, and so misses 4 January 2017 in `*-*-4/8`; 257 does.
        if unit == Unit::Year {
            shown.set(Unit::Day, Unit::Day.least());
        }
        self.reading = shown;
        Shown::Later
    }

    fn is_on_weekday(&mut self) -> bool {
        if self.pattern.weekdays.is_any() {
            return true;
        }
        match self.clock.instant_of(&self.reading) {
            Some((instant, shown)) if instant >= 0 => self.pattern.weekdays.names(weekday(&shown)),
            Some(_) | None => false,
        }
    }

    fn fit(&mut self, unit: Unit) -> Fit {
        let pattern = self.pattern;
        let Values::Listed(spans) = pattern.values(unit) else {
            return Fit::Fits;
        };
        let now = match unit {
            Unit::Second => self.reading.get(unit) * SECOND + self.micros,
            Unit::Year | Unit::Month | Unit::Day | Unit::Hour | Unit::Minute => self.reading.get(unit),
        };
        let from_end = unit == Unit::Day && pattern.days_from == DaysFrom::End;
        let mut best: Option<i32> = None;
        for span in spans {
            let span = if from_end { self.counted_from_start(span) } else { *span };
            if let Some(value) = span.first_from(now) {
                best = Some(best.map_or(value, |best| best.min(value)));
            }
        }
        match best {
            None => Fit::Exhausted,
            Some(value) if value == now => Fit::Fits,
            Some(value) => Fit::Next(value),
        }
    }

    /// A span counted from the end of the month, as one counted from its start.
    fn counted_from_start(&mut self, span: &Span) -> Span {
        let start = self.day_counted_from_start(span.start);
        // systemd asks for the stop even if there is none, and the wall clock remembers the question.
        let stop = self
            .day_counted_from_start(span.stop.unwrap_or(-1))
            .filter(|&stop| stop > 0);
        let start = start.unwrap_or(-1);
        match stop {
            Some(stop) => Span {
                start: stop,
                stop: Some(start).filter(|&start| start >= 0),
                step: span.step,
            },
            None => Span {
                start,
                stop: None,
                step: span.step,
            },
        }
    }

    fn day_counted_from_start(&mut self, day: i32) -> Option<i32> {
        let month = self.reading.get(Unit::Month);
        let mut wanted = self.reading;
        wanted.set(Unit::Month, month + 1);
        wanted.set(Unit::Day, 1 - day);
        let (instant, shown) = self.clock.instant_of(&wanted)?;
        (instant >= 0 && shown.get(Unit::Month) == month).then(|| shown.get(Unit::Day))
    }
}

impl Span {
    /// Its first value that is not less than `least`.
    fn first_from(&self, least: i32) -> Option<i32> {
        if self.start >= least {
            return Some(self.start);
        }
        if self.step <= 0 {
            return None;
        }
        let behind = (least - self.start) % self.step;
        let value = if behind == 0 {
            least
        } else {
            least + (self.step - behind)
        };
        (self.stop.is_none_or(|stop| value <= stop)).then_some(value)
    }
}
