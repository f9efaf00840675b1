//! How requests are sent: by the HTTP client of the whole program, with the server's clock read from each reply.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use opendal::{Buffer, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;

use crate::store::http::Clock;

/// How long a server may send nothing. All attempts of a request together are to be over before the handle of the store
/// loses its patience, which is 30 s for one thing and 60 s while many are told: so short.
const ANSWER: Duration = Duration::from_millis(6500);
const LISTING: Duration = Duration::from_secs(14);
/// It puts the parts of an upload together.
const COMPLETION: Duration = Duration::from_secs(60);

/// What a listing, or what a server says of an error, may have: a page has 1000 names at the most.
const LARGEST_DOCUMENT: u64 = 16 << 20;

/// The slowest line that a part is sent by; several are under way at once.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

/// The client: it believes the system's authorities, and those of `ca` (PEM).
pub(super) fn client(ca: Option<&str>) -> Result<ReqwestTransport, String> {
    Ok(ReqwestTransport::new(crate::store::http::client(ca)?))
}

/// Sends requests, and reads the server's clock from each reply.
pub(super) struct Dated<T> {
    pub client: T,
    pub clock: Arc<Clock>,
}

impl<T: HttpTransport> HttpTransport for Dated<T> {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let (silence, sent) = patience(&request);
        let most = most(&request);
        let reply = tokio::time::timeout(silence + sent, self.client.fetch(request)).await;
        let reply = reply.map_err(|_| silent(silence + sent))??;
        self.clock.hear(reply.headers());
        Ok(reply.map(|body| {
            body.map_inner(|stream| {
                let until = Box::pin(tokio::time::sleep(silence));
                let left = most;
                Box::new(Heard {
                    stream,
                    silence,
                    until,
                    left,
                })
            })
        }))
    }
}

/// How long a server may say nothing to a request, and how long its body may take besides.
fn patience(request: &http::Request<Buffer>) -> (Duration, Duration) {
    let query = request.uri().query().unwrap_or_default();
    let silence = match *request.method() {
        http::Method::GET if is_listing(request) => LISTING,
        http::Method::POST if query.contains("uploadId=") => COMPLETION,
        http::Method::PUT if query.contains("comp=blocklist") => COMPLETION,
        _ => ANSWER,
    };
    let bytes = request.body().len() as u64;
    (silence, time_to_send(bytes))
}

/// How long so many bytes take by the slowest line.
pub(super) fn time_to_send(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

/// How much a reply may have: only objects have no bound, which are read as they come.
fn most(request: &http::Request<Buffer>) -> u64 {
    match *request.method() == http::Method::GET && !is_listing(request) {
        true => u64::MAX,
        false => LARGEST_DOCUMENT,
    }
}

/// What is asked of a bucket or an object besides its content.
const NO_CONTENT: [&str; 3] = ["uploads=", "object-lock=", "retention="];

/// As S3 and OSS, Azure, and Google have it.
fn is_listing(request: &http::Request<Buffer>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    if NO_CONTENT.iter().any(|asked| query.starts_with(asked)) {
        return true;
    }
    query.contains("list-type=") || query.contains("comp=list") || request.uri().path().ends_with("/o")
}

fn silent(after: Duration) -> opendal::Error {
    let message = format!("no answer within {} s", after.as_secs());
    opendal::Error::new(opendal::ErrorKind::Unexpected, message).set_temporary()
}

type Body = Box<dyn Stream<Item = opendal::Result<Buffer>> + Send + Sync + Unpin>;

/// A reply that ends with an error when nothing of it comes for too long, or more than it may have.
struct Heard {
    stream: Body,
    silence: Duration,
    until: Pin<Box<tokio::time::Sleep>>,
    left: u64,
}

impl Stream for Heard {
    type Item = opendal::Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Heard {
            stream,
            silence,
            until,
            left,
        } = &mut *self;
        if let Poll::Ready(next) = Pin::new(stream).poll_next(context) {
            until.as_mut().reset(tokio::time::Instant::now() + *silence);
            let bytes = next
                .as_ref()
                .and_then(|block| block.as_ref().ok())
                .map_or(0, |block| block.len() as u64);
            let Some(rest) = left.checked_sub(bytes) else {
                let message = format!("the reply is larger than {LARGEST_DOCUMENT} bytes");
                return Poll::Ready(Some(Err(opendal::Error::new(opendal::ErrorKind::Unexpected, message))));
            };
            *left = rest;
            return Poll::Ready(next);
        }
        until.as_mut().poll(context).map(|()| Some(Err(silent(*silence))))
    }
}
