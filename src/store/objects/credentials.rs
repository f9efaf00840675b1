//! What proves to a server who asks.
//!
//! For `s3:` and `oss:` a document as AWS's tools keep it: `aws_access_key_id`, `aws_secret_access_key` and perhaps
//! `aws_session_token`, each on a line `key = value`. For `gs:` the JSON key of a service account. For `azblob:` a connection
//! string, or `account_name` and `account_key` on lines. The one word `anonymous`: requests are not signed.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqsign_aws_v4::Credential;
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, ProvideCredential};

use crate::secret::Secret;
use crate::store::pairs::Pairs;

/// After so long they are read again: they may have been changed.
const READ_AGAIN: Duration = Duration::from_secs(5 * 60);

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
