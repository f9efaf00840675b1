//! Object stores: `s3:`, `gs:`, `azblob:` and `oss:` destinations.
//!
//! Their requests are made by opendal, which is kept behind this seam; what this module adds is what a store of backups
//! needs: a new object is one only once, a write whose reply was lost is settled by reading the name back, an upload that
//! fails is taken back, and the time is the server's. Requests that opendal does not make are in `s3_requests`.

#![cfg_attr(
    not(all(feature = "s3", feature = "gs", feature = "azblob", feature = "oss")),
    allow(
        dead_code,
        unused_imports,
        unused_assignments,
        unused_mut,
        reason = "what one kind needs is built with each"
    )
)]

mod credentials;
mod failure;
mod listing;
mod lock;
mod open_uploads;
mod opendal_services;
mod probe;
mod receipt;
mod s3_requests;
#[cfg(test)]
#[cfg(feature = "s3")]
mod tests;
mod transport;
mod upload;
mod upload_headers;

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use opendal::{Buffer, BufferStream, ErrorKind, Operator};

use super::backend::{Backend, Cache, FreeSpace, NewObject, Opened, Under};
use super::bucket_options::{Checksum, ReadingBack};
use super::document_cache::Sum;
use super::http::Clock;
use super::location::Bucket;
use super::probe::{Answer, OfKind};
use super::runtime::wait;
use super::{Credentials, Error};
use crate::layout::{Listed, ListedObject, ObjectName};
use credentials::Rotating;
use failure::{failure, is_there_already};
use opendal_services::Operators;
use receipt::Sent;
use s3_requests::{Reply, Requests};
use upload::NewUpload;
use upload_headers::BYTES;

/// How many bytes of a new object are handed on at once.
const HANDED_ON: usize = 1 << 20;

/// What is in a bucket below one prefix.
#[derive(Debug)]
pub(super) struct Objects {
    operator: Operator,
    uploads: Operator,
    requests: Option<Arc<Requests>>,
    /// The keys, where they are read again.
    keys: Option<Arc<Rotating>>,
    /// When they run out, where they are not.
    keys_end: Option<Timestamp>,
    /// What people know the prefix by.
    address: String,
    clock: Arc<Clock>,
    part_size: usize,
    concurrency: usize,
    read_back: ReadingBack,
    object_lock: Option<Duration>,
    /// Whether the bucket has locks, once it was asked.
    locks: OnceLock<Answer>,
    checksum: Checksum,
}

impl Objects {
    /// Those of the store in this `folder` of a destination; of an empty one, all of the destination.
    pub fn of(bucket: &Bucket, folder: &str) -> Result<Objects, Error> {
        Objects::by(bucket, folder, opendal_services::operator)
    }

    fn by(
        bucket: &Bucket,
        folder: &str,
        operators: impl FnOnce(&Bucket, &str, &Arc<Clock>) -> Result<Operators, String>,
    ) -> Result<Objects, Error> {
        let parts = [bucket.prefix.as_str(), folder];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let prefix = parts.join("/");
        let whole = Bucket {
            prefix: prefix.clone(),
            ..bucket.clone()
        };
        let clock = Arc::new(Clock::default());
        let operators = operators(bucket, &prefix, &clock).map_err(|why| Error::Io {
            doing: "open",
            at: whole.to_string(),
            source: io::Error::other(why),
        })?;
        Ok(Objects {
            operator: operators.all_else,
            uploads: operators.uploads,
            requests: operators.requests.map(Arc::new),
            keys: operators.keys,
            keys_end: operators.keys_end,
            read_back: bucket.options.read_back,
            object_lock: bucket.options.object_lock,
            locks: OnceLock::new(),
            checksum: upload_headers::checksum(bucket),
            address: whole.to_string(),
            clock,
            part_size: usize::try_from(bucket.options.part_size).unwrap_or(usize::MAX),
            concurrency: bucket.options.concurrency,
        })
    }

    /// How much is read with one request. Less than a part: there is more memory behind what is read than its bytes.
    fn range(&self) -> usize {
        self.part_size / 2
    }

    fn failed<'a>(&'a self, doing: &'static str, path: &'a str) -> impl FnOnce(opendal::Error) -> Error + 'a {
        move |error| failure(doing, self.address(path), &error)
    }

    /// What a server answered to a request of our own.
    fn refused(&self, doing: &'static str, path: &str, reply: &Reply) -> Error {
        let (at, why) = (self.address(path), reply.said());
        match reply.status {
            _ if why.starts_with("NoSuchBucket") => Error::NoBucket { doing, at },
            http::StatusCode::NOT_FOUND => Error::NotFound { doing, at },
            http::StatusCode::FORBIDDEN | http::StatusCode::UNAUTHORIZED => Error::Refused { doing, at, why },
            _ => Error::Io {
                doing,
                at,
                source: io::Error::other(why),
            },
        }
    }

    /// The first bytes of an object, by one request.
    fn content(&self, path: &str, most: u64) -> Result<Vec<u8>, opendal::Error> {
        wait(async {
            let reader = self.operator.reader(path).await?;
            let mut stream = reader.into_stream(..).await?;
            let mut content = Vec::new();
            while (content.len() as u64) < most
                && let Some(block) = stream.try_next().await?
            {
                let left = usize::try_from(most).unwrap_or(usize::MAX) - content.len();
                content.extend_from_slice(&block.slice(..left.min(block.len())).to_bytes());
            }
            Ok(content)
        })
    }
}

impl Backend for Objects {
    fn address(&self, path: &str) -> String {
        match path {
            "" => self.address.clone(),
            path => format!("{}/{path}", self.address),
        }
    }

    fn begin(&self, object: &ObjectName) -> Result<Box<dyn NewObject>, Error> {
        let path = object.to_string();
        let writer = self.uploads.writer_with(&path).content_type(BYTES);
        let writer = writer.chunk(self.part_size).concurrent(self.concurrency);
        let writer = wait(async { writer.if_not_exists(true).await });
        Ok(Box::new(NewUpload {
            writer: Some(writer.map_err(self.failed("begin", &path))?),
            operator: self.operator.clone(),
            at: self.address(&path),
            path,
            waiting: Vec::with_capacity(HANDED_ON),
            bytes: 0,
            sent: (self.read_back == ReadingBack::Never).then(|| Sent::new(self.part_size)),
            requests: self.requests.clone(),
        }))
    }

    fn credentials(&self) -> Credentials {
        match &self.keys {
            Some(keys) => keys.standing(),
            None => Credentials {
                expires_at: self.keys_end,
                trouble: None,
            },
        }
    }

    fn reads_back(&self) -> bool {
        self.read_back == ReadingBack::Always
    }

    fn put_new(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let path = object.to_string();
        if let (Some(requests), Some(lock), true) = (&self.requests, self.object_lock, object.is_manifest()) {
            return self.put_locked(requests, &path, bytes, lock);
        }
        let written = wait(async {
            let write = self.operator.write_with(&path, bytes.to_vec()).content_type(BYTES);
            write.if_not_exists(true).await
        });
        let Err(error) = written else { return Ok(()) };
        // The reply to our own write may have been lost, and the same tried again: what is there tells.
        match self.content(&path, (bytes.len() as u64).saturating_add(1)) {
            Ok(found) if found == bytes => Ok(()),
            Ok(_) if is_there_already(&error) => Err(Error::AlreadyExists {
                at: self.address(&path),
            }),
            Ok(_) | Err(_) => Err(self.failed("write", &path)(error)),
        }
    }

    fn replace(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let path = object.to_string();
        let written = wait(async {
            self.operator
                .write_with(&path, bytes.to_vec())
                .content_type(BYTES)
                .await
        });
        written.map(drop).map_err(self.failed("write", &path))
    }

    fn read(&self, object: &ObjectName, most: u64) -> Result<Vec<u8>, Error> {
        let path = object.to_string();
        self.content(&path, most).map_err(self.failed("read", &path))
    }

    fn open(&self, object: &ObjectName, _: Cache) -> Result<Opened, Error> {
        let path = object.to_string();
        let opened = wait(async {
            let bytes = self.operator.stat(&path).await?.content_length();
            let reader = self.operator.reader_with(&path);
            let reader = reader.chunk(self.range()).concurrent(self.concurrency).await?;
            Ok((bytes, reader.into_stream(0..bytes).await?))
        });
        let (bytes, stream) = opened.map_err(self.failed("open", &path))?;
        let at = self.address(&path);
        let reader = Box::new(OfObject {
            stream,
            rest: Buffer::new(),
            at,
        });
        // Nothing of a part comes before all of it is there.
        let under_way = (self.range() * self.concurrency) as u64;
        let slack = transport::time_to_send(under_way.min(bytes));
        Ok(Opened { reader, bytes, slack })
    }

    fn list(&self, under: &Under, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        Ok(self.list_with_sums(under, sign)?.0)
    }

    fn list_with_sums(&self, under: &Under, sign: &dyn Fn()) -> Result<(Vec<ListedObject>, Vec<Option<Sum>>), Error> {
        listing::below(self, &under.prefix(), sign)
    }

    /// Most list at once; one that is made of many servers may take a while.
    fn listing_delay(&self) -> SignedDuration {
        SignedDuration::from_mins(10)
    }

    fn folders(&self) -> Result<Vec<String>, Error> {
        listing::folders(self)
    }

    fn remove(&self, object: &ObjectName) -> Result<(), Error> {
        let path = object.to_string();
        wait(async { self.operator.delete(&path).await }).map_err(self.failed("remove", &path))
    }

    fn remove_leaving(&self, leaving: &Listed) -> Result<(), Error> {
        match leaving {
            Listed::Ours(name) => self.remove(name),
            Listed::Partial { path, .. } => self.give_up(path),
            // There are no folders.
            Listed::EmptyFolder { .. } | Listed::Foreign(_) | Listed::Unreadable { .. } => Ok(()),
        }
    }

    /// Of the others, what is not completed vanishes by itself, or by a rule of the bucket.
    fn unfinished(&self, _: Option<&[ListedObject]>, sign: &dyn Fn()) -> Result<Option<Vec<ListedObject>>, Error> {
        match &self.requests {
            Some(requests) => self.open_uploads(requests, sign),
            None => Ok(Some(Vec::new())),
        }
    }

    fn lock(&self, object: &ObjectName) -> Result<(), Error> {
        match (&self.requests, self.object_lock) {
            (Some(requests), Some(lock)) => self.lock_for(requests, &object.to_string(), lock),
            (_, None) | (None, _) => Ok(()),
        }
    }

    fn locked_until(&self, object: &ObjectName) -> Result<Option<Timestamp>, Error> {
        match &self.requests {
            Some(requests) => self.lock_of(requests, &object.to_string()),
            None => Ok(None),
        }
    }

    fn locks(&self) -> bool {
        self.requests.is_some() && self.object_lock.is_some()
    }

    fn lists_uploads(&self) -> Result<Answer, Error> {
        match &self.requests {
            Some(requests) => self.tells_of_uploads(requests),
            None => Ok(Answer::None),
        }
    }

    fn parts_from(&self) -> Option<u64> {
        Some(self.part_size as u64 + 1)
    }

    fn of_kind(&self, object: &ObjectName) -> Result<OfKind, Error> {
        match &self.requests {
            Some(requests) => self.probed(requests, &object.to_string()),
            None => Ok(OfKind::NOT_ASKED),
        }
    }

    fn now(&self) -> Result<Timestamp, Error> {
        let marker = ObjectName::StoreMarker.to_string();
        match wait(async { self.operator.stat(&marker).await }) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed("ask for the time", &marker)(error)),
        }
        self.clock.now().ok_or_else(|| Error::Io {
            doing: "ask for the time",
            at: self.address.clone(),
            source: io::Error::other("its replies have no date"),
        })
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, Error> {
        Ok(None)
    }
}

/// An object that is read once.
struct OfObject {
    stream: BufferStream,
    rest: Buffer,
    at: String,
}

impl Read for OfObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            let next = wait(self.stream.try_next());
            match next.map_err(|error| io::Error::other(failure("read", self.at.clone(), &error)))? {
                Some(block) => self.rest = block,
                None => return Ok(0),
            }
        }
        bytes::Buf::reader(&mut self.rest).read(buffer)
    }
}
