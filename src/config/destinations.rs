//! `[destinations.NAME]`: where a store is, who else writes to it, and how a bucket or a server is spoken to.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::file::Value;
use super::key_path::join;
use super::reader::Reader;
use super::section::{Given, Section};
use super::{DestinationName, StoreUrl};
use crate::model::ByteSize;
use crate::retention::Policy;
use crate::store::{BucketKind, BucketOptions, Checksum, Location, ReadingBack, SftpOptions};

/// How large a part of an upload is.
const PART_SIZES: RangeInclusive<ByteSize> = ByteSize(5 << 20)..=ByteSize(18 << 20);

/// What the parts that are under way may take of the memory.
const IN_MEMORY: ByteSize = ByteSize(56 << 20);

const BUCKETS: &[&str] = &["s3", "gs", "azblob", "oss", "swift"];

/// The keys of stores on the network, and which kinds take them.
const KEYS: [(&str, &[&str]); 14] = [
    ("credentials", BUCKETS),
    ("endpoint", BUCKETS),
    ("region", &["s3", "swift"]),
    ("ca", BUCKETS),
    ("path_style", &["s3", "oss"]),
    ("checksum", &["s3"]),
    ("concurrency", BUCKETS),
    ("part_size", BUCKETS),
    ("object_lock", &["s3"]),
    ("host_key", &["sftp"]),
    ("known_hosts", &["sftp"]),
    ("key", &["sftp"]),
    ("passphrase", &["sftp"]),
    ("password", &["sftp"]),
];

/// For how long backups can be locked: from a day to 100 years, the longest that S3 takes.
const LOCKS: RangeInclusive<Duration> = Duration::from_secs(24 * 3600)..=Duration::from_secs(36_500 * 24 * 3600);

/// The slowest limit: what is slower looks like what hangs.
const SLOWEST_BANDWIDTH: u64 = 64 << 10;

/// `[destinations.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Where the store is.
    pub url: StoreUrl,
    /// How it is spoken to, where it is an object store.
    pub options: BucketOptions,
    /// How it is spoken to, where it is a server that is reached by SSH.
    pub sftp: SftpOptions,
    /// Who else writes there.
    pub sharing: Sharing,
    /// What is kept there; everything if nothing is said.
    pub retention: Option<Policy>,
    /// How many bytes a second are written there at the most, if there is a limit.
    pub bandwidth: Option<ByteSize>,
    /// Where people find what opens it, in the operator's words.
    pub credentials_note: Option<String>,
}

/// Who writes to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// This host alone: it takes each slot for itself.
    HostLocal,
    /// All hosts with this configuration: one of them takes each slot.
    Shared,
}

impl Reader<'_> {
    pub(super) fn destinations(&mut self, root: &Section<'_>) -> BTreeMap<DestinationName, Destination> {
        let section = root.section("destinations");
        let mut destinations = BTreeMap::new();
        let mut taken: Vec<(Location, String)> = Vec::new();
        for (name, key, destination) in section.named() {
            let name = self.parsed(&Given {
                path: destination.path.clone(),
                value: name,
                origin: key,
            });
            let given = destination.text("url");
            let url: Option<StoreUrl> = given.as_ref().and_then(|given| self.parsed(given));
            let retention = self.retention(&destination);
            let sharing = self.sharing(&destination, url.as_ref());
            let options = self.bucket_options(&destination, url.as_ref());
            let bandwidth = self.bandwidth(&destination);
            let credentials_note = self.note(&destination, "credentials_note");
            let sftp = self.sftp_options(&destination, url.as_ref());
            if !self.is_on(&destination) {
                continue;
            }
            let (Some(given), Some(url)) = (given, url) else {
                self.missing(&destination, "url");
                continue;
            };
            self.want_endpoint(&destination, &url);
            // The same bucket of another server is another one.
            let endpoint = options.endpoint.clone();
            let server = BucketOptions {
                endpoint,
                ..BucketOptions::default()
            };
            let place = url.location(&server, &SftpOptions::default());
            if let Some((_, other)) = taken.iter().find(|(other, _)| *other == place) {
                let message = format!("`{}`: {url} is that of {other} already", given.path);
                self.problems.at(given.origin, &message);
            }
            taken.push((place, format!("`{}` ({})", destination.path, given.origin.line())));
            let destination = Destination {
                url,
                options,
                sftp,
                sharing,
                retention,
                bandwidth,
                credentials_note,
            };
            destinations.extend(name.map(|name| (name, destination)));
        }
        if destinations.is_empty() && !section.has_refused() {
            self.warnings.nowhere(
                "no destination is configured: a backup has nowhere to go; add `[destinations.NAME]` with `url`",
            );
        }
        destinations
    }

    fn sharing(&mut self, destination: &Section<'_>, url: Option<&StoreUrl>) -> Sharing {
        let given = destination.given("shared");
        let shared = given
            .as_ref()
            .map(|given| matches!(given.value.value, Value::Boolean(true)));
        match (url.filter(|url| url.is_on_the_network()), shared) {
            (None, Some(true)) => Sharing::Shared,
            (None, Some(false) | None) => Sharing::HostLocal,
            (Some(_), Some(true) | None) => Sharing::Shared,
            (Some(url), Some(false)) => {
                let message = format!(
                    "`{}`: a `{}:` destination is that of all hosts with this configuration, and one of them takes each \
                     slot: remove it; where each host is to have its own backups, give each a prefix of its own in `url`",
                    join(&destination.path, "shared"),
                    url.scheme()
                );
                if let Some(given) = given {
                    self.problems.at(given.origin, &message);
                }
                Sharing::Shared
            }
        }
    }

    /// How the object store at `url` is spoken to.
    fn bucket_options(&mut self, destination: &Section<'_>, url: Option<&StoreUrl>) -> BucketOptions {
        let defaults = BucketOptions::default();
        let Some(url) = url else { return defaults };
        self.refuse_misplaced(destination, url);
        let endpoint = destination.text("endpoint");
        let endpoint = endpoint.and_then(|given| self.endpoint(destination, &given));
        let region = destination.text("region");
        let is_on = |name| match destination.given(name)?.value.value {
            Value::Boolean(is_on) => Some(is_on),
            _ => None,
        };
        let checksum = destination.text("checksum").and_then(|given| match given.value {
            "auto" => Some(Checksum::Auto),
            "crc32c" => Some(Checksum::Crc32c),
            "md5" => Some(Checksum::Md5),
            "off" => Some(Checksum::Off),
            _ => self.refuse(destination, "checksum", &given),
        });
        let concurrency = self.integer(destination, "concurrency", 1, 9);
        let concurrency = concurrency.and_then(|parts| usize::try_from(parts).ok());
        let options = BucketOptions {
            endpoint,
            region: region.and_then(|given| self.not_empty(destination, "region", &given)),
            ca: self.secret(destination, "ca"),
            path_style: is_on("path_style"),
            checksum: checksum.unwrap_or(defaults.checksum),
            concurrency: concurrency.unwrap_or(defaults.concurrency),
            part_size: self.part_size(destination).unwrap_or(defaults.part_size),
            credentials: self.secret(destination, "credentials"),
            read_back: self.read_back(destination, url),
            object_lock: self.within(destination, "object_lock", LOCKS),
        };
        self.bound_memory(destination, &options);
        options
    }

    /// How a server at `url` is spoken to that is reached by SSH.
    fn sftp_options(&mut self, destination: &Section<'_>, url: Option<&StoreUrl>) -> SftpOptions {
        if !matches!(url, Some(StoreUrl::Server { .. })) {
            return SftpOptions::default();
        }
        let host_key = destination.text("host_key");
        let options = SftpOptions {
            host_key: host_key.and_then(|given| match is_host_key(given.value) {
                true => Some(given.value.to_owned()),
                false => self.refuse(destination, "host_key", &given),
            }),
            known_hosts: self.secret(destination, "known_hosts").into_iter().collect(),
            key: self.secret(destination, "key"),
            passphrase: self.secret(destination, "passphrase"),
            password: self.secret(destination, "password"),
        };
        if destination.entry("key").is_none() && destination.entry("password").is_none() {
            self.missing(destination, "key");
        }
        options
    }

    /// Whether what is written there is read back. Only S3 tells what it took in a way that proves it.
    fn read_back(&mut self, destination: &Section<'_>, url: &StoreUrl) -> ReadingBack {
        let Some(given) = destination.text("read_back") else {
            return ReadingBack::Always;
        };
        match (given.value, url.bucket_kind()) {
            ("always", _) => ReadingBack::Always,
            ("never", Some(BucketKind::S3)) => ReadingBack::Never,
            ("never", _) => {
                let message = format!(
                    "`{}`: only of `s3:` the store's own checksum is known, and this one is {url}: remove it",
                    join(&destination.path, "read_back")
                );
                self.problems.at(given.origin, &message);
                ReadingBack::Always
            }
            _ => {
                let _refused: Option<()> = self.refuse(destination, "read_back", &given);
                ReadingBack::Always
            }
        }
    }

    /// How many bytes a second may be written there.
    fn bandwidth(&mut self, destination: &Section<'_>) -> Option<ByteSize> {
        let given = destination.text("bandwidth")?;
        let rate: Option<ByteSize> = given.value.strip_suffix("/s").and_then(|rate| rate.trim().parse().ok());
        let rate = rate.filter(|rate| rate.0 >= SLOWEST_BANDWIDTH);
        rate.or_else(|| self.refuse(destination, "bandwidth", &given))
    }

    /// Of a provider whose servers have a region or an account in their name, which nothing else tells.
    fn want_endpoint(&mut self, destination: &Section<'_>, url: &StoreUrl) {
        let is_told = match url.bucket_kind() {
            Some(BucketKind::Oss) => false,
            Some(BucketKind::Azblob | BucketKind::Swift) => destination.entry("credentials").is_some(),
            Some(BucketKind::S3 | BucketKind::Gcs) | None => true,
        };
        if !is_told && destination.entry("endpoint").is_none() {
            self.missing(destination, "endpoint");
        }
    }

    /// Keys that the kind of store has nothing to do with.
    fn refuse_misplaced(&mut self, destination: &Section<'_>, url: &StoreUrl) {
        for (name, kinds) in KEYS {
            let Some(entry) = destination.entry(name) else { continue };
            if kinds.contains(&url.scheme()) {
                continue;
            }
            let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}:`")).collect();
            let message = format!(
                "`{}` is of destinations in {}, and this one is {url}: remove it, or correct `url`",
                join(&destination.path, name),
                kinds.join(", ")
            );
            match name {
                "ca" | "credentials" | "known_hosts" | "key" | "passphrase" | "password" => {
                    self.problems.hidden_at(&entry.key, &message)
                }
                _ => self.problems.at(&entry.key, &message),
            }
        }
    }

    fn endpoint(&mut self, destination: &Section<'_>, given: &Given<'_, &str>) -> Option<String> {
        let text = given.value.trim_end_matches('/');
        let path = join(&destination.path, "endpoint");
        if text.contains('@') {
            let message = format!(
                "`{path}`: a user, key or password in a URL is not taken (not shown); `credentials` names where they are kept"
            );
            self.problems.hidden_at(given.origin, &message);
            return None;
        }
        let host = host_of(text);
        let fits = host.is_some_and(|host| !host.is_empty())
            && text.bytes().all(|b| b.is_ascii_graphic())
            && !text.contains(['?', '#']);
        if !fits {
            return self.refuse(destination, "endpoint", given);
        }
        if text.starts_with("http:") && !is_loopback(host.unwrap_or_default()) {
            let message = format!(
                "`{path}`: nobody proves to be {text}, and what goes there can be read and changed on the way: use `https://`"
            );
            self.warnings.at(given.origin, &message);
        }
        Some(text.to_owned())
    }

    fn part_size(&mut self, destination: &Section<'_>) -> Option<u64> {
        let given = destination.text("part_size")?;
        let size = given.value.parse().ok().filter(|size| PART_SIZES.contains(size));
        let size = size.or_else(|| self.refuse(destination, "part_size", &given));
        size.map(|ByteSize(bytes)| bytes)
    }

    fn bound_memory(&mut self, destination: &Section<'_>, options: &BucketOptions) {
        let BucketOptions {
            concurrency, part_size, ..
        } = options;
        // One more waits for its turn, and one is being filled.
        let all = ByteSize((*concurrency as u64 + 2) * part_size);
        if all <= IN_MEMORY {
            return;
        }
        let named = ["part_size", "concurrency"].into_iter();
        let Some((name, given)) = named.filter_map(|name| Some((name, destination.given(name)?))).next() else {
            return;
        };
        let message = format!(
            "`{}`: {concurrency} parts of {} at once, and two that wait, take {all} of memory, and at most {IN_MEMORY} are \
             taken: lower `part_size` or `concurrency`",
            join(&destination.path, name),
            ByteSize(*part_size),
        );
        self.problems.at(given.origin, &message);
    }
}

/// Whether it is one line as OpenSSH writes public keys, and of a kind that is read.
fn is_host_key(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_read = kind == "ssh-ed25519" || kind.starts_with("ecdsa-sha2-nistp");
    is_read && text.lines().count() == 1 && BASE64.decode(key).is_ok_and(|bytes| !bytes.is_empty())
}

/// The host in a URL of a server.
fn host_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split('/').next()?;
    match authority.strip_prefix('[') {
        Some(inside) => inside.split(']').next(),
        None => authority.split(':').next(),
    }
}

fn is_loopback(host: &str) -> bool {
    let address: Result<std::net::IpAddr, _> = host.parse();
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}
