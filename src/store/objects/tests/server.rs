//! An object store in memory that speaks S3 and fails as it is told: what stands in for servers on which nothing can be
//! made to go wrong at the right moment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use opendal::{Buffer, HttpBody, HttpTransport};

/// So many names are told at once.
pub(super) const PAGE: usize = 7;

/// For so long nothing comes.
const HANGS: std::time::Duration = std::time::Duration::from_millis(600);

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The server answers with this, and has done nothing.
    Status(u16),
    /// The connection ends before the server has done anything.
    Reset,
    /// The server does it, and the connection ends before its reply.
    LostReply,
    /// Half of the reply comes.
    Cut,
    /// The listing is one of so many seconds ago.
    Stale(i64),
    /// The server does it, and keeps other bytes than it was sent.
    Rots,
    /// No reply comes for longer than anybody waits.
    Hangs,
}

/// Which request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Begin,
    Part,
    Complete,
    Abort,
    Get,
    Head,
    List,
    Uploads,
    Lock,
    Retention,
    Delete,
}

type Chosen = Box<dyn FnMut(Kind, &str) -> Fault + Send>;

/// The server.
#[derive(Clone)]
pub(super) struct Server {
    state: Arc<Mutex<State>>,
}

struct State {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    /// What was written and removed, with what was there before.
    history: Vec<(Timestamp, String, Option<Object>)>,
    now: Timestamp,
    /// Until when all that is there is locked, in a bucket that has locks. Who asks for an object is not told.
    locked_until: Option<String>,
    number: u64,
    /// Whether a name is taken once only.
    enforces: bool,
    fault: Chosen,
    asked: Vec<Kind>,
    page: usize,
}

#[derive(Clone)]
struct Object {
    bytes: Vec<u8>,
    modified: Timestamp,
    etag: String,
}

struct Upload {
    key: String,
    begun: Timestamp,
    parts: BTreeMap<u32, Vec<u8>>,
}

impl Server {
    /// From now on its bucket has locks, and all that is there is locked.
    pub fn lock(&self, until: &str) {
        self.state().locked_until = Some(until.to_owned());
    }

    pub fn new(now: Timestamp) -> Server {
        Server {
            state: Arc::new(Mutex::new(State {
                objects: BTreeMap::new(),
                uploads: BTreeMap::new(),
                history: Vec::new(),
                now,
                locked_until: None,
                number: 0,
                enforces: true,
                fault: Box::new(|_, _| Fault::None),
                asked: Vec::new(),
                page: PAGE,
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses what goes wrong from now on.
    pub fn fail(&self, fault: impl FnMut(Kind, &str) -> Fault + Send + 'static) {
        self.state().fault = Box::new(fault);
    }

    pub fn work(&self) {
        self.fail(|_, _| Fault::None);
    }

    /// From now on a name can be written again though it should be new.
    pub fn ignore_conditions(&self) {
        self.state().enforces = false;
    }

    pub fn pass(&self, time: SignedDuration) {
        self.state().now += time;
    }

    /// The bytes that are there under a name.
    pub fn content(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).map(|object| object.bytes.clone())
    }

    /// Has so many names told at once from now on.
    pub fn tell_at_once(&self, names: usize) {
        self.state().page = names;
    }

    /// Writes an object, as a stranger would.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let etag = etag_of(&[bytes]);
        self.state().write(key.to_owned(), bytes.to_vec(), etag);
    }

    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// What was asked for since the last time.
    pub fn asked(&self) -> Vec<Kind> {
        std::mem::take(&mut self.state().asked)
    }
}

fn unreachable(message: &'static str) -> opendal::Error {
    opendal::Error::new(opendal::ErrorKind::Unexpected, message).set_temporary()
}

impl HttpTransport for Server {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_start_matches('/').to_owned();
        let (_, key) = path.split_once('/').unwrap_or((&path, ""));
        let key = decoded(key);
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.to_owned(), decoded(value)))
            .collect();
        let kind = kind(&parts.method, &query);
        let fault = {
            let mut state = self.state();
            state.asked.push(kind);
            (state.fault)(kind, &key)
        };
        match fault {
            Fault::Reset => return Err(unreachable("connection reset")),
            Fault::Status(status) => {
                return Ok(self.reply(status, &[], b"<Error><Code>Told</Code></Error>".to_vec(), false));
            }
            Fault::Hangs => {
                tokio::time::sleep(HANGS).await;
                return Err(unreachable("no reply"));
            }
            Fault::None | Fault::LostReply | Fault::Cut | Fault::Stale(_) | Fault::Rots => {}
        }
        let stale = match fault {
            Fault::Stale(seconds) => seconds,
            _ => 0,
        };
        let range = parts.headers.get("range").and_then(|range| range.to_str().ok());
        let is_new_only = parts.headers.contains_key("if-none-match");
        if !has_its_checksum(&parts.headers, &body.to_vec()) {
            let (status, headers, bytes) = plain(400, "BadDigest");
            return Ok(self.reply(status, &headers, bytes, false));
        }
        let mut body = body.to_vec();
        if let (Fault::Rots, Some(byte)) = (fault, body.first_mut()) {
            *byte ^= 1;
        }
        let (status, headers, bytes) = self.state().answer(kind, key, &query, range, is_new_only, &body, stale);
        if fault == Fault::LostReply {
            return Err(unreachable("connection reset after the request"));
        }
        let is_head = parts.method == Method::HEAD;
        if is_head || fault != Fault::Cut {
            return Ok(self.reply(status, &headers, bytes, is_head));
        }
        Ok(self.cut(status, &headers, bytes))
    }
}

impl Server {
    fn head(&self, status: u16, headers: &[(&str, String)]) -> http::response::Builder {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&self.state().now)
            .unwrap();
        let mut reply = Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .header("date", date);
        for (name, value) in headers {
            reply = reply.header(*name, value);
        }
        reply
    }

    fn reply(&self, status: u16, headers: &[(&str, String)], bytes: Vec<u8>, is_head: bool) -> Response<HttpBody> {
        let length = bytes.len() as u64;
        let reply = self.head(status, headers).header("content-length", length);
        let bytes = if is_head { Vec::new() } else { bytes };
        let expected = (!is_head).then_some(length);
        let stream = futures_util::stream::iter([Ok(Buffer::from(bytes))]);
        reply.body(HttpBody::new(stream, expected)).unwrap()
    }

    fn cut(&self, status: u16, headers: &[(&str, String)], bytes: Vec<u8>) -> Response<HttpBody> {
        let reply = self.head(status, headers).header("content-length", bytes.len());
        let half = Buffer::from(bytes.get(..bytes.len() / 2).unwrap().to_vec());
        let stream = futures_util::stream::iter([Ok(half), Err(unreachable("connection reset in the reply"))]);
        reply.body(HttpBody::new(stream, Some(bytes.len() as u64))).unwrap()
    }
}

/// Whether the bytes are those that were sent: it looks at CRC-32C alone.
fn has_its_checksum(headers: &http::HeaderMap, body: &[u8]) -> bool {
    use base64::Engine as _;
    let Some(told) = headers.get("x-amz-checksum-crc32c") else {
        return true;
    };
    let own = base64::engine::general_purpose::STANDARD.encode(crc32c::crc32c(body).to_be_bytes());
    told.as_bytes() == own.as_bytes()
}

fn kind(method: &Method, query: &BTreeMap<String, String>) -> Kind {
    match method.as_str() {
        "PUT" if query.contains_key("partNumber") => Kind::Part,
        "PUT" => Kind::Put,
        "POST" if query.contains_key("uploads") => Kind::Begin,
        "POST" => Kind::Complete,
        "DELETE" if query.contains_key("uploadId") => Kind::Abort,
        "DELETE" => Kind::Delete,
        "HEAD" => Kind::Head,
        "GET" if query.contains_key("list-type") => Kind::List,
        "GET" if query.contains_key("uploads") => Kind::Uploads,
        "GET" if query.contains_key("object-lock") => Kind::Lock,
        "GET" if query.contains_key("retention") => Kind::Retention,
        "GET" => Kind::Get,
        other => panic!("{other} is not known"),
    }
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn plain(status: u16, code: &str) -> Answer {
    (
        status,
        Vec::new(),
        format!("<Error><Code>{code}</Code></Error>").into_bytes(),
    )
}

impl State {
    #[expect(clippy::too_many_arguments, reason = "it is what a request has")]
    fn answer(
        &mut self,
        kind: Kind,
        key: String,
        query: &BTreeMap<String, String>,
        range: Option<&str>,
        is_new_only: bool,
        body: &[u8],
        stale: i64,
    ) -> Answer {
        let upload = query.get("uploadId").cloned().unwrap_or_default();
        let is_taken = self.enforces && is_new_only && self.objects.contains_key(&key);
        match kind {
            Kind::Put if is_taken => plain(412, "PreconditionFailed"),
            Kind::Put => {
                let etag = etag_of(&[body]);
                self.write(key, body.to_vec(), etag.clone());
                (200, vec![("etag", etag)], Vec::new())
            }
            Kind::Begin => {
                self.number += 1;
                let id = format!("upload-{}", self.number);
                let parts = BTreeMap::new();
                let begun = self.now;
                self.uploads.insert(id.clone(), Upload { key, begun, parts });
                let text =
                    format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
                (200, Vec::new(), text.into_bytes())
            }
            Kind::Part => match self.uploads.get_mut(&upload) {
                None => plain(404, "NoSuchUpload"),
                Some(upload) => {
                    let number = query.get("partNumber").unwrap().parse().unwrap();
                    upload.parts.insert(number, body.to_vec());
                    (200, vec![("etag", etag_of(&[body]))], Vec::new())
                }
            },
            Kind::Complete if !self.uploads.contains_key(&upload) => plain(404, "NoSuchUpload"),
            Kind::Complete if is_taken => plain(412, "PreconditionFailed"),
            Kind::Complete => {
                let Upload { key, parts, .. } = self.uploads.remove(&upload).unwrap();
                let all: Vec<&[u8]> = parts.values().map(Vec::as_slice).collect();
                let etag = match all.as_slice() {
                    // Like Amazon's, which tells one part from a whole.
                    [one] => format!("\"{}-1\"", hex(&Md5::digest(Md5::digest(one)))),
                    all => etag_of(all),
                };
                self.write(key, all.concat(), etag.clone());
                let text =
                    format!("<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>");
                (200, Vec::new(), text.into_bytes())
            }
            Kind::Abort => match self.uploads.remove(&upload) {
                None => plain(404, "NoSuchUpload"),
                Some(_) => (204, Vec::new(), Vec::new()),
            },
            Kind::Delete => {
                let before = self.objects.remove(&key);
                self.history.push((self.now, key, before));
                (204, Vec::new(), Vec::new())
            }
            Kind::Get | Kind::Head => match self.objects.get(&key) {
                None => plain(404, "NoSuchKey"),
                Some(object) => part_of(object, range),
            },
            Kind::List => self.list(query, stale),
            Kind::Uploads => self.list_uploads(query),
            Kind::Lock => match &self.locked_until {
                None => plain(404, "ObjectLockConfigurationNotFoundError"),
                Some(_) => {
                    let told = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
                    (200, Vec::new(), told.into())
                }
            },
            Kind::Retention => match &self.locked_until {
                None => plain(400, "InvalidRequest"),
                Some(_) if !self.objects.contains_key(&key) => plain(404, "NoSuchKey"),
                Some(until) => {
                    let told = format!(
                        "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
                    );
                    (200, Vec::new(), told.into_bytes())
                }
            },
        }
    }

    fn write(&mut self, key: String, bytes: Vec<u8>, etag: String) {
        let modified = self.now;
        let before = self.objects.insert(key.clone(), Object { bytes, modified, etag });
        self.history.push((modified, key, before));
    }

    fn list(&self, query: &BTreeMap<String, String>, stale: i64) -> Answer {
        let mut changed = (stale > 0).then(|| self.objects.clone());
        let seen = self.now - SignedDuration::from_secs(stale);
        let later = self.history.iter().rev().take_while(|(at, ..)| stale > 0 && *at > seen);
        if let Some(objects) = &mut changed {
            for (_, key, before) in later {
                match before {
                    Some(object) => objects.insert(key.clone(), object.clone()),
                    None => objects.remove(key),
                };
            }
        }
        let objects = changed.as_ref().unwrap_or(&self.objects);
        let prefix = query.get("prefix").cloned().unwrap_or_default();
        let after = query.get("continuation-token").cloned().unwrap_or_default();
        let delimiter = query.get("delimiter").filter(|delimiter| !delimiter.is_empty());
        let mut text = String::from("<ListBucketResult>");
        let (mut told, mut last, mut more) = (0, String::new(), false);
        let mut folders = std::collections::BTreeSet::new();
        for (key, object) in objects
            .range(after.clone()..)
            .filter(|(key, _)| key.starts_with(&prefix))
        {
            if *key <= after && !after.is_empty() {
                continue;
            }
            if told == self.page {
                more = true;
                break;
            }
            let rest = key.get(prefix.len()..).unwrap();
            let folder = delimiter.and_then(|delimiter| rest.split_once(delimiter.as_str()));
            match folder {
                Some((folder, _)) => {
                    folders.insert(format!("{prefix}{folder}/"));
                }
                None => {
                    let (size, modified) = (object.bytes.len(), object.modified);
                    let modified = modified.strftime("%Y-%m-%dT%H:%M:%S.000Z");
                    let etag = object.etag.replace('"', "&quot;");
                    write!(text, "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{modified}</LastModified><ETag>{etag}</ETag></Contents>").unwrap();
                }
            }
            told += 1;
            last.clone_from(key);
        }
        for folder in folders {
            write!(text, "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>").unwrap();
        }
        write!(text, "<IsTruncated>{more}</IsTruncated>").unwrap();
        if more {
            write!(text, "<NextContinuationToken>{last}</NextContinuationToken>").unwrap();
        }
        text.push_str("</ListBucketResult>");
        (200, Vec::new(), text.into_bytes())
    }
}

impl State {
    fn list_uploads(&self, query: &BTreeMap<String, String>) -> Answer {
        let text = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (prefix, after) = (text("prefix"), (text("key-marker"), text("upload-id-marker")));
        let mut open: Vec<(&String, &String, Timestamp)> = self
            .uploads
            .iter()
            .map(|(id, upload)| (&upload.key, id, upload.begun))
            .filter(|(key, id, _)| key.starts_with(&prefix) && (key.as_str(), id.as_str()) > (&*after.0, &*after.1))
            .collect();
        open.sort();
        let more = open.len() > PAGE;
        open.truncate(PAGE);
        let mut text = format!("<ListMultipartUploadsResult><IsTruncated>{more}</IsTruncated>");
        if let Some((key, id, _)) = open.last().filter(|_| more) {
            write!(
                text,
                "<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>"
            )
            .unwrap();
        }
        for (key, id, begun) in open {
            let begun = begun.strftime("%Y-%m-%dT%H:%M:%S.000Z");
            write!(
                text,
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>"
            )
            .unwrap();
        }
        text.push_str("</ListMultipartUploadsResult>");
        (200, Vec::new(), text.into_bytes())
    }
}

/// As S3 makes them: of one part that of its bytes, of several that of theirs.
fn etag_of(parts: &[&[u8]]) -> String {
    match parts {
        [one] => format!("\"{}\"", hex(&Md5::digest(one))),
        parts => {
            let all: Vec<u8> = parts.iter().flat_map(Md5::digest).collect();
            format!("\"{}-{}\"", hex(&Md5::digest(all)), parts.len())
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn part_of(object: &Object, range: Option<&str>) -> Answer {
    let modified = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&object.modified)
        .unwrap();
    let (bytes, all) = (&object.bytes, object.bytes.len());
    let headers = |more: Option<String>| {
        let mut headers = vec![("last-modified", modified.clone()), ("etag", object.etag.clone())];
        headers.extend(more.map(|range| ("content-range", range)));
        headers
    };
    let Some((from, to)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return (200, headers(None), bytes.clone());
    };
    let from: usize = from.parse().unwrap();
    let end = to.parse::<usize>().map_or(all, |to| (to + 1).min(all));
    if from >= all {
        return plain(416, "InvalidRange");
    }
    let shown = format!("bytes {from}-{}/{all}", end - 1);
    (206, headers(Some(shown)), bytes.get(from..end).unwrap().to_vec())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte.unwrap()).to_digit(16).unwrap();
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next()) * 16 + digit(rest.next())).unwrap(),
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
