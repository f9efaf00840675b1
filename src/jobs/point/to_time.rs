//! `--to-time`: a time as an operator writes it.

use jiff::{SignedDuration, Timestamp};

/// A time as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToTime {
    /// At that time.
    At(Timestamp),
    /// So long before now.
    Ago(SignedDuration),
}

impl ToTime {
    /// Reads RFC 3339, or a span that ends in `ago`.
    pub fn parse(text: &str) -> Result<ToTime, String> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(ToTime::At(time));
        }
        match text.parse::<SignedDuration>() {
            Ok(span) if span.is_negative() => Ok(ToTime::Ago(span.abs())),
            Ok(_) if !text.contains("ago") => Err(format!("say how long ago: `{text} ago`")),
            _ => Err("expected a time such as 2026-11-20T10:15:30Z, or a span such as `15m ago`".to_owned()),
        }
    }

    /// The time, where it is `now`.
    pub fn time(self, now: Timestamp) -> Timestamp {
        match self {
            ToTime::At(time) => time,
            ToTime::Ago(span) => now.checked_sub(span).unwrap_or(Timestamp::MIN),
        }
    }
}
