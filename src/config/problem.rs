//! What is wrong in a configuration and where it stands: file, line, column and the line drawn with a mark under it.
//!
//! Leaves to others what is looked for. Invariant: no message and no drawing holds a control character, and no drawing
//! shows a line that may hold a secret (see [`Source::is_sensitive`]).

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Serialize;

/// One thing that is wrong or doubtful in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it stands; none for what is missing altogether.
    pub place: Option<Place>,
    /// What is wrong, with the key and what was expected.
    pub message: String,
}

/// A place in a file, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file as it was opened.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters, from 1.
    pub column: usize,
    /// The line with a mark under the place, three lines of text; none where the line may hold a secret.
    pub drawing: Option<String>,
}

impl Problem {
    /// A problem that stands nowhere in particular.
    pub(super) fn nowhere(message: &str) -> Self {
        Problem {
            place: None,
            message: printable(message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            return f.write_str(&self.message);
        };
        let file = printable(&place.file.to_string_lossy());
        write!(f, "{file}:{}:{}: {}", place.line, place.column, self.message)?;
        match &place.drawing {
            Some(drawing) => write!(f, "\n{drawing}"),
            None => Ok(()),
        }
    }
}

/// One file that was read. Has no `Debug`: its text may hold what belongs elsewhere.
pub(super) struct Source {
    path: PathBuf,
    text: String,
    /// Its place in the order of reading, by which problems are sorted.
    index: usize,
}

impl Source {
    pub(super) fn new(path: &Path, text: String, index: usize) -> Rc<Self> {
        Rc::new(Source {
            path: path.to_owned(),
            text,
            index,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the line that ends at `end` may show a secret: if it, or a line above it in the same table, speaks of one.
    /// Password and key files are named in the configuration, never their content, but people do paste it.
    fn is_sensitive(&self, line_start: usize, line: &str) -> bool {
        const WORDS: [&str; 9] = [
            "pass",
            "pasw",
            "psw",
            "auth",
            "secret",
            "token",
            "heartbeat",
            "private key",
            "begin ",
        ];
        let above = self.text.get(..line_start).unwrap_or_default();
        let table = match above.rfind("\n[") {
            Some(header) if !line.starts_with('[') => above.get(header..).unwrap_or_default(),
            Some(_) => "",
            None => above,
        };
        let speaks = |line: &str| {
            let line = line.to_ascii_lowercase();
            WORDS.iter().any(|word| line.contains(word)) || (line.contains("://") && line.contains('@'))
        };
        speaks(line)
            || table
                .lines()
                .any(|line| !line.trim_start().starts_with('#') && speaks(line))
    }
}

/// Where a key or value stands: a span of bytes in a file.
#[derive(Clone)]
pub(super) struct Origin {
    source: Rc<Source>,
    span: Range<usize>,
}

impl Origin {
    pub(super) fn new(source: &Rc<Source>, span: Range<usize>) -> Self {
        Origin {
            source: Rc::clone(source),
            span,
        }
    }

    /// File and line, for a message about another place.
    pub(super) fn line(&self) -> String {
        let place = self.place(false);
        format!("{}:{}", place.file.display(), place.line)
    }

    /// The place of its file in the order of reading.
    pub(super) fn file(&self) -> usize {
        self.source.index
    }

    /// What is written there.
    pub(super) fn text(&self) -> &str {
        self.source.text.get(self.span.clone()).unwrap_or_default()
    }

    fn place(&self, draw: bool) -> Place {
        let text = &self.source.text;
        let start = text.floor_char_boundary(self.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let number = text[..line_start].matches('\n').count() + 1;
        let before = &text[line_start..start];
        let marked = self.text().lines().next().unwrap_or_default();
        let column = before.chars().count() + 1;
        let shown = draw && !self.source.is_sensitive(line_start, line);
        Place {
            file: self.source.path.clone(),
            line: number,
            column,
            drawing: shown.then(|| drawing(number, line, column, marked)).flatten(),
        }
    }
}

/// Problems kept: nobody reads more, and each costs a walk over its file.
const MOST_PROBLEMS: usize = 100;

/// Gathers problems, the first hundred; hands them out in the order of the files.
#[derive(Default)]
pub(super) struct Problems {
    found: Vec<(Option<(usize, usize)>, Problem)>,
}

impl Problems {
    /// A problem at `origin`, with the line drawn.
    pub(super) fn at(&mut self, origin: &Origin, message: &str) {
        self.push(origin, true, message);
    }

    /// A problem at `origin` whose line is not shown: a secret may stand there.
    pub(super) fn hidden_at(&mut self, origin: &Origin, message: &str) {
        self.push(origin, false, message);
    }

    /// A problem that stands nowhere in particular.
    pub(super) fn nowhere(&mut self, message: &str) {
        self.found.push((None, Problem::nowhere(message)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of the files and lines; what is missing altogether stands last.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found
            .sort_by_key(|(position, _)| position.unwrap_or((usize::MAX, usize::MAX)));
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }

    fn push(&mut self, origin: &Origin, draw: bool, message: &str) {
        if self.found.len() >= MOST_PROBLEMS {
            return;
        }
        let problem = Problem {
            place: Some(origin.place(draw)),
            message: printable(message),
        };
        self.found
            .push((Some((origin.source.index, origin.span.start)), problem));
    }
}

/// The line and a mark under it; nothing for a line too long for a terminal. What stands right of the mark is left out
/// when it is a value.
fn drawing(number: usize, line: &str, column: usize, marked: &str) -> Option<String> {
    const WIDEST: usize = 160;
    let width = marked.chars().count();
    let end = column - 1 + width;
    if column > WIDEST {
        return None;
    }
    let rest: String = line.chars().skip(end).collect();
    let mut shown: String = line.chars().take(end.min(WIDEST)).collect();
    if end <= WIDEST && !rest.contains(['=', '"', '\'']) && rest.chars().count() < WIDEST - end.min(WIDEST) {
        shown.push_str(&rest);
    } else if !rest.trim().is_empty() {
        shown.push_str(" …");
    }
    let gutter = " ".repeat(number.to_string().len());
    let indent = " ".repeat(column - 1);
    let mark = "^".repeat(width.clamp(1, WIDEST + 1 - column));
    let shown = printable(&shown);
    let shown = shown.trim_end();
    Some(format!("{gutter} |\n{number} | {shown}\n{gutter} | {indent}{mark}"))
}

/// Control characters, which could steer a terminal, become spaces.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
