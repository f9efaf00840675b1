//! Where a destination is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::backend::Backend;
use super::bucket_options::BucketOptions;
use super::folder::Folder;
#[cfg(feature = "opendal")]
use super::objects::Objects;
#[cfg(feature = "sftp")]
use super::sftp::Sftp;
#[cfg(feature = "swift")]
use super::swift::Swift;
use crate::model::ClusterName;
use crate::secret::Secret;

/// Where the stores of a destination are: each in a folder of its own, named after its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a folder of the file system.
    Folder(PathBuf),
    /// In an object store.
    Bucket(Box<Bucket>),
    /// In a folder of a server that is reached by SSH.
    Server(Box<Server>),
}

/// Where in which object store, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Which kind of store.
    pub kind: BucketKind,
    /// The bucket, or container.
    pub name: String,
    /// What the names of all objects begin with, without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    /// What the configuration says of it besides.
    pub options: BucketOptions,
}

/// Where on a server that is reached by SSH, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Who this host is to it.
    pub user: String,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The folder of the destination: from the root, or from that of the user if it does not begin with a slash.
    pub path: String,
    /// What the configuration says of it besides.
    pub options: SftpOptions,
}

/// How a server is spoken to that is reached by SSH.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SftpOptions {
    /// The key that it has to show, as OpenSSH writes it.
    pub host_key: Option<String>,
    /// Files that say which keys servers have to show, as OpenSSH keeps them.
    pub known_hosts: Vec<Secret>,
    /// The private key that lets this host in.
    pub key: Option<Secret>,
    /// What that is encrypted with.
    pub passphrase: Option<Secret>,
    /// The password that lets this host in.
    pub password: Option<Secret>,
}

impl Server {
    /// What people know a path on it by.
    pub(super) fn at(&self, path: &str) -> String {
        let path = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            // The folder of the user itself is a dot.
            None => format!(
                "/~/{}",
                path.strip_prefix("./").or(path.strip_prefix('.')).unwrap_or(path)
            ),
        };
        format!("sftp://{}@{}{path}", self.user, self.place())
    }

    /// Its name and its port, if that is another than all have.
    pub(super) fn place(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            22 => host,
            port => format!("{host}:{port}"),
        }
    }
}

/// Kinds of object stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketKind {
    /// Amazon S3, and what speaks its language: `s3:`.
    S3,
    /// Google Cloud Storage: `gs:`.
    Gcs,
    /// Azure Blob Storage: `azblob:`.
    Azblob,
    /// Alibaba Cloud OSS: `oss:`.
    Oss,
    /// OpenStack Swift: `swift:`.
    Swift,
}

impl BucketKind {
    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            BucketKind::S3 => "s3",
            BucketKind::Gcs => "gs",
            BucketKind::Azblob => "azblob",
            BucketKind::Oss => "oss",
            BucketKind::Swift => "swift",
        }
    }
}

/// The schemes of the stores that are built in.
pub fn built_in() -> Vec<&'static str> {
    let kinds = [
        ("file", true),
        ("s3", cfg!(feature = "s3")),
        ("gs", cfg!(feature = "gs")),
        ("azblob", cfg!(feature = "azblob")),
        ("oss", cfg!(feature = "oss")),
        ("swift", cfg!(feature = "swift")),
        ("sftp", cfg!(feature = "sftp")),
    ];
    kinds
        .into_iter()
        .filter_map(|(scheme, is_in)| is_in.then_some(scheme))
        .collect()
}

/// Nobody comes here by a configuration or a command line: those refuse the URL.
#[cfg(not(all(feature = "opendal", feature = "swift", feature = "sftp")))]
fn not_built_in(at: &str) -> Error {
    let source = std::io::Error::other("stores of this kind are not built into this lifeboat");
    Error::at("open", at.to_owned(), source)
}

impl Location {
    /// That of one cluster.
    pub(super) fn store(&self, cluster: &ClusterName) -> Result<Arc<dyn Backend>, Error> {
        match self {
            Location::Folder(root) => Ok(Arc::new(Folder::in_destination(root, cluster.as_str())?)),
            Location::Bucket(bucket) => bucket.folder(cluster.as_str()),
            #[cfg(feature = "sftp")]
            Location::Server(server) => Ok(Arc::new(Sftp::in_destination(server, cluster.as_str())?)),
            #[cfg(not(feature = "sftp"))]
            Location::Server(_) => Err(not_built_in(&self.to_string())),
        }
    }

    /// What holds the folders of all clusters.
    pub(super) fn top(&self) -> Result<Arc<dyn Backend>, Error> {
        match self {
            Location::Folder(root) => Ok(Arc::new(Folder::at(root))),
            Location::Bucket(bucket) => bucket.folder(""),
            #[cfg(feature = "sftp")]
            Location::Server(server) => Ok(Arc::new(Sftp::at(server))),
            #[cfg(not(feature = "sftp"))]
            Location::Server(_) => Err(not_built_in(&self.to_string())),
        }
    }
}

impl Bucket {
    /// What is in one folder of it; in an empty one, all.
    fn folder(&self, folder: &str) -> Result<Arc<dyn Backend>, Error> {
        match self.kind {
            #[cfg(feature = "opendal")]
            BucketKind::S3 | BucketKind::Gcs | BucketKind::Azblob | BucketKind::Oss => {
                Ok(Arc::new(Objects::of(self, folder)?))
            }
            #[cfg(feature = "swift")]
            BucketKind::Swift => Ok(Arc::new(Swift::of(self, folder)?)),
            #[cfg(not(all(feature = "opendal", feature = "swift")))]
            _ => Err(not_built_in(&format!("{self}/{folder}"))),
        }
    }
}

impl Location {
    /// Tells it from all others, also from one of the same name on another server.
    pub(super) fn key(&self) -> String {
        match self {
            Location::Bucket(bucket) => match &bucket.options.endpoint {
                Some(endpoint) => format!("{self} at {endpoint}"),
                None => self.to_string(),
            },
            Location::Folder(_) | Location::Server(_) => self.to_string(),
        }
    }
}

impl From<&Path> for Location {
    fn from(folder: &Path) -> Location {
        Location::Folder(folder.to_owned())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(root) => write!(f, "{}", root.display()),
            Location::Bucket(bucket) => bucket.fmt(f),
            Location::Server(server) => f.write_str(&server.at(&server.path)),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.scheme(), self.name)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}
