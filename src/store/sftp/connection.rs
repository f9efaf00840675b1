//! A connection to a server: who it is, who asks, and how long either may say nothing.

use std::fmt;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, decode_secret_key};
use russh::{MethodKind, Preferred};
use russh_sftp::client::{Config, RawSftpSession, error::Error as Reply};
use russh_sftp::protocol::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::host_keys::Pinned;
use crate::error_chain::with_causes;
use crate::secret::{Secret, SecretError};
use crate::store::location::{Server, SftpOptions};

/// How long a connection may take, and then all that is said before the first question.
const CONNECT: Duration = Duration::from_secs(5);
const GREETING: Duration = Duration::from_secs(12);

/// How long nothing may move on a connection while an answer is due. Looked at every so often, so that it may be twice as
/// long; with a connection made anew it still ends before the handle of the store loses its patience.
pub(super) const SILENCE: Duration = Duration::from_secs(8);

/// What is moved at once where the server does not say what it takes, and at the most.
const BLOCK: u64 = 32 << 10;
const LARGEST_BLOCK: u64 = 128 << 10;

/// The parts of a reply besides its data.
const ENVELOPE: u64 = 1024;

/// How often a server may ask back before it is told the password.
const MOST_PROMPTS: usize = 4;

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The server says no.
    Told(StatusCode, String),
    /// The connection broke.
    Lost(String),
    /// Nothing came.
    Silent(Duration),
    /// The server is not who it should be: what it showed.
    Stranger(Box<Shown>),
    /// Who asks may not.
    Refused(String),
    /// Another way in which it does not come to a connection.
    Other(String),
}

/// The key that a server showed.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// Its digest, as OpenSSH prints it.
    pub fingerprint: String,
    /// The key, as OpenSSH writes it.
    pub line: String,
    /// Whether others are known of this server.
    pub is_another: bool,
}

impl From<Reply> for Fault {
    fn from(reply: Reply) -> Fault {
        match reply {
            Reply::Status(status) => Fault::Told(status.status_code, status.error_message),
            Reply::Timeout => Fault::Silent(SILENCE),
            Reply::Limited(why) => Fault::Other(why),
            Reply::IO(why) | Reply::UnexpectedBehavior(why) => Fault::Lost(why),
            Reply::UnexpectedPacket => Fault::Lost("an answer to another question".to_owned()),
        }
    }
}

/// A connection over which a server is asked for files.
pub(super) struct Session {
    pub sftp: RawSftpSession,
    ssh: Handle<Checker>,
    moved: Arc<AtomicU64>,
    extensions: Vec<String>,
    /// How much to ask for, and to send, at once.
    pub read_at_once: usize,
    pub write_at_once: usize,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Connects, and says who asks.
    pub async fn connect(server: &Server) -> Result<Session, Fault> {
        let pinned = pinned(server).map_err(Fault::Other)?;
        let place = (server.host.as_str(), server.port);
        let socket = timeout(CONNECT, TcpStream::connect(place)).await;
        let socket = socket.map_err(|_| Fault::Silent(CONNECT))?;
        let socket = socket.map_err(|error| Fault::Lost(error.to_string()))?;
        socket.set_nodelay(true).ok();
        let greeted = timeout(GREETING, Session::greet(server, pinned, socket)).await;
        greeted.map_err(|_| Fault::Silent(GREETING))?
    }

    async fn greet(server: &Server, pinned: Pinned, socket: TcpStream) -> Result<Session, Fault> {
        let config = client::Config {
            preferred: Preferred {
                key: pinned.kinds().into(),
                ..Preferred::DEFAULT
            },
            ..client::Config::default()
        };
        if config.preferred.key.is_empty() {
            let why = "only RSA keys are known of it, which are not read: name its ed25519 or ECDSA key";
            return Err(Fault::Other(why.to_owned()));
        }
        let shown = Arc::new(Mutex::new(None));
        let checker = Checker {
            is_another: !pinned.is_empty(),
            pinned,
            shown: shown.clone(),
        };
        let connected = client::connect_stream(Arc::new(config), socket, checker).await;
        let mut ssh = match connected {
            Ok(ssh) => ssh,
            Err(error) => {
                let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(match shown {
                    Some(shown) => Fault::Stranger(Box::new(shown)),
                    None => lost(&error),
                });
            }
        };
        log_in(&mut ssh, &server.user, &server.options).await?;
        let channel = ssh.channel_open_session().await.map_err(|error| lost(&error))?;
        let refused = |_| Fault::Other("it serves no files by SFTP: `Subsystem sftp internal-sftp`".to_owned());
        channel.request_subsystem(true, "sftp").await.map_err(refused)?;
        let moved = Arc::new(AtomicU64::new(0));
        let stream = Counted {
            stream: channel.into_stream(),
            moved: moved.clone(),
        };
        // What is waited for, and how long, is decided here and not there.
        let config = Config {
            request_timeout_secs: 24 * 3600,
            ..Config::default()
        };
        let sftp = RawSftpSession::new_with_config(stream, config);
        let version = sftp.init().await?;
        let extensions: Vec<String> = version.extensions.into_keys().collect();
        let mut session = Session {
            sftp,
            ssh,
            moved,
            extensions,
            read_at_once: BLOCK as usize,
            write_at_once: BLOCK as usize,
        };
        if session.offers("limits@openssh.com") {
            let limits = session.sftp.limits().await?;
            let fits = |most: u64| {
                let packet = match limits.max_packet_len {
                    0 => u64::MAX,
                    bytes => bytes.saturating_sub(ENVELOPE),
                };
                let most = if most == 0 { BLOCK } else { most };
                most.min(packet).clamp(ENVELOPE, LARGEST_BLOCK) as usize
            };
            session.read_at_once = fits(limits.max_read_len);
            session.write_at_once = fits(limits.max_write_len);
        }
        Ok(session)
    }

    /// Whether the server has more than the protocol asks of it.
    pub fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|offered| offered == extension)
    }

    /// Whether it is known to have ended.
    pub fn has_ended(&self) -> bool {
        self.ssh.is_closed()
    }

    /// Waits for an answer as long as something moves.
    pub async fn hear<T>(&self, answer: impl Future<Output = Result<T, Reply>>) -> Result<T, Fault> {
        self.hear_within(SILENCE, answer).await
    }

    /// The same, with another patience.
    pub async fn hear_within<T>(
        &self,
        silence: Duration,
        answer: impl Future<Output = Result<T, Reply>>,
    ) -> Result<T, Fault> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let before = self.moved.load(Ordering::Relaxed);
            match timeout(silence, &mut answer).await {
                Ok(answer) => return answer.map_err(Fault::from),
                Err(_) if self.moved.load(Ordering::Relaxed) == before => return Err(Fault::Silent(silence)),
                Err(_) => {}
            }
        }
    }
}

/// Which keys the server may show.
fn pinned(server: &Server) -> Result<Pinned, String> {
    let options = &server.options;
    let mut pinned = Pinned::default();
    if let Some(line) = &options.host_key {
        pinned.add_line(line)?;
    }
    for file in &options.known_hosts {
        match file.read() {
            Ok(text) => pinned.add_known_hosts(text.expose_secret(), &server.host, server.port),
            // One that is not there knows nobody.
            Err(SecretError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("`known_hosts`: {}", with_causes(&error))),
        }
    }
    Ok(pinned)
}

/// Says who asks: by a key, and by a password, where both are given and the server wants both.
async fn log_in(ssh: &mut Handle<Checker>, user: &str, options: &SftpOptions) -> Result<(), Fault> {
    let mut tried = Vec::new();
    let mut left = None;
    if let Some(key) = &options.key {
        let key = private_key(key, options.passphrase.as_ref()).map_err(Fault::Refused)?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let answer = ssh
            .authenticate_publickey(user, key)
            .await
            .map_err(|error| lost(&error))?;
        match answer {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, .. } => left = Some(remaining_methods),
        }
        tried.push("the key");
    }
    if let Some(password) = &options.password {
        let password = password.read().map_err(|error| Fault::Refused(with_causes(&error)))?;
        let password = password.expose_secret();
        let answer = ssh.authenticate_password(user, password).await;
        match answer.map_err(|error| lost(&error))? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, .. } => {
                let asks = remaining_methods.contains(&MethodKind::KeyboardInteractive);
                left = Some(remaining_methods);
                if asks && answers(ssh, user, password).await? {
                    return Ok(());
                }
            }
        }
        tried.push("the password");
    }
    if tried.is_empty() {
        return Err(Fault::Refused("neither `key` nor `password` is given".to_owned()));
    }
    let methods: Vec<&str> = left.iter().flat_map(|left| left.iter()).map(<&str>::from).collect();
    let takes = match methods.is_empty() {
        true => String::new(),
        false => format!("; it takes {}", methods.join(", ")),
    };
    Err(Fault::Refused(format!(
        "user {user} is not let in by {}{takes}",
        tried.join(" and ")
    )))
}

/// Tells the password to a server that asks questions. Whether it lets in who says it.
async fn answers(ssh: &mut Handle<Checker>, user: &str, password: &str) -> Result<bool, Fault> {
    let begun = ssh.authenticate_keyboard_interactive_start(user, None).await;
    let mut answer = begun.map_err(|error| lost(&error))?;
    for _ in 0..MOST_PROMPTS {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        // What is shown while it is typed is no password.
        if prompts.iter().any(|prompt| prompt.echo) {
            return Ok(false);
        }
        let told = prompts.iter().map(|_| password.to_owned()).collect();
        let next = ssh.authenticate_keyboard_interactive_respond(told).await;
        answer = next.map_err(|error| lost(&error))?;
    }
    Ok(false)
}

fn private_key(key: &Secret, passphrase: Option<&Secret>) -> Result<russh::keys::PrivateKey, String> {
    use russh::keys::Error;
    let text = key.read().map_err(|error| with_causes(&error))?;
    let passphrase = passphrase.map(Secret::read).transpose();
    let passphrase = passphrase.map_err(|error| with_causes(&error))?;
    let passphrase = passphrase.as_ref().map(|passphrase| passphrase.expose_secret());
    let text = text.expose_secret();
    let rsa = || {
        format!("`key` ({key}) is an RSA key, which is not read: make one with `ssh-keygen -t ed25519 -N '' -f FILE`")
    };
    match decode_secret_key(text, passphrase) {
        Ok(key) if key.algorithm().is_rsa() => Err(rsa()),
        Ok(key) if key.is_encrypted() => Err("`key` has a passphrase: name where it is by `passphrase`".to_owned()),
        Ok(key) => Ok(key),
        Err(Error::UnsupportedKeyType { .. }) => Err(rsa()),
        Err(Error::KeyIsEncrypted) => Err("`key` has a passphrase: name where it is by `passphrase`".to_owned()),
        // What it says of it may hold a part of the key.
        Err(_) if passphrase.is_some() => Err(format!(
            "`key` ({key}) is no private key of OpenSSH's, or `passphrase` is not its own"
        )),
        Err(_) => Err(format!("`key` ({key}) is no private key of OpenSSH's")),
    }
}

/// What is said of a connection that did not come about, or broke.
fn lost(error: &russh::Error) -> Fault {
    match error {
        russh::Error::NoCommonAlgo { kind, theirs, .. } => {
            let theirs = theirs.join(", ");
            let theirs: String = theirs.chars().take(200).collect();
            Fault::Other(format!(
                "there is no {kind:?} that it has and lifeboat reads (of keys: ed25519 and ECDSA): it has {theirs}"
            ))
        }
        error => Fault::Lost(with_causes(error)),
    }
}

/// Looks at the key of a server.
struct Checker {
    pinned: Pinned,
    is_another: bool,
    /// What it was, where it is not let through.
    shown: Arc<Mutex<Option<Shown>>>,
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let key = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key,
            // None was asked for.
            PublicKeyOrCertificate::Certificate(_) => return Ok(false),
        };
        if self.pinned.has(key) {
            return Ok(true);
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(Shown {
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            line: line_of(key),
            is_another: self.is_another,
        });
        Ok(false)
    }
}

/// The kind and the bytes of a key.
fn line_of(key: &PublicKey) -> String {
    let line = key.to_openssh().unwrap_or_default();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// A stream that counts what moves on it.
struct Counted<S> {
    stream: S,
    moved: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.moved.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
