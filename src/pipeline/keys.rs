//! age keys: recipients that backups are encrypted to, identities that open them.
//!
//! Invariant: an identity has no `Debug`, and no error here repeats what stood in its file.

use std::cell::RefCell;
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::str::FromStr;

use age::stream::StreamReader;

use super::plugin::{Asked, PLUGINS, PluginFault, PluginIdentity, PluginRecipient, joined};

/// Text of so many characters that begins as age's keys do is one of them, or was: they have 62, those of plugins more.
const MOST_OF_A_KEY: usize = 40;

/// A key that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is a secret key where a public one belongs.
    #[error(
        "this is an identity (a secret key), not a recipient; give its public key, and treat the identity as exposed"
    )]
    SecretAsRecipient,
    /// Not a recipient that we can encrypt to.
    #[error("`{start}` is not an age recipient (age1…) or an SSH public key (ssh-ed25519 …, ssh-rsa …)")]
    NotARecipient {
        /// The first characters of the text.
        start: String,
    },
    /// It looks like an age recipient, and its last characters say that it is not as it was made.
    #[error("`{start}` is not a whole age recipient: a character is mistyped, missing or too many; copy it anew")]
    MistypedRecipient {
        /// The first characters of the text.
        start: String,
    },
    /// The file holds no identity.
    #[error("{name} holds no age identity (AGE-SECRET-KEY-1…) and no SSH private key")]
    NotAnIdentity {
        /// The file.
        name: String,
    },
    /// A post-quantum key as age itself reads it.
    #[error(
        "{name} holds a post-quantum key: `age-plugin-pq -identity {name}` makes an identity of it that its plugin opens with"
    )]
    PostQuantum {
        /// The file.
        name: String,
    },
    /// An SSH key that is protected by a passphrase or of a kind that cannot decrypt.
    #[error("the SSH key in {name} {reason}")]
    UnusableSshKey {
        /// The file.
        name: String,
        /// Why.
        reason: &'static str,
    },
}

/// A public key that backups are encrypted to. Prints as it was written, without an SSH key's comment.
#[derive(Clone)]
pub struct Recipient {
    text: String,
    key: Key,
}

#[derive(Clone)]
enum Key {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
    Plugin(PluginRecipient),
}

impl Recipient {
    /// The key as age uses it.
    pub(super) fn as_age(&self) -> &dyn age::Recipient {
        match &self.key {
            Key::X25519(key) => key,
            Key::Ssh(key) => key,
            Key::Plugin(key) => key,
        }
    }

    /// The same, with the program that it needs, if it is of a plugin, in this folder.
    #[must_use]
    pub fn with_plugins(mut self, folder: &Path) -> Recipient {
        if let Key::Plugin(key) = &mut self.key
            && let Some(moved) = PluginRecipient::parse(&self.text, folder)
        {
            *key = moved;
        }
        self
    }

    /// Why the program that it needs cannot be used; nothing of a key that needs none.
    pub fn plugin_fault(&self) -> Option<PluginFault> {
        match &self.key {
            Key::Plugin(key) => key.look().err(),
            Key::X25519(_) | Key::Ssh(_) => None,
        }
    }

    /// Whether a plugin is needed to encrypt to it.
    pub fn needs_plugin(&self) -> bool {
        self.plugin().is_some()
    }

    /// The program that it needs, if it needs one.
    pub fn plugin(&self) -> Option<&Path> {
        match &self.key {
            Key::Plugin(key) => Some(key.program()),
            Key::X25519(_) | Key::Ssh(_) => None,
        }
    }
}

/// A key that is nowhere but in the memory of this process: for what nobody is to read once it has ended.
pub fn for_this_process() -> (Recipient, Identities) {
    let identity = age::x25519::Identity::generate();
    let key = identity.to_public();
    let recipient = Recipient {
        text: key.to_string(),
        key: Key::X25519(key),
    };
    let identities = Identities {
        keys: vec![Box::new(identity)],
        of_plugins: Vec::new(),
    };
    (recipient, identities)
}

/// Encrypts a few bytes to all of them: whether they go together, and their plugins work.
pub fn try_sealing(recipients: &[Recipient]) -> Result<Vec<u8>, String> {
    let to = recipients.iter().map(Recipient::as_age);
    let encryptor = age::Encryptor::with_recipients(to).map_err(|error| error.to_string())?;
    let sealed = encryptor.wrap_output(Vec::new()).and_then(|mut writer| {
        writer.write_all(b"a trial")?;
        writer.finish()
    });
    sealed.map_err(|error| error.to_string())
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let upper = text.to_ascii_uppercase();
        if upper.starts_with("AGE-SECRET-KEY-") || upper.starts_with("AGE-PLUGIN-") || text.starts_with("-----BEGIN") {
            return Err(KeyError::SecretAsRecipient);
        }
        if let Ok(key) = text.parse::<age::x25519::Recipient>() {
            let key = Key::X25519(key);
            let text = text.to_owned();
            return Ok(Recipient { text, key });
        }
        if let Ok(key) = text.parse::<age::ssh::Recipient>() {
            let key = Key::Ssh(key);
            let text = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            return Ok(Recipient { text, key });
        }
        if let Some(key) = PluginRecipient::parse(text, Path::new(PLUGINS)) {
            let key = Key::Plugin(key);
            let text = text.to_owned();
            return Ok(Recipient { text, key });
        }
        let start = text.chars().take(16).collect();
        Err(match text.starts_with("age1") && text.len() >= MOST_OF_A_KEY {
            true => KeyError::MistypedRecipient { start },
            false => KeyError::NotARecipient { start },
        })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

/// Secret keys, of one file or several.
pub struct Identities {
    keys: Vec<Box<dyn age::Identity + Send + Sync>>,
    /// Tried after all others, which ask nobody for anything.
    of_plugins: Vec<PluginIdentity>,
}

/// Why no identity opened a file.
pub(super) enum NotOpened {
    /// What the plugins say that failed: without that, one of them might have.
    Plugins(Vec<PluginFault>),
    /// It is for others, or damaged.
    Age(age::DecryptError),
}

/// Why identities are not known to open what is made for recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unopened {
    /// They are those of others.
    OfOthers,
    /// It could not be tried: a plugin failed, or is not there.
    Untried(String),
}

impl Identities {
    /// Reads an age identity file or an SSH private key; `name` is what errors call it.
    pub fn parse(content: &[u8], name: &str) -> Result<Identities, KeyError> {
        Identities::parse_with(content, name, Path::new(PLUGINS))
    }

    /// The same, where plugins are in another folder.
    pub fn parse_with(content: &[u8], name: &str, plugins: &Path) -> Result<Identities, KeyError> {
        let none = || KeyError::NotAnIdentity { name: name.to_owned() };
        if content.starts_with(b"-----BEGIN ") {
            return ssh(content, name);
        }
        let text = std::str::from_utf8(content).map_err(|_| none())?;
        let lines = text.lines().map(str::trim);
        let (mut keys, mut of_plugins): (Vec<Box<dyn age::Identity + Send + Sync>>, Vec<_>) = (Vec::new(), Vec::new());
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with("AGE-SECRET-KEY-PQ-1") {
                let name = name.to_owned();
                return Err(KeyError::PostQuantum { name });
            }
            match PluginIdentity::parse(line, plugins) {
                Some(key) => of_plugins.push(key),
                None => keys.push(Box::new(line.parse::<age::x25519::Identity>().map_err(|_| none())?)),
            }
        }
        match keys.is_empty() && of_plugins.is_empty() {
            true => Err(none()),
            false => Ok(Identities { keys, of_plugins }),
        }
    }

    /// These and the `others`.
    #[must_use]
    pub fn and(mut self, others: Identities) -> Identities {
        self.keys.extend(others.keys);
        self.of_plugins.extend(others.of_plugins);
        self
    }

    /// Whether one of them opens what is encrypted to `recipients`: tried with a few bytes.
    pub fn open_what_is_made_for(&self, recipients: &[Recipient]) -> Result<(), Unopened> {
        let sealed = try_sealing(recipients).map_err(Unopened::Untried)?;
        let decryptor = age::Decryptor::new_buffered(&*sealed).map_err(|error| Unopened::Untried(error.to_string()))?;
        match self.open(decryptor) {
            Ok(_) => Ok(()),
            Err(NotOpened::Plugins(faults)) => Err(Unopened::Untried(joined(&faults))),
            Err(NotOpened::Age(_)) => Err(Unopened::OfOthers),
        }
    }

    /// Opens a file with the first that fits.
    pub(super) fn open<R: Read>(&self, file: age::Decryptor<R>) -> Result<StreamReader<R>, NotOpened> {
        let faults = RefCell::new(Vec::new());
        let asked = self.of_plugins.iter().map(|identity| Asked {
            identity,
            faults: &faults,
        });
        let asked: Vec<Asked<'_>> = asked.collect();
        let keys = self.keys.iter().map(|key| key.as_ref() as &dyn age::Identity);
        let asked = asked.iter().map(|asked| asked as &dyn age::Identity);
        let opened = file.decrypt(keys.chain(asked));
        opened.map_err(|error| match (error, faults.take()) {
            (age::DecryptError::NoMatchingKeys, faults) if !faults.is_empty() => NotOpened::Plugins(faults),
            (error, _) => NotOpened::Age(error),
        })
    }
}

fn ssh(content: &[u8], name: &str) -> Result<Identities, KeyError> {
    let unusable = |reason| KeyError::UnusableSshKey {
        name: name.to_owned(),
        reason,
    };
    let key = age::ssh::Identity::from_buffer(content, Some(name.to_owned()))
        .map_err(|_| KeyError::NotAnIdentity { name: name.to_owned() })?;
    match key {
        age::ssh::Identity::Unencrypted(_) => Ok(Identities {
            keys: vec![Box::new(key)],
            of_plugins: Vec::new(),
        }),
        age::ssh::Identity::Encrypted(_) => Err(unusable(
            "is protected by a passphrase; give a copy without one, or an age identity",
        )),
        age::ssh::Identity::Unsupported(_) => Err(unusable("is of a kind that cannot decrypt; ed25519 and RSA can")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::secrecy::ExposeSecret;

    #[test]
    fn recipients_print_as_they_parse() {
        let text = age::x25519::Identity::generate().to_public().to_string();
        assert_eq!(format!(" {text}\n").parse::<Recipient>().unwrap().to_string(), text);
        let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN alice@rust";
        let printed = ssh.parse::<Recipient>().unwrap().to_string();
        assert_eq!(printed, ssh.strip_suffix(" alice@rust").unwrap());
    }

    #[test]
    fn keys_are_known_by_what_they_open() {
        let identity = || age::x25519::Identity::generate();
        let (own, other) = (identity(), identity());
        let keys = Identities::parse(own.to_string().expose_secret().as_bytes(), "key").unwrap();
        let to = |of: &age::x25519::Identity| of.to_public().to_string().parse::<Recipient>().unwrap();
        assert_eq!(keys.open_what_is_made_for(&[to(&other), to(&own)]), Ok(()));
        assert_eq!(keys.open_what_is_made_for(&[to(&other)]), Err(Unopened::OfOthers));
        assert!(matches!(keys.open_what_is_made_for(&[]), Err(Unopened::Untried(_))));
    }

    #[test]
    fn a_secret_is_never_repeated() {
        let secret = age::x25519::Identity::generate().to_string();
        let error = secret.expose_secret().parse::<Recipient>().unwrap_err();
        assert_eq!(error, KeyError::SecretAsRecipient);
        assert!(!error.to_string().contains("AGE-SECRET"));
        let error = Identities::parse(b"AGE-SECRET-KEY-1BROKEN", "key.txt").err().unwrap();
        assert_eq!(
            error.to_string(),
            "key.txt holds no age identity (AGE-SECRET-KEY-1…) and no SSH private key"
        );
        assert!(Identities::parse(b"# only a comment\n", "key.txt").is_err());
    }
}
