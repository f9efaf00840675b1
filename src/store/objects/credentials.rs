//! What proves to a server who asks.
//!
//! For `s3:` and `oss:` a document as AWS's tools keep it: `aws_access_key_id`, `aws_secret_access_key` and perhaps
//! `aws_session_token`, each on a line `key = value`. For `gs:` the JSON key of a service account. For `azblob:` a connection
//! string, or `account_name` and `account_key` on lines. The one word `anonymous`: requests are not signed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use age::secrecy::ExposeSecret;
use reqsign_aws_v4::Credential;
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, ProvideCredential};

use crate::error_chain::with_causes;
use crate::secret::Secret;

/// After so long they are read again: they may have been changed.
const READ_AGAIN: Duration = Duration::from_secs(5 * 60);

/// A document of keys and values: a line each, `key = value`; sections and comments are passed over.
pub(super) struct Pairs(BTreeMap<String, String>);

impl Pairs {
    pub fn read(secret: &Secret) -> Result<Pairs, String> {
        let text = secret.read().map_err(|error| with_causes(&error))?;
        let lines = text.expose_secret().lines().map(str::trim);
        let lines = lines.filter(|line| !line.starts_with(['#', ';', '[']));
        let pairs = lines.filter_map(|line| line.split_once('='));
        let pairs = pairs.map(|(key, value)| {
            (
                key.trim().to_ascii_lowercase(),
                value.trim().trim_matches('"').to_owned(),
            )
        });
        Ok(Pairs(pairs.collect()))
    }

    /// The value of the first of these keys that there is.
    pub fn get(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.0.get(*key)).map(String::as_str)
    }

    /// The same; an error that names them, where there is none.
    pub fn want(&self, keys: &[&str]) -> Result<&str, String> {
        let none = || format!("the credentials have no line `{} = …`", keys.first().unwrap_or(&""));
        self.get(keys).filter(|value| !value.is_empty()).ok_or_else(none)
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pairs")
    }
}

pub(super) const KEY_ID: &[&str] = &["aws_access_key_id", "access_key_id"];
pub(super) const KEY: &[&str] = &["aws_secret_access_key", "secret_access_key", "access_key_secret"];
pub(super) const TOKEN: &[&str] = &["aws_session_token", "session_token", "security_token"];

/// AWS's, read again every few minutes; while that fails, the last ones go on.
pub(super) struct Rotating {
    secret: Secret,
    last: Mutex<Option<Credential>>,
}

impl Rotating {
    /// Reads them for the first time.
    pub fn read(secret: &Secret) -> Result<Rotating, String> {
        Ok(Rotating {
            last: Mutex::new(Some(credential(secret)?)),
            secret: secret.clone(),
        })
    }
}

fn credential(secret: &Secret) -> Result<Credential, String> {
    let pairs = Pairs::read(secret)?;
    Ok(Credential {
        access_key_id: pairs.want(KEY_ID)?.to_owned(),
        secret_access_key: pairs.want(KEY)?.to_owned(),
        session_token: pairs.get(TOKEN).map(str::to_owned),
        expires_in: None,
    })
}

impl ProvideCredential for Rotating {
    type Credential = Credential;

    async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Credential>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(new) = credential(&self.secret) {
            *last = Some(new);
        }
        let until = Timestamp::now() + READ_AGAIN;
        Ok(last.clone().map(|credential| Credential {
            expires_in: Some(until),
            ..credential
        }))
    }
}

impl fmt::Debug for Rotating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotating")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}
