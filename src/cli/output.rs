//! What people and programs see: tables and lines on standard output, everything else on standard error.
//!
//! A closed terminal never ends the work: writes that fail are given up in silence.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use serde::Serialize;

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
}

impl Output {
    /// A line of the result.
    pub fn line(&self, text: impl AsRef<str>) {
        writeln!(std::io::stdout(), "{}", text.as_ref()).ok();
    }

    /// The result as one JSON document.
    pub fn json(&self, document: &impl Serialize) {
        let text = serde_json::to_string(document).expect("our documents have only string keys");
        self.line(text);
    }

    /// Something that must not be missed, however quiet a run was asked for.
    pub fn alarm(&self, text: impl AsRef<str>) {
        writeln!(std::io::stderr(), "warning: {}", text.as_ref()).ok();
    }

    /// Something the operator should know, beside the result.
    pub fn warn(&self, text: impl AsRef<str>) {
        if self.verbosity != Verbosity::Quiet {
            writeln!(std::io::stderr(), "warning: {}", text.as_ref()).ok();
        }
    }

    /// Something that is wrong, where a command goes on to look for more.
    pub fn problem(&self, text: impl AsRef<str>) {
        writeln!(std::io::stderr(), "problem: {}", text.as_ref()).ok();
    }

    /// More on the result, for those who look or asked.
    pub fn detail(&self, text: impl AsRef<str>) {
        if self.verbosity == Verbosity::Verbose || self.shows_progress() {
            writeln!(std::io::stderr(), "{}", text.as_ref()).ok();
        }
    }

    /// Whether a progress bar is wanted and would be seen.
    pub fn shows_progress(&self) -> bool {
        self.verbosity != Verbosity::Quiet && std::io::stderr().is_terminal()
    }
}

/// A table with left-aligned columns, except those whose heading starts with `>`.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: &[&'static str]) -> Self {
        Table {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; one cell a heading.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows.push(cells);
    }

    /// The table as lines.
    pub fn lines(&self) -> Vec<String> {
        let headings: Vec<String> = self
            .headings
            .iter()
            .map(|heading| heading.trim_start_matches('>').to_owned())
            .collect();
        let widths: Vec<usize> = (0..headings.len())
            .map(|column| {
                let cells = self.rows.iter().chain(std::iter::once(&headings));
                cells.map(|row| row[column].chars().count()).max().unwrap_or(0)
            })
            .collect();
        let line = |cells: &Vec<String>| {
            let aligned = cells
                .iter()
                .zip(&widths)
                .zip(&self.headings)
                .map(|((cell, &width), heading)| {
                    if heading.starts_with('>') {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                });
            aligned.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        std::iter::once(&headings).chain(&self.rows).map(line).collect()
    }
}

/// Text from outside on one line of a terminal: control characters are shown, not obeyed.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
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

/// A number with its noun: `1 key`, `2 keys`.
pub fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
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
    fn columns_line_up() {
        let mut table = Table::new(&["ID", ">SIZE"]);
        table.row(vec!["a".into(), "10 B".into()]);
        table.row(vec!["longer".into(), "1.27 GiB".into()]);
        assert_eq!(
            table.lines(),
            ["ID          SIZE", "a           10 B", "longer  1.27 GiB"]
        );
    }
}
