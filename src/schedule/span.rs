//! Lengths of time in words.

use std::fmt;
use std::time::Duration;

/// A length of time in words: `4 m 12 s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 86_400, "d"),
            (seconds / 3_600 % 24, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
        ];
        let mut space = "";
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{space}{count} {unit}")?;
            space = " ";
        }
        if space.is_empty() { f.write_str("0 s") } else { Ok(()) }
    }
}
