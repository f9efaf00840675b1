//! How an object store is spoken to: what can be said of it beside its URL, and what is taken where nothing is.

use std::time::Duration;

use crate::secret::Secret;

/// How an object store is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketOptions {
    /// The server, where it is not the provider's own.
    pub endpoint: Option<String>,
    /// The region, where requests are signed for one.
    pub region: Option<String>,
    /// Certificates of authorities that the server's may be signed by, besides those of the system: PEM.
    pub ca: Option<Secret>,
    /// Whether the bucket is in the path of a request, not in its host name; unsaid, it is where an endpoint is given.
    pub path_style: Option<bool>,
    /// What a server is given to check the bytes by.
    pub checksum: Checksum,
    /// How many parts are under way at once.
    pub concurrency: usize,
    /// How large a part is, in bytes.
    pub part_size: u64,
    /// What proves who asks; without, what the environment and the machine say.
    pub credentials: Option<Secret>,
    /// Whether what was written is read back.
    pub read_back: ReadingBack,
    /// For how long backups are locked; not at all, if nothing is said.
    pub object_lock: Option<Duration>,
}

/// How it is proven that a store has what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadingBack {
    /// It is read back and compared.
    Always,
    /// The store's own checksum of what it took is compared.
    Never,
}

impl Default for BucketOptions {
    fn default() -> Self {
        BucketOptions {
            endpoint: None,
            region: None,
            ca: None,
            path_style: None,
            checksum: Checksum::Auto,
            concurrency: 4,
            part_size: 8 << 20,
            credentials: None,
            read_back: ReadingBack::Always,
            object_lock: None,
        }
    }
}

/// What a server is given to check the bytes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-32C at Amazon's own server, nothing elsewhere.
    Auto,
    /// CRC-32C.
    Crc32c,
    /// MD5, as buckets with object lock of older servers want.
    Md5,
    /// Nothing.
    Off,
}
