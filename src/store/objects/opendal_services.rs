//! The services that opendal speaks to, as a destination has them.

use std::sync::Arc;
use std::time::Duration;

use age::secrecy::ExposeSecret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use opendal::layers::RetryLayer;
#[cfg(feature = "azblob")]
use opendal::services::Azblob;
#[cfg(feature = "gs")]
use opendal::services::Gcs;
#[cfg(feature = "oss")]
use opendal::services::Oss;
#[cfg(feature = "s3")]
use opendal::services::S3;
use opendal::{HttpTransport, HttpTransporter, OperationContext, Operator};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner};
use reqsign_core::{Context, ProvideCredentialChain, Signer};

use super::credentials::{KEY, KEY_ID, Rotating, TOKEN, end_of_signature};
use super::s3_requests::Requests;
use super::transport::{self, Dated};
#[cfg(feature = "s3")]
use super::upload_headers::with_checksum;
use crate::error_chain::with_causes;
use crate::secret::Secret;
use crate::store::credential_document::Pairs;
use crate::store::http::Clock;
use crate::store::location::{Bucket, BucketKind};

/// So often what can be asked again is, with pauses that grow.
pub(super) const TRIED_AGAIN: usize = 3;
/// The same for uploads, which send many requests for one thing.
const UPLOADS_TRIED_AGAIN: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Where requests are signed for a region and neither the configuration nor the environment names one.
const REGION: &str = "us-east-1";

/// Amazon's own server. Named always: without, opendal looks for one in the environment, and backups would go elsewhere
/// than the configuration says.
const AMAZON: &str = "https://s3.amazonaws.com";

/// What makes requests below one prefix of a bucket.
#[derive(Debug)]
pub(super) struct Operators {
    /// For objects that are sent in parts.
    pub uploads: Operator,
    /// For all else.
    pub all_else: Operator,
    /// For what those do not ask; S3 alone has it.
    pub requests: Option<Requests>,
    /// The keys, where they are read again.
    pub keys: Option<Arc<Rotating>>,
    /// When they run out, where they are not.
    pub keys_end: Option<jiff::Timestamp>,
}

/// What makes requests below `prefix` of a bucket.
pub(super) fn operator(bucket: &Bucket, prefix: &str, clock: &Arc<Clock>) -> Result<Operators, String> {
    let root = format!("/{prefix}");
    let mut signs: Option<Keys> = None;
    let made = match bucket.kind {
        #[cfg(feature = "s3")]
        BucketKind::S3 => {
            let keys = Keys::of(bucket)?;
            let service = s3(bucket, &root, &keys);
            signs = Some(keys);
            Operator::new(service)
        }
        #[cfg(feature = "gs")]
        BucketKind::Gcs => Operator::new(gcs(bucket, &root)?),
        #[cfg(feature = "azblob")]
        BucketKind::Azblob => Operator::new(azblob(bucket, &root)?),
        #[cfg(feature = "oss")]
        BucketKind::Oss => Operator::new(oss(bucket, &root)?),
        kind => {
            return Err(format!(
                "stores of kind `{}:` are not built into this lifeboat",
                kind.scheme()
            ));
        }
    };
    let ca = bucket.options.ca.as_ref().map(text).transpose()?;
    let transport = dated(transport::client(ca.as_deref())?, clock);
    let keys = match &signs {
        Some(Keys::Named(keys)) => Some(keys.clone()),
        Some(Keys::Nobody | Keys::Around) | None => None,
    };
    let keys_end = match (bucket.kind, &bucket.options.credentials) {
        (BucketKind::Azblob, Some(secret)) => end_of_signature(&text(secret)?),
        _ => None,
    };
    let requests = signs.map(|keys| {
        let signer = keys.signer(bucket);
        Requests::new(transport.clone(), signer, url_of(bucket), prefix, FIRST_PAUSE)
    });
    Ok(Operators {
        requests,
        keys,
        keys_end,
        ..finished(made, &transport, FIRST_PAUSE)?
    })
}

fn dated(client: impl HttpTransport, clock: &Arc<Clock>) -> HttpTransporter {
    let clock = clock.clone();
    HttpTransporter::new(Dated { client, clock })
}

/// The service by this client, with this pause before a request is sent again.
fn finished(
    made: opendal::Result<Operator>,
    transport: &HttpTransporter,
    pause: Duration,
) -> Result<Operators, String> {
    let retry = |times| {
        RetryLayer::new()
            .with_max_times(times)
            .with_min_delay(pause)
            .with_max_delay(pause.saturating_mul(25))
            .with_jitter()
    };
    let made = made.map_err(|error| super::failure::in_short(&error))?;
    let made = made.with_context(OperationContext::new().with_http_transport(transport.clone()));
    Ok(Operators {
        uploads: made.clone().layer(retry(UPLOADS_TRIED_AGAIN)),
        all_else: made.layer(retry(TRIED_AGAIN)),
        requests: None,
        keys: None,
        keys_end: None,
    })
}

/// What S3 is asked with.
enum Keys {
    /// Nobody says who asks.
    Nobody,
    /// What the configuration names.
    Named(Arc<Rotating>),
    /// What the environment and the machine say.
    Around,
}

impl Keys {
    fn of(bucket: &Bucket) -> Result<Keys, String> {
        match &bucket.options.credentials {
            None => Ok(Keys::Around),
            Some(secret) if is_nobody(secret)? => Ok(Keys::Nobody),
            Some(secret) => Ok(Keys::Named(Arc::new(Rotating::read(secret)?))),
        }
    }

    fn signer(&self, bucket: &Bucket) -> Option<Signer<Credential>> {
        let signer = RequestSigner::new("s3", &region_of(bucket));
        match self {
            Keys::Nobody => None,
            Keys::Named(keys) => Some(Signer::new(Context::new(), keys.clone(), signer)),
            Keys::Around => Some(Signer::new(Context::new(), DefaultCredentialProvider::new(), signer)),
        }
    }
}

fn region_of(bucket: &Bucket) -> String {
    let region = bucket.options.region.clone().or_else(region_around);
    region.unwrap_or_else(|| REGION.to_owned())
}

/// Whether the bucket is in the path of a request, not in its host name. No certificate is for a name with more dots than
/// the pattern in it has.
fn is_in_path(bucket: &Bucket) -> bool {
    let options = &bucket.options;
    options
        .path_style
        .unwrap_or(options.endpoint.is_some() || bucket.name.contains('.'))
}

/// Where requests about a bucket go.
fn url_of(bucket: &Bucket) -> String {
    let endpoint = match bucket.options.endpoint.as_deref() {
        None | Some(AMAZON) => format!("https://s3.{}.amazonaws.com", region_of(bucket)),
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
    };
    match is_in_path(bucket) {
        true => format!("{endpoint}/{}", bucket.name),
        false => endpoint.replacen("://", &format!("://{}.", bucket.name), 1),
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &Bucket, root: &str, keys: &Keys) -> S3 {
    let mut service = S3::default()
        .bucket(&bucket.name)
        .root(root)
        .region(&region_of(bucket))
        .endpoint(bucket.options.endpoint.as_deref().unwrap_or(AMAZON));
    if !is_in_path(bucket) {
        service = service.enable_virtual_host_style();
    }
    service = with_checksum(service, bucket);
    match keys {
        Keys::Around => service,
        Keys::Nobody => service.skip_signature(),
        Keys::Named(keys) => {
            let chain: ProvideCredentialChain<Credential> = ProvideCredentialChain::new().push(keys.clone());
            service.credential_provider_chain(chain)
        }
    }
}

/// What the environment says of it, as for all of AWS's tools.
fn region_around() -> Option<String> {
    let names = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter();
    names
        .filter_map(|name| std::env::var(name).ok())
        .find(|region| !region.is_empty())
}

#[cfg(feature = "gs")]
fn gcs(bucket: &Bucket, root: &str) -> Result<Gcs, String> {
    let mut service = Gcs::default().bucket(&bucket.name).root(root);
    if let Some(endpoint) = &bucket.options.endpoint {
        service = service.endpoint(endpoint);
    }
    match &bucket.options.credentials {
        // An emulator asks nobody who he is, and all of Google's own tools take this to say that it is one.
        None if is_emulated() => service = service.skip_signature().disable_vm_metadata(),
        None => {}
        Some(secret) if is_nobody(secret)? => service = service.skip_signature().disable_vm_metadata(),
        Some(secret) => {
            let key = text(secret)?;
            // The library would take another identity where this one cannot be read.
            serde_json::from_str::<serde_json::Value>(&key)
                .map_err(|_| "the credentials are not the JSON of a service account's key".to_owned())?;
            service = service
                .credential(&BASE64.encode(key))
                .disable_config_load()
                .disable_vm_metadata();
        }
    }
    Ok(service)
}

#[cfg(feature = "gs")]
fn is_emulated() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("STORAGE_EMULATOR_HOST") && !is_set("GOOGLE_APPLICATION_CREDENTIALS")
}

#[cfg(feature = "azblob")]
fn azblob(bucket: &Bucket, root: &str) -> Result<Azblob, String> {
    let mut service = Azblob::default();
    if let Some(secret) = &bucket.options.credentials {
        let text = text(secret)?;
        let is_nobody = text.trim() == "anonymous";
        service = match text.contains("AccountKey=") || text.contains("SharedAccessSignature=") {
            // What it says of it may hold a part of the key.
            true => Azblob::from_connection_string(&text).map_err(|_| {
                "the credentials are no connection string: fields `NAME=VALUE` with `;` between them".to_owned()
            })?,
            false if is_nobody => service.skip_signature(),
            false => {
                let pairs = Pairs::read(secret)?;
                let account = pairs.want(&["account_name"])?;
                service
                    .endpoint(&format!("https://{account}.blob.core.windows.net"))
                    .account_name(account)
                    .account_key(pairs.want(&["account_key"])?)
            }
        };
    }
    service = service.container(&bucket.name).root(root);
    if let Some(endpoint) = &bucket.options.endpoint {
        service = service.endpoint(endpoint);
    }
    Ok(service)
}

#[cfg(feature = "oss")]
fn oss(bucket: &Bucket, root: &str) -> Result<Oss, String> {
    let options = &bucket.options;
    let mut service = Oss::default().bucket(&bucket.name).root(root);
    if let Some(endpoint) = &options.endpoint {
        service = service.endpoint(endpoint);
    }
    if options.path_style == Some(true) {
        service = service.addressing_style("path");
    }
    if let Some(secret) = &options.credentials {
        if is_nobody(secret)? {
            return Ok(service.skip_signature());
        }
        let pairs = Pairs::read(secret)?;
        service = service
            .access_key_id(pairs.want(KEY_ID)?)
            .access_key_secret(pairs.want(KEY)?);
        if let Some(token) = pairs.get(TOKEN) {
            service = service.security_token(token);
        }
    }
    Ok(service)
}

/// Whether requests are not signed at all: a gateway of one's own may know its hosts by other means.
fn is_nobody(secret: &Secret) -> Result<bool, String> {
    Ok(text(secret)?.trim() == "anonymous")
}

fn text(secret: &Secret) -> Result<String, String> {
    let text = secret.read().map_err(|error| with_causes(&error))?;
    Ok(text.expose_secret().to_owned())
}

/// For a server that asks nobody who he is.
#[cfg(test)]
#[cfg(feature = "s3")]
pub(super) fn signing_as_nobody(
    client: impl HttpTransport,
    bucket: &Bucket,
    prefix: &str,
    clock: &Arc<Clock>,
    pause: Duration,
) -> Result<Operators, String> {
    let service = s3(bucket, &format!("/{prefix}"), &Keys::Nobody);
    let transport = dated(client, clock);
    let requests = Requests::new(transport.clone(), None, url_of(bucket), prefix, pause);
    Ok(Operators {
        requests: Some(requests),
        ..finished(Operator::new(service), &transport, pause)?
    })
}

#[cfg(test)]
#[cfg(feature = "s3")]
mod tests {
    use super::*;
    use crate::store::BucketOptions;

    #[test]
    fn requests_of_our_own_go_where_the_others_go() {
        let url = |name: &str, endpoint: Option<&str>, path_style| {
            url_of(&Bucket {
                kind: BucketKind::S3,
                name: name.to_owned(),
                prefix: String::new(),
                options: BucketOptions {
                    endpoint: endpoint.map(str::to_owned),
                    region: Some("eu-central-1".to_owned()),
                    path_style,
                    ..BucketOptions::default()
                },
            })
        };
        assert_eq!(url("b", None, None), "https://b.s3.eu-central-1.amazonaws.com");
        assert_eq!(url("b.c", None, None), "https://s3.eu-central-1.amazonaws.com/b.c");
        assert_eq!(
            url("b", Some("http://127.0.0.1:9000/"), None),
            "http://127.0.0.1:9000/b"
        );
        assert_eq!(
            url("b", Some("https://s3.example.com"), Some(false)),
            "https://b.s3.example.com"
        );
    }
}
