//! How requests are sent: by the HTTP client of the whole program, with the server's clock read from each reply.

use std::sync::Mutex;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use opendal::{Buffer, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;

/// How long a connection may take, and how long a server may send nothing of its reply.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);

/// The time by the last reply of a server.
#[derive(Debug, Default)]
pub(super) struct Clock {
    told: Mutex<Option<(Timestamp, Instant)>>,
}

impl Clock {
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
pub(super) fn client(ca: Option<&str>) -> Result<ReqwestTransport, String> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .tcp_keepalive(Duration::from_secs(30))
        .user_agent(concat!("etcd-lifeboat/", env!("CARGO_PKG_VERSION")));
    if let Some(ca) = ca {
        let certificates = reqwest::Certificate::from_pem_bundle(ca.as_bytes());
        let certificates = certificates.map_err(|error| format!("`ca` holds no certificates: {error}"))?;
        client = client.tls_certs_merge(certificates);
    }
    let client = client.build().map_err(|error| error.to_string())?;
    Ok(ReqwestTransport::new(client))
}

/// Sends requests, and reads the server's clock from each reply.
pub(super) struct Dated<T> {
    pub client: T,
    pub clock: Arc<Clock>,
}

impl<T: HttpTransport> HttpTransport for Dated<T> {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let reply = self.client.fetch(request).await?;
        let date = reply.headers().get(http::header::DATE);
        if let Some(told) = date.and_then(|date| rfc2822::parse(date.to_str().ok()?).ok()) {
            self.clock.set(told.timestamp());
        }
        Ok(reply)
    }
}
