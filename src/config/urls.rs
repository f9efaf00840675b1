//! The URLs of members and of stores.
//!
//! Invariant: a value of a type in here is valid and prints as it was written; a path without `.`, `..` and doubled
//! slashes. Source of the format of `file:` URLs: RFC 8089; of the others, the tools of their stores: `s3://BUCKET/PREFIX`.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, PathBuf};
use std::str::FromStr;

use crate::store::{Bucket, BucketKind, BucketOptions, Location, Server, SftpOptions};

/// Text that is no URL that can be used. Never repeats a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not the URL of a member.
    #[error("`{text}` is not a member's URL: {fault}; expected one such as `https://10.0.0.1:2379`")]
    Member {
        /// What was read.
        text: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// A URL with user or password in it.
    #[error("a user or password in a URL is not taken (not shown); they belong into `[cluster.auth]`")]
    Userinfo,
    /// The URL of a store with a user or a key in it.
    #[error(
        "a user, key or password in a URL is not taken (not shown); `credentials`, or `password` of an `sftp:` one, names where \
         they are kept"
    )]
    Login,
    /// Not the URL of a store.
    #[error(
        "`{text}` is not a store's URL: {fault}; expected one such as `file:///var/backups/lifeboat` or `s3://bucket/prefix`"
    )]
    Store {
        /// What was read, or its scheme alone.
        text: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// A kind of store that was left out when this program was built.
    #[error(
        "stores of kind `{scheme}:` are not built into this lifeboat, which has {}; build it with `--features {scheme}`",
        built_in()
    )]
    NotBuiltIn {
        /// The kind.
        scheme: &'static str,
    },
}

/// Where a member is reached: `http` or `https`, host and port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberUrl {
    text: String,
}

impl MemberUrl {
    /// The URL as it was written; peer URLs enter a member's id in this form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether TLS is spoken.
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https:")
    }

    /// The host: a name or an address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        let (_, rest) = self.text.split_once("://").unwrap_or_default();
        let (host, _) = rest.rsplit_once(':').unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The host, if it is an address.
    pub fn address(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// Whether the URL leads to the host it is used on.
    pub fn is_loopback(&self) -> bool {
        match self.address() {
            Some(address) => address.to_canonical().is_loopback(),
            None => self.host().eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for MemberUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for MemberUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.contains('@') {
            return Err(UrlError::Userinfo);
        }
        let wrong = |fault| UrlError::Member {
            text: shortened(text),
            fault,
        };
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or_else(|| wrong("it starts with neither `http://` nor `https://`"))?;
        if rest.contains(['/', '?', '#']) {
            return Err(wrong("it goes on after the port"));
        }
        let colon = rest.rfind(':').filter(|colon| Some(*colon) > rest.rfind(']'));
        let (host, port) = rest.split_at(colon.ok_or_else(|| wrong("it has no port"))?);
        let port = port.trim_start_matches(':');
        let digits = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
        if !digits || port.parse::<u16>().is_err() {
            return Err(wrong("the port is not a number from 1 to 65535"));
        }
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = match inside {
            Some(inside) => inside.parse().ok().map(IpAddr::V6),
            None => host.parse().ok().map(IpAddr::V4),
        };
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let is_name = !host.is_empty() && host.bytes().all(name);
        match address {
            Some(address) if address.is_unspecified() => Err(wrong("that address is one to listen on, not to reach")),
            None if !is_name => Err(wrong("the host is neither a name nor an address")),
            Some(_) | None => Ok(MemberUrl { text: text.to_owned() }),
        }
    }
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `file:`, a directory by its absolute path.
    File(PathBuf),
    /// What is in a bucket below a prefix.
    Bucket {
        /// In which kind of store; its scheme.
        kind: BucketKind,
        /// The bucket, or container.
        name: String,
        /// Without slashes at its ends; empty for the whole bucket.
        prefix: String,
    },
    /// `sftp:`, a folder of a server that is reached by SSH.
    Server {
        /// Who this host is to it.
        user: String,
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// From the root, or from the folder of the user if it does not begin with a slash.
        path: String,
    },
}

const BUCKETS: [BucketKind; 5] = [
    BucketKind::S3,
    BucketKind::Gcs,
    BucketKind::Azblob,
    BucketKind::Oss,
    BucketKind::Swift,
];

/// The kinds of stores that are built in, as a text.
fn built_in() -> String {
    let kinds = crate::store::built_in().into_iter();
    kinds
        .map(|scheme| format!("`{scheme}:`"))
        .collect::<Vec<_>>()
        .join(", ")
}

impl StoreUrl {
    /// What it names, and how that is spoken to.
    pub fn location(&self, options: &BucketOptions, sftp: &SftpOptions) -> Location {
        match self {
            StoreUrl::File(root) => Location::Folder(root.clone()),
            StoreUrl::Bucket { kind, name, prefix } => Location::Bucket(Box::new(Bucket {
                kind: *kind,
                name: name.clone(),
                prefix: prefix.clone(),
                options: options.clone(),
            })),
            StoreUrl::Server { user, host, port, path } => Location::Server(Box::new(Server {
                user: user.clone(),
                host: host.clone(),
                port: *port,
                path: path.clone(),
                options: sftp.clone(),
            })),
        }
    }

    /// What it begins with, before the colon.
    pub fn scheme(&self) -> &'static str {
        match self {
            StoreUrl::File(_) => "file",
            StoreUrl::Bucket { kind, .. } => kind.scheme(),
            StoreUrl::Server { .. } => "sftp",
        }
    }

    /// Whether all hosts with the same URL mean the same store.
    pub fn is_on_the_network(&self) -> bool {
        !matches!(self, StoreUrl::File(_))
    }

    /// The kind of object store, if it is one.
    pub fn bucket_kind(&self) -> Option<BucketKind> {
        match self {
            StoreUrl::File(_) | StoreUrl::Server { .. } => None,
            StoreUrl::Bucket { kind, .. } => Some(*kind),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self {
            StoreUrl::File(path) => path,
            StoreUrl::Bucket { .. } | StoreUrl::Server { .. } => {
                return self.location(&BucketOptions::default(), &SftpOptions::default()).fmt(f);
            }
        };
        f.write_str("file://")?;
        for byte in path.as_os_str().as_encoded_bytes() {
            let plain = byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(byte);
            match plain {
                true => write!(f, "{}", char::from(*byte))?,
                false => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for StoreUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let scheme = text.split(':').next().filter(|scheme| scheme.len() < text.len());
        let wrong = |fault| UrlError::Store {
            text: shortened(text),
            fault,
        };
        let scheme = scheme.ok_or_else(|| wrong("it has no scheme"))?;
        let rest = text.get(scheme.len() + 1..).unwrap_or_default();
        let kinds = BUCKETS.into_iter().map(BucketKind::scheme).chain(["sftp"]);
        if let Some(scheme) = kinds.into_iter().find(|kind| *kind == scheme)
            && !crate::store::built_in().contains(&scheme)
        {
            return Err(UrlError::NotBuiltIn { scheme });
        }
        if text.contains('@') && !matches!(scheme, "file" | "sftp") {
            return Err(UrlError::Login);
        }
        if scheme == "sftp" {
            // Before the last `@`, a colon parts a user from a password.
            let login = rest.rsplit_once('@').map_or("", |(login, _)| login);
            return match login.contains(':') {
                true => Err(UrlError::Login),
                false => server(rest).map_err(wrong),
            };
        }
        match BUCKETS.into_iter().find(|kind| kind.scheme() == scheme) {
            Some(kind) => bucket(kind, rest).map_err(wrong),
            None if scheme == "file" => folder(rest).map_err(wrong),
            None => Err(wrong("there is no such kind of store")),
        }
    }
}

/// What follows `file:`.
fn folder(rest: &str) -> Result<StoreUrl, &'static str> {
    let path = match rest.strip_prefix("//") {
        Some(with_host) => with_host.strip_prefix("localhost").unwrap_or(with_host),
        None => rest,
    };
    if !path.starts_with('/') {
        return Err("the path is not absolute (`file:` and three slashes)");
    }
    if path.contains(['?', '#']) {
        return Err("`?` and `#` are written `%3F` and `%23`");
    }
    let path = percent_decoded(path).ok_or("a `%` is not followed by two hexadecimal digits")?;
    if path.contains(&0) {
        return Err("no path holds a zero byte");
    }
    let path = PathBuf::from(OsString::from_vec(path));
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("the path goes up with `..`");
    }
    // Without `.` and doubled slashes, so that one folder has one spelling.
    Ok(StoreUrl::File(path.components().collect()))
}

/// What follows `s3:` and the like.
fn bucket(kind: BucketKind, rest: &str) -> Result<StoreUrl, &'static str> {
    let rest = rest
        .strip_prefix("//")
        .ok_or("two slashes and a bucket follow the scheme")?;
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits = (3..=222).contains(&name.len()) && name.bytes().all(in_name);
    if !fits || !name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) {
        return Err("the bucket is named by 3 or more letters, digits, `.`, `_` and `-`");
    }
    // What every store takes as it is, so that nothing has to be written in another way on the road.
    let in_prefix = |b: u8| in_name(b) || matches!(b, b'/' | b'=' | b'~');
    if !prefix.bytes().all(in_prefix) {
        return Err("the prefix has more than letters, digits, `/`, `.`, `_`, `-`, `=` and `~`");
    }
    let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("the prefix has `.` or `..` in it");
    }
    Ok(StoreUrl::Bucket {
        kind,
        name: name.to_owned(),
        prefix: parts.join("/"),
    })
}

/// What follows `sftp:`.
fn server(rest: &str) -> Result<StoreUrl, &'static str> {
    let rest = rest.strip_prefix("//").ok_or("two slashes follow the scheme")?;
    let (place, path) = rest.split_once('/').ok_or("it has no path")?;
    let (user, place) = place
        .split_once('@')
        .ok_or("it names no user (`sftp://USER@HOST/PATH`)")?;
    let in_user = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+');
    if user.is_empty() || !user.bytes().all(in_user) {
        return Err("the user is named by letters, digits, `.`, `_`, `-` and `+`");
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(inside) => {
            let (host, port) = inside.split_once(']').ok_or("no `]` ends the address")?;
            let _: std::net::Ipv6Addr = host.parse().map_err(|_| "what stands in brackets is no IPv6 address")?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("22")))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, Some("22")),
        },
    };
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let port = port.ok_or("the port is no number from 1 to 65535")?;
    let in_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    if host.is_empty() || !host.bytes().all(in_host) {
        return Err("the host is neither a name nor an address");
    }
    let in_path = |b: u8| in_user(b) || matches!(b, b'/' | b'=' | b'~' | b',');
    if !path.bytes().all(in_path) {
        return Err("the path has more than letters, digits, `/`, `.`, `_`, `-`, `=`, `~`, `,` and `+`");
    }
    let (top, path) = match path.strip_prefix('~') {
        Some(below) if below.is_empty() || below.starts_with('/') => ("", below),
        Some(_) => return Err("`~` stands for the folder of the user alone"),
        None => ("/", path),
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("the path has `.` or `..` in it");
    }
    Ok(StoreUrl::Server {
        user: user.to_owned(),
        host: host.to_owned(),
        port,
        path: match (top, parts.join("/")) {
            ("", path) if path.is_empty() => ".".to_owned(),
            (top, path) => format!("{top}{path}"),
        },
    })
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
        decoded.push(u8::try_from(value).ok()?);
    }
    Some(decoded)
}

fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_urls_know_their_host() {
        for (text, host, loopback) in [
            ("http://127.0.0.1:2379", "127.0.0.1", true),
            ("http://localhost:2379", "localhost", true),
            ("https://[::1]:2379", "::1", true),
            ("https://[fd00::1]:2380", "fd00::1", false),
            ("https://etcd-1.example.com:2379", "etcd-1.example.com", false),
        ] {
            let url: MemberUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.is_loopback(), url.as_str()), (host, loopback, text));
            assert_eq!(url.is_https(), text.starts_with("https"));
        }
    }

    #[test]
    fn what_is_no_member_url_is_refused_with_the_reason() {
        for (text, fault) in [
            ("", "it starts with neither `http://` nor `https://`"),
            ("10.0.0.1:2379", "it starts with neither `http://` nor `https://`"),
            ("HTTP://h:1", "it starts with neither `http://` nor `https://`"),
            ("http://h", "it has no port"),
            ("http://[::1]", "it has no port"),
            ("http://h:", "the port is not a number from 1 to 65535"),
            ("http://h:0", "the port is not a number from 1 to 65535"),
            ("http://h:65536", "the port is not a number from 1 to 65535"),
            ("http://h:+1", "the port is not a number from 1 to 65535"),
            ("http://h:2379/", "it goes on after the port"),
            ("http://:2379", "the host is neither a name nor an address"),
            ("http://::1:2379", "the host is neither a name nor an address"),
            ("http://[h]:2379", "the host is neither a name nor an address"),
            ("http://a b:2379", "the host is neither a name nor an address"),
            ("http://0.0.0.0:2379", "that address is one to listen on, not to reach"),
            ("http://[::]:2379", "that address is one to listen on, not to reach"),
        ] {
            let error = text.parse::<MemberUrl>().unwrap_err();
            let text = text.to_owned();
            assert_eq!(error, UrlError::Member { text, fault });
        }
        assert_eq!("http://root:pw@h:1".parse::<MemberUrl>(), Err(UrlError::Userinfo));
    }

    #[test]
    fn store_urls_print_as_they_parse() {
        for (text, path, printed) in [
            ("file:///var/backups", "/var/backups", "file:///var/backups"),
            ("file:/var/backups", "/var/backups", "file:///var/backups"),
            ("file://localhost/srv", "/srv", "file:///srv"),
            ("file:///a//b/./c/", "/a/b/c", "file:///a/b/c"),
            ("file:///mnt/%C3%BC", "/mnt/ü", "file:///mnt/%C3%BC"),
            ("file:///a%20b/c@d", "/a b/c@d", "file:///a%20b/c@d"),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!(url, StoreUrl::File(path.into()));
            assert_eq!(url.to_string(), printed);
            assert_eq!(printed.parse(), Ok(url));
        }
    }

    #[test]
    fn what_is_no_store_url_is_refused_with_the_reason() {
        const NO_BUCKET: &str = "the bucket is named by 3 or more letters, digits, `.`, `_` and `-`";
        const NO_USER: &str = "the user is named by letters, digits, `.`, `_`, `-` and `+`";
        const NO_PATH: &str = "the path has more than letters, digits, `/`, `.`, `_`, `-`, `=`, `~`, `,` and `+`";
        const NO_PREFIX: &str = "the prefix has more than letters, digits, `/`, `.`, `_`, `-`, `=` and `~`";
        for (text, fault) in [
            ("", "it has no scheme"),
            ("/var/backups", "it has no scheme"),
            ("ftp://host/x", "there is no such kind of store"),
            ("file:backups", "the path is not absolute (`file:` and three slashes)"),
            (
                "file://backups/x",
                "the path is not absolute (`file:` and three slashes)",
            ),
            ("file:///a%2", "a `%` is not followed by two hexadecimal digits"),
            ("file:///a%+1", "a `%` is not followed by two hexadecimal digits"),
            ("file:///a%00", "no path holds a zero byte"),
            ("file:///a/../b", "the path goes up with `..`"),
            ("file:///a/%2e%2e/b", "the path goes up with `..`"),
            ("file:", "the path is not absolute (`file:` and three slashes)"),
            ("file://", "the path is not absolute (`file:` and three slashes)"),
            ("file:///a?x=1", "`?` and `#` are written `%3F` and `%23`"),
            ("s3:bucket/x", "two slashes and a bucket follow the scheme"),
            ("s3:/bucket/x", "two slashes and a bucket follow the scheme"),
            ("s3://", NO_BUCKET),
            ("s3:///prefix", NO_BUCKET),
            ("s3://ab/x", NO_BUCKET),
            ("s3://-ab/x", NO_BUCKET),
            ("s3://bucket:9000/x", NO_BUCKET),
            ("s3://bucket?region=x", NO_BUCKET),
            ("s3://bucket/a b", NO_PREFIX),
            ("s3://bucket/a?x=1", NO_PREFIX),
            ("s3://bucket/a%20b", NO_PREFIX),
            ("s3://bucket/ü", NO_PREFIX),
            ("s3://bucket/a/../b", "the prefix has `.` or `..` in it"),
            ("sftp:u@h/x", "two slashes follow the scheme"),
            ("sftp://u@h", "it has no path"),
            ("sftp://h/x", "it names no user (`sftp://USER@HOST/PATH`)"),
            ("sftp://@h/x", NO_USER),
            ("sftp://a b@h/x", NO_USER),
            ("sftp://u@/x", "the host is neither a name nor an address"),
            ("sftp://u@h%20/x", "the host is neither a name nor an address"),
            ("sftp://u@[h]/x", "what stands in brackets is no IPv6 address"),
            ("sftp://u@[::1/x", "no `]` ends the address"),
            ("sftp://u@[::1]22/x", "the port is no number from 1 to 65535"),
            ("sftp://u@h:0/x", "the port is no number from 1 to 65535"),
            ("sftp://u@h:/x", "the port is no number from 1 to 65535"),
            ("sftp://u@h/~other/x", "`~` stands for the folder of the user alone"),
            ("sftp://u@h/a/../x", "the path has `.` or `..` in it"),
            ("sftp://u@h/a?x", NO_PATH),
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            let text = text.to_owned();
            assert_eq!(error, UrlError::Store { text, fault });
        }
        for text in [
            "ftp://u:p@h/",
            "s3://key:secret@bucket/x",
            "s3://key@bucket",
            "sftp://u:p@h/x",
            "sftp://u:p@ss@h/x",
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(UrlError::Login), "{text}");
        }
    }

    #[test]
    #[cfg(feature = "default")]
    fn urls_of_buckets_have_one_spelling() {
        for (text, kind, name, prefix, printed) in [
            ("s3://b-1.x", BucketKind::S3, "b-1.x", "", "s3://b-1.x"),
            ("s3://bucket/", BucketKind::S3, "bucket", "", "s3://bucket"),
            ("gs://bucket/a/b", BucketKind::Gcs, "bucket", "a/b", "gs://bucket/a/b"),
            (
                "azblob://box//a//b/",
                BucketKind::Azblob,
                "box",
                "a/b",
                "azblob://box/a/b",
            ),
            (
                "oss://bucket/k=v/~x",
                BucketKind::Oss,
                "bucket",
                "k=v/~x",
                "oss://bucket/k=v/~x",
            ),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            let (name, prefix) = (name.to_owned(), prefix.to_owned());
            assert_eq!(url, StoreUrl::Bucket { kind, name, prefix });
            assert_eq!(url.to_string(), printed);
            assert_eq!(printed.parse(), Ok(url));
        }
    }

    /// `make lean` builds without any.
    #[test]
    #[cfg(not(any(feature = "opendal", feature = "swift", feature = "sftp")))]
    fn kinds_that_are_not_built_in_are_refused_by_name() {
        for scheme in ["s3", "gs", "azblob", "oss", "swift", "sftp"] {
            let error = format!("{scheme}://u@host/x").parse::<StoreUrl>().unwrap_err();
            assert_eq!(error, UrlError::NotBuiltIn { scheme });
            let expected = format!(
                "stores of kind `{scheme}:` are not built into this lifeboat, which has `file:`; build it with `--features {scheme}`"
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    #[cfg(feature = "default")]
    fn urls_of_servers_have_one_spelling() {
        for (text, user, host, port, path, printed) in [
            ("sftp://u@h/a", "u", "h", 22, "/a", "sftp://u@h/a"),
            ("sftp://u@h:22//a//b/", "u", "h", 22, "/a/b", "sftp://u@h/a/b"),
            ("sftp://u@h:2222/", "u", "h", 2222, "/", "sftp://u@h:2222/"),
            (
                "sftp://u.x+1@[::1]:24/a",
                "u.x+1",
                "::1",
                24,
                "/a",
                "sftp://u.x+1@[::1]:24/a",
            ),
            ("sftp://u@[::1]/a", "u", "::1", 22, "/a", "sftp://u@[::1]/a"),
            ("sftp://u@h/~/a/b", "u", "h", 22, "a/b", "sftp://u@h/~/a/b"),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            let (user, host, path) = (user.to_owned(), host.to_owned(), path.to_owned());
            assert_eq!(url, StoreUrl::Server { user, host, port, path });
            assert_eq!(url.to_string(), printed);
            assert_eq!(printed.parse(), Ok(url));
        }
        let home: StoreUrl = "sftp://u@h/~".parse().unwrap();
        assert_eq!(home.to_string(), "sftp://u@h/~/");
        assert_eq!("sftp://u@h/~/".parse(), Ok(home));
    }
}
