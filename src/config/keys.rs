//! The keys of a configuration file: what this version knows, what only later versions know, and which key was meant
//! (`nearest_name`).
//!
//! Source: the section Configuration of the contract. Leaves to `check` what the values mean.
//! Invariant: after [`check`] a tree holds known keys only, each with a value of the right type or `Refused`.

use super::file::{Entry, Table, Value};
use super::key_path::join;
use super::known_keys::{KEYS, Key, Kind, LATER};
use super::nearest_name::closest;
use super::problem::Problems;
use super::shown_value::{is_private_key, shown};

/// What the value of `path` (with `*` for names) must be.
pub(super) fn expected(path: &str) -> &'static str {
    expected_of(path).expect("only keys of the table are read")
}

fn expected_of(path: &str) -> Option<&'static str> {
    KEYS.iter().find(|key| key.path == path).map(|key| key.expected)
}

/// Says that `subject` is only known to later versions.
pub(super) fn later(subject: &str) -> String {
    format!("`{subject}` is known only to later versions of lifeboat")
}

/// Checks one file: every key is known and of the right type. What is not becomes [`Value::Refused`].
pub(super) fn check(table: &mut Table, problems: &mut Problems) {
    check_table(table, "", "", problems);
}

/// `pattern` is the path of `table` with `*` for names, `path` the same with the names.
fn check_table(table: &mut Table, pattern: &str, path: &str, problems: &mut Problems) {
    for (name, entry) in table {
        let full = join(path, name);
        let here = if has_names(pattern) {
            format!("{pattern}.*")
        } else {
            join(pattern, name)
        };
        if !is_section(&here) && expected_of(&here).is_none() && !LATER.contains(&&*here) {
            problems.at(&entry.key, &unknown(pattern, path, name));
            entry.node.value = Value::Refused;
        } else if !check_entry(entry, &here, &full, problems) {
            entry.node.value = Value::Refused;
        }
        if let Value::Table(inner) = &mut entry.node.value {
            check_table(inner, &here, &full, problems);
        }
    }
}

/// Whether the entry may stay; if not, its problem was noted.
fn check_entry(entry: &mut Entry, pattern: &str, path: &str, problems: &mut Problems) -> bool {
    if LATER.contains(&pattern) {
        let subject = if pattern.contains('.') {
            path.to_owned()
        } else {
            format!("[{path}]")
        };
        problems.at(&entry.key, &later(&subject));
        return false;
    }
    if let Some(key) = KEYS.iter().find(|key| key.path == pattern) {
        return check_type(entry, key, path, problems);
    }
    let is_table = matches!(entry.node.value, Value::Table(_));
    if !is_table {
        let message = if has_names(pattern) {
            format!("`{path}` holds a table for each name: `[{path}.NAME]`, in single brackets")
        } else if let Some((section, "*")) = pattern.rsplit_once('.') {
            let known = known(pattern).join(", ");
            format!("`{path}` is not in the table of a name; write `[{section}.NAME]` above {known}")
        } else {
            format!("`{path}` is a table: write `[{path}]` above its keys")
        };
        problems.at(&entry.key, &message);
    }
    is_table
}

fn check_type(entry: &mut Entry, key: &Key, path: &str, problems: &mut Problems) -> bool {
    let value = &mut entry.node.value;
    if let Value::Text(text) = value
        && is_private_key(text)
        && key.kind != Kind::Secret
    {
        let message = format!("`{path}`: a private key (not shown) does not belong here; treat it as exposed");
        problems.hidden_at(&entry.node.origin, &message);
        return false;
    }
    let fits = match (key.kind, &mut *value) {
        (Kind::Text | Kind::Duration | Kind::IntegerOrAuto | Kind::SecretText, Value::Text(_))
        | (Kind::Integer | Kind::IntegerOrAuto, Value::Integer(_))
        | (Kind::Switch, Value::Boolean(_)) => true,
        (Kind::Texts, Value::List(list)) => list.iter().all(|node| matches!(node.value, Value::Text(_))),
        (Kind::Secret | Kind::SecretText, Value::Table(table)) => {
            *value = Value::Whole(std::mem::take(table));
            return true;
        }
        (_, _) => false,
    };
    if fits {
        return true;
    }
    let (found, expected) = (shown(value), key.expected);
    match (key.kind, value) {
        // Whatever stands here instead of a table may be the secret itself.
        (Kind::Secret | Kind::SecretText, _) => problems.hidden_at(
            &entry.node.origin,
            &format!("`{path}` is not {expected}; what stands here is not shown"),
        ),
        (Kind::Duration, Value::Integer(number)) => problems.at(
            &entry.node.origin,
            &format!("`{path}`: {found} is not {expected}; write \"{number}s\" for seconds"),
        ),
        (_, _) => problems.at(&entry.node.origin, &format!("`{path}`: {found} is not {expected}")),
    }
    false
}

/// Whether the table at `pattern` is keyed by names.
fn has_names(pattern: &str) -> bool {
    matches!(pattern, "members" | "schedules" | "destinations")
}

/// Whether `pattern` is a table with known keys in it.
fn is_section(pattern: &str) -> bool {
    KEYS.iter().any(|key| is_within(key.path, pattern))
}

fn is_within(path: &str, section: &str) -> bool {
    path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

fn unknown(section: &str, section_path: &str, name: &str) -> String {
    let path = join(section_path, name);
    let bound = (name.chars().count() / 3).max(1);
    if let Some(sibling) = closest(name, known(section).into_iter(), bound) {
        return format!("unknown key `{path}`; did you mean `{}`?", join(section_path, sibling));
    }
    if let Some(sibling) = closest(name, children(LATER.iter().copied(), section).into_iter(), bound) {
        let meant = join(section_path, sibling);
        return format!("unknown key `{path}`; did you mean `{meant}`, known only to later versions of lifeboat?");
    }
    let elsewhere = KEYS.iter().map(|key| key.path);
    let elsewhere = elsewhere.filter(|path| path.rsplit('.').next() == Some(name));
    if let Some(meant) = elsewhere.min_by_key(|path| path.len()) {
        return format!("unknown key `{path}`; did you mean `{}`?", meant.replace('*', "NAME"));
    }
    let place = if section.is_empty() {
        "at the top".to_owned()
    } else {
        format!("in `[{section_path}]`")
    };
    format!("unknown key `{path}`; known {place}: {}", known(section).join(", "))
}

/// The keys of the table at `section` that this version knows, in the order of the table above.
fn known(section: &str) -> Vec<&'static str> {
    children(KEYS.iter().map(|key| key.path), section)
}

fn children(paths: impl Iterator<Item = &'static str>, section: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for path in paths {
        let rest = if section.is_empty() {
            Some(path)
        } else {
            path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        let name = rest.and_then(|rest| rest.split('.').next());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}
