//! The key by which this host signs, its public half for whoever only looks, and the last list of signers that was seen.
//!
//! ```text
//! CLUSTER/signing.key    0600: the secret key, made at the first start that writes, unless the configuration names one
//! CLUSTER/signer.json    the public key that is in use
//! CLUSTER/signers.json   the list of signers with the highest number that was seen, as its root has signed it
//! ```

use std::path::PathBuf;

use age::secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::{Error, FOLDER_MODE, State, failed};
use crate::durable;
use crate::secret::Secret;
use crate::signing::{Role, SignerKey, SigningKey};

const KEY: &str = "signing.key";
const KEY_MODE: u32 = 0o600;
const SIGNER: &str = "signer.json";
const LIST: &str = "signers.json";

#[derive(Serialize, Deserialize)]
struct Own {
    signer: SignerKey,
}

#[derive(Serialize, Deserialize)]
struct SeenList {
    document: String,
}

impl State {
    /// The key that this host has made for itself; none where it has made none yet.
    pub fn signing_key(&self) -> Result<Option<SigningKey>, Error> {
        let path = self.signing_key_path();
        match std::fs::symlink_metadata(&path) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(failed("look at", &path))?,
        };
        let corrupt = |detail: String| Error::Corrupt {
            path: path.clone(),
            detail,
        };
        let text = Secret::File(path.clone())
            .read()
            .map_err(|error| corrupt(error.to_string()))?;
        let key = SigningKey::parse(Role::Signer, text.expose_secret(), "it");
        key.map(Some).map_err(|error| corrupt(error.to_string()))
    }

    /// The same, made by `seed` where there is none. Of two that do so at once one makes it and both have it.
    pub fn make_signing_key(&self, seed: [u8; 32]) -> Result<SigningKey, Error> {
        if let Some(key) = self.signing_key()? {
            return Ok(key);
        }
        durable::create_dirs(self.folder(), FOLDER_MODE)?;
        let (path, key) = (self.signing_key_path(), SigningKey::of_seed(Role::Signer, seed));
        match durable::create_new(&path, key.to_file().expose_secret().as_bytes(), KEY_MODE) {
            Ok(()) => Ok(key),
            Err(durable::Error::Exists { .. }) => self.signing_key()?.ok_or_else(|| Error::Corrupt {
                path,
                detail: "it was removed while it was read".to_owned(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it is.
    pub fn signing_key_path(&self) -> PathBuf {
        self.folder().join(KEY)
    }

    /// The public half of the key that this host signs by, as whoever only looks knows it.
    pub fn own_signer(&self) -> Result<Option<SignerKey>, Error> {
        let own: Option<Own> = self.recall(SIGNER)?;
        Ok(own.map(|own| own.signer))
    }

    /// Remembers by which key this host signs.
    pub fn note_own_signer(&self, signer: SignerKey) -> Result<(), Error> {
        match self.own_signer()? == Some(signer) {
            true => Ok(()),
            false => self.remember(SIGNER, Own { signer }),
        }
    }

    /// The last list of signers that was seen, as it was signed.
    pub fn list_of_signers(&self) -> Result<Option<Vec<u8>>, Error> {
        let seen: Option<SeenList> = self.recall(LIST)?;
        Ok(seen.map(|seen| seen.document.into_bytes()))
    }

    /// Remembers a list of signers, unless the one that is remembered `is_newer`. Of two who do so at once one waits.
    pub fn note_list_of_signers(&self, document: &[u8], is_newer: impl Fn(&[u8]) -> bool) -> Result<(), Error> {
        let _lock = self.lock_of_what_was_seen()?;
        let known = self.list_of_signers()?;
        if known.is_some_and(|known| known == document || is_newer(&known)) {
            return Ok(());
        }
        let document = String::from_utf8_lossy(document).into_owned();
        self.remember(LIST, SeenList { document })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_whoever_comes_at_the_same_time_and_is_readable_by_nobody_else() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        assert!(state.signing_key().unwrap().is_none());
        let made: Vec<SignerKey> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8_u8)
                .map(|seed| {
                    scope.spawn({
                        let state = &state;
                        move || state.make_signing_key([seed; 32]).unwrap().public()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let kept = state.signing_key().unwrap().unwrap().public();
        assert!(made.iter().all(|key| *key == kept), "{made:?}");
        let mode = std::fs::metadata(state.signing_key_path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(state.signing_key_path(), "nothing").unwrap();
        assert!(
            matches!(state.make_signing_key([1; 32]), Err(Error::Corrupt { .. })),
            "never made anew"
        );
    }

    #[test]
    fn the_public_key_and_the_list_are_remembered() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        assert_eq!(
            (state.own_signer().unwrap(), state.list_of_signers().unwrap()),
            (None, None)
        );
        let key = SigningKey::of_seed(Role::Signer, [3; 32]).public();
        state.note_own_signer(key).unwrap();
        state.note_list_of_signers(b"{\"a\":1}\n", |_| false).unwrap();
        state
            .note_list_of_signers(b"{\"a\":0}\n", |known| known == b"{\"a\":1}\n")
            .unwrap();
        assert_eq!(state.own_signer().unwrap(), Some(key));
        assert_eq!(state.list_of_signers().unwrap().unwrap(), b"{\"a\":1}\n");
    }
}
