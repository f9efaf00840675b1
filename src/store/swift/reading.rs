//! An object that is read from its beginning to its end, several parts of it at once.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use http::Method;

use super::super::runtime::wait;
use super::failure;
use super::requests::{Fault, Question, Requests};

/// How much of an object is asked for by one request. Nothing of it is handed on before all of it is there, so that a slow
/// line is not taken for one that hangs.
const READ_AT_ONCE: u64 = 1 << 20;

type Asked = Pin<Box<dyn Future<Output = Result<Vec<u8>, Fault>> + Send>>;

/// An object that is read once.
pub(super) struct OfObject {
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
    /// The object at `path`, which errors call `at`, of so many bytes; so much of it is asked for at once.
    pub fn new(requests: Arc<Requests>, (path, at): (String, String), bytes: u64, concurrency: usize) -> OfObject {
        OfObject {
            requests,
            path,
            at,
            bytes,
            asked: 0,
            concurrency,
            under_way: FuturesOrdered::new(),
            block: io::Cursor::default(),
        }
    }

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
