//! Keys that a program of their own holds (a hardware key, a TPM, post-quantum): age's plugin protocol.
//!
//! ```text
//! program --age-plugin=recipient-v1   add-recipient, wrap-file-key, done     →  recipient-stanza, labels, done
//! program --age-plugin=identity-v1    add-identity, recipient-stanza, done   →  file-key, done
//! ```
//!
//! The program is `age-plugin-NAME` in one folder that the configuration names, never one of PATH; it and its folder must be
//! root's or this user's, and nobody else may write to them. It gets a bare environment, and is killed when it says nothing
//! for too long. What it asks is answered only where somebody is there to ask: see `allow_questions`.
//!
//! Source: <https://c2sp.org/age-plugin>.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use bech32::primitives::decode::CheckedHrpstring;

use super::plugin_protocol::{Reply, converse, stanza, told};

/// Where plugins are, unless the configuration says otherwise.
pub const PLUGINS: &str = "/usr/lib/lifeboat/plugins";

/// Why a plugin did not do what it was to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin {}: {why}", .program.display())]
pub struct PluginFault {
    /// The program.
    pub program: PathBuf,
    /// Why.
    pub why: String,
}

/// What several say, in one line.
pub(super) fn joined(faults: &[PluginFault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}

/// A plugin, by the name that its keys have in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugin {
    program: PathBuf,
}

impl Plugin {
    fn named(name: &str, folder: &Path) -> Option<Plugin> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
        let is_name = !name.is_empty() && name.bytes().all(fits);
        is_name.then(|| Plugin {
            program: folder.join(format!("age-plugin-{name}")),
        })
    }

    fn fault(&self, why: impl fmt::Display) -> PluginFault {
        PluginFault {
            program: self.program.clone(),
            why: why.to_string(),
        }
    }

    /// Refuses a program that is not there, or that another user could have put there.
    fn look(&self) -> Result<(), PluginFault> {
        let own = nix::unistd::geteuid().as_raw();
        let folder = self.program.parent().unwrap_or(Path::new("/"));
        for path in [folder, &self.program] {
            let found = std::fs::metadata(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => self.fault(format!(
                    "it is not there: install it, and link or copy it into {} (`[encryption] plugins` names another folder)",
                    folder.display()
                )),
                _ => self.fault(error),
            })?;
            let is_foreign = found.uid() != 0 && found.uid() != own;
            if is_foreign || found.mode() & 0o022 != 0 {
                let path = path.display();
                return Err(self.fault(format!(
                    "others could have changed {path}: give it to root (`chown root: {path} && chmod go-w {path}`)"
                )));
            }
        }
        Ok(())
    }

    /// Runs it, if it may be run: see [`converse`].
    fn talk(
        &self,
        machine: &str,
        said: &[Stanza],
        each: impl FnMut(&Stanza) -> Result<Reply, String>,
    ) -> Result<(), PluginFault> {
        self.look()?;
        converse(&self.program, machine, said, each).map_err(|why| self.fault(why))
    }
}

/// A recipient of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PluginRecipient {
    text: String,
    plugin: Plugin,
}

impl PluginRecipient {
    /// Reads `age1NAME1…`.
    pub fn parse(text: &str, folder: &Path) -> Option<PluginRecipient> {
        let prefix = prefix(text)?;
        let plugin = Plugin::named(prefix.strip_prefix("age1")?, folder)?;
        let text = text.to_owned();
        Some(PluginRecipient { text, plugin })
    }

    /// Its program.
    pub fn program(&self) -> &Path {
        &self.plugin.program
    }

    /// Why its program cannot be used.
    pub fn look(&self) -> Result<(), PluginFault> {
        self.plugin.look()
    }
}

impl age::Recipient for PluginRecipient {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let said = [
            stanza("add-recipient", &[&self.text], &[]),
            stanza("extension-labels", &[], &[]),
            stanza("wrap-file-key", &[], file_key.expose_secret()),
        ];
        let (mut stanzas, mut labels) = (Vec::new(), HashSet::new());
        let talked = self.plugin.talk("recipient-v1", &said, |command| {
            match (command.tag.as_str(), command.args.as_slice()) {
                ("recipient-stanza", [file, tag, args @ ..]) if file == "0" => stanzas.push(Stanza {
                    tag: tag.clone(),
                    args: args.to_vec(),
                    body: command.body.clone(),
                }),
                ("labels", args) => labels.extend(args.iter().cloned()),
                ("error", _) => return Err(told(command)),
                _ => return Ok(Reply::Unsupported),
            }
            Ok(Reply::Ok)
        });
        let talked = talked.and_then(|()| match stanzas.is_empty() {
            true => Err(self.plugin.fault("it made nothing for the recipient")),
            false => Ok(()),
        });
        talked.map_err(|fault| age::EncryptError::Io(io::Error::other(fault)))?;
        Ok((stanzas, labels))
    }
}

/// An identity of a plugin. It has no `Debug`: some hold the secret itself.
pub(super) struct PluginIdentity {
    text: SecretString,
    plugin: Plugin,
}

impl PluginIdentity {
    /// Reads `AGE-PLUGIN-NAME-1…`.
    pub fn parse(text: &str, folder: &Path) -> Option<PluginIdentity> {
        let prefix = prefix(text)?.to_ascii_lowercase();
        let name = prefix.strip_prefix("age-plugin-")?.trim_end_matches('-');
        Some(PluginIdentity {
            plugin: Plugin::named(name, folder)?,
            text: SecretString::from(text.to_owned()),
        })
    }
}

/// An identity of a plugin while a file is opened. That it fails is no end: another identity may open the file.
pub(super) struct Asked<'a> {
    /// The identity.
    pub identity: &'a PluginIdentity,
    /// Where it is written down why it did not open the file.
    pub faults: &'a RefCell<Vec<PluginFault>>,
}

impl age::Identity for Asked<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
        match self.identity.unwrap(stanzas) {
            Ok(key) => key.map(Ok),
            Err(fault) => {
                self.faults.borrow_mut().push(fault);
                None
            }
        }
    }
}

impl PluginIdentity {
    /// The key that one of the stanzas wraps; none where they are for others.
    fn unwrap(&self, stanzas: &[Stanza]) -> Result<Option<FileKey>, PluginFault> {
        let mut said = vec![stanza("add-identity", &[self.text.expose_secret()], &[])];
        said.extend(stanzas.iter().map(|wrapped| {
            let args = [
                &["0", wrapped.tag.as_str()][..],
                &wrapped.args.iter().map(String::as_str).collect::<Vec<_>>(),
            ];
            stanza("recipient-stanza", &args.concat(), &wrapped.body)
        }));
        let mut key = None;
        let mut why = None;
        self.plugin.talk("identity-v1", &said, |command| {
            match command.tag.as_str() {
                "file-key" if command.body.len() == FILE_KEY_BYTES && key.is_none() => {
                    key = Some(FileKey::init_with_mut(|key| key.copy_from_slice(&command.body)));
                }
                "error" => why = Some(told(command)),
                _ => return Ok(Reply::Unsupported),
            }
            Ok(Reply::Ok)
        })?;
        match (key, why) {
            (None, Some(why)) => Err(self.plugin.fault(why)),
            (key, _) => Ok(key),
        }
    }
}

/// The checksum of age's keys: Bech32's, of text as long as it comes.
enum Unbounded {}

impl bech32::Checksum for Unbounded {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = 6;
    const GENERATOR_SH: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    const TARGET_RESIDUE: u32 = 1;
}

/// What stands before the last `1` of a key whose checksum is right, in lower case.
fn prefix(text: &str) -> Option<String> {
    let checked = CheckedHrpstring::new::<Unbounded>(text).ok()?;
    Some(checked.hrp().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_plugin_names_its_program_in_the_pinned_folder_and_nowhere_else() {
        let data = [7_u8; 1200];
        let hrp = |text: &str| bech32::Hrp::parse(text).unwrap();
        let long = bech32::encode_lower::<Unbounded>(hrp("age1pq"), &data).unwrap();
        let recipient = PluginRecipient::parse(&long, Path::new("/p")).unwrap();
        assert_eq!(recipient.plugin.program, Path::new("/p/age-plugin-pq"));
        let mut wrong = long.clone();
        wrong.pop();
        wrong.push(if long.ends_with('q') { 'p' } else { 'q' });
        assert_eq!(PluginRecipient::parse(&wrong, Path::new("/p")), None);
        let outside = bech32::encode_lower::<Unbounded>(hrp("age1../x"), &data).unwrap();
        assert_eq!(PluginRecipient::parse(&outside, Path::new("/p")), None);
        let identity = bech32::encode_upper::<Unbounded>(hrp("AGE-PLUGIN-YUBIKEY-"), &[1]).unwrap();
        let identity = PluginIdentity::parse(&identity, Path::new("/p")).unwrap();
        assert_eq!(identity.plugin.program, Path::new("/p/age-plugin-yubikey"));
    }

    #[test]
    fn a_program_that_others_could_have_put_there_is_not_run() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let plugin = Plugin::named("x", folder.path()).unwrap();
        let said = |plugin: &Plugin| plugin.look().unwrap_err().to_string();
        assert!(
            said(&plugin).contains("it is not there: install it"),
            "{}",
            said(&plugin)
        );
        std::fs::write(&plugin.program, "").unwrap();
        std::fs::set_permissions(&plugin.program, std::fs::Permissions::from_mode(0o775)).unwrap();
        assert!(said(&plugin).contains("others could have changed"), "{}", said(&plugin));
        std::fs::set_permissions(&plugin.program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(plugin.look(), Ok(()));
    }
}
