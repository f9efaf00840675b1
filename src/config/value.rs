//! Single values of the merged tree: parsed and bounded, each fault at the place of the value.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::file::Value;
use super::key_path::join;
use super::reader::Reader;
use super::section::{Content, Given, Section};
use super::shown_value::{is_private_key, shown};
use crate::secret::Secret;

impl Reader<'_> {
    pub(super) fn secret(&mut self, section: &Section<'_>, name: &str) -> Option<Secret> {
        let given = section.given(name)?;
        let Value::Whole(table) = &given.value.value else {
            return None;
        };
        let path = &given.path;
        let mut found = None;
        for (key, entry) in table {
            let Value::Text(text) = &entry.node.value else {
                let message = format!("`{}` is not a string", join(path, key));
                self.problems.hidden_at(&entry.node.origin, &message);
                return None;
            };
            let secret = match key.as_str() {
                "file" => Path::new(text).is_absolute().then(|| Secret::File(text.into())),
                "credential" => is_credential(text).then(|| Secret::Credential(text.clone())),
                "env" => is_variable(text).then(|| Secret::Env(text.clone())),
                _ => {
                    let message = format!("unknown key `{}`; known here: file, credential, env", join(path, key));
                    self.problems.hidden_at(&entry.key, &message);
                    return None;
                }
            };
            if secret.is_none() {
                let expected = match key.as_str() {
                    "file" => "a path that starts with `/`",
                    "credential" => "the name of a systemd credential",
                    _ => "the name of an environment variable",
                };
                let message = format!("`{}` is not {expected}", join(path, key));
                self.problems.hidden_at(&entry.node.origin, &message);
                return None;
            }
            found = secret;
        }
        if table.len() != 1 {
            let message = format!("`{path}` takes exactly one of file, credential and env");
            self.problems.hidden_at(given.origin, &message);
            return None;
        }
        found
    }

    pub(super) fn integer(&mut self, section: &Section<'_>, name: &str, least: i32, most: i32) -> Option<i32> {
        let given = section.given(name)?;
        let Value::Integer(integer) = given.value.value else {
            return None;
        };
        let fitting = i32::try_from(integer)
            .ok()
            .filter(|integer| (least..=most).contains(integer));
        if fitting.is_none() {
            let written = given.origin.text();
            let message = format!("`{}`: {written} is not {}", given.path, section.expected(name));
            self.problems.at(given.origin, &message);
        }
        fitting
    }

    pub(super) fn absolute_path(
        &mut self,
        section: &Section<'_>,
        name: &str,
        given: &Given<'_, &str>,
    ) -> Option<PathBuf> {
        if Path::new(given.value).is_absolute() {
            return Some(given.value.into());
        }
        self.refuse(section, name, given)
    }

    pub(super) fn not_empty(&mut self, section: &Section<'_>, name: &str, given: &Given<'_, &str>) -> Option<String> {
        if !given.value.trim().is_empty() {
            return Some(given.value.to_owned());
        }
        self.refuse(section, name, given)
    }

    /// Two keys that only make sense together.
    pub(super) fn both<A, B>(
        &mut self,
        section: &Section<'_>,
        a: (&str, Option<A>),
        b: (&str, Option<B>),
    ) -> Option<(A, B)> {
        for (name, other) in [(a.0, b.0), (b.0, a.0)] {
            if let (Some(entry), None) = (section.entry(name), section.entry(other)) {
                let message = format!("`{}` needs `{other}` beside it", join(&section.path, name));
                self.problems.at(&entry.key, &message);
            }
        }
        a.1.zip(b.1)
    }

    /// The value by its own `FromStr`, whose error says what was expected.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, given: &Given<'_, &str>) -> Option<T> {
        let error = match given.value.parse() {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if is_private_key(given.value) {
            let message = format!(
                "`{}`: a private key (not shown) does not belong here; treat it as exposed",
                given.path
            );
            self.problems.hidden_at(given.origin, &message);
        } else {
            self.problems.at(given.origin, &format!("`{}`: {error}", given.path));
        }
        None
    }

    /// Reports a text that the table of keys says was expected otherwise.
    pub(super) fn refuse<T>(&mut self, section: &Section<'_>, name: &str, given: &Given<'_, &str>) -> Option<T> {
        let found = shown(&Value::Text(given.value.to_owned()));
        let message = format!("`{}`: {found} is not {}", given.path, section.expected(name));
        self.problems.at(given.origin, &message);
        None
    }

    /// Reports a required key, unless it or its table was reported already.
    pub(super) fn missing(&mut self, section: &Section<'_>, name: &str) {
        let path = join(&section.path, name);
        let message = format!("`{path}` is missing: {}", section.expected(name));
        match (section.entry(name), &section.content) {
            (Some(entry), Content::Present(..)) if matches!(&entry.node.value, Value::List(list) if list.is_empty()) => {
                let message = format!("`{path}` is empty: expected {}", section.expected(name));
                self.problems.at(&entry.node.origin, &message);
            }
            (Some(_), _) | (None, Content::Refused) => {}
            (None, Content::Present(_, key)) => self.problems.at(key, &message),
            (None, Content::Absent | Content::Root(_)) => self.problems.nowhere(&message),
        }
    }
}

fn is_credential(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    !name.is_empty() && name.len() <= 255 && name.bytes().all(is_plain) && name != "." && name != ".."
}

fn is_variable(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().next().is_some_and(|b| !b.is_ascii_digit()) && name.bytes().all(is_plain)
}
