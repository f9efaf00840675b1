//! The environment that systemd gives to a unit's programs, and environment files as systemd reads and we write them.
//!
//! Source: systemd.exec(5), "Environment"; systemd `src/basic/env-file.c`. What a line of an environment file means:
//! spaces around the name and before the value fall away, at its end too unless quoted; quotes of both kinds may open
//! where a value begins; a backslash takes the next sign as it is, and joins lines; `#` and `;` begin a comment at the
//! start of a line only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::discover::content;
use super::unit::{Environment, Unit};
use super::{Error, Read, Variables};

/// What the unit's programs get.
pub(super) struct Found {
    pub(super) variables: Variables,
    /// The environment files that are there.
    pub(super) files: Vec<PathBuf>,
    /// Which of them has the last word on a variable.
    pub(super) origins: BTreeMap<String, PathBuf>,
}

/// The variables that the unit's programs get.
pub(super) fn of(unit: &Unit, read: Read<'_>) -> Result<Found, Error> {
    let Environment {
        manager,
        set,
        files,
        unset,
    } = &unit.environment;
    let mut variables = Variables::new();
    for assignment in manager.iter().chain(set) {
        if let Some((name, value)) = assignment.split_once('=') {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }
    let mut there = Vec::new();
    let mut origins = BTreeMap::new();
    for file in files {
        let path = &file.path;
        if path
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .any(|byte| b"*?[".contains(byte))
        {
            return Err(Error::Unit {
                unit: unit.name.clone(),
                line: format!("EnvironmentFile={}", path.display()),
                reason: "a pattern may name several files".to_owned(),
            });
        }
        match content(unit, path, read) {
            Ok(content) => {
                // Of a comment, systemd does not mind in which encoding it is.
                let assignments = parse(path, &String::from_utf8_lossy(&content))?;
                origins.extend(assignments.iter().map(|(name, _)| (name.clone(), path.clone())));
                variables.extend(assignments);
            }
            Err(Error::Unreadable { source, .. })
                if file.is_optional && source.kind() == std::io::ErrorKind::NotFound =>
            {
                continue;
            }
            Err(error) => return Err(error),
        }
        there.push(path.clone());
    }
    for unset in unset {
        match unset.split_once('=') {
            Some((name, value)) if variables.get(name).is_some_and(|has| has == value) => variables.remove(name),
            Some(_) => None,
            None => variables.remove(unset),
        };
    }
    Ok(Found {
        variables,
        files: there,
        origins,
    })
}

/// Where the reader of an environment file stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeName,
    Name,
    BeforeValue,
    Value,
    Escaped,
    SingleQuotes,
    DoubleQuotes,
    EscapedInQuotes,
    Comment,
    EscapedInComment,
}

/// The assignments of an environment file, in their order.
///
/// Up to systemd 253 a comment that ends in a backslash goes on in the next line, later it does not: fails where that makes
/// a difference.
pub(super) fn parse(path: &Path, content: &str) -> Result<Vec<(String, String)>, Error> {
    let read = |goes_on: bool| {
        let mut reader = Reader {
            comments_go_on: goes_on,
            ..Reader::default()
        };
        content.chars().for_each(|sign| reader.take(sign));
        reader.end();
        (reader.found, reader.doubt)
    };
    let (found, doubt) = read(false);
    match doubt {
        Some(line) if read(true).0 != found => Err(Error::File {
            path: path.to_owned(),
            reason: format!(
                "line {line}: a comment ends in a backslash: systemd's versions differ in what the next line is then"
            ),
        }),
        Some(_) | None => Ok(found),
    }
}

struct Reader {
    state: State,
    line: usize,
    name: String,
    value: String,
    /// Length of the value without the blanks at its end that are not quoted.
    solid: usize,
    found: Vec<(String, String)>,
    comments_go_on: bool,
    /// The first line that is a comment and ends in a backslash.
    doubt: Option<usize>,
}

impl Default for Reader {
    fn default() -> Self {
        Reader {
            state: State::BeforeName,
            line: 1,
            name: String::new(),
            value: String::new(),
            solid: 0,
            found: Vec::new(),
            comments_go_on: false,
            doubt: None,
        }
    }
}

impl Reader {
    fn take(&mut self, sign: char) {
        let is_newline = matches!(sign, '\n' | '\r');
        let is_blank = is_newline || matches!(sign, ' ' | '\t');
        self.state = match self.state {
            State::BeforeName if matches!(sign, '#' | ';') => State::Comment,
            State::BeforeName if is_blank => State::BeforeName,
            State::BeforeName => {
                self.name = sign.to_string();
                State::Name
            }
            // A line without `=` says nothing.
            State::Name if is_newline => State::BeforeName,
            State::Name if sign == '=' => State::BeforeValue,
            State::Name => {
                self.name.push(sign);
                State::Name
            }
            State::BeforeValue | State::Value if is_newline => self.assigned(),
            State::BeforeValue if sign == '\'' => State::SingleQuotes,
            State::BeforeValue if sign == '"' => State::DoubleQuotes,
            State::BeforeValue if is_blank => State::BeforeValue,
            State::BeforeValue | State::Value if sign == '\\' => State::Escaped,
            State::BeforeValue | State::Value => {
                self.value.push(sign);
                if !is_blank {
                    self.solid = self.value.len();
                }
                State::Value
            }
            State::Escaped => {
                if !is_newline {
                    self.push(sign);
                }
                State::Value
            }
            State::SingleQuotes if sign == '\'' => State::BeforeValue,
            State::DoubleQuotes if sign == '"' => State::BeforeValue,
            State::DoubleQuotes if sign == '\\' => State::EscapedInQuotes,
            State::SingleQuotes | State::DoubleQuotes => {
                self.push(sign);
                self.state
            }
            State::EscapedInQuotes => {
                match sign {
                    '"' | '\\' | '`' | '$' => self.push(sign),
                    _ if is_newline => {}
                    _ => {
                        self.push('\\');
                        self.push(sign);
                    }
                }
                State::DoubleQuotes
            }
            State::Comment if sign == '\\' => State::EscapedInComment,
            State::Comment if is_newline => State::BeforeName,
            State::Comment => State::Comment,
            State::EscapedInComment if is_newline => {
                self.doubt.get_or_insert(self.line);
                match self.comments_go_on {
                    true => State::Comment,
                    false => State::BeforeName,
                }
            }
            State::EscapedInComment => State::Comment,
        };
        self.line += usize::from(sign == '\n');
    }

    fn push(&mut self, sign: char) {
        self.value.push(sign);
        self.solid = self.value.len();
    }

    fn assigned(&mut self) -> State {
        self.value.truncate(self.solid);
        self.solid = 0;
        let (name, value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
        let name = name.trim_end_matches([' ', '\t']);
        // systemd passes over other names.
        if is_name(name) {
            self.found.push((name.to_owned(), value));
        }
        State::BeforeName
    }

    fn end(&mut self) {
        match self.state {
            State::BeforeName | State::Name | State::Comment | State::EscapedInComment => {}
            State::EscapedInQuotes => {
                self.push('\\');
                self.assigned();
            }
            State::BeforeValue | State::Value | State::Escaped | State::SingleQuotes | State::DoubleQuotes => {
                self.assigned();
            }
        }
    }
}

/// Whether a variable can have this name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|sign: char| sign.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A line of an environment file that sets `name`, whatever is in `value` but for line breaks.
pub(super) fn line(name: &str, value: &str) -> String {
    let mut quoted = String::new();
    for sign in value.chars() {
        if matches!(sign, '"' | '\\' | '`' | '$') {
            quoted.push('\\');
        }
        quoted.push(sign);
    }
    format!("{name}=\"{quoted}\"\n")
}
