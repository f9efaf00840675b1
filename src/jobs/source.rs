//! SOURCE of whoever reads a snapshot: a backup's id, `latest`, a file, or standard input.

mod failure;

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

pub use failure::{recipients, source_failure};

use failure::{NAME_ANOTHER, cannot_open};

use super::named_backup::chosen;
use super::named_store::NamedStore;
use super::point::{Chosen, Point, Search, window_of};
use super::standard_input::spool;
use super::stores::{self, read_for_one, store_failure};
use super::{Exit, Failure, Listener, configuration, failed, host, identities};
use crate::catalog::Backup;
use crate::config::Config;
use crate::destinations::Destinations;
use crate::durable;
use crate::layout::{Manifest, ObjectName};
use crate::model::{ChainId, LineageId, Revision};
use crate::pipeline::{DecodeError, Identities, Unlock, Window};
use crate::signing::Unsigned;
use crate::source::{self, Changes, Source};
use crate::store::{self, Store};
use crate::text::{age, rfc3339};

/// What is asked for: a snapshot, and what opens it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// A backup's id, a unique part of it, each with `:REVISION`, `latest`, a file (anything with a `/`), or `-`.
    pub source: &'a str,
    /// Which point is meant; none where it can only be that of a full backup.
    pub point: Option<&'a Point>,
    /// The store that is read instead of the configured ones.
    pub from: Option<NamedStore<'a>>,
    /// His word on a backup that nobody has signed.
    pub unsigned: Unsigned,
    /// The files with the keys; without any those that the configuration names.
    pub key_files: &'a [PathBuf],
    /// How much memory a file may take.
    pub window: Window,
    /// Where the configuration is.
    pub configuration: &'a Path,
}

impl Asked<'_> {
    /// Finds what is meant, without opening it.
    pub fn find(&self, listener: &dyn Listener) -> Result<Found, Failure> {
        if self.source == "-" || self.source.contains('/') {
            if self.point.is_some_and(|point| *point != Point::OfSource) {
                let message = format!("`{}` is one snapshot: it has no other points", self.source);
                return Err(Failure::new(Exit::Usage, message).next("name a backup's ID, or `latest`"));
            }
            let place = match self.source {
                "-" => Place::Stdin,
                path => Place::File(path.into()),
            };
            return Ok(Found {
                manifest: None,
                places: vec![place],
                identities: self.identities_for_file(listener)?.map(Arc::new),
                window: self.window,
                chosen: None,
                followed_to: None,
            });
        }
        if self.source != "latest" && Path::new(self.source).exists() {
            let message = format!(
                "`{}` is taken for a backup's ID, and there is a file of that name",
                self.source
            );
            return Err(Failure::new(Exit::Usage, message).next(format!("for the file, write `./{}`", self.source)));
        }
        if self.source == "latest" && self.unsigned == Unsigned::Counts {
            return Err(Failure::new(
                Exit::Usage,
                "`--allow-unsigned` is for one backup, not for whatever is `latest`",
            )
            .next("name it by its ID: `lifeboat list --all`"));
        }
        let (places, config) = self.read(listener)?;
        let (id, point) = self.split()?;
        let backup = chosen(listener, &places, id)?;
        let identities = || identities::or_configured(self.key_files, config.as_ref());
        let Some(point) = point else {
            let (manifest, last) = (
                stores::manifest(&places, backup)?.0,
                window_of(&places, backup).window.to,
            );
            return Ok(Found {
                followed_to: Some(last).filter(|last| *last > manifest.to_revision),
                manifest: Some(manifest),
                places: copies(backup, &places),
                identities: identities()?.map(Arc::new),
                window: self.window,
                chosen: None,
            });
        };
        let search = Search {
            places: &places,
            identities: identities()?.map(Arc::new),
            listener,
        };
        let (backup, chosen) = search.choose(backup, id != "latest", &point)?;
        Ok(Found {
            manifest: Some(stores::manifest(&places, backup)?.0),
            places: copies(backup, &places),
            identities: search.identities.clone(),
            window: self.window,
            // Of a full backup that was named there is nothing more to say, but what is not in it.
            followed_to: None,
            chosen: Some(chosen)
                .filter(|chosen| point != Point::OfSource || chosen.is_behind() || chosen.lost().is_some()),
        })
    }

    /// Everything that there is where it is looked for, and what opens it.
    pub fn places(&self, listener: &dyn Listener) -> Result<(Destinations, Option<Identities>), Failure> {
        let (places, config) = self.read(listener)?;
        Ok((places, identities::or_configured(self.key_files, config.as_ref())?))
    }

    fn read(&self, listener: &dyn Listener) -> Result<(Destinations, Option<Config>), Failure> {
        match &self.from {
            Some(from) => {
                // No configuration is needed; one that is there may name the identity, and where plugins are.
                let config = configuration::read(self.configuration, listener).ok();
                Ok((from.read(listener)?, config))
            }
            None => {
                let config = configuration::read(self.configuration, listener)?;
                Ok((read_for_one(listener, &config, None, self.unsigned)?, Some(config)))
            }
        }
    }

    /// The id, and the point that is meant, which may stand in the id.
    fn split(&self) -> Result<(&str, Option<Point>), Failure> {
        let Some(point) = self.point else {
            return Ok((self.source, None));
        };
        match (self.source.split_once(':'), point) {
            (None, point) => Ok((self.source, Some(point.clone()))),
            (Some((id, revision)), Point::OfSource) => {
                let revision: Revision = revision
                    .parse()
                    .map_err(|error| Failure::new(Exit::Usage, format!("`{}`: {error}", self.source)))?;
                Ok((id, Some(Point::Revision(revision))))
            }
            (Some((id, _)), _) => {
                let message = format!("`{}` names a point, and another one is asked for besides", self.source);
                Err(Failure::new(Exit::Usage, message).next(format!("give one of them: `{id}` is the chain")))
            }
        }
    }

    /// The key for a file or a pipe, which need not be encrypted: a configuration may name one, and none is needed.
    fn identities_for_file(&self, listener: &dyn Listener) -> Result<Option<Identities>, Failure> {
        if !self.key_files.is_empty() {
            let config = configuration::read(self.configuration, listener).ok();
            return identities::of_files(self.key_files, config.as_ref());
        }
        let Some(config) = configuration::read(self.configuration, listener).ok() else {
            return Ok(None);
        };
        host::identities(&config).or_else(|failure| {
            listener.warn(failure.message());
            Ok(None)
        })
    }
}

/// A snapshot that can be opened, as often as it has copies.
pub struct Found {
    /// What the manifest says, for a stored backup.
    pub manifest: Option<Manifest>,
    places: Vec<Place>,
    identities: Option<Arc<Identities>>,
    window: Window,
    chosen: Option<Chosen>,
    /// The last revision of the changes behind it, where no point was asked for.
    followed_to: Option<Revision>,
}

/// A backup in one line: id, age, revision, lineage.
pub fn described(manifest: &Manifest) -> String {
    line(
        &manifest.chain,
        manifest.first_byte_at,
        manifest.to_revision,
        &manifest.lineage,
    )
}

/// The same of a backup whose manifest is not at hand.
pub fn outlined(backup: &Backup) -> String {
    let outline = backup.manifest();
    line(
        &outline.chain,
        outline.first_byte_at,
        outline.to_revision,
        &outline.lineage,
    )
}

fn line(chain: &ChainId, time: Timestamp, revision: Revision, lineage: &LineageId) -> String {
    let age = age(time, host::now());
    format!(
        "{chain}, {} ({age} ago), revision {revision}, lineage {lineage}",
        rfc3339(time)
    )
}

enum Place {
    Stdin,
    /// What came over standard input, in a file without a name.
    Spooled(File),
    File(PathBuf),
    Object {
        destination: String,
        store: Box<Store>,
        object: ObjectName,
    },
}

impl Found {
    /// A stored backup, which gets no more memory than one of lifeboat needs.
    pub fn stored(backup: &Backup, manifest: Manifest, places: &Destinations, keys: Identities) -> Found {
        Found {
            manifest: Some(manifest),
            places: copies(backup, places),
            identities: Some(Arc::new(keys)),
            window: Window::STORED,
            chosen: None,
            followed_to: None,
        }
    }

    /// A stored backup, and the point behind it that was chosen.
    pub fn behind(
        backup: &Backup,
        manifest: Manifest,
        places: &Destinations,
        keys: Option<Arc<Identities>>,
        chosen: Chosen,
    ) -> Found {
        Found {
            manifest: Some(manifest),
            places: copies(backup, places),
            identities: keys,
            window: Window::STORED,
            chosen: Some(chosen),
            followed_to: None,
        }
    }

    /// Says that changes follow it which are not in it, where only a full backup can be meant.
    pub fn say_what_follows(&self, listener: &dyn Listener) {
        if let (Some(to), Some(manifest)) = (self.followed_to, &self.manifest) {
            let id = &manifest.chain;
            listener.warn(&format!(
                "captured changes follow {id}, up to revision {to}, and are left out here: `lifeboat export {id}:{to} FILE` takes them in"
            ));
        }
    }

    /// The point that was chosen, where that is not just the newest full backup.
    pub fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_ref()
    }

    /// The changes that lead from the full backup to the point, anew each time; none where it is the full backup.
    pub fn changes(&self) -> Option<Changes> {
        self.chosen.as_ref()?.changes()
    }

    /// Says what was passed over while the changes were read.
    pub fn tell_notes(&self, listener: &dyn Listener) {
        if let Some(chosen) = &self.chosen {
            chosen.tell_notes(listener);
        }
    }

    /// Says which point was chosen, before anything is done.
    pub fn say_point(&self, listener: &dyn Listener) {
        let lines = self.chosen.iter().flat_map(Chosen::lines);
        lines.for_each(|(name, text)| listener.announce_field(name, &text));
    }

    /// Opens the copies in turn until `use_it` is content with one; a copy that fails is named in a warning.
    pub fn with_each<T, E>(
        &self,
        listener: &dyn Listener,
        mut use_it: impl FnMut(Source, Option<&Manifest>) -> Result<T, E>,
        is_fault_of_copy: impl Fn(&E) -> bool,
        failure: impl Fn(E) -> Failure,
    ) -> Result<T, Failure> {
        let last = self.places.len().saturating_sub(1);
        for (index, place) in self.places.iter().enumerate() {
            let opened = self.open(place);
            let refused = match opened {
                Err(refused) if index < last && refused.exit != Exit::WrongKey => refused,
                Err(refused) => return Err(refused),
                Ok(source) => match use_it(source, self.manifest.as_ref()) {
                    Ok(done) => return Ok(done),
                    Err(error) if index < last && is_fault_of_copy(&error) => failure(error),
                    Err(error) => return Err(failure(error)),
                },
            };
            listener.alarm(&format!("{}; trying the next copy", refused.message()));
        }
        Err(Failure::new(Exit::NotFound, "no readable destination has it"))
    }

    /// The same with what standard input gives kept in a file in `folder` that has no name, so that it can be read twice.
    pub fn spooled(self, folder: &Path) -> Result<Found, Failure> {
        let places = vec![Place::Spooled(spool(folder)?)];
        Ok(Found { places, ..self })
    }

    fn open(&self, place: &Place) -> Result<Source, Failure> {
        let unlock = self.identities.as_deref().map(|identities| Unlock {
            identities,
            window: self.window,
        });
        let opened = match place {
            Place::Stdin => Source::open(STDIN, std::io::stdin(), None, unlock),
            Place::Spooled(file) => {
                let mut again = file.try_clone().map_err(failed)?;
                again.rewind().map_err(failed)?;
                let bytes = again.metadata().map_err(failed)?.len();
                Source::open(STDIN, again, Some(bytes), unlock)
            }
            Place::File(path) => {
                let file = durable::open_given(path).map_err(|error| cannot_open(path, &error))?;
                let metadata = file.metadata().map_err(|error| cannot_open(path, &error))?;
                if metadata.is_dir() {
                    let message = format!("{} is a directory, not an etcd snapshot", path.display());
                    return Err(Failure::new(Exit::Usage, message).next(NAME_ANOTHER));
                }
                let bytes = metadata.is_file().then_some(metadata.len());
                Source::open_file(path.display().to_string(), file, bytes, unlock)
            }
            Place::Object {
                destination,
                store,
                object,
            } => {
                let (file, bytes) = store.open_object(object).map_err(|error| match error {
                    store::Error::NotFound { .. } => {
                        let message =
                            format!("`{object}` is missing in destination {destination}, its manifest is there");
                        Failure::new(Exit::Damaged, message).next("choose another backup: `lifeboat list`")
                    }
                    other => store_failure(other),
                })?;
                let name = format!("`{object}` in destination {destination}");
                match &self.manifest {
                    Some(manifest) => Source::open_stored(name, file, bytes, unlock, manifest.stored.sha256),
                    None => Source::open(name, file, Some(bytes), unlock),
                }
            }
        };
        let source = opened.map_err(|error| self.refused(place, &error))?;
        Ok(match &self.manifest {
            Some(manifest) => source.with_length(manifest.plain.bytes),
            None => source,
        })
    }

    /// Why a copy does not open. A damaged header looks like one for other keys; the stored digest tells.
    fn refused(&self, place: &Place, error: &source::Error) -> Failure {
        let wrong_key = matches!(
            error,
            source::Error::Decode {
                error: DecodeError::WrongKey,
                ..
            }
        );
        if let (
            Place::Object {
                destination,
                store,
                object,
            },
            Some(manifest),
            true,
        ) = (place, &self.manifest, wrong_key)
            && let Ok(read) = store.read_back(object)
            && read.sha256 != manifest.stored.sha256
        {
            let message = format!("`{object}` in destination {destination} is damaged: its bytes are not those stored");
            return Failure::new(Exit::Damaged, message).next("choose another backup: `lifeboat list`");
        }
        source_failure(error, self.manifest.as_ref())
    }
}

fn copies(backup: &Backup, places: &Destinations) -> Vec<Place> {
    // Copies known to be bad come last: they may still be all there is.
    let mut copies: Vec<_> = backup.copies.iter().collect();
    copies.sort_by_key(|copy| std::cmp::Reverse(copy.standing.proof()));
    let places = copies.into_iter().filter_map(|copy| {
        Some(Place::Object {
            destination: copy.destination.clone(),
            store: Box::new(places.stores.get(&copy.destination)?.clone()),
            object: backup.manifest().object_name(),
        })
    });
    places.collect()
}

/// What standard input is called.
const STDIN: &str = "standard input";
