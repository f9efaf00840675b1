//! How a shell on a new host comes to reach a store: what is typed, and which files it needs for that.

use super::super::store_variables::{self, SFTP_HOST_KEY};
use crate::config::{Destination, Secret, StoreUrl};
use crate::etcd_settings::shell_word;
use crate::store::{BucketKind, BucketOptions, SftpOptions};

/// What a certificate of an authority is called on a new host.
pub(super) const CA: &str = "ca.crt";

/// What the private key is called by which a server lets this host in.
pub(super) const SFTP_KEY: &str = "sftp-key";

/// What is typed, and the files that it takes from the folder in which it is typed.
pub(super) struct Reach {
    /// Block by block. A question is the last command of its block, or what is pasted after it would answer it.
    pub blocks: Vec<Vec<String>>,
    /// The files.
    pub files: Vec<&'static str>,
}

/// How the destination is reached.
pub(super) fn reach(destination: &Destination) -> Reach {
    let from = match &destination.url {
        StoreUrl::File(path) => path.display().to_string(),
        StoreUrl::Bucket { .. } | StoreUrl::Server { .. } => destination.url.to_string(),
    };
    let from = format!("FROM={}", shell_word(&from));
    match (&destination.url, destination.url.bucket_kind()) {
        (_, Some(kind)) => of_bucket(from, kind, &destination.options),
        (StoreUrl::Server { .. }, None) => of_server(from, &destination.sftp),
        (StoreUrl::File(_) | StoreUrl::Bucket { .. }, None) => Reach {
            blocks: vec![vec![from]],
            files: Vec::new(),
        },
    }
}

fn of_bucket(from: String, kind: BucketKind, options: &BucketOptions) -> Reach {
    let around = environment(kind, options).into_iter();
    let around = around.map(|(name, value)| format!("export {name}={}", shell_word(&value)));
    let given = keys_asked(kind).to_owned();
    let keys = keys_file(kind);
    let ca = options.ca.as_ref().map(|_| CA);
    let blocks = match kind {
        // What the configuration says comes after the file, as it counts more than what that says.
        BucketKind::Swift => vec![[from, given].into_iter().chain(around).collect()],
        BucketKind::S3 | BucketKind::Gcs | BucketKind::Azblob | BucketKind::Oss => {
            vec![std::iter::once(from).chain(around).collect(), vec![given]]
        }
    };
    Reach {
        blocks,
        files: ca.into_iter().chain(keys).collect(),
    }
}

/// What a program without a configuration reads from its environment; `jobs::named_store` reads the same.
pub(super) fn environment(kind: BucketKind, options: &BucketOptions) -> Vec<(&'static str, String)> {
    let endpoint = options.endpoint.clone();
    let region = options.region.clone();
    let path_style = options.path_style.map(|is_on| is_on.to_string());
    let ca = options.ca.as_ref().map(|_: &Secret| CA.to_owned());
    let given = match kind {
        BucketKind::S3 => vec![
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", region),
            (store_variables::PATH_STYLE, path_style),
            ("AWS_CA_BUNDLE", ca),
        ],
        // No tool of theirs has a name for it: it takes the place of the system's authorities.
        BucketKind::Gcs => vec![("STORAGE_EMULATOR_HOST", endpoint), ("SSL_CERT_FILE", ca)],
        BucketKind::Azblob => vec![("AZURE_STORAGE_ENDPOINT", endpoint), ("SSL_CERT_FILE", ca)],
        BucketKind::Oss => vec![
            ("OSS_ENDPOINT", endpoint),
            (store_variables::PATH_STYLE, path_style),
            ("SSL_CERT_FILE", ca),
        ],
        // Which of both servers gives the tokens, the file with the keys tells.
        BucketKind::Swift => vec![
            ("OS_AUTH_URL", endpoint.clone()),
            ("ST_AUTH", endpoint),
            ("OS_REGION_NAME", region),
            (store_variables::SWIFT_CA, ca),
        ],
    };
    given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The file with the keys of a store, where a file has them on a new host too.
pub(super) fn keys_file(kind: BucketKind) -> Option<&'static str> {
    match kind {
        BucketKind::Gcs => Some("gcs-key.json"),
        BucketKind::Swift => Some("openrc"),
        BucketKind::S3 | BucketKind::Azblob | BucketKind::Oss => None,
    }
}

/// Asks for the keys of a store.
fn keys_asked(kind: BucketKind) -> &'static str {
    match kind {
        BucketKind::S3 => {
            "read -rp 'access key ID: ' AWS_ACCESS_KEY_ID && read -rsp 'secret key: ' AWS_SECRET_ACCESS_KEY && \
             export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"
        }
        BucketKind::Gcs => "export GOOGLE_APPLICATION_CREDENTIALS=gcs-key.json",
        BucketKind::Azblob => {
            "read -rsp 'connection string: ' AZURE_STORAGE_CONNECTION_STRING && export AZURE_STORAGE_CONNECTION_STRING"
        }
        BucketKind::Swift => "set -a && . ./openrc && set +a",
        BucketKind::Oss => {
            "read -rp 'access key ID: ' OSS_ACCESS_KEY_ID && read -rsp 'secret key: ' OSS_ACCESS_KEY_SECRET && \
             export OSS_ACCESS_KEY_ID OSS_ACCESS_KEY_SECRET"
        }
    }
}

/// The same of a server that is reached by SSH.
fn of_server(from: String, options: &SftpOptions) -> Reach {
    let mut commands = vec![from];
    let mut asked = Vec::new();
    match &options.host_key {
        Some(key) => commands.push(format!("export {SFTP_HOST_KEY}={}", shell_word(key))),
        None => asked.push(format!(
            "read -rp 'public key of the server: ' {SFTP_HOST_KEY} && export {SFTP_HOST_KEY}"
        )),
    }
    if options.key.is_some() {
        commands.push(format!("export {}={SFTP_KEY}", store_variables::SFTP_KEY));
    }
    let unseen = |what: &str, name: &str| format!("read -rsp '{what}: ' {name} && export {name}");
    if options.passphrase.is_some() {
        asked.push(unseen("passphrase of sftp-key", store_variables::SFTP_PASSPHRASE));
    }
    if options.password.is_some() {
        asked.push(unseen("password", store_variables::SFTP_PASSWORD));
    }
    let mut blocks = vec![commands];
    blocks.extend(asked.into_iter().map(|question| vec![question]));
    Reach {
        blocks,
        files: options.key.iter().map(|_| SFTP_KEY).collect(),
    }
}
