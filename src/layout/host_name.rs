//! The name of a host in the names of objects.

use std::fmt;
use std::str::FromStr;

use crate::model::Invalid;

const HOST_NAME_MAX: usize = 128;

/// A host's name as it stands in object names: `[A-Za-z0-9_-][A-Za-z0-9._-]*`, at most 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The nearest legal name to what the operating system calls this host.
    pub fn nearest(text: &str) -> Self {
        let mut name: String = text
            .chars()
            .take(HOST_NAME_MAX)
            .map(|c| if is_host_char(c) { c } else { '-' })
            .collect();
        if name.is_empty() || name.starts_with('.') {
            name.insert(0, '-');
            name.truncate(HOST_NAME_MAX);
        }
        HostName(name)
    }

    /// The name as text; safe as one component of a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let valid =
            !text.is_empty() && text.len() <= HOST_NAME_MAX && !text.starts_with('.') && text.chars().all(is_host_char);
        if !valid {
            return Err(Invalid::new(text, "a host name (A-Z, a-z, 0-9, `.`, `_`, `-`)"));
        }
        Ok(HostName(text.to_owned()))
    }
}
