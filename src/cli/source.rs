//! SOURCE of the commands that read a snapshot: a backup's id, `latest`, a file, or standard input.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::host::{From, Places, configuration, identities, store_failure};
use super::{Context, Exit, Failure};
use crate::catalog::{Backup, FindError, LatestError, Manifest, ObjectName};
use crate::pipeline::{DecodeError, Identities};
use crate::source::{self, Source};
use crate::store::FileStore;

/// Where the snapshot comes from.
#[derive(clap::Args)]
pub(super) struct SourceArgs {
    /// A backup's ID or a unique beginning of one, `latest`, a file (anything with a `/`), or `-`
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The age identity or SSH private key that opens the backup
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    from: From,
}

/// A snapshot that can be opened, as often as it has copies.
pub(super) struct Found {
    /// What the manifest says, for a stored backup.
    pub manifest: Option<Manifest>,
    places: Vec<Place>,
    identities: Option<Identities>,
}

enum Place {
    Stdin,
    File(PathBuf),
    Object {
        destination: String,
        store: FileStore,
        object: ObjectName,
    },
}

impl SourceArgs {
    /// Finds what is meant, without opening it.
    pub fn find(&self, context: &Context) -> Result<Found, Failure> {
        if self.source == "-" || self.source.contains('/') {
            let place = match self.source.as_str() {
                "-" => Place::Stdin,
                path => Place::File(path.into()),
            };
            return Ok(Found {
                manifest: None,
                places: vec![place],
                identities: identities(self.identity.as_deref(), None)?,
            });
        }
        if self.source != "latest" && Path::new(&self.source).exists() {
            let message = format!("`{}` is taken for a backup's ID, and there is a file of that name", self.source);
            return Err(Failure::new(Exit::Usage, message).next(format!("for the file, write `./{}`", self.source)));
        }
        // With `--from` no configuration is needed; one that is there may name the identity.
        let config = match (&self.identity, self.from.is_given()) {
            (None, true) => configuration(context).ok(),
            (_, true) => None,
            (_, false) => Some(configuration(context)?),
        };
        let places = Places::read(context, &self.from)?;
        let backup = match self.source.as_str() {
            "latest" => places
                .catalog
                .latest()
                .map_err(|error| places.blame(no_latest(&error)))?,
            id => places
                .catalog
                .find(id)
                .map_err(|error| places.blame(not_found(&error)))?,
        };
        Ok(Found {
            manifest: Some(backup.manifest().clone()),
            places: copies(backup, &places),
            identities: identities(self.identity.as_deref(), config.as_ref())?,
        })
    }
}

impl Found {
    /// Opens the copies in turn until `use_it` is content with one; a copy that fails is named in a warning.
    pub fn with_each<T, E>(
        self,
        context: &Context,
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
            context.output.warn(format!("{refused}; trying the next copy"));
        }
        Err(Failure::new(
            Exit::NotFound,
            "no destination that could be read holds it",
        ))
    }

    fn open(&self, place: &Place) -> Result<Source, Failure> {
        let identities = self.identities.as_ref();
        let opened = match place {
            Place::Stdin => Source::open("standard input", std::io::stdin(), None, identities),
            Place::File(path) => {
                let file = File::open(path).map_err(|error| cannot_open(path, &error))?;
                let metadata = file.metadata().map_err(|error| cannot_open(path, &error))?;
                let bytes = metadata.is_file().then_some(metadata.len());
                Source::open(path.display().to_string(), file, bytes, identities)
            }
            Place::Object {
                destination,
                store,
                object,
            } => {
                let (file, bytes) = store.open_object(object).map_err(|error| match error {
                    crate::store::Error::NotFound { .. } => {
                        let message =
                            format!("`{object}` is missing in destination {destination}, its manifest is there");
                        Failure::new(Exit::Damaged, message).next("choose another backup: `lifeboat list`")
                    }
                    other => store_failure(other),
                })?;
                let name = format!("`{object}` in destination {destination}");
                Source::open(name, file, Some(bytes), identities)
            }
        };
        let source = opened.map_err(|error| source_failure(&error))?;
        Ok(match &self.manifest {
            Some(manifest) => source.with_length(manifest.plain.bytes),
            None => source,
        })
    }
}

fn copies(backup: &Backup, places: &Places) -> Vec<Place> {
    // Copies known to be bad come last: they may still be all there is.
    let mut copies: Vec<_> = backup.copies.iter().collect();
    copies.sort_by_key(|copy| std::cmp::Reverse(copy.standing.proof()));
    let places = copies.into_iter().filter_map(|copy| {
        Some(Place::Object {
            destination: copy.destination.clone(),
            store: places.stores.get(&copy.destination)?.clone(),
            object: backup.manifest().object_name(),
        })
    });
    places.collect()
}

fn cannot_open(path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::NotFound => Exit::NotFound,
        _ => Exit::Failed,
    };
    Failure::new(exit, format!("cannot open {}: {error}", path.display()))
}

/// A failure of reading a source.
pub(super) fn source_failure(error: &source::Error) -> Failure {
    match error {
        source::Error::NoIdentity { .. } => {
            Failure::new(Exit::WrongKey, error).next("give the key with `--identity FILE`")
        }
        source::Error::Decode {
            error: DecodeError::WrongKey,
            ..
        } => Failure::new(Exit::WrongKey, error)
            .next("`lifeboat show ID` lists the recipients it is encrypted to; give the identity of one of them"),
        source::Error::Decode {
            error: DecodeError::Damaged { .. },
            ..
        } => Failure::new(Exit::Damaged, error).next("choose another backup: `lifeboat list`"),
        source::Error::Decode {
            error: DecodeError::Read(_),
            ..
        }
        | source::Error::Read { .. } => Failure::new(Exit::Failed, error),
    }
}

fn no_latest(error: &LatestError) -> Failure {
    let exit = match error {
        LatestError::Empty => Exit::NotFound,
        LatestError::OnlyDamaged { .. } | LatestError::NothingGood { .. } => Exit::Damaged,
        LatestError::Unaccepted { .. }
        | LatestError::EarlierUnreadable { .. }
        | LatestError::WordUnreadable { .. }
        | LatestError::AcceptedIsGone { .. } => Exit::Refused,
    };
    let failure = Failure::new(exit, super::host::chain(error));
    match exit {
        Exit::Refused => failure.next(
            "name the backup you mean by its ID (`lifeboat list`), or say which history is meant with \
             `lifeboat accept-lineage LINEAGE`",
        ),
        _ => failure,
    }
}

/// A failure of finding the backup that an id names.
pub(super) fn not_found(error: &FindError) -> Failure {
    let failure = |exit| Failure::new(exit, super::host::chain(error));
    match error {
        FindError::Ambiguous { .. } => failure(Exit::Usage).next("give more of its beginning"),
        FindError::Damaged { .. } => failure(Exit::Damaged).next("choose another backup: `lifeboat list`"),
        FindError::NotFound { .. } | FindError::NoSuchPoint { .. } | FindError::NoSuchLineage { .. } => {
            failure(Exit::NotFound).next("`lifeboat list` shows what there is")
        }
    }
}

/// Reads what a backup's key opens: the first block of `backup`.
pub(super) fn opens(context: &Context, backup: &Backup, places: &Places, keys: Identities) -> Result<(), Failure> {
    let found = Found {
        manifest: Some(backup.manifest().clone()),
        places: copies(backup, places),
        identities: Some(keys),
    };
    let first_block = |mut source: Source, _: Option<&Manifest>| source.next_block(&mut Vec::new()).map(drop);
    found.with_each(context, first_block, |_| true, |error| source_failure(&error))
}
