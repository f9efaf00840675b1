//! The snapshot stream of one member, message by message.
//!
//! What it checks is what needs no look into the bytes: that they keep coming, that the count is what the first
//! message promised, and that the stream ends where it should. The digest is checked where the bytes are hashed.
//! Source: `Maintenance.Snapshot` of etcd 3.4 to 3.7; the header that its protobuf documents is never sent, and
//! `remaining_bytes` is 0 in the last message of the database and again in the one that holds the digest.

use std::time::Duration;

use etcd_client::SnapshotStreaming;

use super::{Error, failed};

/// Bytes of the SHA-256 that ends a stream.
pub const DIGEST_BYTES: u64 = 32;

/// A server whose own copy broke goes on sending messages without bytes; this many in a row are an end.
const EMPTY_MESSAGES: u32 = 16;

/// The next bytes of a snapshot.
pub struct Chunk(etcd_client::SnapshotResponse);

impl Chunk {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.blob()
    }
}

/// The open stream. Dropping it ends the member's read transaction.
#[must_use]
pub struct SnapshotStream {
    url: String,
    stream: SnapshotStreaming,
    idle: Duration,
    /// Bytes that the first message promised, digest included.
    promised: Option<u64>,
    received: u64,
    empty: u32,
}

impl SnapshotStream {
    pub(super) fn new(url: String, stream: SnapshotStreaming, idle: Duration) -> Self {
        SnapshotStream {
            url,
            stream,
            idle,
            promised: None,
            received: 0,
            empty: 0,
        }
    }

    /// The endpoint of the member.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The length of the snapshot with its digest; known after the first chunk.
    pub fn promised(&self) -> Option<u64> {
        self.promised
    }

    /// The next bytes, or `None` after exactly as many as were promised.
    ///
    /// Fails when the member is silent for too long, breaks off, or sends more or less than it promised.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            let message = tokio::time::timeout(self.idle, self.stream.message())
                .await
                .map_err(|_| Error::Silent {
                    url: self.url.clone(),
                    call: "Snapshot",
                    after: self.idle,
                })?
                .map_err(|error| failed(&self.url, "Snapshot", &error))?;
            let Some(message) = message else {
                return self.ended();
            };
            let bytes = message.blob().len() as u64;
            if self.promised.is_none() {
                let database = bytes.checked_add(message.remaining_bytes());
                let promised = database.and_then(|database| database.checked_add(DIGEST_BYTES));
                self.promised = Some(promised.ok_or_else(|| self.nonsense("an impossible length".into()))?);
            }
            self.received = self.received.saturating_add(bytes);
            if Some(self.received) > self.promised {
                return Err(self.nonsense(format!(
                    "more than the {} bytes it promised",
                    self.promised.unwrap_or(0)
                )));
            }
            if bytes > 0 {
                self.empty = 0;
                return Ok(Some(Chunk(message)));
            }
            self.empty += 1;
            if self.empty == EMPTY_MESSAGES {
                return Err(self.nonsense(format!(
                    "nothing but empty messages after {} bytes; the member's copy failed: see its log",
                    self.received
                )));
            }
        }
    }

    fn ended(&self) -> Result<Option<Chunk>, Error> {
        match self.promised {
            Some(promised) if promised == self.received => Ok(None),
            Some(promised) => Err(self.nonsense(format!("only {} of {promised} bytes", self.received))),
            None => Err(self.nonsense("an empty stream".into())),
        }
    }

    fn nonsense(&self, what: String) -> Error {
        Error::Nonsense {
            url: self.url.clone(),
            call: "Snapshot",
            what,
        }
    }
}
