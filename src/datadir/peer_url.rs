//! The URLs at which members reach each other.
//!
//! Invariant: a URL is kept in the form that etcd computes member ids from: as written, the scheme in lower case.
//! What Go would rewrite (escapes, user names, queries) is refused, because ids would silently differ.
//!
//! Source of the rules: etcd `client/pkg/types/urls.go` of 3.5.

use std::fmt;
use std::str::FromStr;

use super::Error;

/// A peer URL that etcd accepts. Orders as text, as etcd orders them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerUrl(String);

impl PeerUrl {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme, host (an IPv6 address without its brackets) and port; `None` for unix sockets.
    pub fn host_and_port(&self) -> Option<(&str, &str, u16)> {
        let (scheme, address) = self.0.split_once("://")?;
        if scheme.starts_with("unix") {
            return None;
        }
        let (host, port) = address.rsplit_once(':')?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Some((scheme, host, port.parse().ok()?))
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PeerUrl {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let refused = |reason| Error::PeerUrl {
            url: text.chars().take(120).collect(),
            reason,
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| refused("not of the form scheme://host:port"))?;
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => address(rest).map_err(refused)?,
            "unix" | "unixs" => socket(rest).map_err(refused)?,
            _ => return Err(refused("the scheme must be http, https, unix or unixs")),
        }
        Ok(PeerUrl(format!("{scheme}://{rest}")))
    }
}

/// Checks `host:port`.
fn address(text: &str) -> Result<(), &'static str> {
    if text.contains('/') {
        return Err("it must not have a path, not even a trailing slash");
    }
    if text.contains(['?', '#', '@']) {
        return Err("it must be scheme, host and port and nothing else");
    }
    let (host, port) = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.ends_with(':'))
        .ok_or("the port is missing")?;
    match host.strip_prefix('[') {
        Some(bracketed) => {
            let inside = bracketed.strip_suffix(']').ok_or("the port is missing")?;
            if inside.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("the host in brackets is not an IPv6 address");
            }
        }
        None if host.contains(':') => return Err("an IPv6 address needs brackets"),
        None if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) => {
            return Err("the host has characters that no host name has");
        }
        None => {}
    }
    if port.is_empty() {
        return Err("the port is missing");
    }
    match port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) | None => Err("the port is not a number up to 65535"),
    }
}

/// Checks the path of a unix socket, which etcd also writes as `host:port`.
fn socket(text: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:".contains(&b);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err("the path of a unix socket must be letters, digits and any of - . _ ~ / :");
    }
    let authority = text.split('/').next().unwrap_or_default();
    match authority.split_once(':') {
        Some((_, port)) if !port.bytes().all(|b| b.is_ascii_digit()) => Err("what follows the colon is not a number"),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_that_etcd_accepts_are_kept_as_written() {
        for text in [
            "http://127.0.0.1:2380",
            "https://etcd-0.example.com:2380",
            "http://[::1]:2380",
            "http://:2380",
            "http://Host:02380",
            "unix://localhost:23800",
            "unixs:///run/etcd/peer.sock",
        ] {
            assert_eq!(text.parse::<PeerUrl>().unwrap().as_str(), text);
        }
        assert_eq!(" HTTP://a:1 ".parse::<PeerUrl>().unwrap().as_str(), "http://a:1");
    }

    #[test]
    fn urls_that_etcd_refuses_or_rewrites_are_refused() {
        for (text, reason) in [
            ("", "scheme://"),
            ("127.0.0.1:2380", "scheme://"),
            ("mailto:x", "scheme://"),
            ("ftp://a:1", "scheme must be"),
            ("http://a:1/", "path"),
            ("http://a:1/x", "path"),
            ("http://a", "port is missing"),
            ("http://a:", "port is missing"),
            ("http://[::1]", "port"),
            ("http://::1:2380", "brackets"),
            ("http://[a]:1", "IPv6"),
            ("http://a:x", "65535"),
            ("http://a:65536", "65535"),
            ("http://a:+1", "65535"),
            ("http://u@a:1", "nothing else"),
            ("http://a:1?x", "nothing else"),
            ("http://a b:1", "characters"),
            ("http://a%20:1", "characters"),
            ("http://é:1", "characters"),
            ("unix://", "unix socket"),
            ("unix:///run/a b", "unix socket"),
            ("unix://a:b", "not a number"),
        ] {
            let error = text.parse::<PeerUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn host_and_port_are_what_a_resolver_needs() {
        let url: PeerUrl = "https://[::1]:2380".parse().unwrap();
        assert_eq!(url.host_and_port(), Some(("https", "::1", 2380)));
        let url: PeerUrl = "unix:///run/x:1".parse().unwrap();
        assert_eq!(url.host_and_port(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_kept_or_refused(text in "(http|unix)://[a-z0-9.:/\\[\\]@ é]{0,12}") {
            if let Ok(url) = text.parse::<PeerUrl>() {
                prop_assert_eq!(url.as_str(), text.trim());
                prop_assert_eq!(url.as_str().parse::<PeerUrl>().unwrap(), url);
            }
        }
    }
}
