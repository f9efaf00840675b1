//! Serves the metrics to this host, on a port of the loopback or a socket in the file system.
//!
//! One answer a connection, from the last report. Invariant: what comes from outside has a bound (bytes, time, connections
//! at once), and nobody who connects holds up the agent.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use super::super::status_file::Report;
use super::families::{Flavour, render};
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
    standing: watch::Receiver<Standing>,
    accepting: JoinHandle<()>,
}

/// How a responder stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The kernel has not given it its address yet.
    Begins,
    /// It answers.
    Serves,
    /// It does not, and will not.
    Failed(String),
}

/// What connections come to, before the loop knows of it.
enum Bound {
    Port(std::net::TcpListener),
    Socket(std::os::unix::net::UnixListener),
}

/// What an answer is made from.
#[derive(Clone)]
struct Source {
    reports: watch::Receiver<Option<Arc<Report>>>,
    now: fn() -> Timestamp,
}

impl MetricsServer {
    /// Listens at `at`, and answers with the last of `reports`. Needs a runtime to run in.
    ///
    /// The address is taken on a thread of its own: the file system of a socket may hang.
    pub fn listen(at: &Listen, reports: watch::Receiver<Option<Arc<Report>>>, now: fn() -> Timestamp) -> MetricsServer {
        let source = Source { reports, now };
        let (says, standing) = watch::channel(Standing::Begins);
        let (sender, bound) = oneshot::channel();
        let wanted = at.clone();
        std::thread::spawn(move || sender.send(bind(&wanted)).ok());
        let accepting = tokio::spawn(async move {
            let bound = bound.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
            let error = match bound.and_then(Bound::watched) {
                Ok(Watched::Port(listener)) => serve(source, listener, &says).await,
                Ok(Watched::Socket(listener)) => serve(source, listener, &says).await,
                Err(error) => error.to_string(),
            };
            says.send_replace(Standing::Failed(error));
        });
        MetricsServer {
            at: at.clone(),
            standing,
            accepting,
        }
    }

    /// Where it listens.
    pub fn at(&self) -> &Listen {
        &self.at
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.accepting.abort();
        if let (Listen::Socket(path), Standing::Serves) = (&self.at, self.standing()) {
            std::fs::remove_file(path).ok();
        }
    }
}

/// The same for the loop.
enum Watched {
    Port(TcpListener),
    Socket(UnixListener),
}

impl Bound {
    fn watched(self) -> io::Result<Watched> {
        match self {
            Bound::Port(listener) => Ok(Watched::Port(TcpListener::from_std(listener)?)),
            Bound::Socket(listener) => Ok(Watched::Socket(UnixListener::from_std(listener)?)),
        }
    }
}

fn bind(at: &Listen) -> io::Result<Bound> {
    match at {
        Listen::Port(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Bound::Port(listener))
        }
        Listen::Socket(path) => {
            let listener = bind_socket(path)?;
            listener.set_nonblocking(true)?;
            Ok(Bound::Socket(listener))
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a socket has no handle by which its name could be reached; its folder is the operator's choice"
)]
fn bind_socket(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    // One that a killed agent left is in the way.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && !is_listened_at(path)? {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Whether somebody has the socket; one who takes no more connections is not waited for.
fn is_listened_at(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let own = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match socket::connect(own.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => Ok(false),
        Ok(()) | Err(_) => Ok(true),
    }
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

/// Answers for ever, unless there is something wrong.
async fn serve(source: Source, listener: impl Accept, says: &watch::Sender<Standing>) -> String {
    says.send_replace(Standing::Serves);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let place = match places.clone().acquire_owned().await {
            Ok(place) => place,
            Err(error) => return error.to_string(),
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

    async fn begun(server: &MetricsServer) -> Standing {
        let mut standing = server.standing.clone();
        standing
            .wait_for(|standing| *standing != Standing::Begins)
            .await
            .unwrap()
            .clone()
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
            let server = MetricsServer::listen(&Listen::Port(port), seen, now);
            assert_eq!(begun(&server).await, Standing::Serves);
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
            let listen = || MetricsServer::listen(&Listen::Socket(path.clone()), seen.clone(), now);
            let server = listen();
            assert_eq!(begun(&server).await, Standing::Serves);
            let other = listen();
            assert!(
                matches!(begun(&other).await, Standing::Failed(_)),
                "another one listens there"
            );
            drop(other);
            assert!(path.exists(), "it is the other one's");
            drop(server);
            assert!(!path.exists());
            std::fs::write(&path, "somebody's").unwrap();
            assert!(matches!(begun(&listen()).await, Standing::Failed(_)));
            assert!(path.exists());
        });
    }

    #[test]
    fn a_socket_of_somebody_who_takes_no_more_connections_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics");
        let address = UnixAddr::new(&path).unwrap();
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let open = || socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        let busy = open();
        socket::bind(busy.as_raw_fd(), &address).unwrap();
        socket::listen(&busy, socket::Backlog::new(0).unwrap()).unwrap();
        let mut waiting = Vec::new();
        loop {
            waiting.push(open());
            assert!(waiting.len() < 100, "somebody takes them");
            if socket::connect(waiting.last().unwrap().as_raw_fd(), &address) == Err(Errno::EAGAIN) {
                break;
            }
        }
        let (sender, bound) = std::sync::mpsc::channel();
        let at = Listen::Socket(path.clone());
        std::thread::spawn(move || sender.send(bind(&at).map(drop).map_err(|error| error.kind())));
        let bound = bound.recv_timeout(Duration::from_secs(20)).expect("it does not wait");
        assert_eq!(bound, Err(io::ErrorKind::AddrInUse));
        assert!(path.exists());
    }
}
