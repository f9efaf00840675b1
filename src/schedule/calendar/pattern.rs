//! What an expression says of each unit of a wall clock reading.

/// One unit of a wall clock reading, the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl Unit {
    pub(super) const ALL: [Unit; 6] = [
        Unit::Year,
        Unit::Month,
        Unit::Day,
        Unit::Hour,
        Unit::Minute,
        Unit::Second,
    ];

    /// The next smaller one.
    pub(super) fn smaller(self) -> Option<Unit> {
        match self {
            Unit::Year => Some(Unit::Month),
            Unit::Month => Some(Unit::Day),
            Unit::Day => Some(Unit::Hour),
            Unit::Hour => Some(Unit::Minute),
            Unit::Minute => Some(Unit::Second),
            Unit::Second => None,
        }
    }

    /// The next larger one.
    pub(super) fn larger(self) -> Option<Unit> {
        match self {
            Unit::Year => None,
            Unit::Month => Some(Unit::Year),
            Unit::Day => Some(Unit::Month),
            Unit::Hour => Some(Unit::Day),
            Unit::Minute => Some(Unit::Hour),
            Unit::Second => Some(Unit::Minute),
        }
    }

    /// What a reading begins with when a larger unit has just changed.
    pub(super) fn least(self) -> i32 {
        match self {
            Unit::Year | Unit::Hour | Unit::Minute | Unit::Second => 0,
            Unit::Month | Unit::Day => 1,
        }
    }
}

/// Microseconds in a second: seconds are kept in microseconds, the other units in themselves.
pub(super) const SECOND: i32 = 1_000_000;

/// A start, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: i32,
    /// The last value that may be reached. None: only the unit's own end is one.
    pub(super) stop: Option<i32>,
    /// Steps between the values; 0 for none but the start.
    pub(super) step: i32,
}

/// All full seconds.
pub(super) const EVERY_SECOND: Span = Span {
    start: 0,
    stop: None,
    step: SECOND,
};

impl Span {
    pub(super) fn only(start: i32) -> Self {
        Span {
            start,
            stop: None,
            step: 0,
        }
    }
}

/// The values of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Values {
    Any,
    /// At least one span.
    Listed(Vec<Span>),
}

impl Values {
    pub(super) fn only(value: i32) -> Self {
        Values::Listed(vec![Span::only(value)])
    }

    pub(super) fn each(values: &[i32]) -> Self {
        Values::Listed(values.iter().copied().map(Span::only).collect())
    }

    pub(super) fn every_second() -> Self {
        Values::Listed(vec![EVERY_SECOND])
    }
}

/// Where days are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DaysFrom {
    /// 1 is the first of the month.
    Start,
    /// 1 is the last of the month.
    End,
}

/// Days of the week: bit 0 is Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weekdays(u8);

impl Weekdays {
    const ALL: u8 = 0b111_1111;

    /// None named, which means any.
    pub(super) fn any() -> Self {
        Weekdays(0)
    }

    pub(super) fn is_any(self) -> bool {
        self.0 == 0
    }

    /// With one more; all seven are the same as any.
    pub(super) fn insert(&mut self, day: usize) {
        self.0 |= 1 << day;
    }

    pub(super) fn normalise(&mut self) {
        if self.0 == Self::ALL {
            self.0 = 0;
        }
    }

    pub(super) fn names(self, day: usize) -> bool {
        self.0 >> day & 1 == 1
    }
}

/// An expression without its zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) weekdays: Weekdays,
    pub(super) year: Values,
    pub(super) month: Values,
    pub(super) day: Values,
    pub(super) days_from: DaysFrom,
    pub(super) hour: Values,
    pub(super) minute: Values,
    /// In microseconds.
    pub(super) second: Values,
}

impl Pattern {
    /// Every day at midnight: what an expression means that says nothing else.
    pub(super) fn midnights() -> Self {
        Pattern {
            weekdays: Weekdays::any(),
            year: Values::Any,
            month: Values::Any,
            day: Values::Any,
            days_from: DaysFrom::Start,
            hour: Values::only(0),
            minute: Values::only(0),
            second: Values::only(0),
        }
    }

    /// Whether one second has more than one elapse.
    pub(super) fn divides_seconds(&self) -> bool {
        let Values::Listed(spans) = &self.second else {
            return false;
        };
        let mut of_second = [None; 60];
        let all = spans.iter().flat_map(|span| {
            let last = span.stop.unwrap_or(60 * SECOND - 1);
            // Those of one span each have a second of their own, or two meet and that is the answer: 61 steps at most.
            let next = move |value: &i32| {
                value
                    .checked_add(span.step)
                    .filter(|next| *next > *value && *next <= last)
            };
            std::iter::successors(Some(span.start), next)
        });
        let mut all = all.filter_map(|value| Some((value, usize::try_from(value / SECOND).ok()?)));
        all.any(|(value, second)| {
            let seen = of_second.get_mut(second).and_then(|seen| seen.replace(value));
            seen.is_some_and(|seen| seen != value)
        })
    }

    pub(super) fn values(&self, unit: Unit) -> &Values {
        match unit {
            Unit::Year => &self.year,
            Unit::Month => &self.month,
            Unit::Day => &self.day,
            Unit::Hour => &self.hour,
            Unit::Minute => &self.minute,
            Unit::Second => &self.second,
        }
    }

    pub(super) fn values_mut(&mut self, unit: Unit) -> &mut Values {
        match unit {
            Unit::Year => &mut self.year,
            Unit::Month => &mut self.month,
            Unit::Day => &mut self.day,
            Unit::Hour => &mut self.hour,
            Unit::Minute => &mut self.minute,
            Unit::Second => &mut self.second,
        }
    }
}
