//! Documents of keys and values that prove who asks.

use std::collections::BTreeMap;
use std::fmt;

use age::secrecy::ExposeSecret;

use crate::error_chain::with_causes;
use crate::secret::Secret;

/// A document of keys and values: a line each, `key = value`; sections and comments are passed over.
pub(super) struct Pairs(BTreeMap<String, String>);

impl Pairs {
    pub fn read(secret: &Secret) -> Result<Pairs, String> {
        let text = secret.read().map_err(|error| with_causes(&error))?;
        let lines = text.expose_secret().lines().map(str::trim);
        let lines = lines.filter(|line| !line.starts_with(['#', ';', '[']));
        // As a file has it that a shell reads.
        let lines = lines.map(|line| line.strip_prefix("export ").unwrap_or(line));
        let pairs = lines.filter_map(|line| line.split_once('='));
        let pairs = pairs.map(|(key, value)| {
            (
                key.trim().to_ascii_lowercase(),
                value.trim().trim_matches(['"', '\'']).to_owned(),
            )
        });
        Ok(Pairs(pairs.collect()))
    }

    /// Those of the environment whose names begin so.
    #[cfg(feature = "swift")]
    pub fn around(prefixes: &[&str]) -> Pairs {
        let ours = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let ours = ours.filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let pairs = ours.filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.into_string().ok()?)));
        Pairs(pairs.collect())
    }

    /// The value of the first of these keys that there is.
    pub fn get(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.0.get(*key)).map(String::as_str)
    }

    /// The same; an error that names them, where there is none.
    pub fn want(&self, keys: &[&str]) -> Result<&str, String> {
        let none = || format!("the credentials have no line `{} = …`", keys.first().unwrap_or(&""));
        self.get(keys).filter(|value| !value.is_empty()).ok_or_else(none)
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pairs")
    }
}
