//! Requests to the servers of objects: each with a token, with deadlines, and sent again where that is safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::Mutex;

use super::login::{Login, Token};
use crate::error_chain::with_causes;
use crate::store::http::Clock;

/// How long a server may say nothing. All attempts of a request together are to be over before the handle of the store loses
/// its patience.
pub(super) const ANSWER: Duration = Duration::from_millis(6500);
/// While it lists, or puts a large object together.
pub(super) const LONG_ANSWER: Duration = Duration::from_secs(14);

/// The slowest line that a part is sent by; several are under way at once.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;

/// What a listing may have: a page has 10000 names at the most, unless a server is told otherwise.
pub(super) const LARGEST_DOCUMENT: u64 = 16 << 20;

/// So often what failed is asked again, with pauses that grow.
pub(super) const TRIED_AGAIN: u32 = 3;
/// The same for the parts of an upload.
pub(super) const PARTS_TRIED_AGAIN: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why there is no good answer.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The server says no: its status, and what else it says.
    Told(u16, String),
    /// The connection broke, or did not come about.
    Lost(String),
    /// Nothing came.
    Silent(Duration),
    /// Who asks may not.
    Refused(String),
    /// Nothing says who asks.
    Unknown,
    /// Another way in which it fails.
    Other(String),
}

impl Fault {
    /// Whether the same may be answered later.
    fn may_pass(&self) -> bool {
        match self {
            Fault::Told(status, _) => matches!(status, 408 | 429 | 498 | 500 | 502 | 503 | 504),
            Fault::Lost(_) | Fault::Silent(_) => true,
            Fault::Refused(_) | Fault::Unknown | Fault::Other(_) => false,
        }
    }

    /// Whether the server has said that it will not do it.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Fault::Told(..) | Fault::Refused(_)) && !self.may_pass()
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub method: Method,
    /// The object in the container; empty for the container itself.
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// How much the answer may have.
    pub most: u64,
    pub silence: Duration,
    pub tried_again: u32,
}

impl Question {
    pub fn new(method: Method, path: &str) -> Question {
        Question {
            method,
            path: path.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            most: LARGEST_DOCUMENT,
            silence: ANSWER,
            tried_again: TRIED_AGAIN,
        }
    }
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// It was asked more than once: what was asked before may have been done.
    pub was_asked_again: bool,
}

impl Reply {
    /// A header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The digest that it gives, without quotes.
    pub fn etag(&self) -> Option<String> {
        self.header("etag")
            .map(|etag| etag.trim_matches('"').to_ascii_lowercase())
    }

    /// How large the object is.
    pub fn bytes(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

/// What is asked of one container.
#[derive(Debug)]
pub(super) struct Requests {
    client: reqwest::Client,
    login: Login,
    token: Mutex<Option<Arc<Token>>>,
    pub container: String,
    pub clock: Clock,
}

impl Requests {
    pub fn new(client: reqwest::Client, login: Login, container: &str) -> Requests {
        Requests {
            client,
            login,
            token: Mutex::new(None),
            container: container.to_owned(),
            clock: Clock::default(),
        }
    }

    /// A token that is good for a while, and not the one that was refused.
    async fn token(&self, refused: Option<&Arc<Token>>) -> Result<Arc<Token>, Fault> {
        let mut token = self.token.lock().await;
        if let Some(found) = &*token {
            let is_refused = refused.is_some_and(|refused| Arc::ptr_eq(refused, found));
            if !is_refused && !found.is_old() {
                return Ok(found.clone());
            }
        }
        let new = Arc::new(self.login.token(&self.client).await?);
        *token = Some(new.clone());
        Ok(new)
    }

    /// Asks, and again where that may help.
    pub async fn ask(&self, question: &Question) -> Result<Reply, Fault> {
        let (mut pause, mut again, mut refused) = (FIRST_PAUSE, 0, None);
        loop {
            let token = self.token(refused.as_ref()).await;
            let told = match &token {
                Ok(token) => self.ask_with(token, question).await,
                Err(fault) => Err(fault.clone()),
            };
            match (told, token) {
                (Ok(reply), _) => {
                    let was_asked_again = again > 0;
                    return Ok(Reply {
                        was_asked_again,
                        ..reply
                    });
                }
                // The token has ended, or was taken back.
                (Err(Fault::Told(401, _)), Ok(token)) if refused.is_none() => refused = Some(token),
                (Err(fault), _) if fault.may_pass() && again < question.tried_again => {
                    again += 1;
                    tokio::time::sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
                (Err(fault), _) => return Err(fault),
            }
        }
    }

    async fn ask_with(&self, token: &Token, question: &Question) -> Result<Reply, Fault> {
        let mut url = format!("{}/{}", token.storage, encoded(&self.container));
        if !question.path.is_empty() {
            url = format!("{url}/{}", encoded(&question.path));
        }
        for (number, (name, value)) in question.query.iter().enumerate() {
            let joint = if number == 0 { '?' } else { '&' };
            url = format!("{url}{joint}{name}={}", encoded(value).replace('/', "%2F"));
        }
        let sent = Duration::from_secs(question.body.len() as u64 / SLOWEST_BYTES_PER_SECOND);
        let mut request = self.client.request(question.method.clone(), url);
        request = request.header("X-Auth-Token", &token.value);
        for (name, value) in &question.headers {
            request = request.header(*name, value);
        }
        // Named also where there is none: a server takes a body without a length for one in chunks.
        if question.method == Method::PUT {
            request = request.header(http::header::CONTENT_LENGTH, question.body.len());
        }
        let patience = question.silence + sent;
        let reply = tokio::time::timeout(patience, request.body(question.body.clone()).send()).await;
        let reply = reply.map_err(|_| Fault::Silent(patience))?;
        let mut reply = reply.map_err(|error| Fault::Lost(with_causes(&error.without_url())))?;
        self.clock.hear(reply.headers());
        let status = reply.status().as_u16();
        let headers = reply.headers().clone();
        let body = body_of(&mut reply, question.most, question.silence).await;
        match status {
            200..=299 => Ok(Reply {
                headers,
                body: body?,
                was_asked_again: false,
            }),
            status => Err(Fault::Told(status, plain(&body.unwrap_or_default()))),
        }
    }
}

/// The body of an answer, as long as it comes, and no more of it than it may have.
pub(super) async fn body_of(reply: &mut reqwest::Response, most: u64, silence: Duration) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    loop {
        let next = tokio::time::timeout(silence, reply.chunk()).await;
        let next = next.map_err(|_| Fault::Silent(silence))?;
        let next = next.map_err(|error| Fault::Lost(with_causes(&error.without_url())))?;
        let Some(block) = next else { return Ok(body) };
        if (body.len() + block.len()) as u64 > most {
            return Err(Fault::Other(format!("the answer is larger than {most} bytes")));
        }
        body.extend_from_slice(&block);
    }
}

/// What a server says of an error, without the tags that it says it with.
fn plain(body: &[u8]) -> String {
    const MOST: usize = 300;
    let text = String::from_utf8_lossy(body);
    let mut told = String::new();
    let mut is_tag = false;
    for letter in text.chars().take(4 * MOST) {
        match letter {
            '<' => is_tag = true,
            '>' => {
                is_tag = false;
                told.push(' ');
            }
            letter if !is_tag && !letter.is_control() => told.push(letter),
            _ => told.push(' '),
        }
    }
    let line = told.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MOST).collect()
}

/// As it stands in a URL.
fn encoded(path: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => write!(encoded, "%{byte:02X}").expect("a string can be written to"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_in_one_line() {
        let told = b"<html><h1>Forbidden</h1><p>Access was denied\n to this resource.</p></html>";
        assert_eq!(plain(told), "Forbidden Access was denied to this resource.");
        assert_eq!(plain(&[0xff; 5000]).chars().count(), 300);
    }

    #[test]
    fn names_stand_in_urls_as_they_are_meant() {
        assert_eq!(encoded("a/b c+ü=1~"), "a/b%20c%2B%C3%BC%3D1~");
    }
}
