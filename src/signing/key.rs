//! Keys, as people see and keep them: Ed25519 in Bech32, so that a mistyped one is known for what it is.
//!
//! ```text
//! lifeboat-signer1…           a public key, which goes into [signing] trusted
//! LIFEBOAT-SIGNING-KEY-1…     the secret key that belongs to it
//! lifeboat-root1…  LIFEBOAT-ROOT-KEY-1…   the same of a root, which signs lists of signers and nothing else
//! ```
//!
//! Invariant: a secret key has no `Debug`, and no error here repeats one.

use std::fmt;
use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretBox, SecretString};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use serde::{Deserialize, Serialize, de};
use sha2::{Digest as _, Sha256};

/// The length of a public key, and of the seed of a secret one.
const KEY_BYTES: usize = 32;

/// A key that is none, or not of the kind that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is a secret key where a public one belongs.
    #[error("this is a secret key; give the public one that was printed with it, and treat the secret one as exposed")]
    SecretAsPublic,
    /// Not a public key.
    #[error("`{start}` is not the key of a signer ({}1…) or of a root ({}1…)", Role::Signer.public(), Role::Root.public())]
    NotPublic {
        /// The first characters of the text.
        start: String,
    },
    /// A file without a secret key of that role.
    #[error("{name} holds no {}", .role.secret_words())]
    NotSecret {
        /// What the file is called.
        name: String,
        /// What was wanted.
        role: Role,
    },
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It signs what a host writes.
    Signer,
    /// It signs the lists that name signers, and is kept offline.
    Root,
}

impl Role {
    fn public(self) -> &'static str {
        match self {
            Role::Signer => "lifeboat-signer",
            Role::Root => "lifeboat-root",
        }
    }

    fn secret(self) -> &'static str {
        match self {
            Role::Signer => "lifeboat-signing-key-",
            Role::Root => "lifeboat-root-key-",
        }
    }

    fn secret_words(self) -> &'static str {
        match self {
            Role::Signer => "signing key (LIFEBOAT-SIGNING-KEY-1…)",
            Role::Root => "root key (LIFEBOAT-ROOT-KEY-1…)",
        }
    }
}

/// A public key: who signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignerKey {
    role: Role,
    bytes: [u8; KEY_BYTES],
}

impl SignerKey {
    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The same in few characters, to be compared by eye.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = Sha256::digest(self.to_string().as_bytes());
        let mut bits = [0; FINGERPRINT_BYTES];
        bits.copy_from_slice(digest.get(..FINGERPRINT_BYTES).unwrap_or(&[0; FINGERPRINT_BYTES]));
        Fingerprint(bits)
    }

    /// Whether it signed `message`.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32_of(self.role.public(), &self.bytes))
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for SignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<SignerKey, KeyError> {
        let text = text.trim();
        let upper = text.to_ascii_uppercase();
        if upper.starts_with("LIFEBOAT-SIGNING-KEY-") || upper.starts_with("LIFEBOAT-ROOT-KEY-") {
            return Err(KeyError::SecretAsPublic);
        }
        let of = |role: Role| {
            let bytes = bytes_of(role.public(), text)?;
            // One spelling for each: keys are compared and signed as text too.
            Some(SignerKey { role, bytes }).filter(|key| key.to_string() == text)
        };
        of(Role::Signer)
            .or_else(|| of(Role::Root))
            .ok_or_else(|| KeyError::NotPublic {
                start: text.chars().take(24).collect(),
            })
    }
}

impl Serialize for SignerKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SignerKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A secret key: it signs.
pub struct SigningKey {
    role: Role,
    seed: SecretBox<[u8; KEY_BYTES]>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key of these random bytes.
    pub fn of_seed(role: Role, seed: [u8; KEY_BYTES]) -> SigningKey {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        SigningKey {
            role,
            seed: SecretBox::new(Box::new(seed)),
            pair,
        }
    }

    /// Reads the file that [`SigningKey::to_file`] makes: comment lines and the key. `name` is what errors call it.
    pub fn parse(role: Role, text: &str, name: &str) -> Result<SigningKey, KeyError> {
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let seed = match (lines.next(), lines.next()) {
            (Some(line), None) => bytes_of(role.secret(), line),
            _ => None,
        };
        let seed = seed.ok_or_else(|| KeyError::NotSecret {
            name: name.to_owned(),
            role,
        })?;
        Ok(SigningKey::of_seed(role, seed))
    }

    /// What a file of it holds: its public key in a comment, and itself.
    pub fn to_file(&self) -> SecretString {
        let secret = SecretString::from(bech32_of(self.role.secret(), self.seed.expose_secret()).to_ascii_uppercase());
        SecretString::from(format!("# public key: {}\n{}\n", self.public(), secret.expose_secret()))
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> SignerKey {
        let mut bytes = [0; KEY_BYTES];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        SignerKey { role: self.role, bytes }
    }

    pub(super) fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// A key in few characters: 80 bits of its SHA-256, in four groups without letters that look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

const FINGERPRINT_BYTES: usize = 10;

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: [char; 32] = [
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'j', 'k', 'm',
            'n', 'p', 'q', 'r', 's', 't', 'v', 'w', 'x', 'y', 'z',
        ];
        let bits = self.0.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        for place in 0..16_u32 {
            if place > 0 && place % 4 == 0 {
                f.write_str("-")?;
            }
            let digit = bits >> (75 - 5 * place) & 31;
            write!(f, "{}", DIGITS.get(digit as usize).unwrap_or(&'0'))?;
        }
        Ok(())
    }
}

fn bech32_of(prefix: &str, bytes: &[u8]) -> String {
    let prefix = Hrp::parse(prefix).expect("our prefixes are legal");
    bech32::encode::<Bech32>(prefix, bytes).expect("32 bytes are not too long")
}

fn bytes_of(prefix: &str, text: &str) -> Option<[u8; KEY_BYTES]> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    if !checked.hrp().to_string().eq_ignore_ascii_case(prefix) {
        return None;
    }
    let mut bytes = [0; KEY_BYTES];
    let mut given = checked.byte_iter();
    for byte in &mut bytes {
        *byte = given.next()?;
    }
    given.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(role: Role, seed: u8) -> SigningKey {
        SigningKey::of_seed(role, [seed; 32])
    }

    #[test]
    fn keys_print_as_they_parse_and_a_mistyped_one_is_none() {
        for role in [Role::Signer, Role::Root] {
            let public = key(role, 7).public();
            let text = public.to_string();
            assert_eq!(format!(" {text}\n").parse::<SignerKey>(), Ok(public));
            let mut mistyped = text.clone();
            let last = if mistyped.ends_with('q') { 'p' } else { 'q' };
            mistyped.pop();
            mistyped.push(last);
            assert!(matches!(mistyped.parse::<SignerKey>(), Err(KeyError::NotPublic { .. })));
            assert!(text.to_ascii_uppercase().parse::<SignerKey>().is_err(), "one spelling");
            let file = key(role, 7).to_file();
            let read = SigningKey::parse(role, file.expose_secret(), "key").ok().unwrap();
            assert_eq!(read.public(), public);
        }
        assert_ne!(key(Role::Signer, 7).public(), key(Role::Root, 7).public());
    }

    #[test]
    fn a_secret_is_never_repeated_nor_taken_for_one_of_another_role() {
        let file = key(Role::Signer, 7).to_file();
        let secret = file.expose_secret().lines().nth(1).unwrap();
        assert_eq!(secret.parse::<SignerKey>(), Err(KeyError::SecretAsPublic));
        let refused = SigningKey::parse(Role::Root, file.expose_secret(), "key.txt")
            .err()
            .unwrap();
        assert_eq!(refused.to_string(), "key.txt holds no root key (LIFEBOAT-ROOT-KEY-1…)");
        for text in ["", "# a comment\n", "LIFEBOAT-SIGNING-KEY-1BROKEN", "a\nb"] {
            let refused = SigningKey::parse(Role::Signer, text, "key.txt").err().unwrap();
            assert!(!refused.to_string().contains("BROKEN"));
        }
    }

    #[test]
    fn these_are_the_texts_of_a_key_for_ever() {
        let key = key(Role::Signer, 1);
        assert_eq!(
            key.to_file().expose_secret(),
            include_str!("../../tests/vectors/signing/key.txt")
        );
        assert_eq!(
            key.public().fingerprint().to_string(),
            include_str!("../../tests/vectors/signing/fingerprint.txt").trim_end()
        );
    }
}
