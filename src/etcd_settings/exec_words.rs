//! The words of `ExecStart=`: variables replaced as systemd replaces them, and words written so that it reads them back.
//!
//! Source: systemd.service(5), "Command lines"; systemd `src/basic/env-util.c` (`replace_env_argv`) and
//! `src/basic/extract-word.c`. `$NAME` as a word of its own becomes as many words as its value has; `${NAME}` stands for
//! the value wherever it is; `$$` is a dollar sign; every other dollar sign stays.

use super::Variables;
use super::exec::{Command, ExecFlag};

/// The words of a command with the variables in them replaced.
pub(super) fn expanded(command: &Command, variables: &Variables) -> Vec<String> {
    if command.flags.contains(&ExecFlag::NoVariables) {
        return command.words.clone();
    }
    let mut words = Vec::new();
    for word in &command.words {
        match word.strip_prefix('$') {
            Some(name) if !name.starts_with(['{', '$']) => {
                let value = variables.get(name).map_or("", String::as_str);
                words.extend(split(value));
            }
            Some(_) | None => words.push(replaced(word, variables)),
        }
    }
    words
}

/// `${NAME}` and `$$` in a word replaced.
fn replaced(word: &str, variables: &Variables) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        // With more in it than a name, it is left to a shell.
        let named = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let named = named.filter(|(name, _)| !name.contains(':'));
        if let Some((name, behind)) = named {
            text.push_str(variables.get(name).map_or("", String::as_str));
            rest = behind;
        } else if let Some(behind) = after.strip_prefix('$') {
            text.push('$');
            rest = behind;
        } else {
            text.push('$');
            rest = after;
        }
    }
    text.push_str(rest);
    text
}

/// The words of a variable's value: split at blanks, quotes taken away. Quotes that are not closed are borne.
fn split(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut signs = value.chars();
    while let Some(sign) = signs.next() {
        match (quote, sign) {
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            (Some(open), _) if sign == open => quote = None,
            (_, '\\') => {
                let next = signs.next().unwrap_or('\\');
                word.get_or_insert_default().push(next);
            }
            (_, _) => word.get_or_insert_default().push(sign),
        }
    }
    words.extend(word);
    words
}

/// The text after `ExecStart=` for a command.
pub(super) fn exec_start(command: &Command) -> String {
    let mut text = String::new();
    let program = command.program.to_string_lossy();
    let own_name = command.words.first().filter(|name| **name != program);
    for flag in &command.flags {
        text.push_str(&flag.to_string());
    }
    if own_name.is_some() {
        text.push('@');
    }
    text.push_str(&quoted(&program));
    let words = command.words.iter().skip(usize::from(own_name.is_none()));
    for word in words {
        text.push(' ');
        text.push_str(&quoted(word));
    }
    text
}

/// A word as it stands in a unit file. Variables in it stay variables.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=,./:@+${}[]~*!^&|()<>".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for sign in word.chars() {
        match sign {
            '"' | '\\' => text.extend(['\\', sign]),
            '%' => text.push_str("%%"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            _ => text.push(sign),
        }
    }
    text.push('"');
    text
}
