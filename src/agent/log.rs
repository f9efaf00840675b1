//! Lines for the journal: a level that journald understands, a message, then `key=value` fields.

use std::fmt;
use std::io::Write;

use jiff::Timestamp;

/// How grave a line is; the numbers are those of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something that the operator must mend.
    Error = 3,
    /// Something doubtful.
    Warning = 4,
    /// What was done.
    Info = 6,
}

/// Where the lines go: standard error.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    reader: Reader,
    now: fn() -> Timestamp,
}

#[derive(Debug, Clone, Copy)]
enum Reader {
    /// It keeps the time itself and takes `<N>` for the level.
    Journal,
    Other,
}

impl Log {
    /// A log for the journal if systemd has connected standard error with it.
    pub fn new(now: fn() -> Timestamp) -> Log {
        let reader = match std::env::var_os("JOURNAL_STREAM") {
            Some(_) => Reader::Journal,
            None => Reader::Other,
        };
        Log { reader, now }
    }

    /// Writes one line.
    pub fn line(&self, level: Level, message: &str, fields: &[(&str, &dyn fmt::Display)]) {
        let mut text = match (self.reader, level) {
            (Reader::Journal, _) => format!("<{}>", level as u8),
            (Reader::Other, Level::Error) => format!("{:.3} error ", (self.now)()),
            (Reader::Other, Level::Warning) => format!("{:.3} warning ", (self.now)()),
            (Reader::Other, Level::Info) => format!("{:.3} info ", (self.now)()),
        };
        text.push_str(&line(message, fields));
        text.push('\n');
        // Nobody may be there to read it.
        std::io::stderr().write_all(text.as_bytes()).ok();
    }
}

/// Message and fields in one line; a value with anything but plain characters is quoted.
fn line(message: &str, fields: &[(&str, &dyn fmt::Display)]) -> String {
    let mut text: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for (key, value) in fields {
        let value = value.to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+@".contains(c);
        if !value.is_empty() && value.chars().all(plain) {
            text.push_str(&format!(" {key}={value}"));
        } else {
            text.push_str(&format!(" {key}={value:?}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_they_must_be_and_a_line_is_one_line() {
        let text = line(
            "backup taken\nfine",
            &[("id", &"a-1"), ("error", &"no\nway \"x\""), ("none", &"")],
        );
        assert_eq!(text, r#"backup taken fine id=a-1 error="no\nway \"x\"" none="""#);
    }
}
