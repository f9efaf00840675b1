//! The HTTP client of all stores, and the clock of a server by its replies.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// The time by the last reply of a server.
#[derive(Debug, Default)]
pub(super) struct Clock {
    told: Mutex<Option<(Timestamp, Instant)>>,
}

impl Clock {
    /// Reads it from the date of a reply.
    pub fn hear(&self, reply: &http::HeaderMap) {
        let date = reply.get(http::header::DATE);
        if let Some(told) = date.and_then(|date| rfc2822::parse(date.to_str().ok()?).ok()) {
            self.set(told.timestamp());
        }
    }

    fn set(&self, told: Timestamp) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((told, Instant::now()));
    }

    /// What it shows now.
    pub fn now(&self) -> Option<Timestamp> {
        let (told, at) = (*self.told.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = SignedDuration::try_from(at.elapsed()).ok()?;
        told.checked_add(since).ok()
    }
}

/// The client: it believes the system's authorities, and those of `ca` (PEM).
pub(super) fn client(ca: Option<&str>) -> Result<reqwest::Client, String> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .tcp_keepalive(Duration::from_secs(30))
        .user_agent(concat!("etcd-lifeboat/", env!("CARGO_PKG_VERSION")));
    if let Some(ca) = ca {
        let certificates = reqwest::Certificate::from_pem_bundle(ca.as_bytes());
        let certificates = certificates.map_err(|error| format!("`ca` holds no certificates: {error}"))?;
        client = client.tls_certs_merge(certificates);
    }
    client.build().map_err(|error| error.to_string())
}
