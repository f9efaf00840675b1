//! New keys: an age identity, a key that signs, and a list of signers that a root key signs. Each goes into a file of its own,
//! which must not exist.

use std::path::Path;

use age::secrecy::{ExposeSecret, SecretString};

use super::{Exit, Failure, failed, host};
use crate::durable;
use crate::error_chain::with_causes;
use crate::model::ClusterName;
use crate::secret::Secret;
use crate::signing::{Role, Roll, Signer, SignerKey, SigningKey};

/// Who may read a secret key.
const FILE_MODE: u32 = 0o600;
/// What to do where a file with a key is there.
const KEYS_STAY: &str = "a key that backups may depend on is never overwritten; give another file";

/// Makes an age identity in `file`; its recipient.
pub fn identity(file: &Path) -> Result<String, Failure> {
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    // Wiped when it is dropped.
    let content = SecretString::from(format!(
        "# public key: {recipient}\n{}\n",
        key.to_string().expose_secret()
    ));
    write(file, &content, KEYS_STAY)?;
    Ok(recipient)
}

/// Makes a key in `file` that signs; its public half.
pub fn signing_key(file: &Path, role: Role) -> Result<SignerKey, Failure> {
    let key = SigningKey::of_seed(role, durable::random().map_err(failed)?);
    write(file, &key.to_file(), KEYS_STAY)?;
    Ok(key.public())
}

/// A list of signers that is to be made.
#[derive(Debug)]
pub struct ListAsked<'a> {
    /// The file of the root key that signs it.
    pub root: &'a Path,
    /// The cluster whose signers they are.
    pub cluster: &'a ClusterName,
    /// Its number, higher than that of the one before.
    pub number: u64,
    /// They.
    pub signers: Vec<Signer>,
}

/// Makes a list of signers in `file`; the list, and the public half of the root key.
pub fn list_of_signers(file: &Path, asked: ListAsked<'_>) -> Result<(Roll, SignerKey), Failure> {
    let name = asked.root.display().to_string();
    let secret = Secret::read_given(asked.root).map_err(failed)?;
    let root = SigningKey::parse(Role::Root, secret.expose_secret(), &name).map_err(|error| {
        Failure::new(Exit::WrongKey, error).next("give the file that `lifeboat keygen --root` wrote")
    })?;
    let list = Roll::new(asked.number, host::now(), asked.signers);
    let document = SecretString::from(String::from_utf8_lossy(&list.sign(asked.cluster, &root)).into_owned());
    write(
        file,
        &document,
        "give another file: a list that is out there is not changed",
    )?;
    Ok((list, root.public()))
}

fn write(file: &Path, content: &SecretString, where_it_exists: &str) -> Result<(), Failure> {
    let written = durable::create_new(file, content.expose_secret().as_bytes(), FILE_MODE);
    written.map_err(|error| match error {
        durable::Error::Exists { path } => {
            Failure::new(Exit::Refused, format!("{} exists", path.display())).next(where_it_exists)
        }
        durable::Error::Io { .. } => Failure::new(
            Exit::Failed,
            format!("cannot write {}: {}", file.display(), with_causes(&error)),
        ),
    })
}
