//! The arguments that several commands take.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Context, Failure, host};
use crate::config::Config;
use crate::destinations::Destinations;
use crate::etcd_settings::shell_word;
use crate::jobs::identities;
use crate::jobs::named_store::NamedStore;
use crate::jobs::point::{Point, ToTime};
use crate::jobs::source::{Asked, Found};
use crate::jobs::stores::read_configured;
use crate::model::{ClusterName, Revision};
use crate::pipeline::{Identities, Window};
use crate::signing::{SignerKey, Unsigned};

/// Which store to read, where it is not the configured ones.
#[derive(clap::Args, Clone)]
pub(super) struct From {
    /// Read this store instead of the configured ones: a directory, or a URL such as s3://bucket/prefix
    #[arg(long, value_name = "DIR|URL")]
    from: Option<String>,
    /// Whose backups, if the store given by --from holds those of several clusters
    #[arg(long, value_name = "NAME", requires = "from")]
    cluster: Option<ClusterName>,
    /// Whose backups count in the store given by --from, on a host without a configuration: the key of a signer or a root
    #[arg(long, value_name = "KEY", requires = "from")]
    trusted: Vec<SignerKey>,
}

impl From {
    /// The store, if one was named.
    fn store<'a>(&'a self, context: &'a Context, unsigned: Unsigned) -> Option<NamedStore<'a>> {
        Some(NamedStore {
            place: self.from.as_deref()?,
            cluster: self.cluster.as_ref(),
            trusted: &self.trusted,
            configuration: &context.config,
            unsigned,
        })
    }

    /// Reads what is in the store that was named, or in the configured ones.
    pub fn read(&self, context: &Context) -> Result<Destinations, Failure> {
        match self.store(context, Unsigned::CountsForNothing) {
            Some(store) => store.read(&context.output),
            None => read_configured(&context.output, &host::configuration(context)?, None),
        }
    }

    /// Whether a store was named.
    pub fn is_given(&self) -> bool {
        self.from.is_some()
    }

    /// The options as they are typed again.
    pub fn again(&self) -> Option<String> {
        let from = format!("--from {}", shell_word(self.from.as_ref()?));
        let cluster = self.cluster.as_ref().map(|cluster| format!(" --cluster {cluster}"));
        let trusted = self.trusted.iter().map(|key| format!(" --trusted {key}"));
        Some(std::iter::once(from).chain(cluster).chain(trusted).collect())
    }
}

/// What commands take that open backups.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct IdentityArgs {
    /// The age identity or SSH private key that opens the backup; with several, whichever fits
    #[arg(long = "identity", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What commands take that read files of others.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct WindowArgs {
    /// Read zstd frames made with `--long` up to this window: 27 takes up to 128 MiB of memory, 31 up to 2 GiB
    #[arg(long, value_name = "LOG", default_value = "27", value_parser = window)]
    long: Option<Window>,
}

impl WindowArgs {
    /// The largest window that is granted.
    pub fn window(self) -> Window {
        self.long.unwrap_or(Window::DEFAULT)
    }
}

fn window(text: &str) -> Result<Window, String> {
    let window = text.parse().ok().and_then(Window::log);
    window.ok_or_else(|| "give a number from 27 to 31".to_owned())
}

impl IdentityArgs {
    /// The files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The keys of the files, or without any those that the configuration names.
    pub fn or_configured(&self, config: Option<&Config>) -> Result<Option<Identities>, Failure> {
        identities::or_configured(&self.files, config)
    }
}

/// Which point of the history.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(multiple = false)]
pub(super) struct PointArgs {
    /// The point at which this revision was the last one; CHAIN:REVISION as SOURCE is one of that chain
    #[arg(long, value_name = "N", help_heading = "Points")]
    to_revision: Option<Revision>,
    /// The last point at or before this time: RFC 3339, or a span such as `15m ago`
    #[arg(long, value_name = "TIME", value_parser = ToTime::parse, help_heading = "Points")]
    to_time: Option<ToTime>,
    /// The last point before this key was last deleted
    #[arg(long, value_name = "KEY", help_heading = "Points")]
    before_delete: Option<OsString>,
    /// The last point before a key that begins so was last deleted
    #[arg(long, value_name = "PREFIX", help_heading = "Points")]
    before_delete_prefix: Option<OsString>,
}

impl PointArgs {
    /// The point.
    pub fn point(&self) -> Point {
        let bytes = |text: &OsString| text.as_bytes().to_vec();
        let revision = self.to_revision.map(Point::Revision);
        let time = || self.to_time.map(Point::Time);
        let key = || self.before_delete.as_ref().map(|key| Point::BeforeDelete(bytes(key)));
        let prefix = || self.before_delete_prefix.as_ref().map(bytes);
        let point = revision.or_else(time).or_else(key);
        point
            .or_else(|| prefix().map(Point::BeforeDeletePrefix))
            .unwrap_or_default()
    }
}

/// Where the snapshot comes from.
#[derive(clap::Args, Clone)]
pub(super) struct SourceArgs {
    /// A backup's ID, a unique beginning or the last 8 digits of it, `latest`, a file (anything with a `/`), or `-`
    #[arg(value_name = "SOURCE")]
    source: String,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    pub from: From,
    #[command(flatten)]
    unsigned: UnsignedArgs,
}

/// The operator's word on a backup that nobody has signed.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct UnsignedArgs {
    /// Take the backup that is named by its ID though nobody has signed it: one from before backups were signed
    #[arg(long)]
    allow_unsigned: bool,
}

impl UnsignedArgs {
    /// His word.
    pub fn word(self) -> Unsigned {
        match self.allow_unsigned {
            true => Unsigned::Counts,
            false => Unsigned::CountsForNothing,
        }
    }
}

impl SourceArgs {
    /// The same as if it had been given on a command line.
    pub fn of(
        source: &str,
        identity: IdentityArgs,
        window: WindowArgs,
        from: From,
        unsigned: UnsignedArgs,
    ) -> SourceArgs {
        let source = source.to_owned();
        SourceArgs {
            source,
            identity,
            window,
            from,
            unsigned,
        }
    }

    /// What was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The same for a file.
    pub fn of_file(&self, path: &Path) -> SourceArgs {
        SourceArgs {
            source: path.display().to_string(),
            ..self.clone()
        }
    }

    /// Finds what is meant, without opening it.
    pub fn find(&self, context: &Context) -> Result<Found, Failure> {
        self.asked(context).find(&context.output)
    }

    /// Finds what is meant by it and by the point, without opening it.
    pub fn find_point(&self, context: &Context, point: &Point) -> Result<Found, Failure> {
        let asked = Asked {
            point: Some(point),
            ..self.asked(context)
        };
        asked.find(&context.output)
    }

    /// What is asked for with all that.
    pub fn asked<'a>(&'a self, context: &'a Context) -> Asked<'a> {
        Asked {
            source: &self.source,
            point: None,
            from: self.from.store(context, self.unsigned.word()),
            unsigned: self.unsigned.word(),
            key_files: &self.identity.files,
            window: self.window.window(),
            configuration: &context.config,
        }
    }
}

/// A duration with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "expected a duration with a unit, such as 10m".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "expected a duration of 0 or more".to_owned())
}
