//! What proves to a server who asks.
//!
//! For `s3:` and `oss:` a document as AWS's tools keep it: `aws_access_key_id`, `aws_secret_access_key` and perhaps
//! `aws_session_token`, each on a line `key = value`. For `gs:` the JSON key of a service account. For `azblob:` a connection
//! string, or `account_name` and `account_key` on lines. The one word `anonymous`: requests are not signed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqsign_aws_v4::Credential;
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, ProvideCredential};

use crate::secret::Secret;
use crate::store::Credentials;
use crate::store::credential_document::Pairs;

/// After so long they are read again: they may have been changed.
const READ_AGAIN: Duration = Duration::from_secs(5 * 60);

pub(super) const KEY_ID: &[&str] = &["aws_access_key_id", "access_key_id"];
pub(super) const KEY: &[&str] = &["aws_secret_access_key", "secret_access_key", "access_key_secret"];
pub(super) const TOKEN: &[&str] = &["aws_session_token", "session_token", "security_token"];

/// When they run out, as the tools write it that get them for some hours.
const EXPIRY: &[&str] = &[
    "expiration",
    "aws_expiration",
    "aws_session_expiration",
    "aws_credential_expiration",
    "x_security_token_expires",
];

/// AWS's, read again every few minutes; while that fails, the last ones go on.
pub(super) struct Rotating {
    secret: Secret,
    last: Mutex<Read>,
}

/// What was read last.
#[derive(Clone)]
struct Read {
    credential: Credential,
    expires_at: Option<jiff::Timestamp>,
    /// Why it is not what is there now.
    trouble: Option<String>,
}

/// The last good ones of this process, by where they are: a store is opened anew for each job.
static LAST_GOOD: Mutex<BTreeMap<String, Read>> = Mutex::new(BTreeMap::new());

impl Rotating {
    /// Reads them for the first time; where that fails, the last good ones of this process do.
    pub fn read(secret: &Secret) -> Result<Rotating, String> {
        Ok(Rotating {
            last: Mutex::new(read_or_last(secret)?),
            secret: secret.clone(),
        })
    }

    /// What is known of them.
    pub fn standing(&self) -> Credentials {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Credentials {
            expires_at: last.expires_at,
            trouble: last.trouble.clone(),
        }
    }
}

fn read_or_last(secret: &Secret) -> Result<Read, String> {
    let mut known = LAST_GOOD.lock().unwrap_or_else(PoisonError::into_inner);
    match read(secret) {
        Ok(read) => {
            known.insert(secret.to_string(), read.clone());
            Ok(read)
        }
        Err(why) => match known.get(&secret.to_string()) {
            Some(last) => Ok(Read {
                trouble: Some(why),
                ..last.clone()
            }),
            None => Err(why),
        },
    }
}

fn read(secret: &Secret) -> Result<Read, String> {
    let pairs = Pairs::read(secret)?;
    Ok(Read {
        credential: Credential {
            access_key_id: pairs.want(KEY_ID)?.to_owned(),
            secret_access_key: pairs.want(KEY)?.to_owned(),
            session_token: pairs.get(TOKEN).map(str::to_owned),
            expires_in: None,
        },
        expires_at: pairs.get(EXPIRY).and_then(|told| told.parse().ok()),
        trouble: None,
    })
}

/// When a shared access signature of Azure's runs out: its field `se`.
pub(super) fn end_of_signature(connection: &str) -> Option<jiff::Timestamp> {
    let (_, signature) = connection.split_once("SharedAccessSignature=")?;
    let signature = signature.split(';').next()?.trim_start_matches('?').trim();
    let end = signature.split('&').find_map(|field| field.strip_prefix("se="))?;
    end.replace("%3A", ":").replace("%3a", ":").parse().ok()
}

impl ProvideCredential for Rotating {
    type Credential = Credential;

    async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Credential>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read_or_last(&self.secret) {
            Ok(new) => *last = new,
            Err(why) => last.trouble = Some(why),
        }
        Ok(Some(Credential {
            expires_in: Some(Timestamp::now() + READ_AGAIN),
            ..last.credential.clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_read_any_more_go_on_and_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let secret = Secret::File(path.clone());
        let write = |text: &str| crate::durable::replace(&path, text.as_bytes(), 0o600).unwrap();
        assert!(Rotating::read(&secret).is_err(), "there were none");
        write("aws_access_key_id = A\naws_secret_access_key = geheim\nexpiration = 2026-11-20T10:15:30Z\n");
        let first = Rotating::read(&secret).unwrap();
        let expires_at = Some("2026-11-20T10:15:30Z".parse().unwrap());
        let (good, told) = (
            Credentials {
                expires_at,
                trouble: None,
            },
            "no line `aws_access_key_id = …`",
        );
        assert_eq!(first.standing(), good);
        write("rubbish\n");
        let context = Context::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let provide = |of: &Rotating| runtime.block_on(of.provide_credential(&context)).unwrap().unwrap();
        assert_eq!(provide(&first).secret_access_key, "geheim");
        let trouble = first.standing().trouble.unwrap();
        assert!(trouble.contains(told) && !trouble.contains("geheim"), "{trouble}");
        // Another job of the same process opens it anew.
        let second = Rotating::read(&secret).unwrap();
        assert_eq!(provide(&second).access_key_id, "A");
        assert!(second.standing().trouble.is_some());
        write("aws_access_key_id = B\naws_secret_access_key = anders\n");
        assert_eq!(provide(&first).access_key_id, "B");
        assert_eq!(first.standing(), Credentials::default());
        assert!(!format!("{first:?}").contains("anders"));
    }

    #[test]
    fn the_end_of_a_shared_access_signature_is_read() {
        let end = |text: &str| end_of_signature(text).map(|end| end.to_string());
        let connection = "BlobEndpoint=https://a.blob.core.windows.net;SharedAccessSignature=sv=2024-11-04&se=2027-12-31T00%3A00%3A00Z&sp=racwdl&sig=x";
        assert_eq!(end(connection).as_deref(), Some("2027-12-31T00:00:00Z"));
        assert_eq!(end("AccountName=a;AccountKey=se=2027-12-31T00:00:00Z"), None);
    }
}
