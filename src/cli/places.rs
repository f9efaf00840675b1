//! The destinations of a configuration, or the store of `--from`: opened, read, and looked at as one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host::{configuration, now, state};
use super::{Context, Exit, Failure, hints};
use crate::backup::Destination;
use crate::catalog::{Backup, Catalog, MAX_BYTES, Manifest};
use crate::config::{Config, StoreUrl};
use crate::model::{ClusterName, with_causes};
use crate::state::{self, State};
use crate::store::{self, Access, FileStore, Known, Limits};

/// How long a destination may say nothing while it tells what is in it, entry by entry.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(60);

/// Where backups are read from.
pub(super) struct Places {
    /// The stores that could be opened, by name of the destination.
    pub stores: BTreeMap<String, FileStore>,
    /// What is in them.
    pub catalog: Catalog,
    /// Why the others could not.
    pub unreadable: Vec<(String, String)>,
    /// The cluster whose backups they are.
    pub cluster: ClusterName,
}

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
        let from = format!("--from {}", hints::word(self.from.as_ref()?));
        Some(match &self.cluster {
            Some(cluster) => format!("{from} --cluster {cluster}"),
            None => from,
        })
    }
}

impl Places {
    /// Opens the store that `from` names, or the configured ones, and reads what is in them.
    pub fn read(context: &Context, from: &From) -> Result<Places, Failure> {
        match &from.from {
            Some(text) => Places::given(text, from.cluster.as_ref()),
            None => Places::configured(context, &configuration(context)?, None),
        }
    }

    /// Opens the configured stores, or `only` one of them, and reads what is in them.
    pub fn configured(context: &Context, config: &Config, only: Option<&str>) -> Result<Places, Failure> {
        let places = Places::configured_within(config, only, READ_WITHIN)?;
        places.warn(context);
        Ok(places)
    }

    /// The same without a word; a store that says nothing for `limit` counts as one that cannot be read.
    pub fn configured_within(config: &Config, only: Option<&str>, limit: Duration) -> Result<Places, Failure> {
        if let Some(name) = only {
            known_destination(config, name)?;
        }
        let state = state(&config.cluster.name);
        let expected = |name: &str, url: &StoreUrl| -> Result<Option<Known>, String> {
            // Who may not read this host's memory, such as another user, reads the stores without it.
            let Ok(state) = &state else { return Ok(None) };
            match state.seen_store(name, &url.to_string()) {
                Err(error @ state::Error::Corrupt { .. }) => Err(with_causes(&error)),
                seen => Ok(seen.unwrap_or_default()),
            }
        };
        let limits = Limits::default().at_most(limit);
        let open = |name: &str, url: &StoreUrl| -> Read {
            let StoreUrl::File(root) = url;
            let expected = expected(name, url)?;
            let (cluster, access) = (&config.cluster.name, Access::Read);
            let opened = FileStore::open_within(root, cluster, expected.as_ref(), access, limits);
            let opened = opened.map(Some).or_else(absent_is_empty);
            let store = opened.map_err(|error| with_causes(&error))?;
            store.map(|store| with_catalog(name, store)).transpose()
        };
        let wanted = |name: &str| only.is_none_or(|only| only == name);
        let wanted = config.destinations.iter().filter(|(name, _)| wanted(name.as_str()));
        // Side by side: one that hangs keeps nobody else waiting.
        let read = side_by_side(wanted, |(name, destination)| open(name.as_str(), &destination.url));
        let mut places = Places::none(config.cluster.name.clone());
        for ((name, _), read) in read {
            places.add(name.as_str(), read);
        }
        Ok(places)
    }

    fn given(text: &str, cluster: Option<&ClusterName>) -> Result<Places, Failure> {
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
        let mut places = Places::none(cluster.clone());
        let store = FileStore::open(&root, &cluster, None, Access::Read);
        let store = store.map_err(|error| unread_failure(error, &root))?;
        places.add(text, with_catalog(text, store).map(Some));
        match places.unreadable.pop() {
            Some((_, error)) => Err(Failure::new(Exit::Failed, error)),
            None => Ok(places),
        }
    }

    fn none(cluster: ClusterName) -> Places {
        Places {
            stores: BTreeMap::new(),
            catalog: Catalog::default(),
            unreadable: Vec::new(),
            cluster,
        }
    }

    fn add(&mut self, name: &str, read: Read) {
        match read {
            Ok(Some((store, catalog))) => {
                for unread in catalog.unreadable() {
                    let (path, why) = (store.folder().join(&unread.path), &unread.why);
                    let error = format!(
                        "`{}` cannot be looked into, backups may be in it: {why}",
                        path.display()
                    );
                    self.unreadable.push((name.to_owned(), error));
                }
                let before = std::mem::take(&mut self.catalog);
                self.catalog = Catalog::merge([before, catalog]);
                self.stores.insert(name.to_owned(), store);
            }
            Ok(None) => {}
            Err(error) => self.unreadable.push((name.to_owned(), error)),
        }
    }

    fn warn(&self, context: &Context) {
        self.warn_but(context, &[]);
    }

    /// Names the destinations that could not be read, but for those of which it is told elsewhere.
    pub fn warn_but(&self, context: &Context, told: &[String]) {
        let untold = self.unreadable.iter().filter(|(name, _)| !told.contains(name));
        for (name, error) in untold {
            context.output.warn(format!("destination {name}: {error}"));
        }
    }

    /// The whole manifest of a backup, and its bytes, from whichever store still has the document that was listed.
    pub fn manifest(&self, backup: &Backup) -> Result<(Manifest, Vec<u8>), Failure> {
        let outline = backup.manifest();
        let name = outline.name();
        let mut failure = Failure::new(Exit::NotFound, format!("`{name}` is gone since it was listed"));
        for copy in &backup.copies {
            let Some(store) = self.stores.get(&copy.destination) else {
                continue;
            };
            match store.read_small(&name, MAX_BYTES as u64) {
                Ok(bytes) if outline.is_of(&bytes) => {
                    let manifest = Manifest::read(&outline.chain_path(), outline.to_revision, &bytes);
                    return manifest
                        .map(|manifest| (manifest, bytes))
                        .map_err(|fault| Failure::new(Exit::Damaged, format!("`{name}`: {fault}")));
                }
                Ok(_) => {
                    let message = format!(
                        "`{name}` in destination {} has changed since it was listed",
                        copy.destination
                    );
                    failure = Failure::new(Exit::Damaged, message);
                }
                Err(store::Error::NotFound { .. }) => {}
                Err(error) => failure = store_failure(error),
            }
        }
        Err(failure)
    }

    /// The failure to report when a backup is not found and not every destination could be read. Where none could be,
    /// nobody knows that it is not there.
    pub fn blame(&self, mut failure: Failure) -> Failure {
        if self.unreadable.is_empty() {
            return failure;
        }
        if self.stores.is_empty() && failure.exit == Exit::NotFound {
            failure.exit = Exit::Failed;
        }
        let unread: Vec<&str> = self.unreadable.iter().map(|(name, _)| name.as_str()).collect();
        failure.next(format!("it may be in what could not be read: {}", unread.join(", ")))
    }
}

type Read = Result<Option<(FileStore, Catalog)>, String>;

fn with_catalog(name: &str, store: FileStore) -> Result<(FileStore, Catalog), String> {
    let catalog = store.catalog(name).map_err(|error| with_causes(&error))?;
    Ok((store, catalog))
}

/// Does something with each, all at once. What it asks of a store has an end, and so has this.
pub(super) fn side_by_side<I: Send, T: Send>(
    each: impl Iterator<Item = I>,
    act: impl Fn(&I) -> T + Sync,
) -> Vec<(I, T)> {
    let act = &act;
    std::thread::scope(|scope| {
        let begun = each.map(|one| {
            scope.spawn(move || {
                let done = act(&one);
                (one, done)
            })
        });
        let begun: Vec<_> = begun.collect();
        let ended = begun
            .into_iter()
            .map(|thread| thread.join().expect("a panic aborts the process"));
        ended.collect()
    })
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// A store that never was there has no backups.
fn absent_is_empty(error: store::Error) -> Result<Option<FileStore>, store::Error> {
    match error {
        store::Error::NoStore { .. } => Ok(None),
        other => Err(other),
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

/// Opens the configured destinations for writing, those named in `only` if it names any. One that cannot be opened, or
/// hangs, is none the less in the list, with the reason.
pub(super) fn destinations(config: &Config, state: &State, only: &[String]) -> Result<Vec<Destination>, Failure> {
    only.iter().try_for_each(|name| known_destination(config, name))?;
    let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    let wanted = config.destinations.iter().filter(|(name, _)| wanted(name.as_str()));
    // Side by side: three that hang cost one wait.
    let opened = side_by_side(wanted, |(name, destination)| {
        let StoreUrl::File(root) = &destination.url;
        let url = destination.url.to_string();
        open_to_write(state, name.as_str(), &url, root, &config.cluster.name)
    });
    let opened = opened.into_iter().map(|((name, _), store)| Destination {
        name: name.to_string(),
        store,
    });
    let opened: Vec<Destination> = opened.collect();
    match opened.is_empty() {
        true => Err(Failure::new(Exit::Configuration, "no destination is configured")
            .next("add `[destinations.local]` with `url = \"file:///var/backups/lifeboat\"`")),
        false => Ok(opened),
    }
}

/// Opens the store of a destination, and remembers it if this host sees it for the first time.
fn open_to_write(
    state: &State,
    name: &str,
    url: &str,
    root: &Path,
    cluster: &ClusterName,
) -> Result<FileStore, store::Error> {
    let forgotten = |error: state::Error| store::Error::Forgotten {
        root: root.to_owned(),
        why: with_causes(&error),
    };
    let expected = state.seen_store(name, url).map_err(forgotten)?;
    let store = FileStore::open(root, cluster, expected.as_ref(), Access::Write { now: now() })?;
    if let (Some(id), None) = (store.id(), expected) {
        state.remember_store(name, url, id).map_err(forgotten)?;
    }
    Ok(store)
}

fn known_destination(config: &Config, name: &str) -> Result<(), Failure> {
    if config.destinations.contains_key(name) {
        return Ok(());
    }
    let known: Vec<String> = config.destinations.keys().map(ToString::to_string).collect();
    let message = format!("no destination `{name}` is configured");
    Err(Failure::new(Exit::Usage, message).next(format!("one of: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_is_removed_after_it_was_listed_is_gone_and_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let cluster: ClusterName = "prod".parse().unwrap();
        let store = FileStore::open(folder.path(), &cluster, None, Access::Write { now: now() }).unwrap();
        let backup = crate::catalog::tests::manifest(0xab, "20261120T101530Z-00000001", 10);
        store.put_new(&backup.name(), &backup.to_bytes()).unwrap();
        let mut places = Places::none(cluster);
        places.add("local", with_catalog("local", store.clone()).map(Some));
        let listed = &places.catalog.backups()[0];
        assert!(places.manifest(listed).is_ok());
        store.remove(&backup.name()).unwrap();
        let gone = places.manifest(listed).err().unwrap();
        assert_eq!(gone.exit, Exit::NotFound, "{gone}");
    }

    #[test]
    fn the_folder_of_a_cluster_is_the_one_that_was_named() {
        for (path, above) in [("/a/prod", "/a"), ("prod", "."), ("./prod", "."), ("/prod", "/")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(above), "{path}");
        }
    }
}
