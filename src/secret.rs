//! Where a secret is kept, and reading it: a file, a systemd credential or an environment variable.
//!
//! The only place that touches secret files. Leaves to others what a secret means.
//! Invariant: the content is in memory only in types that wipe it and cannot be printed; errors name the place, never
//! the content.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretString};

use crate::durable;

/// The largest secret that is read: certificates and keys are a few KiB.
const LARGEST: usize = 1 << 20;

/// Where systemd keeps the credentials of the agent while it runs, for root's hand, other units of lifeboat's and the agent's
/// own user.
const AGENTS_CREDENTIALS: &str = "/run/credentials/lifeboat.service";

/// Where a secret or a TLS file is. Reading it again sees a changed file; the other two are fixed for a unit's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file, by its absolute path.
    File(PathBuf),
    /// A systemd credential (`LoadCredential=`), by its name.
    Credential(String),
    /// An environment variable, by its name.
    Env(String),
}

/// A secret that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file, or that of the credential, cannot be read.
    #[error("read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are no credentials: this is no systemd unit that loads any.
    #[error(
        "credential `{name}`: CREDENTIALS_DIRECTORY is not set, so no systemd unit with `LoadCredential=` runs this; \
         while lifeboat.service runs, root can read it"
    )]
    NoCredentials {
        /// The credential.
        name: String,
    },
    /// The variable is not set.
    #[error("environment variable {name} is not set")]
    NotSet {
        /// The variable.
        name: String,
    },
    /// There is something, but not a secret: empty, too large or not text.
    #[error("{place} {fault}")]
    Unusable {
        /// Where it was read.
        place: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl Secret {
    /// Reads the secret, without the line end that editors leave behind. At most 1 MiB of UTF-8; never empty.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        self.read_in(&|name| std::env::var_os(name), Path::new(AGENTS_CREDENTIALS))
    }

    /// The same for a file that was named on the command line, which may be a pipe.
    pub fn read_given(path: &Path) -> Result<SecretString, SecretError> {
        Secret::File(path.to_owned()).read_by(path, durable::open_given)
    }

    /// Says if a file that should be private is readable by others than its owner. Nothing to say about what cannot be
    /// looked at, or is no file.
    pub fn exposure(&self) -> Option<String> {
        let Secret::File(path) = self else {
            return None;
        };
        let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
        let who = match (mode & 0o040 != 0, mode & 0o004 != 0) {
            (_, true) => "every user of this host",
            (true, false) => "its group",
            (false, false) => return None,
        };
        let path = path.display();
        Some(format!(
            "{path} is readable by {who} (mode {mode:04o}); `chmod 0600 {path}` closes it"
        ))
    }

    fn read_in(&self, env: &dyn Fn(&str) -> Option<OsString>, agents: &Path) -> Result<SecretString, SecretError> {
        match self {
            Secret::File(path) => self.read_file(path),
            Secret::Credential(name) => {
                let own = env("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(name));
                let agents = agents.join(name);
                match own {
                    // A restore's unit loads the key that opens the backups, and the agent's the rest.
                    Some(own) if own.exists() || !agents.exists() => self.read_file(&own),
                    Some(_) => self.read_file(&agents),
                    None if agents.exists() => self.read_file(&agents),
                    None => Err(SecretError::NoCredentials { name: name.clone() }),
                }
            }
            Secret::Env(name) => {
                let value = env(name).ok_or_else(|| SecretError::NotSet { name: name.clone() })?;
                let value = value.into_string().map_err(|_| self.unusable("is not UTF-8 text"))?;
                self.usable(SecretString::from(value))
            }
        }
    }

    fn read_file(&self, path: &Path) -> Result<SecretString, SecretError> {
        self.read_by(path, durable::open_linked)
    }

    fn read_by(&self, path: &Path, open: fn(&Path) -> io::Result<File>) -> Result<SecretString, SecretError> {
        let unreadable = |source| SecretError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = open(path).map_err(unreadable)?;
        // Room for all of it at once: a vector that grows leaves copies behind that nobody wipes.
        let mut content = SecretBox::new(Box::new(vec![0_u8; LARGEST + 1]));
        let length = read_up_to(file, content.expose_secret_mut()).map_err(unreadable)?;
        if length > LARGEST {
            return Err(self.unusable("is larger than 1 MiB"));
        }
        let content = content.expose_secret().get(..length).unwrap_or_default();
        let text = std::str::from_utf8(content).map_err(|_| self.unusable("is not UTF-8 text"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        self.usable(SecretString::from(text))
    }

    fn usable(&self, secret: SecretString) -> Result<SecretString, SecretError> {
        if secret.expose_secret().trim().is_empty() {
            return Err(self.unusable("is empty"));
        }
        Ok(secret)
    }

    fn unusable(&self, fault: &'static str) -> SecretError {
        SecretError::Unusable {
            place: self.to_string(),
            fault,
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::File(path) => write!(f, "file {}", path.display()),
            Secret::Credential(name) => write!(f, "credential `{name}`"),
            Secret::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

fn read_up_to(mut file: File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn nothing_set(_: &str) -> Option<OsString> {
        None
    }

    fn written(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, content).unwrap();
        (directory, path)
    }

    #[test]
    fn a_file_loses_one_line_end_and_nothing_else() {
        for (content, expected) in [
            ("pa ss", "pa ss"),
            ("pass\n", "pass"),
            ("pass\r\n", "pass"),
            (" pass \n\n", " pass \n"),
        ] {
            let (_keep, path) = written(content.as_bytes());
            let secret = Secret::File(path).read().unwrap();
            assert_eq!(secret.expose_secret(), expected);
        }
    }

    #[test]
    fn a_credential_is_read_from_the_directory_that_systemd_names() {
        let (directory, _) = written(b"from systemd\n");
        let env = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.path().as_os_str().to_owned());
        let credential = Secret::Credential("token".to_owned());
        let nowhere = Path::new("/nonexistent");
        let read = |agents| credential.read_in(&env, agents).unwrap();
        assert_eq!(read(nowhere).expose_secret(), "from systemd");
        assert_eq!(
            credential.read_in(&nothing_set, nowhere).unwrap_err().to_string(),
            "credential `token`: CREDENTIALS_DIRECTORY is not set, so no systemd unit with `LoadCredential=` runs this; \
             while lifeboat.service runs, root can read it"
        );
    }

    #[test]
    fn a_credential_that_another_unit_has_not_is_that_of_the_agent() {
        let (own, _) = written(b"own\n");
        let (agents, _) = written(b"the agent's\n");
        std::fs::write(agents.path().join("s3-keys"), "keys\n").unwrap();
        let env = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| own.path().as_os_str().to_owned());
        let read = |name: &str, env: &dyn Fn(&str) -> Option<OsString>| {
            let read = Secret::Credential(name.to_owned()).read_in(env, agents.path());
            read.map(|secret| secret.expose_secret().to_owned())
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("token", &env), Ok("own".to_owned()));
        assert_eq!(read("s3-keys", &env), Ok("keys".to_owned()));
        assert_eq!(read("token", &nothing_set), Ok("the agent's".to_owned()));
        let in_neither = read("other", &env).unwrap_err();
        assert!(in_neither.contains(&own.path().display().to_string()), "{in_neither}");
    }

    #[test]
    fn a_variable_is_read_as_it_is() {
        let variable = Secret::Env("ETCD_PASSWORD".to_owned());
        let env = |name: &str| (name == "ETCD_PASSWORD").then(|| OsString::from("from env"));
        assert_eq!(
            variable
                .read_in(&env, Path::new("/nonexistent"))
                .unwrap()
                .expose_secret(),
            "from env"
        );
        assert_eq!(
            variable
                .read_in(&nothing_set, Path::new("/nonexistent"))
                .unwrap_err()
                .to_string(),
            "environment variable ETCD_PASSWORD is not set"
        );
    }

    #[test]
    fn what_is_no_secret_is_refused_without_showing_it() {
        let large = vec![b'x'; LARGEST + 1];
        for (content, fault) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"\xff\xfe", "is not UTF-8 text"),
            (&large, "is larger than 1 MiB"),
        ] {
            let (_keep, path) = written(content);
            let error = Secret::File(path.clone()).read().unwrap_err();
            assert_eq!(error.to_string(), format!("file {} {fault}", path.display()));
        }
        let error = Secret::File("/nonexistent/token".into()).read().unwrap_err();
        assert_eq!(
            error.to_string(),
            "read /nonexistent/token: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn the_content_has_no_debug() {
        let (_keep, path) = written(b"hunter2");
        let secret = Secret::File(path);
        assert!(!format!("{secret:?} {:?}", secret.read().unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_file_that_others_can_read_is_exposed() {
        let (_keep, path) = written(b"pass");
        let shown = path.display();
        for (mode, exposure) in [
            (0o600, None),
            (0o400, None),
            (0o640, Some("its group (mode 0640)")),
            (0o644, Some("every user of this host (mode 0644)")),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let expected = exposure.map(|who| format!("{shown} is readable by {who}; `chmod 0600 {shown}` closes it"));
            assert_eq!(Secret::File(path.clone()).exposure(), expected);
        }
        assert_eq!(Secret::Env("PATH".to_owned()).exposure(), None);
    }
}
