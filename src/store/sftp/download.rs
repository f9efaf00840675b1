//! A file that is read once, several blocks asked for at a time.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};

use super::connection::{Fault, Session};
use super::reconnect::Line;
use crate::store::runtime::{meanwhile, wait};

/// How many blocks are asked for at once.
const UNDER_WAY: usize = 16;

/// How often a connection may break with nothing that came through between.
const LOSSES: u32 = 3;

type Asked = Pin<Box<dyn Future<Output = Result<Vec<u8>, Fault>> + Send>>;

/// A file on a server.
pub(super) struct OfFile {
    line: Arc<Line>,
    session: Arc<Session>,
    path: String,
    handle: String,
    bytes: u64,
    /// How much has come, and how much was asked for.
    come: u64,
    asked: u64,
    under_way: FuturesOrdered<Asked>,
    block: io::Cursor<Vec<u8>>,
    losses: u32,
}

impl OfFile {
    /// Opens it.
    pub async fn open(line: &Arc<Line>, path: &str) -> Result<OfFile, Fault> {
        let (session, handle, bytes) = line
            .ask(async |session| {
                let (handle, bytes) = open(&session, path).await?;
                Ok((session, handle, bytes))
            })
            .await?;
        Ok(OfFile {
            line: line.clone(),
            session,
            path: path.to_owned(),
            handle,
            bytes,
            come: 0,
            asked: 0,
            under_way: FuturesOrdered::new(),
            block: io::Cursor::default(),
            losses: 0,
        })
    }

    /// How large it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What comes next; empty at the end.
    pub async fn next(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            while self.under_way.len() < UNDER_WAY && self.asked < self.bytes {
                let length = (self.bytes - self.asked).min(self.session.read_at_once as u64);
                self.under_way
                    .push_back(asking(&self.session, &self.handle, self.asked, length as usize));
                self.asked += length;
            }
            match self.under_way.next().await {
                None => return Ok(Vec::new()),
                Some(Ok(block)) => {
                    self.come += block.len() as u64;
                    self.losses = 0;
                    return Ok(block);
                }
                Some(Err(Fault::Lost(why))) => self.go_on(why).await?,
                Some(Err(fault)) => return Err(fault),
            }
        }
    }

    async fn go_on(&mut self, why: String) -> Result<(), Fault> {
        self.losses += 1;
        if self.losses > LOSSES {
            return Err(Fault::Lost(why));
        }
        self.under_way = FuturesOrdered::new();
        self.session = self.line.anew_patiently(&self.session).await?;
        let (handle, bytes) = open(&self.session, &self.path).await?;
        if bytes != self.bytes {
            return Err(Fault::Other(format!(
                "it had {} bytes, and now has {bytes}",
                self.bytes
            )));
        }
        self.handle = handle;
        self.asked = self.come;
        Ok(())
    }
}

impl Read for OfFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.block.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        let next = wait(self.next());
        let next = next.map_err(|fault| io::Error::other(self.line.failed("read", &self.path, fault)))?;
        self.block = io::Cursor::new(next);
        self.block.read(buffer)
    }
}

impl Drop for OfFile {
    fn drop(&mut self) {
        let (session, handle) = (self.session.clone(), std::mem::take(&mut self.handle));
        meanwhile(async move {
            session.hear(session.sftp.close(handle)).await.ok();
        });
    }
}

/// Opens a plain file; its size.
async fn open(session: &Session, path: &str) -> Result<(String, u64), Fault> {
    let opened = session.sftp.open(path, OpenFlags::READ, FileAttributes::empty());
    let handle = session.hear(opened).await?.handle;
    let found = session.hear(session.sftp.fstat(&handle)).await?.attrs;
    let is_plain = found.permissions.is_none() || found.is_regular();
    match (found.size, is_plain) {
        (Some(bytes), true) => Ok((handle, bytes)),
        _ => {
            session.hear(session.sftp.close(&handle)).await.ok();
            Err(Fault::Other("it is no plain file".to_owned()))
        }
    }
}

/// Asks for so many bytes; a server may give fewer at once.
fn asking(session: &Arc<Session>, handle: &str, at: u64, length: usize) -> Asked {
    let (session, handle) = (session.clone(), handle.to_owned());
    Box::pin(async move {
        let mut block = Vec::with_capacity(length);
        while block.len() < length {
            let (from, rest) = (at + block.len() as u64, length - block.len());
            let read = session
                .sftp
                .read(&handle, from, u32::try_from(rest).unwrap_or(u32::MAX));
            match session.hear(read).await {
                Ok(data) if !data.data.is_empty() && data.data.len() <= rest => block.extend_from_slice(&data.data),
                Ok(_) => return Err(Fault::Other("another length than was asked for".to_owned())),
                Err(Fault::Told(StatusCode::Eof, _)) => {
                    return Err(Fault::Other(
                        "it ends before the size that it was said to have".to_owned(),
                    ));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(block)
    })
}
