//! The way to a server: a connection that is made when it is needed, and made anew when it broke.

use std::sync::Arc;
use std::time::Duration;

use russh_sftp::protocol::StatusCode;
use tokio::sync::Mutex;

use super::connection::{Fault, Session};
use crate::store::Error;
use crate::store::location::Server;

/// How long to wait before each attempt to go on with what a broken connection left: a server that is started again, or a
/// way to it that is, takes a few seconds.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];

/// The way to a server.
#[derive(Debug)]
pub(super) struct Line {
    server: Server,
    session: Mutex<Option<Arc<Session>>>,
}

impl Line {
    pub fn to(server: &Server) -> Line {
        Line {
            server: server.clone(),
            session: Mutex::new(None),
        }
    }

    /// What people know a path on the server by.
    pub fn address(&self, path: &str) -> String {
        self.server.at(path)
    }

    /// The connection, made now if there is none.
    pub async fn session(&self) -> Result<Arc<Session>, Fault> {
        let mut session = self.session.lock().await;
        if let Some(found) = session.as_ref().filter(|session| !session.has_ended()) {
            return Ok(found.clone());
        }
        let made = Arc::new(Session::connect(&self.server).await?);
        *session = Some(made.clone());
        Ok(made)
    }

    /// Another than the one that broke.
    pub async fn anew(&self, broken: &Arc<Session>) -> Result<Arc<Session>, Fault> {
        {
            let mut session = self.session.lock().await;
            if session.as_ref().is_some_and(|session| Arc::ptr_eq(session, broken)) {
                *session = None;
            }
        }
        self.session().await
    }

    /// The same, for what is worth waiting for.
    pub async fn anew_patiently(&self, broken: &Arc<Session>) -> Result<Arc<Session>, Fault> {
        let mut last = Fault::Lost("it broke".to_owned());
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            match self.anew(broken).await {
                Err(fault @ (Fault::Lost(_) | Fault::Silent(_))) => last = fault,
                made => return made,
            }
        }
        Err(last)
    }

    /// Asks, and once more where the connection breaks meanwhile.
    pub async fn ask<T>(&self, question: impl AsyncFn(Arc<Session>) -> Result<T, Fault>) -> Result<T, Fault> {
        let session = self.session().await?;
        match question(session.clone()).await {
            Err(Fault::Lost(_)) => question(self.anew(&session).await?).await,
            answered => answered,
        }
    }

    /// What a server or the way to it said, in our words.
    pub fn failed(&self, doing: &'static str, path: &str, fault: Fault) -> Error {
        let at = self.address(path);
        let io = |why: String| Error::Io {
            doing,
            at: at.clone(),
            source: std::io::Error::other(why),
        };
        match fault {
            Fault::Told(StatusCode::NoSuchFile, _) => Error::NotFound { doing, at },
            Fault::Told(StatusCode::PermissionDenied, why) | Fault::Refused(why) => Error::Refused { doing, at, why },
            Fault::Told(StatusCode::Failure, why) => io(match why.as_str() {
                "" | "Failure" => "the server failed and does not say why; its log may".to_owned(),
                why => short(why),
            }),
            Fault::Told(code, why) if why.is_empty() => io(code.to_string()),
            Fault::Told(_, why) => io(short(&why)),
            Fault::Lost(why) => io(format!("the connection broke: {}", short(&why))),
            Fault::Silent(limit) => io(format!("no answer within {} s", limit.as_secs())),
            Fault::Stranger(shown) => Error::Stranger {
                server: self.server.place(),
                shown: shown.line.clone(),
                fingerprint: shown.fingerprint.clone(),
                is_another: shown.is_another,
            },
            Fault::Other(why) => io(why),
        }
    }
}

/// One line of what a server says.
fn short(why: &str) -> String {
    let line = why.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}
