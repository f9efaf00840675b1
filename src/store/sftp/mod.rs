//! Stores on a server that is reached by SSH: `sftp:` destinations.
//!
//! As on a file system of this host: a new file is written beside its name, brought to the disk and linked, which fails where
//! the name is taken. The protocol is version 3 with the extensions of OpenSSH, each used where the server offers it.
//!
//! Invariant: nothing is said to a server before it has shown a key that was written down beforehand.

mod connection;
mod download;
mod files;
mod host_keys;
mod list;
mod reconnect;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Error;
use super::backend::{Backend, Cache, FreeSpace, NewObject, Opened, Under};
use super::location::Server;
use super::runtime::wait;
use crate::layout::{Listed, ListedObject, ObjectName};
use connection::{Fault, Session};
use download::OfFile;
use files::is_missing;
use list::modified;
use reconnect::Line;
use std::io::Write as _;
use upload::{Ended, NewFile};

/// A folder on a server with the objects of one store, or with the folders of several.
#[derive(Debug)]
pub(super) struct Sftp {
    line: Arc<Line>,
    path: String,
}

impl Sftp {
    /// That of `cluster` in the destination; it need not be there, but the destination's own folder must.
    pub fn in_destination(server: &Server, cluster: &str) -> Result<Sftp, Error> {
        let top = Sftp::at(server);
        let root = top.path.clone();
        let looked = wait(
            top.line
                .ask(async |session| session.hear(session.sftp.stat(&root)).await),
        );
        match looked {
            Ok(found) if found.attrs.is_dir() => {}
            Ok(_) => {
                let at = top.line.address(&root);
                let (found, expected) = ("a file".to_owned(), "a folder".to_owned());
                return Err(Error::Unfit { at, found, expected });
            }
            Err(fault) if is_missing(&fault) => return Err(top.no_folder("look at")),
            Err(fault) => return Err(top.line.failed("look at", &root, fault)),
        }
        Ok(Sftp {
            path: join(&root, cluster),
            line: top.line,
        })
    }

    /// The destination's own.
    pub fn at(server: &Server) -> Sftp {
        Sftp {
            line: Arc::new(Line::to(server)),
            path: server.path.clone(),
        }
    }

    fn no_folder(&self, doing: &'static str) -> Error {
        Error::NoFolder {
            doing,
            at: self.address(""),
        }
    }

    fn path_of(&self, object: &ObjectName) -> String {
        join(&self.path, &object.to_string())
    }

    /// Asks, and once more where the connection breaks meanwhile.
    fn ask<T>(
        &self,
        doing: &'static str,
        path: &str,
        question: impl AsyncFn(Arc<Session>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        wait(self.line.ask(question)).map_err(|fault| self.line.failed(doing, path, fault))
    }

    async fn begin_at(&self, path: &str, makes_store: bool) -> Result<NewFile, Fault> {
        NewFile::begin(&self.line, &self.path, path, makes_store).await
    }

    fn write(&self, object: &ObjectName, bytes: &[u8], over: bool) -> Result<(Ended, bool), Error> {
        let path = self.path_of(object);
        let failed = |fault| self.line.failed("write", &path, fault);
        let makes_store = *object == ObjectName::StoreMarker;
        let mut file = wait(self.begin_at(&path, makes_store)).map_err(failed)?;
        file.write_all(bytes)
            .map_err(|source| Error::at("write", self.line.address(&path), source))?;
        let ended = wait(file.finish(over)).map_err(failed)?;
        Ok((ended, file.has_been_lost()))
    }

    /// Removes a file, and folders that are empty then.
    fn remove_file(&self, path: &str) -> Result<(), Error> {
        self.ask("remove", path, async |session| {
            session.hear(session.sftp.remove(path)).await?;
            files::sync_folder_of(&session, path).await;
            files::remove_empty_folders(&session, &self.path, path).await;
            Ok(())
        })
    }

    fn remove_empty_folder(&self, path: &str) -> Result<(), Error> {
        self.ask("remove", path, async |session| {
            match session.hear(session.sftp.rmdir(path)).await {
                Ok(_) => files::remove_empty_folders(&session, &self.path, path).await,
                // Another has just put something into it: there is no empty one any more.
                Err(Fault::Told(russh_sftp::protocol::StatusCode::Failure, why)) => {
                    return Err(Fault::Told(russh_sftp::protocol::StatusCode::NoSuchFile, why));
                }
                Err(fault) => return Err(fault),
            }
            Ok(())
        })
    }
}

impl Backend for Sftp {
    fn address(&self, path: &str) -> String {
        match path {
            "" => self.line.address(&self.path),
            path => self.line.address(&join(&self.path, path)),
        }
    }

    fn begin(&self, object: &ObjectName) -> Result<Box<dyn NewObject>, Error> {
        let path = self.path_of(object);
        let begun = wait(self.begin_at(&path, false));
        Ok(Box::new(
            begun.map_err(|fault| self.line.failed("begin", &path, fault))?,
        ))
    }

    fn put_new(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        let (ended, has_been_lost) = self.write(object, bytes, false)?;
        if ended == Ended::Done {
            return Ok(());
        }
        // The name may have been given to it when a connection broke.
        if has_been_lost && self.read(object, (bytes.len() as u64).saturating_add(1))? == bytes {
            return Ok(());
        }
        Err(Error::AlreadyExists {
            at: self.address(&object.to_string()),
        })
    }

    fn replace(&self, object: &ObjectName, bytes: &[u8]) -> Result<(), Error> {
        self.write(object, bytes, true).map(drop)
    }

    fn read(&self, object: &ObjectName, most: u64) -> Result<Vec<u8>, Error> {
        let path = self.path_of(object);
        let read = wait(async {
            let mut file = OfFile::open(&self.line, &path).await?;
            let mut content = Vec::new();
            while (content.len() as u64) < most {
                let mut block = file.next().await?;
                if block.is_empty() {
                    break;
                }
                content.append(&mut block);
            }
            content.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            Ok(content)
        });
        read.map_err(|fault| self.line.failed("read", &path, fault))
    }

    /// What the server keeps in its memory is its own affair.
    fn open(&self, object: &ObjectName, _: Cache) -> Result<Opened, Error> {
        let path = self.path_of(object);
        let file = wait(OfFile::open(&self.line, &path));
        let file = file.map_err(|fault| self.line.failed("open", &path, fault))?;
        let bytes = file.bytes();
        Ok(Opened {
            reader: Box::new(file),
            bytes,
            slack: Duration::ZERO,
        })
    }

    fn list(&self, under: &Under, sign: &dyn Fn()) -> Result<Vec<ListedObject>, Error> {
        let (prefix, inside) = under.folder();
        self.ask("list", &self.path, async |session| {
            // Inside, a folder comes with its first object; the store itself must be there.
            if inside.is_some() {
                session.hear(session.sftp.stat(&self.path)).await?;
            }
            list::all(&session, &self.path, &prefix, inside.clone(), sign).await
        })
    }

    fn listing_delay(&self) -> SignedDuration {
        SignedDuration::ZERO
    }

    fn folders(&self) -> Result<Vec<String>, Error> {
        let listed = wait(self.line.ask(async |session| list::names(&session, &self.path).await));
        listed.map_err(|fault| match is_missing(&fault) {
            true => self.no_folder("list"),
            false => self.line.failed("list", &self.path, fault),
        })
    }

    /// And folders that are empty then.
    fn remove(&self, object: &ObjectName) -> Result<(), Error> {
        self.remove_file(&self.path_of(object))
    }

    fn remove_leaving(&self, leaving: &Listed) -> Result<(), Error> {
        match leaving {
            Listed::Ours(name) => self.remove(name),
            Listed::Partial { path, .. } => self.remove_file(&join(&self.path, path)),
            Listed::EmptyFolder { path, .. } => self.remove_empty_folder(&join(&self.path, path)),
            // Not ours to remove.
            Listed::Foreign(_) | Listed::Unreadable { .. } => Ok(()),
        }
    }

    /// The protocol has no word for it: a file that was just made tells.
    fn now(&self) -> Result<Timestamp, Error> {
        let path = self.path_of(&ObjectName::StoreMarker);
        let failed = |fault| self.line.failed("ask for the time", &path, fault);
        let trial = wait(self.begin_at(&path, false)).map_err(failed)?;
        let found = wait(trial.modified()).map_err(failed)?;
        Ok(modified(&found))
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, Error> {
        self.ask("ask for space in", &self.path, async |session| {
            files::space(&session, &self.path).await
        })
    }
}

fn join(folder: &str, name: &str) -> String {
    match name {
        "" => folder.to_owned(),
        name => format!("{}/{name}", folder.trim_end_matches('/')),
    }
}
