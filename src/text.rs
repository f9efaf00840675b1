//! How times, ages, numbers and the words of others are written, in messages and in documents.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::HashKv;

/// A time as the contract prints it.
pub fn rfc3339(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// Text from outside on one line of a terminal: control characters are shown, not obeyed.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// Text without what only a program compares: of a SHA-256 the first digits will do.
pub fn brief(text: &str) -> String {
    const DIGITS: usize = 64;
    const SHOWN: usize = 8;
    let mut short = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        match word.char_indices().nth(DIGITS - 1) {
            Some(_) => {
                let (digits, end) = word.split_at(word.trim_end_matches(|c: char| !c.is_ascii_hexdigit()).len());
                short.push_str(&digits[..SHOWN]);
                short.push('…');
                short.push_str(end);
            }
            None => short.push_str(word),
        }
    }
    short
}

/// How long ago something was: `26 h`, in the largest unit of which there are two.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs();
    match seconds {
        ..0 => "in the future".to_owned(),
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The compaction that a HashKV is from.
pub fn compacted(hash: HashKv) -> String {
    match hash.compact_revision {
        -1 => "never compacted".to_owned(),
        revision => format!("compacted at {revision}"),
    }
}

/// A number with its noun: `1 key`, `2 keys`.
pub fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// What is wrong, of which the first are named and there are `count`: `a; b; and 7 faults more`.
pub fn first_of(named: &[String], count: u64) -> String {
    let more = count.saturating_sub(named.len() as u64);
    let more = (more > 0).then(|| format!("and {more} {} more", if more == 1 { "fault" } else { "faults" }));
    let mut all: Vec<&str> = named.iter().map(String::as_str).collect();
    all.extend(more.as_deref());
    all.join("; ")
}

/// A length of time in words: `4 m 12 s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length(pub Duration);

impl fmt::Display for Length {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_faults_the_first_are_named_and_the_others_counted() {
        let named = ["page 7 is damaged".to_owned(), "no root".to_owned()];
        assert_eq!(first_of(&named[..1], 1), "page 7 is damaged");
        assert_eq!(first_of(&named, 2), "page 7 is damaged; no root");
        assert_eq!(first_of(&named, 3), "page 7 is damaged; no root; and 1 fault more");
        assert_eq!(first_of(&named, 9), "page 7 is damaged; no root; and 7 faults more");
    }

    #[test]
    fn ages_have_two_of_their_unit_at_least() {
        let then: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let after = |seconds| age(then, then + jiff::SignedDuration::from_secs(seconds));
        let ages: Vec<_> = [-1, 0, 119, 120, 7199, 7200, 172_799, 172_800].map(after).into();
        assert_eq!(
            ages,
            [
                "in the future",
                "0 s",
                "119 s",
                "2 min",
                "119 min",
                "2 h",
                "47 h",
                "2 d"
            ]
        );
    }

    #[test]
    fn of_a_digest_the_first_digits_are_shown() {
        let digest = "0123456789abcdef".repeat(4);
        let fault = format!("other bytes (SHA-256 {digest} instead of {digest})");
        assert_eq!(brief(&fault), "other bytes (SHA-256 01234567… instead of 01234567…)");
        for text in ["cdf818194e3a8c32-9f3c4a1b", "", "ä 20261120T101530Z-9f3c4a1b"] {
            assert_eq!(brief(text), text);
        }
    }

    #[test]
    fn text_of_others_is_one_line_and_steers_no_terminal() {
        assert_eq!(clean("a\nb"), "a\u{fffd}b");
    }
}
