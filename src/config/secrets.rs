//! Where the secrets of a configuration are, and whether each can be read.

use super::{Config, HeartbeatUrl, Problem, SecretError, key_path};
use crate::secret::Secret;
use crate::store::BucketOptions;

/// A secret that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Which, and why.
    pub problem: Problem,
    /// Whether there is no backup without it.
    pub is_needed: bool,
}

/// Secrets that cannot be used, and those that others can read.
#[derive(Debug, Default)]
pub struct SecretsCheck {
    /// Each that cannot be read.
    pub problems: Vec<Unread>,
    /// Each that only the agent's unit can read: a credential, where no unit runs this.
    pub unloaded: Vec<Unread>,
    /// Each private file that is open to others.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads every secret once and keeps none.
    pub fn check_secrets(&self) -> SecretsCheck {
        let mut check = SecretsCheck::default();
        for (key, secret) in self.secrets() {
            if let Err(error) = secret.read() {
                let unread = Unread {
                    problem: Problem::nowhere(&format!("`{key}`: {error}")),
                    is_needed: key.starts_with("cluster.") || key == "signing.key",
                };
                match error {
                    SecretError::NoCredentials { .. } => check.unloaded.push(unread),
                    SecretError::Unreadable { .. } | SecretError::NotSet { .. } | SecretError::Unusable { .. } => {
                        check.problems.push(unread);
                    }
                }
            }
        }
        let is_public = |key: &str| key.ends_with(".ca") || key.ends_with(".known_hosts") || key == "cluster.tls.cert";
        for (key, secret) in self.secrets().into_iter().filter(|(key, _)| !is_public(key)) {
            let exposure = secret.exposure();
            check
                .warnings
                .extend(exposure.map(|exposure| Problem::nowhere(&format!("`{key}`: {exposure}"))));
        }
        check
    }

    /// The secrets and TLS files that are given, each with its key.
    pub fn secrets(&self) -> Vec<(String, &Secret)> {
        let tls = &self.cluster.tls;
        let client = tls.client.as_ref();
        let given = [
            ("cluster.tls.ca", tls.ca.as_ref()),
            ("cluster.tls.cert", client.map(|client| &client.cert)),
            ("cluster.tls.key", client.map(|client| &client.key)),
            (
                "cluster.auth.password",
                self.cluster.auth.as_ref().map(|auth| &auth.password),
            ),
            ("encryption.identity", self.encryption.identity.as_ref()),
            ("signing.key", self.signing.key.as_ref()),
            (
                "notify.heartbeat",
                self.notify.heartbeat.as_ref().and_then(HeartbeatUrl::kept),
            ),
        ];
        let given = given.into_iter().map(|(key, secret)| (key.to_owned(), secret));
        let of_destinations = self.destinations.iter().flat_map(|(name, destination)| {
            let BucketOptions { ca, credentials, .. } = &destination.options;
            let sftp = &destination.sftp;
            let table = key_path::join("destinations", name.as_str());
            let given = [
                ("ca", ca.as_ref()),
                ("credentials", credentials.as_ref()),
                ("known_hosts", sftp.known_hosts.first()),
                ("key", sftp.key.as_ref()),
                ("passphrase", sftp.passphrase.as_ref()),
                ("password", sftp.password.as_ref()),
            ];
            given.map(|(key, secret)| (format!("{table}.{key}"), secret))
        });
        let given = given.chain(of_destinations);
        given.filter_map(|(key, secret)| Some((key, secret?))).collect()
    }
}
