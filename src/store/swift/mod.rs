//! OpenStack Swift: `swift:` destinations.
//!
//! Small objects are written by one request, where there is none; larger ones in segments beside the store's folder, which a
//! static large object names. So one container, and the right to read and write in it, is all that is needed.
//!
//! Invariant: segments are removed after what names them, and only then.

mod login;
mod requests;
mod upload;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use http::Method;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Error;
use super::backend::{Backend, Cache, FreeSpace, NewObject, Opened, Under};
use super::http::client;
use super::location::Bucket;
use super::waiting::wait;
use crate::error_chain::with_causes;
use crate::layout::{Listed, ListedObject, ObjectName};
use login::Login;
use requests::{Fault, LONG_ANSWER, Question, Requests};
use upload::{Ended, NewUpload, digest, hex, put_new, remove_all, same, segments_anew};

/// How much of an object is asked for by one request. Nothing of it is handed on before all of it is there, so that a slow
/// line is not taken for one that hangs.
const READ_AT_ONCE: u64 = 1 << 20;

/// The folder of all segments, beside those of the stores: no cluster has such a name.
const SEGMENTS: &str = ".segments";

/// What is in a container below one prefix.
#[derive(Debug)]
pub(super) struct Swift {
    requests: Arc<Requests>,
    /// What the names of all objects begin with, with a slash at its end unless it is empty.
    prefix: String,
    /// The same for the segments of all objects.
    segments: String,
    address: String,
    part_size: usize,
    concurrency: usize,
}

/// What a listing tells: an object, or a folder.
#[derive(Debug, Deserialize)]
struct Told {
    name: Option<String>,
    subdir: Option<String>,
    #[serde(default)]
    bytes: u64,
    last_modified: Option<String>,
}

impl Swift {
    /// That of the store in this `folder` of a destination; of an empty one, all of the destination.
    pub fn of(bucket: &Bucket, folder: &str) -> Result<Swift, Error> {
        let joined = |parts: &[&str]| {
            let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
            parts.join("/")
        };
        let prefix = joined(&[&bucket.prefix, folder]);
        let whole = Bucket {
            prefix: prefix.clone(),
            ..bucket.clone()
        };
        let options = &bucket.options;
        let made = || {
            let ca = options
                .ca
                .as_ref()
                .map(|ca| ca.read().map_err(|error| with_causes(&error)));
            let ca = ca.transpose()?;
            client(ca.as_ref().map(|ca| ca.expose_secret()))
        };
        let client = made().map_err(|why| Error::Io {
            doing: "open",
            at: whole.to_string(),
            source: io::Error::other(why),
        })?;
        let login = Login::new(
            options.credentials.clone(),
            options.endpoint.clone(),
            options.region.clone(),
        );
        Ok(Swift {
            requests: Arc::new(Requests::new(client, login, &bucket.name)),
            prefix: match prefix.is_empty() {
                true => prefix,
                false => format!("{prefix}/"),
            },
            segments: format!("{}/", joined(&[&bucket.prefix, SEGMENTS, folder])),
            address: whole.to_string(),
            part_size: usize::try_from(options.part_size).unwrap_or(usize::MAX),
            concurrency: options.concurrency,
        })
    }

    fn path_of(&self, object: &ObjectName) -> String {
        format!("{}{object}", self.prefix)
    }

    fn failed<'a>(&'a self, doing: &'static str, path: &'a str) -> impl FnOnce(Fault) -> Error + 'a {
        move |fault| failure(doing, self.address(path), fault)
    }

    /// What the container has below a prefix, page by page.
    async fn listed(
        &self,
        prefix: &str,
        delimiter: bool,
        sign: &dyn Fn(),
        each: &mut dyn FnMut(Told),
    ) -> Result<(), Fault> {
        let mut marker = String::new();
        loop {
            let mut question = Question::new(Method::GET, "");
            question.query.push(("format", "json".to_owned()));
            question.query.push(("prefix", prefix.to_owned()));
            question.silence = LONG_ANSWER;
            if delimiter {
                question.query.push(("delimiter", "/".to_owned()));
            }
            if !marker.is_empty() {
                question.query.push(("marker", marker.clone()));
            }
            let page = match self.requests.ask(&question).await {
                Ok(page) => page.body,
                Err(Fault::Told(404, _)) => return Err(Fault::Told(404, NO_CONTAINER.to_owned())),
                Err(fault) => return Err(fault),
            };
            sign();
            // No content where there is nothing.
            let page: Vec<Told> = match page.is_empty() {
                true => Vec::new(),
                false => serde_json::from_slice(&page)
                    .map_err(|_| Fault::Other("the listing is not one that Swift gives".to_owned()))?,
            };
            let last = page.last().and_then(|told| told.name.as_ref().or(told.subdir.as_ref()));
            match last {
                // A server that does not get on would be asked for ever.
                Some(last) if *last > marker => marker.clone_from(last),
                Some(_) => return Err(Fault::Other("the listing goes in circles".to_owned())),
                None => return Ok(()),
            }
            page.into_iter().for_each(&mut *each);
        }
    }

    /// The names of the segments of one upload, or of all of an object, and when the last was written.
    async fn segments_below(&self, prefix: &str) -> Result<(Vec<String>, Timestamp), Fault> {
        let (mut names, mut last) = (Vec::new(), Timestamp::MIN);
        let mut each = |told: Told| {
            last = last.max(modified(told.last_modified.as_deref()));
            names.extend(told.name);
        };
        self.listed(prefix, false, &|| {}, &mut each).await?;
        Ok((names, last))
    }

    async fn is_there(&self, path: &str) -> Result<bool, Fault> {
        match self.requests.ask(&Question::new(Method::HEAD, path)).await {
            Ok(_) => Ok(true),
            Err(Fault::Told(404, _)) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Removes the segments of an upload that did not end.
    async fn give_up(&self, path: &str) -> Result<(), Fault> {
        let (object, _) = path.rsplit_once('+').unwrap_or((path, ""));
        let object = object.replace('+', "/");
        // It has been completed since.
        if self.is_there(&format!("{}{object}", self.prefix)).await? {
            return Ok(());
        }
        let (names, _) = self.segments_below(&format!("{}{path}/", self.segments)).await?;
        remove_all(&self.requests, names).await
    }
}

/// What the server says of an object, too, where there is no container.
const NO_CONTAINER: &str = "no container";

impl Backend for Swift {
    fn address(&self, path: &str) -> String {
        match path {
            "" => self.address.clone(),
            path => format!("{}/{path}", self.address),
        }
    }

    fn begin(&self, object: &ObjectName) -> Result<Box<dyn NewObject>, Error> {
        let name = object.to_string();
        let at = self.address(&name);
        let segments = segments_anew(&self.segments, &name)
            .map_err(|source| Error::at("get random digits for", at.clone(), source))?;
        let names = (self.path_of(object), at, segments);
        Ok(Box::new(NewUpload::begin(
            &self.requests,
            names,
            self.part_size,
            self.concurrency,
        )))
    }

    fn put_new(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let name = object.to_string();
        let put = wait(put_new(
            &self.requests,
            &self.path_of(object),
            Bytes::copy_from_slice(bytes),
        ));
        match put.map_err(without_container).map_err(self.failed("write", &name))? {
            Ended::Done => Ok(()),
            Ended::Taken => Err(Error::AlreadyExists {
                at: self.address(&name),
            }),
        }
    }

    fn replace(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let name = object.to_string();
        let md5 = hex(&digest(bytes));
        let mut question = Question::new(Method::PUT, &self.path_of(object));
        question.headers.push(("ETag", md5.clone()));
        question.body = Bytes::copy_from_slice(bytes);
        let put = wait(self.requests.ask(&question)).map_err(without_container);
        let put = put.and_then(|reply| same(&reply, &md5));
        put.map_err(self.failed("write", &name))
    }

    fn read(&self, object: &ObjectName, most: u64) -> Result<Vec<u8>, Error> {
        let name = object.to_string();
        let path = self.path_of(object);
        let mut question = Question::new(Method::GET, &path);
        if most > 0 {
            question.headers.push(("Range", format!("bytes=0-{}", most - 1)));
        }
        let read = match wait(self.requests.ask(&question)) {
            // There is no range in an empty object.
            Err(Fault::Told(416, _)) => return Ok(Vec::new()),
            read => read.map_err(self.failed("read", &name))?,
        };
        let mut content = read.body;
        content.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(content)
    }

    fn open(&self, object: &ObjectName, _: Cache) -> Result<Opened, Error> {
        let name = object.to_string();
        let path = self.path_of(object);
        let found = wait(self.requests.ask(&Question::new(Method::HEAD, &path)));
        let found = found.map_err(self.failed("open", &name))?;
        let bytes = found.bytes().ok_or_else(|| Error::Io {
            doing: "open",
            at: self.address(&name),
            source: io::Error::other("the server does not say how large it is"),
        })?;
        let reader = Box::new(OfObject {
            requests: self.requests.clone(),
            path,
            at: self.address(&name),
            bytes,
            asked: 0,
            concurrency: self.concurrency,
            under_way: FuturesOrdered::new(),
            block: io::Cursor::default(),
        });
        Ok(Opened {
            reader,
            bytes,
            slack: Duration::ZERO,
        })
    }

    fn list(&self, under: &Under, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        let inside = under.prefix();
        let mut objects = Vec::new();
        let mut each = |told: Told| {
            let name = told.name.as_deref().and_then(|name| name.strip_prefix(&self.prefix));
            let Some(name) = name.filter(|name| !name.ends_with('/')) else {
                return;
            };
            objects.push(ListedObject {
                name: Listed::file(name),
                bytes: told.bytes,
                modified: modified(told.last_modified.as_deref()),
            });
        };
        let listed = wait(self.listed(&format!("{}{inside}", self.prefix), false, sign, &mut each));
        listed.map_err(self.failed("list", &inside))?;
        Ok(objects)
    }

    /// The servers of containers hear of objects by and by.
    fn listing_delay(&self) -> SignedDuration {
        SignedDuration::from_mins(10)
    }

    fn folders(&self) -> Result<Vec<String>, Error> {
        let mut folders = Vec::new();
        let mut each = |told: Told| {
            let name = told.subdir.as_deref().and_then(|name| name.strip_prefix(&self.prefix));
            folders.extend(name.map(|name| name.trim_end_matches('/').to_owned()));
        };
        let listed = wait(self.listed(&self.prefix, true, &|| {}, &mut each));
        listed.map_err(self.failed("list", ""))?;
        Ok(folders)
    }

    fn remove(&self, object: &ObjectName) -> Result<(), Error> {
        let name = object.to_string();
        let removed = wait(async {
            let removed = self
                .requests
                .ask(&Question::new(Method::DELETE, &self.path_of(object)))
                .await;
            let was_there = match removed {
                Ok(reply) => !reply.was_asked_again,
                Err(Fault::Told(404, _)) => false,
                Err(fault) => return Err(fault),
            };
            // Also those that a run left which was killed between the two.
            let (segments, _) = self.segments_below(&segments_of(&self.segments, &name)).await?;
            let has_segments = !segments.is_empty();
            remove_all(&self.requests, segments).await?;
            match was_there || has_segments {
                true => Ok(()),
                false => Err(Fault::Told(404, String::new())),
            }
        });
        removed.map_err(self.failed("remove", &name))
    }

    fn remove_leaving(&self, leaving: &Listed) -> Result<(), Error> {
        match leaving {
            Listed::Ours(name) => self.remove(name),
            Listed::Partial { path, .. } => {
                let upload = path.rsplit_once('/').map_or(path.as_str(), |(_, upload)| upload);
                wait(self.give_up(upload)).map_err(self.failed("remove", path))
            }
            // There are no folders.
            Listed::EmptyFolder { .. } | Listed::Foreign(_) | Listed::Unreadable { .. } => Ok(()),
        }
    }

    /// Segments that nothing names.
    fn unfinished(&self) -> Result<Option<Vec<ListedObject>>, Error> {
        let doing = "list the segments of";
        let found = wait(async {
            let mut uploads = Vec::new();
            let mut each = |told: Told| {
                let name = told
                    .subdir
                    .as_deref()
                    .and_then(|name| name.strip_prefix(&self.segments));
                uploads.extend(name.map(|name| name.trim_end_matches('/').to_owned()));
            };
            self.listed(&self.segments, true, &|| {}, &mut each).await?;
            if uploads.is_empty() {
                return Ok(Vec::new());
            }
            // Listed afterwards: what was completed meanwhile is there.
            let mut there = BTreeSet::new();
            let mut each = |told: Told| there.extend(told.name);
            self.listed(&self.prefix, false, &|| {}, &mut each).await?;
            let mut unfinished = Vec::new();
            for upload in uploads {
                let Some((object, _)) = upload.rsplit_once('+') else {
                    continue;
                };
                let object = object.replace('+', "/");
                let Ok(of) = object.parse() else { continue };
                if there.contains(&format!("{}{object}", self.prefix)) {
                    continue;
                }
                let (_, modified) = self.segments_below(&format!("{}{upload}/", self.segments)).await?;
                unfinished.push(ListedObject {
                    name: Listed::Partial {
                        path: format!("{SEGMENTS}/{upload}"),
                        of,
                    },
                    bytes: 0,
                    modified,
                });
            }
            Ok(unfinished)
        });
        found.map(Some).map_err(self.failed(doing, ""))
    }

    fn lists_uploads(&self) -> bool {
        true
    }

    fn parts_from(&self) -> Option<u64> {
        Some(self.part_size as u64 + 1)
    }

    fn now(&self) -> Result<Timestamp, Error> {
        let path = self.path_of(&ObjectName::StoreMarker);
        wait(self.is_there(&path)).map_err(self.failed("ask for the time", ""))?;
        self.requests.clock.now().ok_or_else(|| Error::Io {
            doing: "ask for the time",
            at: self.address.clone(),
            source: io::Error::other("its replies have no date"),
        })
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, Error> {
        Ok(None)
    }
}

type Asked = Pin<Box<dyn Future<Output = Result<Vec<u8>, Fault>> + Send>>;

/// An object that is read once.
struct OfObject {
    requests: Arc<Requests>,
    path: String,
    at: String,
    bytes: u64,
    asked: u64,
    concurrency: usize,
    under_way: FuturesOrdered<Asked>,
    block: io::Cursor<Vec<u8>>,
}

impl OfObject {
    async fn next(&mut self) -> Result<Vec<u8>, Fault> {
        while self.under_way.len() < self.concurrency && self.asked < self.bytes {
            let length = (self.bytes - self.asked).min(READ_AT_ONCE);
            let mut question = Question::new(Method::GET, &self.path);
            let range = format!("bytes={}-{}", self.asked, self.asked + length - 1);
            question.headers.push(("Range", range));
            question.most = length;
            let requests = self.requests.clone();
            self.under_way.push_back(Box::pin(async move {
                let reply = requests.ask(&question).await?;
                match reply.body.len() as u64 == length {
                    true => Ok(reply.body),
                    false => Err(Fault::Other("another length than was asked for".to_owned())),
                }
            }));
            self.asked += length;
        }
        self.under_way.next().await.unwrap_or_else(|| Ok(Vec::new()))
    }
}

impl Read for OfObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.block.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        let next = wait(self.next());
        let next = next.map_err(|fault| io::Error::other(failure("read", self.at.clone(), fault)))?;
        self.block = io::Cursor::new(next);
        self.block.read(buffer)
    }
}

/// What the names of all segments of an object begin with: the name of the upload follows.
fn segments_of(segments: &str, object: &str) -> String {
    format!("{segments}{}+", object.replace('/', "+"))
}

/// Of what is written by one request: it is the container that is not there.
fn without_container(fault: Fault) -> Fault {
    match fault {
        Fault::Told(404, _) => Fault::Told(404, NO_CONTAINER.to_owned()),
        fault => fault,
    }
}

/// When it was written. A time that cannot be told counts as just now: nothing is swept for it.
fn modified(told: Option<&str>) -> Timestamp {
    let told = told.and_then(|told| told.trim_end_matches('Z').parse::<DateTime>().ok());
    let told = told.and_then(|told| told.to_zoned(TimeZone::UTC).ok());
    told.map_or(Timestamp::MAX, |told| told.timestamp())
}

/// What a server or the way to it said, in our words.
fn failure(doing: &'static str, at: String, fault: Fault) -> Error {
    let io = |at, why: String| Error::Io {
        doing,
        at,
        source: io::Error::other(why),
    };
    match fault {
        Fault::Told(404, why) if why == NO_CONTAINER => Error::NoBucket { doing, at },
        Fault::Told(404, _) => Error::NotFound { doing, at },
        Fault::Told(401, why) | Fault::Told(403, why) | Fault::Refused(why) => Error::Refused { doing, at, why },
        Fault::Told(412, _) => Error::AlreadyExists { at },
        Fault::Told(413 | 507, why) => io(
            at,
            format!("no space is left there, or none that this user may take: {why}"),
        ),
        Fault::Told(status, why) => io(at, format!("{status}: {why}")),
        Fault::Lost(why) => io(at, why),
        Fault::Silent(limit) => io(at, format!("no answer within {} s", limit.as_secs())),
        Fault::Unknown => Error::NoCredentials { doing, at },
        Fault::Other(why) => io(at, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_listings_are_utc() {
        let told = modified(Some("2026-11-20T10:15:30.250000"));
        assert_eq!(told.to_string(), "2026-11-20T10:15:30.25Z");
        assert_eq!(
            modified(Some("2026-11-20T10:15:30Z")).to_string(),
            "2026-11-20T10:15:30Z"
        );
        assert_eq!(
            (modified(Some("soon")), modified(None)),
            (Timestamp::MAX, Timestamp::MAX)
        );
    }

    #[test]
    fn the_names_of_segments_lead_back_to_the_object() {
        let object = "ab/20261120T101530Z-9f3c4a1b/full.db.zst.age";
        let segments = segments_anew("etcd/.segments/prod/", object).unwrap();
        let upload = segments.strip_prefix("etcd/.segments/prod/").unwrap();
        assert!(!upload.contains('/'), "{upload}");
        let (found, id) = upload.rsplit_once('+').unwrap();
        assert_eq!((found.replace('+', "/").as_str(), id.len()), (object, 16));
    }
}
