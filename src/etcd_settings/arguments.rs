//! The flags on etcd's command line, as Go's `flag` package reads them.
//!
//! One dash or two; the value after `=` or in the next word; a switch never takes the next word; of several the last
//! counts. etcd takes no other arguments, so the word after a flag that we do not know is its value unless it begins
//! with a dash.

use std::collections::BTreeMap;

use super::flags::{Kind, kind};

/// One flag and how many words it takes up.
pub(super) struct Argument<'a> {
    pub(super) flag: &'a str,
    pub(super) value: &'a str,
    pub(super) length: usize,
}

/// The flag that `words` begin with, if it is one.
pub(super) fn first(words: &[String]) -> Option<Argument<'_>> {
    let (word, rest) = words.split_first()?;
    let text = word.strip_prefix('-')?;
    let text = text.strip_prefix('-').unwrap_or(text);
    if text.is_empty() || text.starts_with(['-', '=']) {
        return None;
    }
    if let Some((flag, value)) = text.split_once('=') {
        let length = 1;
        return Some(Argument { flag, value, length });
    }
    let next = rest.first().map(String::as_str);
    let value = match kind(text) {
        Some(Kind::Switch) => None,
        Some(Kind::Text) => next,
        None => next.filter(|next| !next.starts_with('-')),
    };
    Some(Argument {
        flag: text,
        value: value.unwrap_or("true"),
        length: 1 + usize::from(value.is_some()),
    })
}

/// The flags in the words after the program, by name.
pub(super) fn parse(words: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut flags = BTreeMap::new();
    let mut rest = words;
    if let Some(word @ ("gateway" | "grpc-proxy")) = words.first().map(String::as_str) {
        return Err(format!("it runs etcd as `{word}`, which has no data"));
    }
    while let Some(word) = rest.first() {
        if word == "--" && rest.len() == 1 {
            break;
        }
        let Some(argument) = first(rest) else {
            return Err(format!(
                "etcd takes no argument `{}`",
                word.replace(super::shell::UNKNOWN, "…")
            ));
        };
        flags.insert(argument.flag.to_owned(), argument.value.to_owned());
        rest = &rest[argument.length..];
    }
    Ok(flags)
}
