//! The one kind of shell script that is understood: assignments, perhaps `exec`, one program and its words.
//!
//! Fedora and RHEL start etcd as `/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd"`. What else a script may do decides
//! what etcd gets, so everything else is refused.
//!
//! Source: POSIX, "Shell Command Language", 2.2 to 2.9.

use super::Variables;
use super::environment::is_name;

/// A script that starts one program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// What it puts into the program's environment.
    pub(super) assignments: Vec<(String, String)>,
    /// The program and its words.
    pub(super) words: Vec<String>,
}

/// Reads a script; `variables` are those it starts with.
pub(super) fn parse(script: &str, variables: &Variables) -> Result<Script, String> {
    let mut words = Words {
        rest: script.trim(),
        variables,
    };
    let mut assignments = Vec::new();
    let mut found: Vec<String> = Vec::new();
    while let Some(word) = words.next(found.is_empty())? {
        match word {
            Word::Assignment(name, value) => assignments.push((name, value)),
            Word::Plain(parts) if found.is_empty() && parts.as_slice() == ["exec"] => {}
            Word::Plain(parts) => found.extend(parts),
        }
    }
    if found.is_empty() {
        return Err("the script starts no program".to_owned());
    }
    Ok(Script {
        assignments,
        words: found,
    })
}

enum Word {
    Assignment(String, String),
    /// Several where a variable was split at blanks, none where it was empty.
    Plain(Vec<String>),
}

struct Words<'a> {
    rest: &'a str,
    variables: &'a Variables,
}

impl Words<'_> {
    fn next(&mut self, may_assign: bool) -> Result<Option<Word>, String> {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        if self.rest.is_empty() {
            return Ok(None);
        }
        if may_assign
            && let Some((name, value)) = self.rest.split_once('=')
            && is_name(name)
        {
            self.rest = value;
            let value = self.parts(Of::Assignment)?.join(" ");
            return Ok(Some(Word::Assignment(name.to_owned(), value)));
        }
        Ok(Some(Word::Plain(self.parts(Of::Command)?)))
    }

    /// What one word of the script becomes.
    fn parts(&mut self, of: Of) -> Result<Vec<String>, String> {
        let mut parts: Vec<String> = Vec::new();
        let mut part: Option<String> = None;
        let mut in_quotes = false;
        while let Some(sign) = self.rest.chars().next() {
            let after = &self.rest[sign.len_utf8()..];
            match (in_quotes, sign) {
                (false, ' ' | '\t') => break,
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
                    let stays = in_quotes && !matches!(next, '"' | '\\' | '$' | '`');
                    let part = part.get_or_insert_default();
                    part.extend(stays.then_some('\\'));
                    part.push(next);
                    self.rest = &after[next.len_utf8()..];
                }
                (_, '$') => {
                    let value = self.variable(of)?;
                    match in_quotes || of == Of::Assignment {
                        true => part.get_or_insert_default().push_str(&value),
                        false => split_into(&value, &mut parts, &mut part),
                    }
                }
                (
                    false,
                    '|' | '&' | ';' | '<' | '>' | '(' | ')' | '*' | '?' | '[' | '~' | '#' | '{' | '}' | '\n' | '!',
                )
                | (_, '`') => return Err(format!("`{sign}` in the script may do more than to start etcd")),
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

    /// The value of the variable that comes next; the output of a command only for an assignment, as it is not known.
    fn variable(&mut self, of: Of) -> Result<String, String> {
        let after = &self.rest[1..];
        if let Some(command) = after.strip_prefix('(') {
            let (command, behind) = command.split_once(')').ok_or("`$(` is not closed")?;
            if of != Of::Assignment || command.starts_with('(') {
                return Err(format!("the output of `{command}` is not known"));
            }
            self.rest = behind;
            return Ok(String::new());
        }
        let (name, behind) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}').ok_or("`${` is not closed")?,
            None => {
                let end = after.find(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '_'));
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        if !is_name(name) {
            return Err(format!("`${name}` is more than the value of a variable"));
        }
        self.rest = behind;
        Ok(self.variables.get(name).cloned().unwrap_or_default())
    }
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
