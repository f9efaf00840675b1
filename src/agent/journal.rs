//! What the agent says: a level, a message, then `key=value` fields; to systemd's journal with each field by itself,
//! elsewhere as a line on standard error.
//!
//! `native` is how the journal takes it. Invariant: nothing is lost because the journal cannot be reached: it goes to
//! standard error then, which never holds the agent up longer than whoever reads it.

mod native;

use std::fmt;
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;

use crate::health::{Event, Level};

/// Where the journal takes entries.
const SOCKET: &str = "/run/systemd/journal/socket";
const IDENTIFIER: &str = "lifeboat";

/// Where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    reader: Reader,
    now: fn() -> Timestamp,
}

#[derive(Debug, Clone, Copy)]
enum Reader {
    /// It keeps the time itself.
    Journal {
        socket: &'static Path,
    },
    /// It is told what others are told too.
    Beside {
        socket: &'static Path,
    },
    Other,
}

type Fields<'a> = &'a [(&'a str, &'a dyn fmt::Display)];

impl Log {
    /// A log for the journal if systemd has connected standard error with it.
    pub fn new(now: fn() -> Timestamp) -> Log {
        let reader = match native::is_standard_error() {
            true => Reader::Journal {
                socket: Path::new(SOCKET),
            },
            false => Reader::Other,
        };
        Log { reader, now }
    }

    /// The journal as a second reader of what a command says, where there is one and it is not the first already.
    pub fn beside(now: fn() -> Timestamp) -> Option<Log> {
        let socket = Path::new(SOCKET);
        let reader = Reader::Beside { socket };
        (socket.exists() && !native::is_standard_error()).then_some(Log { reader, now })
    }

    /// Says something.
    pub fn line(&self, level: Level, message: &str, fields: Fields<'_>) {
        self.write(level, None, message, fields);
    }

    /// Says that something happened which somebody may wait for.
    pub fn event(&self, event: Event, message: &str, fields: Fields<'_>) {
        self.write(event.level(), Some(event), message, fields);
    }

    fn write(&self, level: Level, event: Option<Event>, message: &str, fields: Fields<'_>) {
        let text = line(message, fields);
        let line = match self.reader {
            Reader::Journal { socket } => {
                if native::send(socket, &entry(level, event, &text, fields)).is_ok() {
                    return;
                }
                // The journal takes `<N>` for the level, where it reads lines.
                format!("<{}>{text}\n", level as u8)
            }
            Reader::Beside { socket } => {
                // The others have it, so it is not lost.
                native::send(socket, &entry(level, event, &text, fields)).ok();
                return;
            }
            Reader::Other => format!("{:.3} {} {text}\n", (self.now)(), word(level)),
        };
        // Nobody may be there to read it.
        std::io::stderr().write_all(line.as_bytes()).ok();
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
    }
}

/// An entry of the journal. Its message has the fields in it too: that is what `systemctl status` shows.
fn entry(level: Level, event: Option<Event>, text: &str, fields: Fields<'_>) -> Vec<u8> {
    let mut entry = Vec::new();
    native::field(&mut entry, "MESSAGE", text);
    native::field(&mut entry, "PRIORITY", &(level as u8).to_string());
    native::field(&mut entry, "SYSLOG_IDENTIFIER", IDENTIFIER);
    if let Some(event) = event {
        native::field(&mut entry, "MESSAGE_ID", event.id());
        native::field(&mut entry, "LIFEBOAT_EVENT", event.name());
    }
    for (key, value) in fields {
        native::field(
            &mut entry,
            &format!("LIFEBOAT_{}", key.to_uppercase()),
            &value.to_string(),
        );
    }
    entry
}

/// Message and fields in one line; a value with anything but plain characters is quoted.
fn line(message: &str, fields: Fields<'_>) -> String {
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
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn values_are_quoted_where_they_must_be_and_a_line_is_one_line() {
        let text = line(
            "backup taken\nfine",
            &[("backup", &"a-1"), ("error", &"no\nway \"x\""), ("none", &"")],
        );
        assert_eq!(text, r#"backup taken fine backup=a-1 error="no\nway \"x\"" none="""#);
    }

    #[test]
    fn the_journal_gets_every_field_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path: &'static Path = Box::leak(folder.path().join("socket").into_boxed_path());
        let journal = UnixDatagram::bind(path).unwrap();
        let log = Log {
            reader: Reader::Journal { socket: path },
            now: || Timestamp::UNIX_EPOCH,
        };
        log.event(
            Event::BackupFailed,
            "no backup",
            &[("schedule", &"hourly"), ("error", &"a\nb")],
        );
        let mut entry = [0; 1024];
        let length = journal.recv(&mut entry).unwrap();
        let id = Event::BackupFailed.id();
        let expected = format!(
            "MESSAGE=no backup schedule=hourly error=\"a\\nb\"\nPRIORITY=3\nSYSLOG_IDENTIFIER=lifeboat\nMESSAGE_ID={id}\n\
             LIFEBOAT_EVENT=backup-failed\nLIFEBOAT_SCHEDULE=hourly\nLIFEBOAT_ERROR\n\x03\0\0\0\0\0\0\0a\nb\n"
        );
        assert_eq!(String::from_utf8_lossy(&entry[..length]), expected);
    }
}
