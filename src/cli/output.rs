//! What people and programs see: tables and lines on standard output, everything else on standard error.
//!
//! A closed terminal never ends the work. A result that could not be written for another reason is remembered until the
//! end, for the exit code.
//!
//! Invariant: no control character but the line break reaches a terminal from here, whoever wrote the text.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Serialize;

use super::hints;
pub use super::terminal::{Paint, Style};
use super::terminal::{columns, styled};
use crate::agent::Log;
use crate::health::Level;
use crate::jobs::Listener;
use crate::model::HashKv;

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
                "no room for {left_out}: a wider terminal shows them, and so does --json"
            ));
        }
    }

    fn tell(&self, style: Style, label: &str, text: &str) {
        let label = styled(label, style, self.paint.err);
        writeln!(io::stderr(), "{label} {}", printable(text)).ok();
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
            writeln!(io::stderr(), "{}", printable(text.as_ref())).ok();
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

/// A table with left-aligned columns, except those whose heading starts with `>`.
pub struct Table {
    headings: Vec<&'static str>,
    widths: Vec<usize>,
    /// The cells of each row with [`CELL_END`] behind each, in one piece: there may be very many.
    rows: Vec<Box<str>>,
    /// Headings of columns that can be done without, the first to go first.
    may_go: Vec<&'static str>,
}

/// A table as it fits somewhere.
pub struct Shown<'a> {
    table: &'a Table,
    /// Which columns are shown.
    is_shown: Vec<bool>,
    /// The headings of those that are not.
    pub left_out: Vec<&'static str>,
}

/// Ends a cell; no cell holds it.
const CELL_END: char = '\u{1f}';

impl Table {
    /// An empty table.
    pub fn new(headings: &[&'static str]) -> Self {
        let widths = headings.iter().map(|heading| name(heading).len());
        Table {
            headings: headings.to_vec(),
            widths: widths.collect(),
            rows: Vec::new(),
            may_go: Vec::new(),
        }
    }

    /// Says without which columns it can do where there is no room for all; the first goes first.
    pub fn may_go(mut self, headings: &[&'static str]) -> Self {
        self.may_go = headings.to_vec();
        self
    }

    /// The table in so many columns of a terminal, or all of it.
    pub fn within(&self, columns: Option<usize>) -> Shown<'_> {
        let mut shown = Shown {
            table: self,
            is_shown: vec![true; self.headings.len()],
            left_out: Vec::new(),
        };
        let mut may_go = self.may_go.iter();
        while columns.is_some_and(|columns| shown.width() > columns) {
            let Some(heading) = may_go.next() else { break };
            for (is_shown, of) in shown.is_shown.iter_mut().zip(&self.headings) {
                *is_shown &= name(of) != *heading;
            }
            shown.left_out.push(heading);
        }
        shown
    }

    /// Adds a row; one cell a heading.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headings.len());
        let mut row = String::new();
        for (cell, width) in cells.iter().zip(&mut self.widths) {
            let cell = clean(cell);
            *width = cell.chars().count().max(*width);
            row.push_str(&cell);
            row.push(CELL_END);
        }
        self.rows.push(row.into());
    }
}

/// The text of a heading.
fn name(heading: &'static str) -> &'static str {
    heading.trim_start_matches('>')
}

impl Shown<'_> {
    fn width(&self) -> usize {
        let shown = self
            .table
            .widths
            .iter()
            .zip(&self.is_shown)
            .filter(|(_, shown)| **shown);
        shown.map(|(width, _)| width + 2).sum::<usize>().saturating_sub(2)
    }

    /// The table as lines, made as they are asked for.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let first = self.line(self.table.headings.iter().map(|heading| name(heading)));
        let rows = self.table.rows.iter();
        let rows = rows.map(|row| self.line(row.split_terminator(CELL_END)));
        std::iter::once(first).chain(rows)
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>) -> String {
        let columns = self.table.widths.iter().zip(&self.table.headings).zip(&self.is_shown);
        let shown = cells.zip(columns).filter(|(_, (_, is_shown))| **is_shown);
        let aligned = shown.map(|(cell, ((&width, heading), _))| {
            if heading.starts_with('>') {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        aligned.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

/// Text of several lines, parts of it perhaps from outside: control characters are shown, not obeyed. Commands in it can
/// be typed as they are printed.
pub fn printable(text: &str) -> Cow<'_, str> {
    let text = hints::typed(text);
    let steers = |c: char| c.is_control() && c != '\n';
    match text.contains(steers) {
        true => text.replace(steers, "\u{fffd}").into(),
        false => text,
    }
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

impl Listener for Output {
    fn warn(&self, text: &str) {
        Output::warn(self, text);
    }

    fn detail(&self, text: &str) {
        Output::detail(self, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn no_text_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\nc");
        assert_eq!(clean("a\nb"), "a\u{fffd}b");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["ID", ">SIZE"]);
        table.row(vec!["a".into(), "10 B".into()]);
        table.row(vec!["longer".into(), "1.27 GiB".into()]);
        assert_eq!(
            table.within(None).lines().collect::<Vec<_>>(),
            ["ID          SIZE", "a           10 B", "longer  1.27 GiB"]
        );
    }

    #[test]
    fn a_table_does_without_columns_where_there_is_no_room() {
        let mut table = Table::new(&["ID", ">SIZE", ">KEYS", "IN"]).may_go(&["KEYS", "SIZE"]);
        table.row(vec!["a".into(), "10 B".into(), "7".into(), "local".into()]);
        let within = |columns| {
            let shown = table.within(columns);
            (shown.lines().collect::<Vec<_>>(), shown.left_out)
        };
        let all = ["ID  SIZE  KEYS  IN", "a   10 B     7  local"];
        assert_eq!(within(None).0, all);
        assert_eq!(within(Some(21)), (all.map(str::to_owned).to_vec(), vec![]));
        assert_eq!(within(Some(20)).0, ["ID  SIZE  IN", "a   10 B  local"]);
        // What is needed stays, however narrow it is.
        assert_eq!(within(Some(3)).0, ["ID  IN", "a   local"]);
        assert_eq!(within(Some(3)).1, ["KEYS", "SIZE"]);
    }
}
