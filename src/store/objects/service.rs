//! The services that opendal speaks to, as a destination has them.

use std::sync::Arc;
use std::time::Duration;

use age::secrecy::ExposeSecret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use opendal::layers::RetryLayer;
use opendal::services::{Azblob, Gcs, Oss, S3};
use opendal::{HttpTransport, HttpTransporter, OperationContext, Operator};
use reqsign_aws_v4::Credential;
use reqsign_core::ProvideCredentialChain;

use super::credentials::{KEY, KEY_ID, Pairs, Rotating, TOKEN};
use super::transport::{self, Clock, Dated};
use crate::error_chain::with_causes;
use crate::secret::Secret;
use crate::store::location::{Bucket, BucketKind, BucketOptions, Checksum};

/// So often what can be asked again is, with pauses that grow.
const TRIED_AGAIN: usize = 3;
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
}

/// What makes requests below `prefix` of a bucket.
pub(super) fn operator(bucket: &Bucket, prefix: &str, clock: &Arc<Clock>) -> Result<Operators, String> {
    let root = format!("/{prefix}");
    let made = match bucket.kind {
        BucketKind::S3 => Operator::new(s3(bucket, &root)?),
        BucketKind::Gcs => Operator::new(gcs(bucket, &root)?),
        BucketKind::Azblob => Operator::new(azblob(bucket, &root)?),
        BucketKind::Oss => Operator::new(oss(bucket, &root)?),
    };
    let ca = bucket.options.ca.as_ref().map(text).transpose()?;
    finished(made, transport::client(ca.as_deref())?, clock, FIRST_PAUSE)
}

/// The service by this client, with this pause before a request is sent again.
fn finished(
    made: opendal::Result<Operator>,
    client: impl HttpTransport,
    clock: &Arc<Clock>,
    pause: Duration,
) -> Result<Operators, String> {
    let clock = clock.clone();
    let transport = HttpTransporter::new(Dated { client, clock });
    let retry = |times| {
        RetryLayer::new()
            .with_max_times(times)
            .with_min_delay(pause)
            .with_max_delay(pause.saturating_mul(25))
            .with_jitter()
    };
    let made = made.map_err(|error| super::in_short(&error))?;
    let made = made.with_context(OperationContext::new().with_http_transport(transport));
    Ok(Operators {
        uploads: made.clone().layer(retry(UPLOADS_TRIED_AGAIN)),
        all_else: made.layer(retry(TRIED_AGAIN)),
    })
}

fn s3(bucket: &Bucket, root: &str) -> Result<S3, String> {
    let BucketOptions {
        endpoint,
        region,
        path_style,
        checksum,
        credentials,
        ..
    } = &bucket.options;
    let mut service = S3::default()
        .bucket(&bucket.name)
        .root(root)
        .region(
            &region
                .clone()
                .or_else(region_around)
                .unwrap_or_else(|| REGION.to_owned()),
        )
        .endpoint(endpoint.as_deref().unwrap_or(AMAZON));
    // No certificate is for a name with more dots than the pattern in it has.
    if !path_style.unwrap_or(endpoint.is_some() || bucket.name.contains('.')) {
        service = service.enable_virtual_host_style();
    }
    service = match checksum {
        Checksum::Auto if endpoint.is_none() => service.checksum_algorithm("crc32c"),
        Checksum::Crc32c => service.checksum_algorithm("crc32c"),
        Checksum::Md5 => service.checksum_algorithm("md5"),
        Checksum::Auto | Checksum::Off => service,
    };
    match credentials {
        None => {}
        Some(secret) if is_nobody(secret)? => service = service.skip_signature(),
        Some(secret) => {
            let chain: ProvideCredentialChain<Credential> = ProvideCredentialChain::new().push(Rotating::read(secret)?);
            service = service.credential_provider_chain(chain);
        }
    }
    Ok(service)
}

/// What the environment says of it, as for all of AWS's tools.
fn region_around() -> Option<String> {
    let names = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter();
    names
        .filter_map(|name| std::env::var(name).ok())
        .find(|region| !region.is_empty())
}

fn gcs(bucket: &Bucket, root: &str) -> Result<Gcs, String> {
    let mut service = Gcs::default().bucket(&bucket.name).root(root);
    if let Some(endpoint) = &bucket.options.endpoint {
        service = service.endpoint(endpoint);
    }
    match &bucket.options.credentials {
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
pub(super) fn signing_as_nobody(
    client: impl HttpTransport,
    bucket: &Bucket,
    prefix: &str,
    clock: &Arc<Clock>,
    pause: Duration,
) -> Result<Operators, String> {
    let service = s3(bucket, &format!("/{prefix}"))?.skip_signature();
    finished(Operator::new(service), client, clock, pause)
}
