//! A store that is named instead of the configured ones.

use std::path::{Path, PathBuf};

use super::stores::store_failure;
use super::{Exit, Failure, Listener, configuration, host, store_variables};
use crate::config::{Secret, StoreUrl, UrlError};
use crate::destinations::{Destination, Destinations, judged_by};
use crate::model::ClusterName;
use crate::signing::{Authority, SignerKey, Trust, Unsigned};
use crate::store::{self, Access, Bucket, BucketKind, BucketOptions, Location, Server, SftpOptions, Store};

/// Which store, and whose backups in it.
#[derive(Debug, Clone, Copy)]
pub struct NamedStore<'a> {
    /// A directory, or its URL.
    pub place: &'a str,
    /// The cluster, where the place holds the stores of several.
    pub cluster: Option<&'a ClusterName>,
    /// Whose backups count there; those that the configuration names, where nobody is named here and it is of this cluster.
    pub trusted: &'a [SignerKey],
    /// Where the configuration is, if there is one.
    pub configuration: &'a Path,
    /// Whether what nobody has signed counts as well.
    pub unsigned: Unsigned,
}

impl NamedStore<'_> {
    /// Opens it, and reads what is in it.
    pub fn read(&self, listener: &dyn Listener) -> Result<Destinations, Failure> {
        let read = self.given(listener)?;
        for store in read.stores.values().filter(|store| store.id().is_none()) {
            let folder = store.address();
            listener.warn(&format!(
                "`{folder}` has lost its store.json: it can be read, and nothing is added to it"
            ));
        }
        Ok(read)
    }
}

impl NamedStore<'_> {
    /// Whose documents count in a store of `cluster`.
    fn authority(&self, listener: &dyn Listener, cluster: &ClusterName) -> Result<Authority, Failure> {
        let trust = match self.trusted.is_empty() {
            true => self.configured(listener, cluster)?,
            false => Some(Trust::of(self.trusted.iter().copied())),
        };
        let trust = trust.unwrap_or_else(|| {
            listener.warn(&format!(
                "nobody is named who may sign: whoever can write to {} can have made what is in it; `--trusted KEY` names signers",
                self.place
            ));
            Trust::default()
        });
        Ok(Authority::anybody(cluster).trusting(trust).with(self.unsigned))
    }

    /// Whom the configuration names; nothing where there is none, or it is of another cluster. One that is broken is not as
    /// good as none: it may name somebody.
    fn configured(&self, listener: &dyn Listener, cluster: &ClusterName) -> Result<Option<Trust>, Failure> {
        let read = configuration::read_last_if_any(self.configuration, listener);
        let read = read.map_err(|failure| {
            let named = "name the signers with `--trusted KEY`, which asks no configuration";
            let step = match failure.next_step() {
                Some(step) => format!("{step}, or {named}"),
                None => named.to_owned(),
            };
            failure.next(step)
        });
        let Some((config, broken)) = read? else {
            return Ok(None);
        };
        if let Some(broken) = broken {
            listener.warn(&format!(
                "the signers are those of the last good configuration: {}",
                broken.message()
            ));
        }
        Ok((config.cluster.name == *cluster).then_some(config.signing.trust))
    }

    fn given(&self, listener: &dyn Listener) -> Result<Destinations, Failure> {
        let (text, cluster) = (self.place, self.cluster);
        let named = match text.contains("://") || text.starts_with("file:") {
            true => url_given(text)?,
            false => Location::Folder(PathBuf::from(text)),
        };
        // The folder of the cluster itself will do as well.
        let (location, cluster) = match (cluster, last_name(&named)) {
            (Some(cluster), _) => (named, cluster.clone()),
            // Not `..`, which is another folder where this one is a link.
            (None, Some((above, cluster))) if Store::is_one(&named).map_err(store_failure)? => (above, cluster),
            (None, _) => {
                let cluster = only_cluster(&named)?;
                (named, cluster)
            }
        };
        let store = Store::open(&location, &cluster, None, Access::Read);
        let store = store.map_err(|error| unread_failure(error, &location))?;
        let opened = Destination {
            name: text.to_owned(),
            store: Ok(store),
        };
        // A list of signers that is older than the one that this host knows counts no more here than elsewhere.
        let state = host::state_to_read(&cluster).ok();
        let authority = self.authority(listener, &cluster)?;
        let opened = judged_by(authority, state.as_ref(), Access::Read, vec![opened]);
        let mut read = Destinations::read(cluster, &opened, None);
        match read.unreadable.pop() {
            Some((_, error)) => Err(Failure::new(Exit::Failed, error)),
            None => Ok(read),
        }
    }
}

/// What a URL names. There may be no configuration, so that how an object store is spoken to stands in the environment,
/// under the names that its own tools have for it.
fn url_given(text: &str) -> Result<Location, Failure> {
    let url: StoreUrl = text.parse().map_err(|error| {
        let failure = Failure::new(Exit::Usage, &error);
        match error {
            UrlError::Login => failure.next("take it out; keys are read from the environment, as AWS_ACCESS_KEY_ID"),
            UrlError::NotBuiltIn { .. } => failure.next("or copy the store here and give its directory"),
            UrlError::Member { .. } | UrlError::Userinfo | UrlError::Store { .. } => failure,
        }
    })?;
    let variable = |name: &str| std::env::var(name).ok();
    let sftp = match &url {
        StoreUrl::Server { .. } => sftp_around(&variable)?,
        StoreUrl::File(_) | StoreUrl::Bucket { .. } => SftpOptions::default(),
    };
    Ok(url.location(&options_around(url.bucket_kind(), &variable), &sftp))
}

/// How an object store is spoken to by an environment. A recovery sheet sets the same (`jobs::sheet`).
pub(super) fn options_around(kind: Option<BucketKind>, variable: &dyn Fn(&str) -> Option<String>) -> BucketOptions {
    let set = |names: &[&str]| {
        let values = names.iter().filter_map(|name| variable(name));
        values.into_iter().find(|value| !value.is_empty())
    };
    let path_style = || set(&[store_variables::PATH_STYLE]).map(|is_on| is_on == "true");
    match kind {
        Some(BucketKind::S3) => BucketOptions {
            endpoint: set(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            region: set(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            ca: set(&["AWS_CA_BUNDLE"]).map(|path| Secret::File(path.into())),
            path_style: path_style(),
            ..BucketOptions::default()
        },
        Some(BucketKind::Azblob) => {
            const CONNECTION: &str = "AZURE_STORAGE_CONNECTION_STRING";
            BucketOptions {
                endpoint: set(&["AZURE_STORAGE_ENDPOINT"]),
                credentials: set(&[CONNECTION]).map(|_| Secret::Env(CONNECTION.to_owned())),
                ..BucketOptions::default()
            }
        }
        Some(BucketKind::Oss) => BucketOptions {
            endpoint: set(&["OSS_ENDPOINT"]),
            path_style: path_style(),
            ..BucketOptions::default()
        },
        Some(BucketKind::Gcs) => BucketOptions {
            endpoint: set(&["STORAGE_EMULATOR_HOST"]),
            ..BucketOptions::default()
        },
        // What proves who asks names the server, too.
        Some(BucketKind::Swift) => BucketOptions {
            ca: set(&[store_variables::SWIFT_CA]).map(|path| Secret::File(path.into())),
            ..BucketOptions::default()
        },
        None => BucketOptions::default(),
    }
}

/// How a server is spoken to that is reached by SSH, by an environment and by what this user knows of servers. A recovery
/// sheet sets the same (`jobs::sheet`).
fn sftp_around(variable: &dyn Fn(&str) -> Option<String>) -> Result<SftpOptions, Failure> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let of = |name: &str| set(name).map(|_| Secret::Env(name.to_owned()));
    let mut known = vec![PathBuf::from("/etc/ssh/ssh_known_hosts")];
    known.extend(set("HOME").map(|home| Path::new(&home).join(".ssh/known_hosts")));
    let options = SftpOptions {
        host_key: set(store_variables::SFTP_HOST_KEY),
        known_hosts: known.into_iter().map(Secret::File).collect(),
        key: set(store_variables::SFTP_KEY).map(|path| Secret::File(path.into())),
        passphrase: of(store_variables::SFTP_PASSPHRASE),
        password: of(store_variables::SFTP_PASSWORD),
    };
    match options.key.is_none() && options.password.is_none() {
        false => Ok(options),
        true => Err(
            Failure::new(Exit::Usage, "nothing says how this host is let in by the server").next(format!(
                "name the file of a private key by {}, or set {}, in the environment",
                store_variables::SFTP_KEY,
                store_variables::SFTP_PASSWORD
            )),
        ),
    }
}

/// The place above this one and the cluster that it has the name of.
fn last_name(location: &Location) -> Option<(Location, ClusterName)> {
    match location {
        Location::Folder(root) => {
            let cluster = root.file_name()?.to_str()?.parse().ok()?;
            Some((Location::Folder(folder_of(root)), cluster))
        }
        Location::Bucket(bucket) => {
            let (above, name) = match bucket.prefix.rsplit_once('/') {
                Some((above, name)) => (above, name),
                None => ("", bucket.prefix.as_str()),
            };
            let cluster = name.parse().ok()?;
            let above = Bucket {
                prefix: above.to_owned(),
                ..(**bucket).clone()
            };
            Some((Location::Bucket(Box::new(above)), cluster))
        }
        Location::Server(server) => {
            let (above, name) = server.path.rsplit_once('/')?;
            let above = match (above, server.path.starts_with('/')) {
                ("", true) => "/",
                (above, _) => above,
            };
            let above = Server {
                path: above.to_owned(),
                ..(**server).clone()
            };
            Some((Location::Server(Box::new(above)), name.parse().ok()?))
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn only_cluster(location: &Location) -> Result<ClusterName, Failure> {
    let mut clusters = Store::clusters(location).map_err(|error| unread_failure(error, location))?;
    match (clusters.pop(), clusters.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            clusters.push(last);
            let names: Vec<String> = clusters.iter().map(ClusterName::to_string).collect();
            Err(Failure::new(
                Exit::Usage,
                format!("{location} holds several clusters: {}", names.join(", ")),
            )
            .next("say which with `--cluster NAME`"))
        }
        (None, _) => Err(
            Failure::new(Exit::NotFound, format!("{location} holds no store of lifeboat"))
                .next("give the place that holds the folder named after the cluster"),
        ),
    }
}

/// A failure of a store that is only to be read: nobody is going to make it.
fn unread_failure(error: store::Error, location: &Location) -> Failure {
    let exit = Exit::of_store(&error);
    match error {
        store::Error::RootMissing { .. } => Failure::new(exit, format!("there is no directory `{location}`"))
            .next("correct what is given with `--from`"),
        store::Error::NoStore { at } => {
            let known = Store::clusters(location).unwrap_or_default();
            let known: Vec<String> = known.iter().map(ClusterName::to_string).collect();
            let failure = Failure::new(exit, format!("there is no store in `{at}`"));
            match known.is_empty() {
                true => failure,
                false => failure.next(format!("`{location}` has those of: {}", known.join(", "))),
            }
        }
        error => store_failure(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_cluster_is_the_one_that_was_named() {
        for (path, above) in [("/a/prod", "/a"), ("prod", "."), ("./prod", "."), ("/prod", "/")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(above), "{path}");
        }
    }
}
