//! A new file that is sent block by block, several under way, and that outlives a connection.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use russh_sftp::protocol::{FileAttributes, OpenFlags, StatusCode};

use super::connection::{Fault, SILENCE, Session};
use super::files::{self, is_missing};
use super::reconnect::Line;
use crate::durable;
use crate::store::backend::NewObject;
use crate::store::folder::FILE_MODE;
use crate::store::runtime::{wait, wait_or_leave};
use crate::store::{Error, time_to_sync};

/// How many blocks are under way at once.
const UNDER_WAY: usize = 16;

/// How often a connection may break with nothing that came through between.
const LOSSES: u32 = 3;

/// A sweep may take away the folder while it is empty, between making it and writing to it.
const ATTEMPTS: u32 = 3;

type Sending = Pin<Box<dyn Future<Output = (u64, Result<(), Fault>)> + Send>>;

/// How the name of a file was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It has its name.
    Done,
    /// Another has it; or this one, where a connection broke.
    Taken,
}

/// A file that is being written beside its name.
pub(super) struct NewFile {
    line: Arc<Line>,
    session: Arc<Session>,
    handle: String,
    /// Empty once it has its name, or is left as it is.
    temp: String,
    target: String,
    store: String,
    filling: Vec<u8>,
    sent: u64,
    under_way: FuturesUnordered<Sending>,
    /// What the server has not taken yet, by where it belongs.
    unsettled: BTreeMap<u64, Arc<[u8]>>,
    losses: u32,
    has_been_lost: bool,
}

impl NewFile {
    /// Begins the file `target`, somewhere below the folder `store`; with `makes_store`, that one is made, too.
    pub async fn begin(line: &Arc<Line>, store: &str, target: &str, makes_store: bool) -> Result<NewFile, Fault> {
        let (session, handle, temp) = line
            .ask(async |session| {
                let temp = temp_beside(target)?;
                let mut attempt = 1;
                loop {
                    match open(
                        &session,
                        &temp,
                        OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE,
                    )
                    .await
                    {
                        Ok(handle) => return Ok((session, handle, temp)),
                        Err(fault) if is_missing(&fault) && attempt < ATTEMPTS => attempt += 1,
                        Err(fault) => return Err(fault),
                    }
                    files::make_folders_of(&session, store, target, makes_store).await?;
                }
            })
            .await?;
        Ok(NewFile {
            line: line.clone(),
            session,
            handle,
            temp,
            target: target.to_owned(),
            store: store.to_owned(),
            filling: Vec::new(),
            sent: 0,
            under_way: FuturesUnordered::new(),
            unsettled: BTreeMap::new(),
            losses: 0,
            has_been_lost: false,
        })
    }

    /// When it was last written to, by the server's clock.
    pub async fn modified(&self) -> Result<FileAttributes, Fault> {
        let looked = self.session.hear(self.session.sftp.fstat(&self.handle)).await?;
        Ok(looked.attrs)
    }

    /// Whether a connection broke since it was begun: what the server was told then may have been done.
    pub fn has_been_lost(&self) -> bool {
        self.has_been_lost
    }

    /// Hands on what was taken in, and looks what the server says of what it has; waits while more than `most` are under way.
    async fn settle(&mut self, most: usize) -> Result<(), Fault> {
        loop {
            let next = match self.under_way.len() > most {
                true => self.under_way.next().await,
                // Sends what waits.
                false => self.under_way.next().now_or_never().flatten(),
            };
            match next {
                None => return Ok(()),
                Some((at, Ok(()))) => {
                    self.unsettled.remove(&at);
                    self.losses = 0;
                }
                Some((_, Err(Fault::Lost(why)))) => self.go_on(why).await?,
                Some((_, Err(fault))) => return Err(self.explained(fault).await),
            }
        }
    }

    async fn send(&mut self) -> Result<(), Fault> {
        let block: Arc<[u8]> = std::mem::take(&mut self.filling).into();
        self.unsettled.insert(self.sent, block.clone());
        self.under_way
            .push(sending(&self.session, &self.handle, self.sent, block.clone()));
        self.sent += block.len() as u64;
        self.settle(UNDER_WAY).await
    }

    /// Goes on over another connection with what the server is not known to have.
    async fn go_on(&mut self, why: String) -> Result<(), Fault> {
        self.has_been_lost = true;
        self.losses += 1;
        if self.losses > LOSSES {
            return Err(Fault::Lost(why));
        }
        self.under_way = FuturesUnordered::new();
        self.session = self.line.anew_patiently(&self.session).await?;
        self.handle = open(&self.session, &self.temp, OpenFlags::WRITE).await?;
        for (at, block) in &self.unsettled {
            self.under_way
                .push(sending(&self.session, &self.handle, *at, block.clone()));
        }
        Ok(())
    }

    /// A server says no more than "Failure" where its disk is full.
    async fn explained(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Told(StatusCode::Failure, why) => match files::space(&self.session, &self.store).await {
                Ok(Some(space)) if space.available < self.session.write_at_once as u64 => {
                    Fault::Other("no space is left there: free some, or keep fewer backups".to_owned())
                }
                Ok(_) | Err(_) => Fault::Told(StatusCode::Failure, why),
            },
            fault => fault,
        }
    }

    /// Makes it durable and gives it its name: one that nobody has or, with `over`, whoever has it.
    pub async fn finish(&mut self, over: bool) -> Result<Ended, Fault> {
        if !self.filling.is_empty() {
            self.send().await?;
        }
        loop {
            self.settle(0).await?;
            match self.conclude(over).await {
                Ok(ended) => {
                    self.temp.clear();
                    return Ok(ended);
                }
                Err(Fault::Lost(why)) => match self.go_on(why).await {
                    // It had lost its first name when the connection broke: for the one that it was to have, or because
                    // another has that. What is there tells, but of one that takes the name from whoever has it.
                    Err(fault) if is_missing(&fault) && self.is_there().await? => {
                        self.temp.clear();
                        return Ok(match over {
                            true => Ended::Done,
                            false => Ended::Taken,
                        });
                    }
                    went_on => went_on?,
                },
                Err(fault) => return Err(self.explained(fault).await),
            }
        }
    }

    async fn conclude(&mut self, over: bool) -> Result<Ended, Fault> {
        let session = self.session.clone();
        if session.offers("fsync@openssh.com") {
            let patience = SILENCE + time_to_sync(self.sent);
            session.hear_within(patience, session.sftp.fsync(&self.handle)).await?;
        }
        let found = self.modified().await?;
        if found.size != Some(self.sent) {
            let size = found.size.unwrap_or_default();
            return Err(Fault::Other(format!(
                "the server has {size} bytes of the {} that were sent",
                self.sent
            )));
        }
        session.hear(session.sftp.close(&self.handle)).await?;
        let ended = match over {
            true => files::rename_over(&session, &self.temp, &self.target)
                .await
                .map(|()| Ended::Done)?,
            false => files::name(&session, &self.temp, &self.target).await?,
        };
        files::sync_folder_of(&session, &self.target).await;
        Ok(ended)
    }

    /// Whether there is a file of its name and its size.
    pub async fn is_there(&self) -> Result<bool, Fault> {
        match self.session.hear(self.session.sftp.lstat(&self.target)).await {
            Ok(found) => Ok(found.attrs.size == Some(self.sent)),
            Err(fault) if is_missing(&fault) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    fn failed(&self, doing: &'static str, fault: Fault) -> Error {
        self.line.failed(doing, &self.target, fault)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let block = self.session.write_at_once;
        if self.filling.capacity() == 0 {
            self.filling.reserve_exact(block);
        }
        let taken = bytes.len().min(block.saturating_sub(self.filling.len()));
        self.filling.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.filling.len() >= block {
            let sent = wait(self.send());
            sent.map_err(|fault| io::Error::other(self.failed("write", fault)))?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewObject for NewFile {
    fn commit(mut self: Box<Self>) -> Result<(), Error> {
        match wait(self.finish(false)) {
            Ok(Ended::Done) => Ok(()),
            // The name was given, and the connection broke before that was said. Who commits reads the bytes back.
            Ok(Ended::Taken) if self.has_been_lost && wait(self.is_there()).unwrap_or_default() => Ok(()),
            Ok(Ended::Taken) => Err(Error::AlreadyExists {
                at: self.line.address(&self.target),
            }),
            Err(fault) => Err(self.failed("write", fault)),
        }
    }

    fn forget(mut self: Box<Self>) {
        self.temp.clear();
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.temp.is_empty() {
            return;
        }
        let take = std::mem::take::<String>;
        let (line, own, handle) = (self.line.clone(), self.session.clone(), take(&mut self.handle));
        let (temp, store, target) = (take(&mut self.temp), take(&mut self.store), take(&mut self.target));
        let given_up = async move {
            let session = line.session().await?;
            if Arc::ptr_eq(&session, &own) {
                session.hear(session.sftp.close(handle)).await.ok();
            }
            session.hear(session.sftp.remove(temp)).await?;
            files::remove_empty_folders(&session, &store, &target).await;
            Ok::<(), Fault>(())
        };
        // What stays is swept later.
        wait_or_leave(async {
            given_up.await.ok();
        });
    }
}

fn sending(session: &Arc<Session>, handle: &str, at: u64, block: Arc<[u8]>) -> Sending {
    let (session, handle) = (session.clone(), handle.to_owned());
    Box::pin(async move {
        let written = session.sftp.write(handle, at, block.to_vec());
        (at, session.hear(written).await.map(drop))
    })
}

async fn open(session: &Session, path: &str, how: OpenFlags) -> Result<String, Fault> {
    let attributes = FileAttributes {
        permissions: Some(FILE_MODE),
        ..FileAttributes::empty()
    };
    Ok(session.hear(session.sftp.open(path, how, attributes)).await?.handle)
}

/// A name beside `target` that nobody else has.
fn temp_beside(target: &str) -> Result<String, Fault> {
    let (folder, name) = target.rsplit_once('/').unwrap_or((".", target));
    let temp = durable::partial_name(name).map_err(|error| Fault::Other(error.to_string()))?;
    Ok(format!("{folder}/{temp}"))
}
