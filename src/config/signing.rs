//! Who signs what is written, and whose backups count: `[signing]`.

use super::reader::Reader;
use super::section::Section;
use crate::secret::Secret;
use crate::signing::{KeyError, SignerKey, Trust};

/// `[signing]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signing {
    /// The key by which this host signs; without, one that it makes for itself.
    pub key: Option<Secret>,
    /// Who may sign; whoever writes, if nobody is named.
    pub trust: Trust,
}

impl Reader<'_> {
    pub(super) fn signing(&mut self, root: &Section<'_>) -> Signing {
        let section = root.section("signing");
        let mut keys: Vec<SignerKey> = Vec::new();
        let list = section.list("trusted");
        for given in list.iter().flat_map(|list| list.texts()) {
            match given.value.parse() {
                Ok(key) => keys.push(key),
                Err(KeyError::SecretAsPublic) => {
                    let message = format!("`{}`: {}", given.path, KeyError::SecretAsPublic);
                    self.problems.hidden_at(given.origin, &message);
                }
                Err(error) => self.problems.at(given.origin, &format!("`{}`: {error}", given.path)),
            }
        }
        if let Some(list) = list.as_ref().filter(|list| list.value.is_empty()) {
            // Who writes an empty list means that nobody is to count, which is not what it would do.
            self.problems.at(
                list.origin,
                "`signing.trusted` is empty: name the keys whose backups count, or leave it out",
            );
        }
        Signing {
            key: self.secret(&section, "key"),
            trust: Trust::of(keys),
        }
    }
}
