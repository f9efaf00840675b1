//! The secret keys that open backups, from files that are named or the configuration. What is said where none of them opens one
//! is in [`super::source`].

use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;

use super::host::{identities, unusable};
use super::{Exit, Failure};
use crate::config::{Config, Secret, SecretError};
use crate::error_chain::with_causes;
use crate::pipeline::{Identities, PLUGINS};

/// The keys of all files.
pub fn of_files(files: &[PathBuf], config: Option<&Config>) -> Result<Option<Identities>, Failure> {
    let plugins = config.map_or(Path::new(PLUGINS), |config| &config.encryption.plugins);
    let mut all: Option<Identities> = None;
    for file in files {
        let keys = of_file(file, plugins)?;
        all = Some(match all {
            Some(before) => before.and(keys),
            None => keys,
        });
    }
    Ok(all)
}

/// The keys of the files, or without any those that the configuration names.
pub fn or_configured(files: &[PathBuf], config: Option<&Config>) -> Result<Option<Identities>, Failure> {
    match (of_files(files, config)?, config) {
        (Some(keys), _) => Ok(Some(keys)),
        (None, Some(config)) => identities(config),
        (None, None) => Ok(None),
    }
}

fn of_file(file: &Path, plugins: &Path) -> Result<Identities, Failure> {
    let content = Secret::read_given(file).map_err(|error| unreadable(&error))?;
    let content = content.expose_secret().as_bytes();
    Identities::parse_with(content, &file.display().to_string(), plugins).map_err(unusable)
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
        let exit = |path: &Path| of_file(path, Path::new(PLUGINS)).err().map(|failure| failure.exit);
        assert_eq!(exit(Path::new("/nonexistent/key.txt")), Some(Exit::Failed));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.txt");
        std::fs::write(&file, "# only a comment\n").unwrap();
        assert_eq!(exit(&file), Some(Exit::WrongKey));
        std::fs::write(&file, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert_eq!(exit(&file), Some(Exit::WrongKey), "and no more of it is read");
    }
}
