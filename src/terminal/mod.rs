//! What people and programs see: tables and lines on standard output, everything else on standard error.
//!
//! A closed terminal never ends the work. A result that could not be written for another reason is remembered until the
//! end, for the exit code.
//!
//! Invariant: no control character but the line break reaches a terminal from here, whoever wrote the text.

mod bar;
mod hints;
mod question;
mod style;
mod table;
mod wrap;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::sync::OnceLock;

use serde::Serialize;

pub use bar::Bar;
#[cfg(test)]
pub(crate) use hints::{CONFIGURED, READING};
pub use hints::{Given, remember, typed};
pub use question::{answer_plugins, ask, need_somebody};
pub use style::{Color, Paint, Style, columns, columns_of_errors, styled};
pub use table::Table;
pub use wrap::{wrap, wrap_message};

use crate::agent::Log;
use crate::health::Level;
use crate::jobs::{FIELD, Listener};

/// Whether to print for people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Text,
    /// One JSON document.
    Json,
}

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Warnings and progress too.
    Normal,
    /// What is being done, too.
    Verbose,
}

/// Where a command prints to, and how.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// For whom.
    pub format: Format,
    /// How much beside the result.
    pub verbosity: Verbosity,
    /// Where in colour.
    pub paint: Paint,
    /// Takes a copy of all that is said, where the terminal may not be there to the end.
    pub journal: Option<Log>,
}

/// Why the result is not on standard output, if it should be: the first write that failed.
static RESULT_LOST: OnceLock<String> = OnceLock::new();

/// Why the result could not be written, if somebody may still be waiting for it.
pub fn lost_result() -> Option<&'static str> {
    RESULT_LOST.get().map(String::as_str)
}

fn note(written: io::Result<()>) {
    if let Err(error) = written
        && is_loss(&error, stdout_is_device())
    {
        RESULT_LOST.get_or_init(|| error.to_string());
    }
}

/// Whether a write that failed is a result lost, not a reader that has gone: a pipe that was closed, or a terminal, which
/// is a device that answers with an input/output error from then on.
fn is_loss(error: &io::Error, is_device: bool) -> bool {
    let is_io = error.raw_os_error() == Some(nix::errno::Errno::EIO as i32);
    error.kind() != io::ErrorKind::BrokenPipe && !(is_io && is_device)
}

fn stdout_is_device() -> bool {
    std::fs::metadata("/proc/self/fd/1").is_ok_and(|found| found.file_type().is_char_device())
}

impl Output {
    /// A line of the result.
    pub fn line(&self, text: impl AsRef<str>) {
        self.copy(Level::Info, text.as_ref());
        note(writeln!(io::stdout(), "{}", printable(text.as_ref())));
    }

    /// A whole page as the result, as it is: its commands are for another host than this one.
    pub fn page(&self, text: &str) {
        note(write!(io::stdout(), "{}", without_control(text.into())));
    }

    /// A line of the result that is more than the others.
    pub fn styled_line(&self, style: Style, text: impl AsRef<str>) {
        self.copy(Level::Info, text.as_ref());
        let text = styled(&printable(text.as_ref()), style, self.paint.out);
        note(writeln!(io::stdout(), "{text}"));
    }

    /// A table, as wide as the terminal is. What has no room there is named on standard error.
    pub fn table(&self, table: &Table) {
        let shown = table.within(columns());
        let mut lines = shown.lines();
        if let Some(headings) = lines.next() {
            self.styled_line(Style::Heading, headings);
        }
        lines.for_each(|line| self.line(line));
        if !shown.left_out.is_empty() {
            let left_out = shown.left_out.join(", ");
            self.detail(format!(
                "no room for {left_out} here: a wider terminal or --json shows more"
            ));
        }
    }

    /// A sentence of the result, in several lines where the terminal is narrow.
    pub fn sentence(&self, text: impl AsRef<str>) {
        self.copy(Level::Info, text.as_ref());
        let text = printable(text.as_ref());
        let text = columns().map_or(text.to_string(), |columns| wrap_message("", 0, &text, columns));
        note(writeln!(io::stdout(), "{text}"));
    }

    /// A named value of the result: the name in a column of its own, the value beside it, in several lines where
    /// the terminal is narrow. Without a name it belongs to the value above.
    pub fn field(&self, name: &str, value: impl AsRef<str>) {
        let first = format!("{name:<FIELD$} ");
        self.copy(Level::Info, &format!("{first}{}", value.as_ref()));
        let text = beside_name(&first, value.as_ref(), columns());
        note(writeln!(io::stdout(), "{text}"));
    }

    fn tell(&self, style: Style, label: &str, text: &str) {
        let shown = styled(label, style, self.paint.err);
        labelled(&shown, label.chars().count(), text);
    }

    /// The result as one JSON document.
    pub fn json(&self, document: &impl Serialize) {
        if self.journal.is_some()
            && let Ok(text) = serde_json::to_string(document)
        {
            self.copy(Level::Info, &text);
        }
        // Written as it is made: a list may be long.
        let mut out = io::BufWriter::with_capacity(64 << 10, io::stdout().lock());
        let written = serde_json::to_writer(&mut out, document).map_err(io::Error::from);
        note(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()));
    }

    /// Something that must not be missed, however quiet a run was asked for.
    pub fn alarm(&self, text: impl AsRef<str>) {
        self.copy(Level::Warning, text.as_ref());
        self.tell(Style::Doubtful, "warning:", text.as_ref());
    }

    /// Something the operator should know, beside the result.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.copy(Level::Warning, text.as_ref());
        if self.verbosity != Verbosity::Quiet {
            self.tell(Style::Doubtful, "warning:", text.as_ref());
        }
    }

    /// Something that is wrong, where a command goes on to look for more.
    pub fn problem(&self, text: impl AsRef<str>) {
        self.copy(Level::Error, text.as_ref());
        self.tell(Style::Bad, "problem:", text.as_ref());
    }

    /// More on the result, for those who look or asked.
    pub fn detail(&self, text: impl AsRef<str>) {
        self.copy(Level::Info, text.as_ref());
        if self.verbosity == Verbosity::Verbose || self.shows_progress() {
            beside(text.as_ref());
        }
    }

    /// What is going to be done: beside the result, and told unless a run was to be quiet.
    pub fn announce(&self, text: impl AsRef<str>) {
        self.copy(Level::Info, text.as_ref());
        if self.verbosity != Verbosity::Quiet {
            beside(text.as_ref());
        }
    }

    /// Gives the journal what a terminal sees in another form.
    pub fn copy(&self, level: Level, text: &str) {
        if let Some(journal) = &self.journal {
            journal.line(level, text, &[]);
        }
    }

    /// Whether a progress bar is wanted and would be seen.
    pub fn shows_progress(&self) -> bool {
        self.verbosity != Verbosity::Quiet && io::stderr().is_terminal()
    }
}

/// A message on standard error behind a label of so many columns, in lines as long as a terminal there is wide.
pub fn labelled(label: &str, label_columns: usize, text: &str) {
    let text = format!(" {}", printable(text));
    let text = match columns_of_errors() {
        Some(columns) => wrap_message(label, label_columns, &text, columns),
        None => format!("{label}{text}"),
    };
    writeln!(io::stderr(), "{text}").ok();
}

/// A value behind its name, which is padded to where the value begins.
fn beside_name(first: &str, value: &str, columns: Option<usize>) -> String {
    let columns = columns.unwrap_or(usize::MAX);
    wrap(first, &printable(value), columns).join("\n")
}

/// A message on standard error, as [`labelled`] without a label.
fn beside(text: &str) {
    let text = printable(text);
    let text = columns_of_errors().map_or(text.to_string(), |columns| wrap_message("", 0, &text, columns));
    writeln!(io::stderr(), "{text}").ok();
}

/// Text of several lines, parts of it perhaps from outside: control characters are shown, not obeyed. Commands in it can
/// be typed as they are printed.
pub fn printable(text: &str) -> Cow<'_, str> {
    without_control(typed(text))
}

fn without_control(text: Cow<'_, str>) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n';
    match text.contains(steers) {
        true => text.replace(steers, "\u{fffd}").into(),
        false => text,
    }
}

impl Listener for Output {
    fn alarm(&self, text: &str) {
        Output::alarm(self, text);
    }

    fn warn(&self, text: &str) {
        Output::warn(self, text);
    }

    fn detail(&self, text: &str) {
        Output::detail(self, text);
    }

    fn announce(&self, text: &str) {
        Output::announce(self, text);
    }

    fn announce_field(&self, name: &str, value: &str) {
        let first = format!("{name:<FIELD$} ");
        self.copy(Level::Info, &format!("{first}{value}"));
        if self.verbosity != Verbosity::Quiet {
            writeln!(io::stderr(), "{}", beside_name(&first, value, columns_of_errors())).ok();
        }
    }

    fn progress(&self, what: &'static str) -> Box<dyn Fn(u64, u64)> {
        let bar = Bar::new(self, what);
        Box::new(move |done, total| bar.at(done, total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_lost_unless_its_reader_has_gone() {
        let error = |errno: nix::errno::Errno| io::Error::from(errno);
        use nix::errno::Errno::{EIO, ENOSPC, EPIPE};
        for (errno, is_device, lost) in [
            (ENOSPC, true, true), // /dev/full
            (ENOSPC, false, true),
            (EPIPE, false, false),
            (EIO, true, false), // a terminal that was closed
            (EIO, false, true),
        ] {
            assert_eq!(is_loss(&error(errno), is_device), lost, "{errno}, device: {is_device}");
        }
    }

    #[test]
    fn a_value_goes_on_under_its_beginning() {
        assert_eq!(
            beside_name("log    ", "one two three", Some(14)),
            "log    one two\n       three"
        );
        assert_eq!(beside_name("log    ", "one two three", None), "log    one two three");
    }

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\nc");
    }
}
