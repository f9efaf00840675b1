//! The secret keys that open backups, from the command line or the configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;

use super::{Exit, Failure};
use crate::config::{Config, Secret, SecretError};
use crate::error_chain::with_causes;
use crate::jobs::host::unusable;
use crate::pipeline::{Identities, Window};

/// What commands take that open backups.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct IdentityArgs {
    /// The age identity or SSH private key that opens the backup; with several, whichever fits
    #[arg(long = "identity", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What commands take that read files of others.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct WindowArgs {
    /// Read zstd frames made with `--long` up to this window: 27 takes up to 128 MiB of memory, 31 up to 2 GiB
    #[arg(long, value_name = "LOG", default_value = "27", value_parser = window)]
    long: Option<Window>,
}

impl WindowArgs {
    /// The largest window that is granted.
    pub fn window(self) -> Window {
        self.long.unwrap_or(Window::DEFAULT)
    }
}

fn window(text: &str) -> Result<Window, String> {
    let window = text.parse().ok().and_then(Window::log);
    window.ok_or_else(|| "give a number from 27 to 31".to_owned())
}

impl IdentityArgs {
    /// The same as if this file had been given on a command line.
    pub fn of(file: PathBuf) -> IdentityArgs {
        IdentityArgs { files: vec![file] }
    }

    /// Whether a file is given.
    pub fn is_given(&self) -> bool {
        !self.files.is_empty()
    }

    /// The keys of all files.
    pub fn read(&self) -> Result<Option<Identities>, Failure> {
        let mut all: Option<Identities> = None;
        for file in &self.files {
            let keys = of_file(file)?;
            all = Some(match all {
                Some(before) => before.and(keys),
                None => keys,
            });
        }
        Ok(all)
    }

    /// The keys of the files, or without any those that the configuration names.
    pub fn or_configured(&self, config: Option<&Config>) -> Result<Option<Identities>, Failure> {
        match (self.read()?, config) {
            (Some(keys), _) => Ok(Some(keys)),
            (None, Some(config)) => crate::jobs::host::identities(config),
            (None, None) => Ok(None),
        }
    }
}

impl fmt::Display for IdentityArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        f.write_str(&files.join(", "))
    }
}

fn of_file(file: &Path) -> Result<Identities, Failure> {
    let content = Secret::read_given(file).map_err(|error| unreadable(&error))?;
    let content = content.expose_secret().as_bytes();
    Identities::parse(content, &file.display().to_string()).map_err(unusable)
}

fn unreadable(error: &SecretError) -> Failure {
    let exit = match error {
        SecretError::Unreadable { .. } | SecretError::NoCredentials { .. } | SecretError::NotSet { .. } => Exit::Failed,
        SecretError::Unusable { .. } => Exit::WrongKey,
    };
    Failure::new(exit, format!("the identity cannot be used: {}", with_causes(error)))
        .next("give the file that `lifeboat keygen` wrote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_is_not_there_is_not_a_wrong_key() {
        let exit = |path: &Path| of_file(path).err().map(|failure| failure.exit);
        assert_eq!(exit(Path::new("/nonexistent/key.txt")), Some(Exit::Failed));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.txt");
        std::fs::write(&file, "# only a comment\n").unwrap();
        assert_eq!(exit(&file), Some(Exit::WrongKey));
        std::fs::write(&file, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert_eq!(exit(&file), Some(Exit::WrongKey), "and no more of it is read");
    }
}
