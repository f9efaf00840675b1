//! OpenStack Swift: `swift:` destinations.
//!
//! Small objects are written by one request, where there is none; larger ones in segments beside the store's folder, which a
//! static large object names. So one container, and the right to read and write in it, is all that is needed.
//!
//! Invariant: segments are removed after what names them, and only then.

mod login;
mod reading;
mod requests;
mod segments;
mod upload;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use bytes::Bytes;
use http::Method;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Error;
use super::backend::{Backend, Cache, FreeSpace, NewObject, Opened, Under};
use super::http::client;
use super::location::Bucket;
use super::probe::Answer;
use super::runtime::wait;
use crate::error_chain::with_causes;
use crate::layout::{Listed, ListedObject, ObjectName};
use login::Login;
use reading::OfObject;
use requests::{Fault, LONG_ANSWER, Question, Requests};
use upload::{Ended, NewUpload, digest, hex, put_new, remove_all, same, segments_anew};

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
            let page = self.page(prefix, delimiter, &marker, None).await?;
            sign();
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

    /// One page: what comes after `marker`, and no more of it than `most`, where that is said.
    async fn page(&self, prefix: &str, delimiter: bool, marker: &str, most: Option<usize>) -> Result<Vec<Told>, Fault> {
        let mut question = Question::new(Method::GET, "");
        question.query.push(("format", "json".to_owned()));
        question.query.push(("prefix", prefix.to_owned()));
        question.silence = LONG_ANSWER;
        if delimiter {
            question.query.push(("delimiter", "/".to_owned()));
        }
        if !marker.is_empty() {
            question.query.push(("marker", marker.to_owned()));
        }
        question.query.extend(most.map(|most| ("limit", most.to_string())));
        let page = match self.requests.ask(&question).await {
            Ok(page) => page.body,
            Err(Fault::Told(404, _)) => return Err(Fault::Told(404, NO_CONTAINER.to_owned())),
            Err(fault) => return Err(fault),
        };
        // No content where there is nothing.
        match page.is_empty() {
            true => Ok(Vec::new()),
            false => serde_json::from_slice(&page)
                .map_err(|_| Fault::Other("the listing is not one that Swift gives".to_owned())),
        }
    }

    async fn is_there(&self, path: &str) -> Result<bool, Fault> {
        match self.requests.ask(&Question::new(Method::HEAD, path)).await {
            Ok(_) => Ok(true),
            Err(Fault::Told(404, _)) => Ok(false),
            Err(fault) => Err(fault),
        }
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
        let at = self.address(&name);
        let reader = Box::new(OfObject::new(
            self.requests.clone(),
            (path, at),
            bytes,
            self.concurrency,
        ));
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

    /// With the segments that it names: those of other uploads of its name are theirs.
    fn remove(&self, object: &ObjectName) -> Result<(), Error> {
        let name = object.to_string();
        let removed = wait(async {
            let named = match may_be_of_segments(object) {
                true => self.segments_named_by(&name).await?,
                false => Vec::new(),
            };
            let removed = self
                .requests
                .ask(&Question::new(Method::DELETE, &self.path_of(object)))
                .await;
            let was_there = match removed {
                Ok(reply) => !reply.was_asked_again,
                Err(Fault::Told(404, _)) => false,
                Err(fault) => return Err(fault),
            };
            let has_named = !named.is_empty();
            remove_all(&self.requests, named).await?;
            match was_there || has_named {
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
    fn unfinished(&self, listed: Option<&[ListedObject]>, sign: &dyn Fn()) -> Result<Option<Vec<ListedObject>>, Error> {
        let listed = match listed {
            Some(listed) => Cow::Borrowed(listed),
            None => Cow::Owned(self.list(&Under::Store, sign)?),
        };
        let found = wait(self.unnamed(&listed, sign));
        found.map(Some).map_err(self.failed("list the segments of", ""))
    }

    fn lists_uploads(&self) -> Result<Answer, Error> {
        let told = wait(self.page(&self.segments, true, "", Some(1)));
        told.map(|_| Answer::Yes)
            .map_err(self.failed("list the segments of", ""))
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

/// Whether an object may have been sent in parts: whatever is written as a stream, by whom ever. Documents are not.
fn may_be_of_segments(object: &ObjectName) -> bool {
    match object {
        ObjectName::Full(_)
        | ObjectName::Canary(_)
        | ObjectName::Delta(..)
        | ObjectName::Pack(..)
        | ObjectName::Mark(..) => true,
        ObjectName::StoreMarker
        | ObjectName::Signers
        | ObjectName::Acceptance(_)
        | ObjectName::FullManifest(..)
        | ObjectName::Pin(_)
        | ObjectName::Check(..)
        | ObjectName::Epoch(..)
        | ObjectName::Gap(..)
        | ObjectName::Claim(..) => false,
    }
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
}
