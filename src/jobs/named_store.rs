//! A store that is named instead of the configured ones.

use std::path::{Path, PathBuf};

use super::stores::store_failure;
use super::{Exit, Failure, Listener};
use crate::config::StoreUrl;
use crate::destinations::{Destination, Destinations};
use crate::model::ClusterName;
use crate::store::{self, Access, FileStore, Location};

/// Which store, and whose backups in it.
#[derive(Debug, Clone, Copy)]
pub struct NamedStore<'a> {
    /// A directory, or its URL.
    pub place: &'a str,
    /// The cluster, where the place holds the stores of several.
    pub cluster: Option<&'a ClusterName>,
}

impl NamedStore<'_> {
    /// Opens it, and reads what is in it.
    pub fn read(&self, listener: &dyn Listener) -> Result<Destinations, Failure> {
        let read = given(self.place, self.cluster)?;
        for store in read.stores.values().filter(|store| store.id().is_none()) {
            let folder = store.address();
            listener.warn(&format!(
                "`{folder}` has lost its store.json: it can be read, and nothing is added to it"
            ));
        }
        Ok(read)
    }
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
            let cluster = only_cluster(&Location::Folder(root.clone()))?;
            (root, cluster)
        }
    };
    let location = Location::Folder(root);
    let store = FileStore::open(&location, &cluster, None, Access::Read);
    let store = store.map_err(|error| unread_failure(error, &location))?;
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

fn only_cluster(location: &Location) -> Result<ClusterName, Failure> {
    let mut clusters = FileStore::clusters(location).map_err(|error| unread_failure(error, location))?;
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
                .next("give the directory that holds the folder named after the cluster"),
        ),
    }
}

/// A failure of a store that is only to be read: nobody is going to make it.
fn unread_failure(error: store::Error, location: &Location) -> Failure {
    let not_there = |message: String| Failure::new(Exit::NotFound, message);
    match error {
        store::Error::RootMissing { .. } => {
            not_there(format!("there is no directory `{location}`")).next("correct what is given with `--from`")
        }
        store::Error::NoStore { at } => {
            let known = FileStore::clusters(location).unwrap_or_default();
            let known: Vec<String> = known.iter().map(ClusterName::to_string).collect();
            let failure = not_there(format!("there is no store in `{at}`"));
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
