//! Reading the merged tree: tables with their paths, values with the place they were written at.
//!
//! Leaves to `check` what the values mean. Invariant: a value that was reported already is never handed out.

use super::file::{Entry, Node, Table, Value};
use super::key_path::join;
use super::keys::expected;
use super::problem::Origin;

/// A table of the tree with its path.
pub(super) struct Section<'a> {
    pub(super) path: String,
    /// The path with `*` for names.
    pattern: String,
    pub(super) content: Content<'a>,
}

pub(super) enum Content<'a> {
    Absent,
    /// Reported already.
    Refused,
    Root(&'a Table),
    Present(&'a Table, &'a Origin),
}

/// A value that is written, and where.
pub(super) struct Given<'a, T> {
    pub(super) path: String,
    pub(super) value: T,
    pub(super) origin: &'a Origin,
}

impl<'a> Section<'a> {
    /// The whole tree.
    pub(super) fn root(table: &'a Table) -> Self {
        Section {
            path: String::new(),
            pattern: String::new(),
            content: Content::Root(table),
        }
    }

    /// The table `name` in here.
    pub(super) fn section(&self, name: &str) -> Section<'a> {
        self.inner(name, name)
    }

    fn inner(&self, name: &str, component: &str) -> Section<'a> {
        let content = match (self.entry(name), &self.content) {
            (Some(entry), _) => {
                if let Value::Table(table) = &entry.node.value {
                    Content::Present(table, &entry.key)
                } else {
                    Content::Refused
                }
            }
            (None, Content::Refused) => Content::Refused,
            (None, Content::Absent | Content::Root(_) | Content::Present(..)) => Content::Absent,
        };
        Section {
            path: join(&self.path, name),
            pattern: self.pattern_of(component),
            content,
        }
    }

    /// The tables in here, each with the name that it is keyed by.
    pub(super) fn named(&self) -> Vec<(&'a str, &'a Origin, Section<'a>)> {
        let (Content::Root(table) | Content::Present(table, _)) = &self.content else {
            return Vec::new();
        };
        let tables = table
            .iter()
            .map(|(name, entry)| (name.as_str(), &entry.key, self.inner(name, "*")));
        tables
            .filter(|(_, _, section)| matches!(section.content, Content::Present(..)))
            .collect()
    }

    /// The key `name` and its value, whatever it is.
    pub(super) fn entry(&self, name: &str) -> Option<&'a Entry> {
        match &self.content {
            Content::Root(table) | Content::Present(table, _) => table.get(name),
            Content::Absent | Content::Refused => None,
        }
    }

    /// What `name` was given; None if nothing, or if that was reported already.
    pub(super) fn given(&self, name: &str) -> Option<Given<'a, &'a Node>> {
        let node = &self.entry(name)?.node;
        let is_refused = matches!(node.value, Value::Refused);
        (!is_refused).then(|| Given {
            path: join(&self.path, name),
            value: node,
            origin: &node.origin,
        })
    }

    /// The same, if it is text.
    pub(super) fn text(&self, name: &str) -> Option<Given<'a, &'a str>> {
        let given = self.given(name)?;
        let Value::Text(text) = &given.value.value else {
            return None;
        };
        Some(given.with(text.as_str()))
    }

    /// The same, if it is a list.
    pub(super) fn list(&self, name: &str) -> Option<Given<'a, &'a [Node]>> {
        let given = self.given(name)?;
        let Value::List(list) = &given.value.value else {
            return None;
        };
        Some(given.with(list.as_slice()))
    }

    /// What the value of `name` must be.
    pub(super) fn expected(&self, name: &str) -> &'static str {
        expected(&self.pattern_of(name))
    }

    /// Whether something in here was reported already.
    pub(super) fn has_refused(&self) -> bool {
        match &self.content {
            Content::Refused => true,
            Content::Absent => false,
            Content::Root(table) | Content::Present(table, _) => {
                table.values().any(|entry| matches!(entry.node.value, Value::Refused))
            }
        }
    }

    fn pattern_of(&self, name: &str) -> String {
        if self.pattern.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.pattern)
        }
    }
}

impl<'a, T> Given<'a, T> {
    fn with<U>(self, value: U) -> Given<'a, U> {
        Given {
            path: self.path,
            value,
            origin: self.origin,
        }
    }
}

impl Given<'_, &[Node]> {
    /// Each text of the list, with its index in the path.
    pub(super) fn texts(&self) -> Vec<Given<'_, &str>> {
        let texts = self.value.iter().enumerate().filter_map(|(index, node)| {
            let Value::Text(text) = &node.value else {
                return None;
            };
            Some(Given {
                path: format!("{}[{index}]", self.path),
                value: text.as_str(),
                origin: &node.origin,
            })
        });
        texts.collect()
    }
}
