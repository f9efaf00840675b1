//! Serves the metrics to this host, on a port of the loopback or a socket in the file system.
//!
//! One answer a connection, from the last report. Invariant: what comes from outside has a bound (bytes, time, connections
//! at once), and nobody who connects holds up the agent.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::exposition::{Flavour, render};
use super::status::Report;
use crate::config::Listen;

/// How long a connection may take.
const TAKES_AT_MOST: Duration = Duration::from_secs(5);
/// How many connections there may be at once; the kernel keeps some more waiting.
const AT_ONCE: usize = 8;
/// The longest request that is read.
const LONGEST_REQUEST: usize = 8 << 10;
/// How long nothing is accepted after the kernel refused to, such as for want of file descriptors.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Whoever may read `status.json` may read this.
const SOCKET_MODE: u32 = 0o666;

/// The responder. Dropped, it answers no more.
pub struct MetricsServer {
    at: Listen,
    accepting: JoinHandle<()>,
}

/// What an answer is made from.
#[derive(Clone)]
struct Source {
    reports: watch::Receiver<Option<Arc<Report>>>,
    now: fn() -> Timestamp,
}

impl MetricsServer {
    /// Listens at `at`, and answers with the last of `reports`. Needs a runtime to run in.
    pub fn listen(
        at: &Listen,
        reports: watch::Receiver<Option<Arc<Report>>>,
        now: fn() -> Timestamp,
    ) -> io::Result<MetricsServer> {
        let source = Source { reports, now };
        let accepting = match at {
            Listen::Port(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                tokio::spawn(serve(source, listener))
            }
            Listen::Socket(path) => {
                let listener = bind_socket(path)?;
                tokio::spawn(serve(source, listener))
            }
        };
        Ok(MetricsServer {
            at: at.clone(),
            accepting,
        })
    }

    /// Where it listens.
    pub fn at(&self) -> &Listen {
        &self.at
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Listen::Socket(path) = &self.at {
            std::fs::remove_file(path).ok();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a socket has no handle by which its name could be reached; its folder is the operator's choice"
)]
fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    // One that a killed agent left: nobody listens there, and it is in the way.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Where connections come in.
trait Accept {
    /// One of them.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn next(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Accept for TcpListener {
    type Connection = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Accept for UnixListener {
    type Connection = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

async fn serve(source: Source, listener: impl Accept) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let Ok(connection) = listener.next().await else {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        };
        let source = source.clone();
        tokio::spawn(async move {
            // Whoever is too slow, or goes away, gets nothing.
            tokio::time::timeout(TAKES_AT_MOST, answer(connection, &source))
                .await
                .ok();
            drop(place);
        });
    }
}

async fn answer<C: AsyncRead + AsyncWrite + Unpin>(mut connection: C, source: &Source) -> io::Result<()> {
    let mut request = Vec::with_capacity(1 << 10);
    let mut part = [0; 1 << 10];
    while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let read = connection.read(&mut part).await?;
        if read == 0 {
            return Ok(());
        }
        if request.len() + read > LONGEST_REQUEST {
            return reply(
                &mut connection,
                "431 Request Header Fields Too Large",
                "",
                "text/plain",
                false,
            )
            .await;
        }
        request.extend_from_slice(part.get(..read).unwrap_or_default());
    }
    match asked_for(&request) {
        Ok((flavour, is_head)) => {
            let report = source.reports.borrow().clone();
            let text = render(report.as_deref(), true, (source.now)(), flavour);
            reply(&mut connection, "200 OK", &text, flavour.media_type(), is_head).await
        }
        Err(refusal) => reply(&mut connection, refusal, refusal, "text/plain", false).await,
    }
}

/// Which format a request asks for, and whether only for the head of the answer; or why it gets none.
fn asked_for(request: &[u8]) -> Result<(Flavour, bool), &'static str> {
    let text = String::from_utf8_lossy(request);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let is_head = match words.next() {
        Some("GET") => false,
        Some("HEAD") => true,
        Some(_) | None => return Err("405 Method Not Allowed"),
    };
    let path = words.next().unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if path != "/metrics" {
        return Err("404 Not Found");
    }
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err("400 Bad Request");
    }
    let accepts_open_metrics = lines.any(|line| {
        let Some((name, value)) = line.split_once(':') else {
            return false;
        };
        name.eq_ignore_ascii_case("accept") && value.to_ascii_lowercase().contains("application/openmetrics-text")
    });
    let flavour = match accepts_open_metrics {
        true => Flavour::OpenMetrics,
        false => Flavour::Prometheus,
    };
    Ok((flavour, is_head))
}

async fn reply<C: AsyncWrite + Unpin>(
    connection: &mut C,
    status: &str,
    body: &str,
    media_type: &str,
    is_head: bool,
) -> io::Result<()> {
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    if !is_head {
        answer.push_str(body);
    }
    connection.write_all(answer.as_bytes()).await?;
    connection.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Instant;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T10:15:30Z".parse().unwrap()
    }

    /// Does something with the port of a responder.
    fn with_server(act: impl FnOnce(std::net::SocketAddr) + Send + 'static) {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let (_reports, seen) = watch::channel(None);
            let server = MetricsServer::listen(&Listen::Port(port), seen, now).unwrap();
            tokio::task::spawn_blocking(move || act(port)).await.unwrap();
            drop(server);
        });
    }

    fn ask(port: std::net::SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(port).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok();
        answer
    }

    #[test]
    fn it_answers_in_the_format_that_is_asked_for_and_to_nothing_else() {
        with_server(|port| {
            let plain = ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(
                plain.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"),
                "{plain}"
            );
            assert!(
                plain.contains("\nlifeboat_agent_up 1\n") && !plain.contains("# EOF"),
                "{plain}"
            );
            let open = ask(
                port,
                "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text;version=1.0.0,text/plain\r\n\r\n",
            );
            assert!(
                open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"),
                "{open}"
            );
            let head = ask(port, "HEAD /metrics HTTP/1.1\r\n\r\n");
            assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
            for (request, status) in [
                ("GET / HTTP/1.1\r\n\r\n", "404"),
                ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
                ("GET /metrics\r\n\r\n", "400"),
                ("\r\n\r\n", "405"),
            ] {
                let answer = ask(port, request);
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{request:?}: {answer}"
                );
            }
            let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(LONGEST_REQUEST));
            let answer = ask(port, &long);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        });
    }

    #[test]
    fn who_says_nothing_is_left_after_a_while_and_keeps_nobody_else_waiting() {
        with_server(|port| {
            let begun = Instant::now();
            let silent: Vec<std::net::TcpStream> = (0..AT_ONCE + 2)
                .map(|_| std::net::TcpStream::connect(port).unwrap())
                .collect();
            let answer = ask(port, "GET /metrics HTTP/1.1\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(begun.elapsed() < 3 * TAKES_AT_MOST, "{:?}", begun.elapsed());
            drop(silent);
        });
    }

    #[test]
    fn a_socket_that_a_killed_agent_left_is_taken_over_and_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let (_reports, seen) = watch::channel(None);
            let server = MetricsServer::listen(&Listen::Socket(path.clone()), seen.clone(), now).unwrap();
            assert!(
                MetricsServer::listen(&Listen::Socket(path.clone()), seen.clone(), now).is_err(),
                "another one listens there"
            );
            drop(server);
            assert!(!path.exists());
            std::fs::write(&path, "somebody's").unwrap();
            assert!(MetricsServer::listen(&Listen::Socket(path.clone()), seen, now).is_err());
            assert!(path.exists());
        });
    }
}
