//! The one form that expressions of the same meaning share, and how it is written.
//!
//! The form is what `systemd-analyze calendar` prints as "Normalized form".

use std::fmt;

use super::pattern::{DaysFrom, EVERY_SECOND, Pattern, SECOND, Span, Unit, Values, Weekdays};

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Brings a pattern into the normal form. Values may still be out of range; `parse` looks at them afterwards, as systemd does.
pub(super) fn normalise(pattern: &mut Pattern) {
    pattern.weekdays.normalise();
    if pattern.day == Values::Any {
        pattern.days_from = DaysFrom::Start;
    }
    if let Values::Listed(years) = &mut pattern.year {
        for year in years {
            year.start = full_year(year.start);
            year.stop = year.stop.map(full_year);
        }
    }
    for unit in Unit::ALL {
        if let Values::Listed(spans) = pattern.values_mut(unit) {
            spans.iter_mut().for_each(trim);
            spans.sort_unstable();
            spans.dedup();
        }
    }
}

/// Two digits mean 1970 to 2069.
fn full_year(year: i32) -> i32 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        _ => year,
    }
}

/// Ends a span at the last value that it reaches.
fn trim(span: &mut Span) {
    let Some(stop) = span.stop else { return };
    if stop > span.start && span.step > 0 {
        span.stop = Some(stop - (stop - span.start) % span.step);
    }
    if span.stop == Some(span.start) {
        span.stop = None;
        span.step = 0;
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.weekdays.is_any() {
            write!(f, "{} ", self.weekdays)?;
        }
        let before_day = match self.days_from {
            DaysFrom::Start => '-',
            DaysFrom::End => '~',
        };
        let width = |width| move |values| Shown { values, width };
        let (four, two) = (width(4), width(2));
        write!(
            f,
            "{}-{}{before_day}{} ",
            four(&self.year),
            two(&self.month),
            two(&self.day)
        )?;
        let second = ShownSecond(&self.second);
        write!(f, "{}:{}:{second}", two(&self.hour), two(&self.minute))
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        let mut day = 0;
        while day < WEEKDAYS.len() {
            let run = (day..WEEKDAYS.len()).take_while(|&d| self.names(d)).count();
            if let (Some(first), Some(last)) = (WEEKDAYS.get(day), WEEKDAYS.get(day + run.saturating_sub(1))) {
                match run {
                    0 => {}
                    1 => write!(f, "{comma}{first}")?,
                    2 => write!(f, "{comma}{first},{last}")?,
                    _ => write!(f, "{comma}{first}..{last}")?,
                }
            }
            if run > 0 {
                comma = ",";
            }
            day += run + 1;
        }
        Ok(())
    }
}

/// A unit that counts in itself, in so many digits.
struct Shown<'a> {
    values: &'a Values,
    width: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Values::Listed(spans) = self.values else {
            return f.write_str("*");
        };
        let width = self.width;
        let mut comma = "";
        for span in spans {
            write!(f, "{comma}{:0width$}", span.start)?;
            if let Some(stop) = span.stop {
                write!(f, "..{stop:0width$}")?;
            }
            if span.step > 0 && !(span.stop.is_some() && span.step == 1) {
                write!(f, "/{}", span.step)?;
            }
            comma = ",";
        }
        Ok(())
    }
}

struct ShownSecond<'a>(&'a Values);

impl fmt::Display for ShownSecond<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = match self.0 {
            Values::Listed(spans) if !spans.contains(&EVERY_SECOND) => spans,
            Values::Listed(_) | Values::Any => return f.write_str("*"),
        };
        let mut comma = "";
        for span in spans {
            write!(f, "{comma}{:02}{}", span.start / SECOND, Fraction(span.start))?;
            if let Some(stop) = span.stop {
                write!(f, "..{:02}{}", stop / SECOND, Fraction(stop))?;
            }
            if span.step > 0 && !(span.stop.is_some() && span.step == SECOND) {
                write!(f, "/{}{}", span.step / SECOND, Fraction(span.step))?;
            }
            comma = ",";
        }
        Ok(())
    }
}

/// What stands behind the full seconds.
struct Fraction(i32);

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % SECOND {
            0 => Ok(()),
            micros => write!(f, ".{micros:06}"),
        }
    }
}
