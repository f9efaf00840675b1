//! `notify.heartbeat`: a request to an address of the operator's, sent as long as nothing is wrong. Whoever listens there
//! raises the alarm when it stays away, for whatever reason.
//!
//! Invariant: the address, which may hold a token, is in no message. Invariant: the agent never waits for it, and one that
//! failed is not repeated before the next is due.

use std::time::{Duration, Instant};

use age::secrecy::{ExposeSecret, SecretString};
use reqwest::{Client, Url};
use tokio::sync::oneshot;

use super::journal::Log;
use crate::config::{HeartbeatUrl, Notify};
use crate::error_chain::with_causes;
use crate::health::{Event, Level, Notice};

/// How long one may take, name lookup and all.
const TAKES_AT_MOST: Duration = Duration::from_secs(20);

/// Whether one is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Nothing is wrong.
    Beats,
    /// Something is.
    Stays,
}

/// The sender.
pub struct Heartbeat {
    log: Log,
    last: Option<Instant>,
    sent: Option<oneshot::Receiver<Result<(), String>>>,
    /// Why the last one could not be sent.
    failure: Option<String>,
}

impl Heartbeat {
    /// None was sent yet.
    pub fn new(log: Log) -> Heartbeat {
        Heartbeat {
            log,
            last: None,
            sent: None,
            failure: None,
        }
    }

    /// Sends one if it is due and all is well. Gives how long the next may be waited for.
    pub fn turn(&mut self, notify: &Notify, pulse: Pulse, now: Instant) -> Option<Duration> {
        self.hear();
        let url = notify.heartbeat.as_ref()?;
        if pulse == Pulse::Stays || self.sent.is_some() {
            return None;
        }
        let since = self.last.map(|last| now.saturating_duration_since(last));
        let left = since.and_then(|since| notify.heartbeat_every.checked_sub(since));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Some(left);
        }
        self.last = Some(now);
        self.sent = Some(begin(url.clone()));
        Some(notify.heartbeat_every)
    }

    /// That the last one could not be sent.
    pub fn problem(&self) -> Option<Notice> {
        let error = self.failure.as_ref()?;
        let message = format!("the heartbeat cannot be sent: {error}");
        Some(Notice::new(Event::HeartbeatFailed, message))
    }

    /// Says what became of the last, where that is news.
    fn hear(&mut self) {
        let Some(sent) = &mut self.sent else { return };
        let outcome = match sent.try_recv() {
            Ok(outcome) => outcome,
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => Err("it was given up".to_owned()),
        };
        self.sent = None;
        match &outcome {
            Ok(()) if self.failure.is_some() => self.log.line(Level::Info, "the heartbeat is sent again", &[]),
            Err(error) if self.failure.is_none() => {
                self.log.event(
                    Event::HeartbeatFailed,
                    "the heartbeat could not be sent",
                    &[("error", error)],
                );
            }
            Ok(()) | Err(_) => {}
        }
        self.failure = outcome.err();
    }
}

fn begin(url: HeartbeatUrl) -> oneshot::Receiver<Result<(), String>> {
    let (sender, sent) = oneshot::channel();
    tokio::spawn(async move { sender.send(once(url).await).ok() });
    sent
}

/// Sends one, and waits for the answer.
pub(super) async fn once(url: HeartbeatUrl) -> Result<(), String> {
    let outcome = tokio::time::timeout(TAKES_AT_MOST, send(url)).await;
    let late = |_| Err(format!("no answer within {} s", TAKES_AT_MOST.as_secs()));
    outcome.unwrap_or_else(late)
}

async fn send(url: HeartbeatUrl) -> Result<(), String> {
    // Both read files: the secret, and the authorities that this host trusts.
    let prepared = tokio::task::spawn_blocking(move || {
        let url = url.read().map_err(|error| error.to_string())?;
        // One connection for each: nothing stays open, and changed authorities count from the next on.
        let client = Client::builder().timeout(TAKES_AT_MOST).build();
        Ok::<_, String>((client.map_err(|error| told(error, None))?, url))
    });
    let (client, secret): (Client, SecretString) = prepared.await.map_err(|error| error.to_string())??;
    let url: Url = secret
        .expose_secret()
        .trim()
        .parse()
        .map_err(|_| "it is no URL".to_owned())?;
    let host = url.host_str().map(str::to_owned);
    let answer = client
        .get(url)
        .send()
        .await
        .map_err(|error| told(error, host.as_deref()))?;
    let status = answer.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("the answer was {status}")),
    }
}

/// An error and its causes, without the address.
fn told(error: reqwest::Error, host: Option<&str>) -> String {
    let error = error.without_url();
    let text = with_causes(&error);
    match host {
        Some(host) => text.replace(host, "(host)"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn log() -> Log {
        Log::new(|| jiff::Timestamp::UNIX_EPOCH)
    }

    fn notify(url: &str) -> Notify {
        Notify {
            heartbeat: Some(HeartbeatUrl::Written(url.to_owned().into())),
            heartbeat_every: Duration::from_secs(300),
            ..Notify::default()
        }
    }

    /// A server that answers each request so, and gives its first line.
    fn server(status: &'static str) -> (String, std::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/ping/s3cret-token", listener.local_addr().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
                let line = String::from_utf8_lossy(&request[..length]);
                if sender.send(line.lines().next().unwrap().to_owned()).is_err() {
                    return;
                }
            }
        });
        (url, lines)
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn it_is_sent_when_it_is_due_and_all_is_well_and_not_otherwise() {
        let (url, lines) = server("200 OK");
        let notify = notify(&url);
        block_on(async {
            let (start, second) = (Instant::now(), Duration::from_secs(1));
            let mut heartbeat = Heartbeat::new(log());
            assert_eq!(heartbeat.turn(&notify, Pulse::Stays, start), None);
            assert!(heartbeat.sent.is_none());
            assert_eq!(heartbeat.turn(&notify, Pulse::Beats, start), Some(300 * second));
            let sent = heartbeat.sent.take().unwrap().await.unwrap();
            assert_eq!(sent, Ok(()));
            assert_eq!(
                heartbeat.turn(&notify, Pulse::Beats, start + second),
                Some(299 * second)
            );
            assert_eq!(heartbeat.turn(&notify, Pulse::Stays, start + 300 * second), None);
            assert!(heartbeat.sent.is_none());
            assert_eq!(
                heartbeat.turn(&Notify::default(), Pulse::Beats, start + 300 * second),
                None
            );
            heartbeat.turn(&notify, Pulse::Beats, start + 300 * second);
            heartbeat.sent.take().unwrap().await.unwrap().unwrap();
        });
        let lines: Vec<String> = lines.try_iter().collect();
        assert_eq!(lines, ["GET /ping/s3cret-token HTTP/1.1"; 2]);
    }

    #[test]
    fn one_that_failed_is_not_repeated_before_the_next_and_never_tells_the_address() {
        let (refusing, _lines) = server("503 Service Unavailable");
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let cases = [
            (refusing, "the answer was 503 Service Unavailable"),
            (format!("http://{closed}/s3cret-token"), "refused"),
            ("https://s3cret-token.invalid/".to_owned(), "error"),
            ("s3cret-token".to_owned(), "it is no URL"),
        ];
        for (url, expected) in cases {
            let notify = notify(&url);
            block_on(async {
                let start = Instant::now();
                let mut heartbeat = Heartbeat::new(log());
                heartbeat.turn(&notify, Pulse::Beats, start);
                let error = heartbeat.sent.take().unwrap().await.unwrap().unwrap_err();
                assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
                let soon = start + Duration::from_secs(10);
                heartbeat.turn(&notify, Pulse::Beats, soon);
                assert!(heartbeat.sent.is_none(), "{url}");
            });
            assert!(!format!("{notify:?}").contains("s3cret"));
        }
    }
}
