//! Who can open the backups: `[encryption]`, and the file of recipients that it may name.

use std::io;
use std::path::{Path, PathBuf};

use super::problem::{Origin, Source};
use super::reader::Reader;
use super::section::{Content, Given, Section};
use super::shown_value::is_private_key;
use super::{LARGEST_FILE, SAMPLE_RECIPIENT};
use crate::durable;
use crate::pipeline::{KeyError, PLUGINS, Recipient};
use crate::secret::Secret;

/// `[encryption]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// Who can open the backups, from `recipients` and `recipients_file`; at least one, each once.
    pub recipients: Vec<Recipient>,
    /// The file that some of them stand in.
    pub recipients_file: Option<PathBuf>,
    /// Where a key that opens the backups is, on hosts that may read them.
    pub identity: Option<Secret>,
    /// Where people find such a key, in the operator's words.
    pub identity_note: Option<String>,
    /// The folder with the programs of keys that need one.
    pub plugins: PathBuf,
}

impl Reader<'_> {
    pub(super) fn encryption(&mut self, root: &Section<'_>) -> Encryption {
        let section = root.section("encryption");
        let mut recipients: Vec<Recipient> = Vec::new();
        let list = section.list("recipients");
        for given in list.iter().flat_map(|list| list.texts()) {
            let recipient = self.recipient(&given);
            recipients.extend(recipient.filter(|new| !recipients.contains(new)));
        }
        let file = section.text("recipients_file");
        let recipients_file = file
            .as_ref()
            .and_then(|given| self.absolute_path(&section, "recipients_file", given));
        if let Some(path) = &recipients_file {
            for recipient in self.recipients_file(file.as_ref().expect("path comes from it"), path) {
                recipients.extend((!recipients.contains(&recipient)).then_some(recipient));
            }
        }
        let named_at = section.entry("recipients").or(section.entry("recipients_file"));
        if let (Some(entry), Some(fault)) = (named_at, too_many(&recipients)) {
            let message = format!("`encryption`: {fault}");
            self.problems.at(&entry.key, &message);
        }
        let is_written = section.entry("recipients").is_some() || section.entry("recipients_file").is_some();
        match &list {
            Some(list) if list.value.is_empty() && file.is_none() => {
                self.problems.at(
                    list.origin,
                    "`encryption.recipients` is empty: at least one is needed; there is no unencrypted mode",
                );
            }
            _ if !is_written && !matches!(section.content, Content::Refused) => {
                self.missing(&section, "recipients");
            }
            _ => {}
        }
        if let Some(entry) = section.entry("identity") {
            self.warnings.at(
                &entry.key,
                "`encryption.identity`: this host can read its backups; that is meant only for restores without anybody at hand",
            );
        }
        let plugins = section.text("plugins");
        let plugins = plugins.and_then(|given| self.absolute_path(&section, "plugins", &given));
        let plugins = plugins.unwrap_or_else(|| PLUGINS.into());
        let recipients = recipients.into_iter();
        Encryption {
            recipients: recipients.map(|recipient| recipient.with_plugins(&plugins)).collect(),
            plugins,
            recipients_file,
            identity: self.secret(&section, "identity"),
            identity_note: self.note(&section, "identity_note"),
        }
    }

    fn recipient(&mut self, given: &Given<'_, &str>) -> Option<Recipient> {
        if is_private_key(given.value) {
            let message = format!("`{}`: {}", given.path, KeyError::SecretAsRecipient);
            self.problems.hidden_at(given.origin, &message);
            return None;
        }
        let recipient: Recipient = self.parsed(given)?;
        if recipient.to_string() == SAMPLE_RECIPIENT {
            self.warnings.at(
                given.origin,
                &format!(
                    "`{}` is the sample of config.example.toml: nobody can open a backup made for it",
                    given.path
                ),
            );
        }
        Some(recipient)
    }

    /// The recipients in a file, one a line, `#` starts a comment.
    fn recipients_file(&mut self, given: &Given<'_, &str>, path: &Path) -> Vec<Recipient> {
        let mut recipients = Vec::new();
        let before = self.problems.is_empty();
        let text = match read_text(path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("`{}`: read {}: {error}", given.path, path.display());
                self.problems.at(given.origin, &message);
                return recipients;
            }
        };
        let source = Source::new(path, text, usize::MAX - 1);
        let mut start = 0;
        for (index, line) in source.text().split_inclusive('\n').enumerate() {
            let text = line.trim();
            let origin = Origin::new(&source, start..start + line.trim_end().len());
            start += line.len();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let line = Given {
                path: format!("line {}", index + 1),
                value: text,
                origin: &origin,
            };
            recipients.extend(self.recipient(&line));
        }
        if recipients.is_empty() && before && self.problems.is_empty() {
            let message = format!("`{}`: {} holds no recipient", given.path, path.display());
            self.problems.at(given.origin, &message);
        }
        recipients
    }
}

/// What is wrong with so many recipients: each has a part in the header of every object, of which the reader takes no
/// more than 64 KiB.
fn too_many(recipients: &[Recipient]) -> Option<String> {
    let count = recipients.len();
    if count > MOST_RECIPIENTS {
        return Some(format!(
            "{count} recipients are more than the {MOST_RECIPIENTS} a backup can have"
        ));
    }
    // A part is as long as the key it is for, in lines of 64 characters, and a line that says so. The modulus of an RSA
    // key makes nearly all of its text; the parts of others are shorter than their keys' text and that line.
    let parts = recipients.iter().map(|recipient| {
        let length = recipient.to_string().len();
        length + length / 64 + PART_OVERHEAD
    });
    (parts.sum::<usize>() > MOST_HEADER_BYTES)
        .then(|| format!("the keys of {count} recipients are too long together: have fewer, or X25519 keys (`age1…`)"))
}

/// Recipients of one backup.
const MOST_RECIPIENTS: usize = 200;

/// What all their parts of a header may take, with room for the rest of it.
const MOST_HEADER_BYTES: usize = 60 << 10;

const PART_OVERHEAD: usize = 64;

/// Reads a file of recipients, which is no secret. Bounded like every file of the configuration.
fn read_text(path: &Path) -> io::Result<String> {
    let text = durable::read_linked(path, LARGEST_FILE)?;
    String::from_utf8(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}
