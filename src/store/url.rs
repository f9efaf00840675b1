//! `file:` URLs: `file:///var/backups/lifeboat`.
//!
//! Invariant: a `FileUrl` is an absolute path without `.` and `..`. Source of the format: RFC 8089, without hosts.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

/// Why a text is not a URL that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// There is no `scheme:` in it.
    #[error("`{url}` is not a URL such as `file:///var/backups/lifeboat`")]
    NoScheme {
        /// What was read.
        url: String,
    },
    /// The scheme is none that this version can use.
    #[error("`{url}`: this version knows `file:` only, not `{scheme}:`")]
    Scheme {
        /// What was read.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// The rest of it is not a path.
    #[error("`{url}`: {why}, write `file:///absolute/path`")]
    Path {
        /// What was read.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A folder on this host, named by a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileUrl {
    url: String,
    path: PathBuf,
}

impl FileUrl {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for FileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl FromStr for FileUrl {
    type Err = UrlError;
    fn from_str(url: &str) -> Result<Self, UrlError> {
        let owned = || url.chars().take(200).collect::<String>();
        let is_scheme = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        };
        let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
            return Err(UrlError::NoScheme { url: owned() });
        };
        if !scheme.eq_ignore_ascii_case("file") {
            let scheme = scheme.to_owned();
            return Err(UrlError::Scheme { url: owned(), scheme });
        }
        let path = parse_path(rest).map_err(|why| UrlError::Path { url: owned(), why })?;
        let url = url.to_owned();
        Ok(FileUrl { url, path })
    }
}

fn parse_path(rest: &str) -> Result<PathBuf, &'static str> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err("it names a host"),
        None => rest,
    };
    if !path.starts_with('/') {
        return Err("its path is relative");
    }
    if path.contains(['?', '#']) {
        return Err("it has a query or a fragment (`?` is %3F, `#` is %23)");
    }
    let bytes = percent_decode(path).ok_or("it has a `%` without two hexadecimal digits (`%` is %25)")?;
    if bytes.contains(&0) {
        return Err("its path has a zero byte");
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("its path goes up with `..`");
    }
    // Without `.` and doubled slashes, so that one folder has one spelling.
    Ok(path.components().collect())
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_taken() {
        for (url, path) in [
            ("file:///var/backups/lifeboat", "/var/backups/lifeboat"),
            ("file:/var/backups", "/var/backups"),
            ("FILE:///a", "/a"),
            ("file:///a//b/./c/", "/a/b/c"),
            ("file:///mnt/back%20up%25%3f", "/mnt/back up%?"),
            ("file:///mnt/%C3%BC", "/mnt/ü"),
            ("file:///a:b", "/a:b"),
        ] {
            let parsed: FileUrl = url.parse().unwrap();
            assert_eq!(parsed.path(), Path::new(path), "{url}");
            assert_eq!(parsed.to_string(), url);
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for (url, reason) in [
            ("/var/backups", "is not a URL"),
            ("", "is not a URL"),
            (":x", "is not a URL"),
            ("s3://bucket/x", "not `s3:`"),
            ("file:", "relative"),
            ("file:backups", "relative"),
            ("file:./backups", "relative"),
            ("file://backups/x", "names a host"),
            ("file://", "names a host"),
            ("file:///a/../b", "goes up"),
            ("file:///a/%2e%2e/b", "goes up"),
            ("file:///a?b", "query"),
            ("file:///a%", "two hexadecimal digits"),
            ("file:///a%2", "two hexadecimal digits"),
            ("file:///a%+1", "two hexadecimal digits"),
            ("file:///a%00b", "zero byte"),
        ] {
            let error = url.parse::<FileUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
