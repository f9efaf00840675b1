//! Which stores a command reads or writes: those of the configuration, or the one of `--from`.

use std::path::{Path, PathBuf};

use super::host::configuration;
use super::{Context, Exit, Failure};
use crate::catalog::Backup;
use crate::config::{Config, StoreUrl};
use crate::destinations::{Destination, Destinations, ManifestError};
use crate::error_chain::with_causes;
pub(super) use crate::jobs::stores::{known_destination, open_to_write, read_within};
use crate::layout::Manifest;
use crate::model::ClusterName;
use crate::settings::shell_word;
use crate::store::{self, Access, FileStore, Limits};

/// Which store to read, where it is not the configured ones.
#[derive(clap::Args, Clone)]
pub(super) struct From {
    /// Read this store instead of the configured ones: a directory, or a file: URL
    #[arg(long, value_name = "DIR|URL")]
    from: Option<String>,
    /// Whose backups, if the store given by --from holds those of several clusters
    #[arg(long, value_name = "NAME", requires = "from")]
    cluster: Option<ClusterName>,
}

impl From {
    /// Whether a store was named.
    pub fn is_given(&self) -> bool {
        self.from.is_some()
    }

    /// The options as they are typed again.
    pub fn again(&self) -> Option<String> {
        let from = format!("--from {}", shell_word(self.from.as_ref()?));
        Some(match &self.cluster {
            Some(cluster) => format!("{from} --cluster {cluster}"),
            None => from,
        })
    }
}

/// Opens the store that `from` names, or the configured ones, and reads what is in them.
pub(super) fn read(context: &Context, from: &From) -> Result<Destinations, Failure> {
    match &from.from {
        Some(text) => {
            let read = given(text, from.cluster.as_ref())?;
            for store in read.stores.values().filter(|store| store.id().is_none()) {
                let folder = store.folder().display();
                context.output.warn(format!(
                    "`{folder}` has lost its store.json: it can be read, and nothing is added to it"
                ));
            }
            Ok(read)
        }
        None => read_configured(context, &configuration(context)?, None),
    }
}

/// Reads the configured destinations, or `only` one of them. Those that cannot be read are warned of.
pub(super) fn read_configured(context: &Context, config: &Config, only: Option<&str>) -> Result<Destinations, Failure> {
    let read = read_within(config, only, Limits::default())?;
    warn_of_unreadable(context, &read, &[]);
    Ok(read)
}

/// Names the destinations that could not be read, but for those of which it is told elsewhere.
pub(super) fn warn_of_unreadable(context: &Context, read: &Destinations, told: &[String]) {
    let untold = read.unreadable.iter().filter(|(name, _)| !told.contains(name));
    for (name, error) in untold {
        context.output.warn(format!("destination {name}: {error}"));
    }
}

/// The failure to report when a backup is not found and not every destination could be read. Where none could be,
/// nobody knows that it is not there.
pub(super) fn blame(read: &Destinations, mut failure: Failure) -> Failure {
    if read.unreadable.is_empty() {
        return failure;
    }
    if read.stores.is_empty() && failure.exit == Exit::NotFound {
        failure.exit = Exit::Failed;
    }
    let unread: Vec<&str> = read.unreadable.iter().map(|(name, _)| name.as_str()).collect();
    failure.next(format!("it may be in what could not be read: {}", unread.join(", ")))
}

/// The whole manifest of a backup, and its bytes.
pub(super) fn manifest(read: &Destinations, backup: &Backup) -> Result<(Manifest, Vec<u8>), Failure> {
    read.manifest(backup).map_err(|error| match error {
        ManifestError::Gone { .. } => Failure::new(Exit::NotFound, error),
        ManifestError::Damaged { .. } | ManifestError::Changed { .. } => {
            Failure::new(Exit::Damaged, with_causes(&error))
        }
        ManifestError::Store(error) => store_failure(error),
    })
}

fn given(text: &str, cluster: Option<&ClusterName>) -> Result<Destinations, Failure> {
    if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| *scheme != "file") {
        let message = format!("stores by `{scheme}:` are known only to later versions of lifeboat");
        return Err(Failure::new(Exit::Usage, message).next("copy the store here and give its directory"));
    }
    let root = match text.strip_prefix("file:") {
        Some(_) => {
            let url: StoreUrl = text.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
            let StoreUrl::File(root) = url;
            root
        }
        None => PathBuf::from(text),
    };
    // The folder of the cluster itself will do as well.
    let own_name = root
        .file_name()
        .and_then(|name| name.to_str()?.parse::<ClusterName>().ok());
    let (root, cluster) = match (cluster, own_name) {
        (Some(cluster), _) => (root, cluster.clone()),
        // Not `..`, which is another folder where this one is a link.
        (None, Some(cluster)) if FileStore::is_one(&root).map_err(store_failure)? => (folder_of(&root), cluster),
        (None, _) => {
            let cluster = only_cluster(&root)?;
            (root, cluster)
        }
    };
    let store = FileStore::open(&root, &cluster, None, Access::Read);
    let store = store.map_err(|error| unread_failure(error, &root))?;
    let opened = Destination {
        name: text.to_owned(),
        store: Ok(store),
    };
    let mut read = Destinations::read(cluster, &[opened], None);
    match read.unreadable.pop() {
        Some((_, error)) => Err(Failure::new(Exit::Failed, error)),
        None => Ok(read),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn only_cluster(root: &Path) -> Result<ClusterName, Failure> {
    let mut clusters = FileStore::clusters(root).map_err(|error| unread_failure(error, root))?;
    match (clusters.pop(), clusters.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            clusters.push(last);
            let names: Vec<String> = clusters.iter().map(ClusterName::to_string).collect();
            Err(Failure::new(
                Exit::Usage,
                format!("{} holds several clusters: {}", root.display(), names.join(", ")),
            )
            .next("say which with `--cluster NAME`"))
        }
        (None, _) => Err(
            Failure::new(Exit::NotFound, format!("{} holds no store of lifeboat", root.display()))
                .next("give the directory that holds the folder named after the cluster"),
        ),
    }
}

/// A failure of a store that is only to be read: nobody is going to make it.
fn unread_failure(error: store::Error, root: &Path) -> Failure {
    let not_there = |message: String| Failure::new(Exit::NotFound, message);
    let shown = root.display();
    match error {
        store::Error::RootMissing { .. } => {
            not_there(format!("there is no directory `{shown}`")).next("correct what is given with `--from`")
        }
        store::Error::NoStore { folder } => {
            let known = FileStore::clusters(root).unwrap_or_default();
            let known: Vec<String> = known.iter().map(ClusterName::to_string).collect();
            let failure = not_there(format!("there is no store in `{}`", folder.display()));
            match known.is_empty() {
                true => failure,
                false => failure.next(format!("`{shown}` has those of: {}", known.join(", "))),
            }
        }
        error => store_failure(error),
    }
}

/// A failure of a store that was asked for by name.
pub(super) fn store_failure(error: store::Error) -> Failure {
    let exit = match &error {
        store::Error::NoStore { .. } | store::Error::RootMissing { .. } => Exit::NotFound,
        store::Error::Altered { .. } | store::Error::MarkerDamaged { .. } => Exit::Damaged,
        _ => Exit::Failed,
    };
    Failure::new(exit, with_causes(&error))
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
