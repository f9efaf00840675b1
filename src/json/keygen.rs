//! `keygen`: with `--identity`, with `--signing` or `--root`, and with `--sign-signers`.

use std::path::Path;

use serde::Serialize;

use crate::signing::{Roll, SignerKey};

/// A new age identity.
#[derive(Debug, Serialize)]
pub struct IdentityDocument<'a> {
    schema: u32,
    identity: &'a Path,
    recipient: &'a str,
}

/// A new key that signs.
#[derive(Debug, Serialize)]
pub struct KeyDocument<'a> {
    schema: u32,
    file: &'a Path,
    key: String,
    fingerprint: String,
}

/// A list of signers, signed by a root key.
#[derive(Debug, Serialize)]
pub struct ListDocument<'a> {
    schema: u32,
    file: &'a Path,
    number: u64,
    root: String,
    signers: Vec<String>,
}

impl<'a> IdentityDocument<'a> {
    /// The document of an identity in `file`.
    pub fn of(file: &'a Path, recipient: &'a str) -> IdentityDocument<'a> {
        IdentityDocument {
            schema: 1,
            identity: file,
            recipient,
        }
    }
}

impl<'a> KeyDocument<'a> {
    /// The document of a key whose secret half is in `file`.
    pub fn of(file: &'a Path, key: &SignerKey) -> KeyDocument<'a> {
        KeyDocument {
            schema: 1,
            file,
            key: key.to_string(),
            fingerprint: key.fingerprint().to_string(),
        }
    }
}

impl<'a> ListDocument<'a> {
    /// The document of a list in `file` that the key `root` has signed.
    pub fn of(file: &'a Path, list: &Roll, root: &SignerKey) -> ListDocument<'a> {
        ListDocument {
            schema: 1,
            file,
            number: list.number,
            root: root.to_string(),
            signers: list.keys().map(|key| key.to_string()).collect(),
        }
    }
}
