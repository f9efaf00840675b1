//! A new object that is sent in segments, of which a manifest of the server's makes one object. How large one
//! may be is configured: `part_size`, in `config::destinations`.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Method;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::failure;
use super::requests::{Fault, LONG_ANSWER, PARTS_TRIED_AGAIN, Question, Reply, Requests};
use super::segments::segments_of;
use crate::store::Error;
use crate::store::backend::NewObject;
use crate::store::runtime::wait;

/// From these segments on they are twice as large as before, and half as many are under way, as far as there is room in memory
/// for one more: a manifest names at most 1000.
const TWICE_AS_LARGE_FROM: [usize; 2] = [400, 700];
const MOST_SEGMENTS: usize = 1000;

/// How many are removed at once.
const REMOVED_AT_ONCE: usize = 8;

/// One that the server has.
#[derive(Debug)]
struct Segment {
    number: usize,
    bytes: u64,
    md5: [u8; 16],
}

/// A new object.
pub(super) struct NewUpload {
    requests: Arc<Requests>,
    path: String,
    at: String,
    /// What the names of its segments begin with.
    segments: String,
    filling: Vec<u8>,
    part_size: usize,
    concurrency: usize,
    bytes: u64,
    begun: usize,
    under_way: FuturesUnordered<JoinHandle<Result<Segment, Fault>>>,
    done: Vec<Segment>,
    /// Nothing is taken back: an object names the segments, or may name them.
    has_ended: bool,
}

impl NewUpload {
    pub fn begin(
        requests: &Arc<Requests>,
        (path, at, segments): (String, String, String),
        part_size: usize,
        concurrency: usize,
    ) -> NewUpload {
        NewUpload {
            requests: requests.clone(),
            path,
            at,
            segments,
            filling: Vec::new(),
            part_size,
            concurrency,
            bytes: 0,
            begun: 0,
            under_way: FuturesUnordered::new(),
            done: Vec::new(),
            has_ended: false,
        }
    }

    /// How large the next segment is, and how many may be under way beside the one that is being filled.
    fn next(&self) -> (usize, usize) {
        let (times, at_once) = next(self.begun, self.concurrency);
        (self.part_size * times, at_once)
    }

    async fn hand_on(&mut self) -> Result<(), Fault> {
        let (_, at_once) = self.next();
        while self.under_way.len() >= at_once {
            self.one_more().await?;
        }
        let number = self.begun;
        if number == MOST_SEGMENTS {
            return Err(Fault::Other(format!(
                "it has more than {MOST_SEGMENTS} segments: raise `part_size`"
            )));
        }
        self.begun += 1;
        let block = Bytes::from(std::mem::take(&mut self.filling));
        let (requests, path) = (self.requests.clone(), format!("{}/{number:08}", self.segments));
        self.under_way.push(tokio::spawn(async move {
            let (bytes, md5) = (block.len() as u64, digest(&block));
            let mut question = Question::new(Method::PUT, &path);
            question.headers.push(("ETag", hex(&md5)));
            question.body = block;
            question.tried_again = PARTS_TRIED_AGAIN;
            let reply = requests.ask(&question).await?;
            same(&reply, &hex(&md5))?;
            Ok(Segment { number, bytes, md5 })
        }));
        let (_, at_once) = self.next();
        while self.under_way.len() > at_once {
            self.one_more().await?;
        }
        Ok(())
    }

    async fn one_more(&mut self) -> Result<(), Fault> {
        if let Some(ended) = self.under_way.next().await {
            let sent = ended.map_err(|error| Fault::Other(error.to_string()))?;
            self.done.push(sent?);
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<Ended, Fault> {
        if self.begun == 0 {
            let body = Bytes::from(std::mem::take(&mut self.filling));
            return put_new(&self.requests, &self.path, body).await;
        }
        if !self.filling.is_empty() {
            self.hand_on().await?;
        }
        while !self.under_way.is_empty() {
            self.one_more().await?;
        }
        self.done.sort_unstable_by_key(|segment| segment.number);
        let segments = self.done.iter().map(|segment| {
            json!({
                "path": format!("/{}/{}/{:08}", self.requests.container, self.segments, segment.number),
                "etag": hex(&segment.md5),
                "size_bytes": segment.bytes,
            })
        });
        let manifest = Value::Array(segments.collect()).to_string();
        let mut question = Question::new(Method::PUT, &self.path);
        question.query.push(("multipart-manifest", "put".to_owned()));
        question.headers.push(("If-None-Match", "*".to_owned()));
        question
            .headers
            .push(("Content-Type", "application/octet-stream".to_owned()));
        question.body = manifest.into();
        question.silence = LONG_ANSWER;
        // From here on there may be an object that names them, whatever is heard of it.
        self.has_ended = true;
        let told = self.requests.ask(&question).await;
        let all: String = self.done.iter().map(|segment| hex(&segment.md5)).collect();
        let of_all = hex(&digest(all.as_bytes()));
        match told {
            Ok(reply) => same(&reply, &of_all).map(|()| Ended::Done),
            // The reply to a request before may have been lost: what is there names these segments, or others.
            Err(fault) => {
                let mut question = Question::new(Method::GET, &self.path);
                question.query.push(("multipart-manifest", "get".to_owned()));
                let found = self.requests.ask(&question).await;
                let is_own = |reply: &Reply| String::from_utf8_lossy(&reply.body).contains(&self.segments);
                if found.as_ref().is_ok_and(is_own) {
                    return Ok(Ended::Done);
                }
                // Where it is not sure that there is none, a sweep decides.
                self.has_ended = match &found {
                    Ok(_) => false,
                    Err(found) => !(fault.is_refusal() && matches!(found, Fault::Told(404, _))),
                };
                match found {
                    Ok(_) if is_there_already(&fault) => Ok(Ended::Taken),
                    Ok(_) | Err(_) => Err(fault),
                }
            }
        }
    }

    /// Takes back what was sent.
    async fn give_up(&mut self) {
        for sending in &self.under_way {
            sending.abort();
        }
        while self.under_way.next().await.is_some() {}
        let paths = (0..self.begun).map(|number| format!("{}/{number:08}", self.segments));
        // What stays is swept later.
        remove_all(&self.requests, paths.collect()).await.ok();
    }
}

/// How many times as large as the first the next segment is, and how many may be under way beside the one that is being
/// filled. Together they take no more than the first ones and two that wait.
fn next(begun: usize, concurrency: usize) -> (usize, usize) {
    let wanted = TWICE_AS_LARGE_FROM.iter().filter(|from| begun >= **from).count();
    let at_once = |doubled: usize| ((concurrency + 2) >> doubled).saturating_sub(1);
    let doubled = (1..=wanted).rev().find(|doubled| at_once(*doubled) > 0);
    match doubled {
        Some(doubled) => (1 << doubled, at_once(doubled)),
        None => (1, concurrency.max(1)),
    }
}

/// How the writing of an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is there.
    Done,
    /// Another is there.
    Taken,
}

/// Writes an object by one request, where there is none.
pub(super) async fn put_new(requests: &Requests, path: &str, body: Bytes) -> Result<Ended, Fault> {
    let md5 = hex(&digest(&body));
    let mut question = Question::new(Method::PUT, path);
    question.headers.push(("ETag", md5.clone()));
    question.headers.push(("If-None-Match", "*".to_owned()));
    question.body = body.clone();
    let fault = match requests.ask(&question).await {
        Ok(reply) => return same(&reply, &md5).map(|()| Ended::Done),
        Err(fault) => fault,
    };
    // The reply to our own write may have been lost, and the same tried again: what is there tells.
    let mut question = Question::new(Method::GET, path);
    question.most = (body.len() as u64)
        .saturating_add(1)
        .max(super::requests::LARGEST_DOCUMENT);
    match requests.ask(&question).await {
        Ok(reply) if reply.body == body => Ok(Ended::Done),
        Ok(_) if is_there_already(&fault) => Ok(Ended::Taken),
        Ok(_) | Err(_) => Err(fault),
    }
}

fn is_there_already(fault: &Fault) -> bool {
    matches!(fault, Fault::Told(412 | 409, _))
}

/// Whether the server has what it was sent.
pub(super) fn same(reply: &Reply, md5: &str) -> Result<(), Fault> {
    match reply.etag() {
        Some(etag) if etag == md5 => Ok(()),
        Some(etag) => Err(Fault::Other(format!(
            "what the server has is not what was sent: its MD5 is {etag}, not {md5}"
        ))),
        None => Err(Fault::Other("the server does not say what it has taken".to_owned())),
    }
}

/// Removes objects; those that are gone are no error.
pub(super) async fn remove_all(requests: &Requests, paths: Vec<String>) -> Result<(), Fault> {
    let removed = futures_util::stream::iter(paths).map(async |path| {
        match requests.ask(&Question::new(Method::DELETE, &path)).await {
            Ok(_) | Err(Fault::Told(404, _)) => Ok(()),
            Err(fault) => Err(fault),
        }
    });
    let removed: Vec<Result<(), Fault>> = removed.buffer_unordered(REMOVED_AT_ONCE).collect().await;
    removed.into_iter().collect()
}

pub(super) fn digest(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Write for NewUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (size, _) = self.next();
        if self.filling.capacity() < size && self.begun > 0 {
            self.filling.reserve_exact(size - self.filling.len());
        }
        let taken = bytes.len().min(size.saturating_sub(self.filling.len()));
        self.filling.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.bytes += taken as u64;
        if self.filling.len() >= size {
            let sent = wait(self.hand_on());
            sent.map_err(|fault| io::Error::other(failure("write", self.at.clone(), fault)))?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewObject for NewUpload {
    fn commit(mut self: Box<Self>) -> Result<(), Error> {
        match wait(self.complete()) {
            Ok(Ended::Done) => {
                self.has_ended = true;
                Ok(())
            }
            Ok(Ended::Taken) => Err(Error::AlreadyExists { at: self.at.clone() }),
            Err(fault) => Err(failure("complete", self.at.clone(), fault)),
        }
    }

    fn forget(mut self: Box<Self>) {
        self.has_ended = true;
        for sending in &self.under_way {
            sending.abort();
        }
    }
}

impl Drop for NewUpload {
    fn drop(&mut self) {
        if !self.has_ended && self.begun > 0 {
            wait(self.give_up());
        }
    }
}

/// A name for the segments of a new upload of an object, below `folder`.
pub(super) fn segments_anew(folder: &str, object: &str) -> io::Result<String> {
    let random: [u8; 8] = crate::durable::random()?;
    Ok(format!("{}{}", segments_of(folder, object), hex(&random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_grow_no_further_than_the_memory_that_is_configured() {
        for concurrency in 1..=16 {
            let all = |begun| {
                let (times, at_once) = next(begun, concurrency);
                assert!(at_once > 0, "{begun} {concurrency}");
                times * (at_once + 1)
            };
            for begun in 0..MOST_SEGMENTS {
                assert!(all(begun) <= concurrency + 2, "{begun} {concurrency}");
                // While the first of the larger ones is filled, smaller ones are under way.
                let (before, _) = next(begun, concurrency);
                let (after, at_once) = next(begun + 1, concurrency);
                assert!(before * at_once + after <= concurrency + 2, "{begun} {concurrency}");
            }
        }
        assert_eq!((next(0, 4), next(400, 4), next(700, 4)), ((1, 4), (2, 2), (2, 2)));
        assert_eq!((next(0, 1), next(999, 1), next(999, 6)), ((1, 1), (1, 1), (4, 1)));
    }
}
