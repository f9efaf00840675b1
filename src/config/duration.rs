//! How long something takes, as it is written in the configuration.

use std::time::Duration;

/// A span of time with units: `30s`, `6h`, `1h 30m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let duration: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(duration).ok()
}

/// A span of time with units, of which a day has 24 hours: `90s`, `36h`, `14 days`.
pub(super) fn long_duration(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.trim().parse().ok()?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}
