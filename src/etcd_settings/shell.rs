//! The kind of shell script that is understood: simple commands in a row, up to the one that starts etcd.
//!
//! Fedora and RHEL start etcd as `/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd"`; others set a limit first, or send what
//! etcd says elsewhere. What comes before etcd must be known not to change what etcd gets; what comes after it does not
//! matter. The output of a command is not known, and stands as [`UNKNOWN`].
//!
//! Source: POSIX, "Shell Command Language", 2.2 to 2.9.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Variables;
use super::environment::is_name;

/// Stands for text that is not known before the script runs; in no setting that etcd takes.
pub(super) const UNKNOWN: char = '\u{fffc}';

/// Commands that change nothing of what etcd gets.
const HARMLESS: &[&str] = &[
    ":", "[", "chgrp", "chmod", "chown", "echo", "install", "logger", "mkdir", "printf", "sleep", "sysctl", "test",
    "touch", "true", "ulimit", "umask",
];

/// A word as a shell takes it literally.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%_+=:,./-~".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")).into(),
    }
}

/// A script that starts one program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// What the program gets as its environment.
    pub(super) environment: Variables,
    /// The folder that the script goes to first.
    pub(super) folder: Option<PathBuf>,
    /// The program and its words.
    pub(super) words: Vec<String>,
}

/// Reads a script up to the program that `is_wanted`; `variables` are those it starts with, `arguments` those after it, its
/// own name first.
pub(super) fn parse(
    script: &str,
    arguments: &[String],
    variables: &Variables,
    is_wanted: &dyn Fn(&[String]) -> bool,
) -> Result<Script, String> {
    let mut shell = Shell {
        rest: script,
        arguments,
        exported: variables.keys().cloned().collect(),
        variables: variables.clone(),
        exports_all: false,
        folder: None,
    };
    while let Some(command) = shell.command()? {
        if is_wanted(&command.words) {
            return Ok(shell.started(command));
        }
        shell.run(command)?;
    }
    Err("the script starts no etcd".to_owned())
}

/// One simple command.
#[derive(Default)]
struct Simple {
    assignments: Vec<(String, String)>,
    words: Vec<String>,
}

struct Shell<'a> {
    rest: &'a str,
    arguments: &'a [String],
    variables: Variables,
    exported: BTreeSet<String>,
    exports_all: bool,
    folder: Option<PathBuf>,
}

impl Shell<'_> {
    /// What etcd gets from where the script stands.
    fn started(self, command: Simple) -> Script {
        let Shell {
            variables, exported, ..
        } = self;
        let mut environment: Variables = variables
            .into_iter()
            .filter(|(name, _)| exported.contains(name))
            .collect();
        environment.extend(command.assignments);
        Script {
            environment,
            folder: self.folder,
            words: command.words,
        }
    }

    /// Does what a command before etcd does, if that is known.
    fn run(&mut self, command: Simple) -> Result<(), String> {
        let Some((name, words)) = command.words.split_first() else {
            for (name, value) in command.assignments {
                if self.exports_all {
                    self.exported.insert(name.clone());
                }
                self.variables.insert(name, value);
            }
            return Ok(());
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let program = name.rsplit('/').next().unwrap_or(name);
        match (program, words.as_slice()) {
            ("export", words) => {
                for word in words {
                    let (name, value) = word
                        .split_once('=')
                        .map_or((*word, None), |(name, value)| (name, Some(value)));
                    self.exported.insert(name.to_owned());
                    if let Some(value) = value {
                        self.variables.insert(name.to_owned(), value.to_owned());
                    }
                }
            }
            ("unset", names) => names.iter().for_each(|name| {
                self.variables.remove(*name);
            }),
            ("set", ["-a" | "-ae" | "-ea"] | ["-o", "allexport"]) => self.exports_all = true,
            ("set", [options])
                if options
                    .trim_start_matches(['-', '+'])
                    .bytes()
                    .all(|letter| b"eux".contains(&letter)) => {}
            ("set", ["-o", "pipefail"]) => {}
            ("cd", [folder]) if !folder.contains(UNKNOWN) && !folder.starts_with('-') => {
                self.folder = Some(self.folder.take().unwrap_or_default().join(folder));
            }
            (program, _) if HARMLESS.contains(&program) => {}
            (program, _) => {
                return Err(format!(
                    "`{program}` in the script may change what etcd is started with"
                ));
            }
        }
        Ok(())
    }

    /// The next command; nothing at the end.
    fn command(&mut self) -> Result<Option<Simple>, String> {
        let mut command = Simple::default();
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            let is_empty = command.words.is_empty() && command.assignments.is_empty();
            let Some(sign) = self.rest.chars().next() else {
                return Ok((!is_empty).then_some(command));
            };
            match sign {
                '#' => self.rest = self.rest.find('\n').map_or("", |at| &self.rest[at..]),
                '\n' | ';' => {
                    self.rest = &self.rest[1..];
                    if !is_empty {
                        return Ok(Some(command));
                    }
                }
                _ if self.is_redirection() => self.redirection()?,
                '&' | '|' => {
                    let is_list = self.rest.starts_with("&&") || self.rest.starts_with("||");
                    // What runs beside it is of no matter to etcd, and to whatever else it may be.
                    self.rest = if is_list { &self.rest[2..] } else { "" };
                    if !is_empty {
                        return Ok(Some(command));
                    }
                }
                _ => self.word_of(&mut command)?,
            }
        }
    }

    fn is_redirection(&self) -> bool {
        let digits = self.rest.trim_start_matches(|sign: char| sign.is_ascii_digit());
        digits.starts_with(['<', '>']) || self.rest.starts_with("&>")
    }

    /// Passes over a redirection: where etcd's output goes is not of its settings.
    fn redirection(&mut self) -> Result<(), String> {
        let rest = self.rest.trim_start_matches(|sign: char| sign.is_ascii_digit());
        let rest = rest.trim_start_matches(['<', '>', '&', '|']);
        if self.rest[..self.rest.len() - rest.len()].contains("<<") {
            return Err("`<<` in the script is not understood".to_owned());
        }
        self.rest = rest.trim_start_matches([' ', '\t']);
        self.parts(Of::Assignment).map(drop)
    }

    fn word_of(&mut self, command: &mut Simple) -> Result<(), String> {
        let may_assign = command.words.is_empty() || command.words[0] == "export";
        if may_assign
            && let Some((name, value)) = self.rest.split_once('=')
            && is_name(name)
        {
            self.rest = value;
            let value = self.parts(Of::Assignment)?.join(" ");
            match command.words.is_empty() {
                true => command.assignments.push((name.to_owned(), value)),
                false => command.words.push(format!("{name}={value}")),
            }
            return Ok(());
        }
        let parts = self.parts(Of::Command)?;
        let is_exec = command.words.is_empty() && parts.as_slice() == ["exec"];
        if !is_exec {
            command.words.extend(parts);
        }
        Ok(())
    }

    /// What one word of the script becomes.
    fn parts(&mut self, of: Of) -> Result<Vec<String>, String> {
        let mut parts: Vec<String> = Vec::new();
        let mut part: Option<String> = None;
        let mut in_quotes = false;
        while let Some(sign) = self.rest.chars().next() {
            let after = &self.rest[sign.len_utf8()..];
            match (in_quotes, sign) {
                (false, ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>') => break,
                (_, '"') => {
                    in_quotes = !in_quotes;
                    part.get_or_insert_default();
                    self.rest = after;
                }
                (false, '\'') => {
                    let (inside, behind) = after.split_once('\'').ok_or("a quote is not closed")?;
                    part.get_or_insert_default().push_str(inside);
                    self.rest = behind;
                }
                (_, '\\') => {
                    let next = after.chars().next().ok_or("it ends in a backslash")?;
                    self.rest = &after[next.len_utf8()..];
                    if next == '\n' {
                        continue;
                    }
                    let stays = in_quotes && !matches!(next, '"' | '\\' | '$' | '`');
                    let part = part.get_or_insert_default();
                    part.extend(stays.then_some('\\'));
                    part.push(next);
                }
                (_, '$') if after.starts_with('@') => {
                    self.rest = &after[1..];
                    parts.extend(part.take().filter(|part| !part.is_empty()));
                    parts.extend(self.arguments.iter().skip(1).cloned());
                    if in_quotes && let Some(behind) = self.rest.strip_prefix('"') {
                        in_quotes = false;
                        self.rest = behind;
                    }
                }
                (_, '$' | '`') => {
                    let value = self.value(in_quotes)?;
                    match in_quotes || of == Of::Assignment {
                        true => part.get_or_insert_default().push_str(&value),
                        false => split_into(&value, &mut parts, &mut part),
                    }
                }
                (false, '~') if part.is_none() => {
                    part = Some(UNKNOWN.to_string());
                    self.rest = after;
                }
                (false, '(' | ')' | '*' | '?' | '{' | '}') => {
                    return Err(format!("`{sign}` in the script may do more than to start etcd"));
                }
                (_, _) => {
                    part.get_or_insert_default().push(sign);
                    self.rest = after;
                }
            }
        }
        if in_quotes {
            return Err("a quote is not closed".to_owned());
        }
        parts.extend(part);
        Ok(parts)
    }

    /// The value of what comes next: a variable, or the output of a command.
    fn value(&mut self, in_quotes: bool) -> Result<String, String> {
        if let Some(after) = self.rest.strip_prefix('`') {
            let (_, behind) = after.split_once('`').ok_or("a backquote is not closed")?;
            self.rest = behind;
            return Ok(UNKNOWN.to_string());
        }
        let after = &self.rest[1..];
        if let Some(command) = after.strip_prefix('(') {
            self.rest = behind_closing(command, '(', ')').ok_or("`$(` is not closed")?;
            return Ok(UNKNOWN.to_string());
        }
        let Some(inner) = after.strip_prefix('{') else {
            let is_number = after.starts_with(|sign: char| sign.is_ascii_digit());
            let end = after.find(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
            let (name, behind) = after.split_at(if is_number { 1 } else { end.unwrap_or(after.len()) });
            self.rest = behind;
            return self.named(name).map(Option::unwrap_or_default);
        };
        let end = inner.find(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
        let (name, operator) = inner.split_at(end.unwrap_or(inner.len()));
        let value = self.named(name)?;
        if let Some(behind) = operator.strip_prefix('}') {
            self.rest = behind;
            return Ok(value.unwrap_or_default());
        }
        let Some(word) = operator.strip_prefix(":-").or_else(|| operator.strip_prefix('-')) else {
            return Err(format!("`${{{name}` is more than the value of a variable"));
        };
        let behind = behind_closing(word, '{', '}').ok_or("`${` is not closed")?;
        let word = &word[..word.len() - behind.len() - 1];
        let is_set = value.filter(|value| !(operator.starts_with(':') && value.is_empty()));
        let value = match is_set {
            Some(value) => value,
            None => {
                let quoted = if in_quotes {
                    format!("\"{word}\"")
                } else {
                    word.to_owned()
                };
                let mut inner = Shell {
                    rest: &quoted,
                    arguments: self.arguments,
                    variables: self.variables.clone(),
                    exported: BTreeSet::new(),
                    exports_all: false,
                    folder: None,
                };
                let value = inner.parts(Of::Assignment)?.join(" ");
                if !inner.rest.is_empty() {
                    return Err(format!("`{word}` is not understood"));
                }
                value
            }
        };
        self.rest = behind;
        Ok(value)
    }

    fn named(&self, name: &str) -> Result<Option<String>, String> {
        match name.parse::<usize>() {
            Ok(number) => Ok(self.arguments.get(number).cloned()),
            Err(_) if is_name(name) => Ok(self.variables.get(name).cloned()),
            Err(_) => Err(format!("`${name}` is more than the value of a variable")),
        }
    }
}

/// What is behind the sign that closes what was opened just before `text`.
fn behind_closing(text: &str, opening: char, closing: char) -> Option<&str> {
    let mut depth = 1usize;
    for (at, sign) in text.char_indices() {
        depth = match sign {
            _ if sign == opening => depth + 1,
            _ if sign == closing => depth - 1,
            _ => depth,
        };
        if depth == 0 {
            return Some(&text[at + closing.len_utf8()..]);
        }
    }
    None
}

/// What a word is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Assignment,
    Command,
}

/// Adds a variable's value without quotes around it: blanks in it part words.
fn split_into(value: &str, parts: &mut Vec<String>, part: &mut Option<String>) {
    let blank = |sign: char| matches!(sign, ' ' | '\t' | '\n');
    for (index, piece) in value.split(blank).enumerate() {
        if index > 0 {
            parts.extend(part.take());
        }
        if !piece.is_empty() {
            part.get_or_insert_default().push_str(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_literal_to_a_shell() {
        for (text, expected) in [
            ("m1=http://a:1,b", "m1=http://a:1,b"),
            ("a b", "'a b'"),
            ("", "''"),
            ("a'b", r"'a'\''b'"),
        ] {
            assert_eq!(shell_word(text), expected);
        }
    }
}
