//! Answers at a member's own peer address while its etcd is down, with the certificates that its etcd has for it.
//!
//! Whoever asks gets one document and nothing else; nothing that is sent here is kept or acted upon. Like etcd's own peer
//! port it asks for a client's certificate where a certificate authority is set, and a stranger then gets no word.
//!
//! Invariant: what a connection may cost is bounded, in bytes, in time, and in number for one address and in all.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use age::secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::{Tls, causes};

/// For the whole of one connection.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest request that is read.
const MOST_REQUEST_BYTES: usize = 8 << 10;
/// Connections at once, in all and of one address.
const MOST_CONNECTIONS: usize = 256;
const MOST_OF_ONE: usize = 8;

/// Why nobody can be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that cannot be listened at, or not yet.
    #[error("cannot listen at {url}: {reason}")]
    Address {
        /// The peer URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// Certificates that do not serve.
    #[error("etcd's own peer certificate cannot be used: {reason}")]
    Certificates {
        /// Why.
        reason: String,
    },
}

/// The peer address, for as long as this lives.
#[derive(Debug)]
pub struct PeerPort {
    listening: Vec<JoinHandle<()>>,
    runtime: Handle,
}

impl PeerPort {
    /// Whether it could listen at `urls`, as far as that can be told while etcd does.
    pub fn check(urls: &[String], tls: &Tls) -> Result<(), Error> {
        for url in urls {
            let reason = || "it is neither http:// nor https://".to_owned();
            let refused = || Error::Address {
                url: url.clone(),
                reason: reason(),
            };
            let (is_tls, _) = address(url).ok_or_else(refused)?;
            is_tls.then(|| acceptor(tls)).transpose()?;
        }
        Ok(())
    }

    /// Listens at `urls`, where etcd would, and answers `GET path` with the latest `answer`.
    pub fn open(
        urls: &[String],
        tls: &Tls,
        path: &'static str,
        answer: &watch::Receiver<Vec<u8>>,
        runtime: &Handle,
    ) -> Result<PeerPort, Error> {
        let mut port = PeerPort {
            listening: Vec::new(),
            runtime: runtime.clone(),
        };
        let open = Arc::new(Mutex::new(HashMap::new()));
        for url in urls {
            let refused = |reason: String| Error::Address {
                url: url.clone(),
                reason,
            };
            let (is_tls, host) =
                address(url).ok_or_else(|| refused("it is neither http:// nor https://".to_owned()))?;
            let acceptor = is_tls.then(|| acceptor(tls)).transpose()?;
            let bound = runtime
                .block_on(bind(host))
                .map_err(|error| refused(error.to_string()))?;
            for listener in bound {
                let served = Served {
                    acceptor: acceptor.clone(),
                    path,
                    answer: answer.clone(),
                    open: Arc::clone(&open),
                };
                port.listening.push(runtime.spawn(served.listen(listener)));
            }
        }
        Ok(port)
    }
}

impl Drop for PeerPort {
    /// Leaves the address to etcd: when this returns, nobody listens any more.
    fn drop(&mut self) {
        for task in &self.listening {
            task.abort();
        }
        for task in self.listening.drain(..) {
            // It was aborted.
            self.runtime.block_on(task).ok();
        }
    }
}

/// Whether a URL wants TLS, and its host and port.
fn address(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.trim_end_matches('/');
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Some((false, host)),
        "https" => Some((true, host)),
        _ => None,
    }
}

/// All addresses of a host that can be listened at; one must.
async fn bind(host: &str) -> std::io::Result<Vec<TcpListener>> {
    let (mut bound, mut last) = (Vec::new(), None);
    for address in lookup_host(host).await? {
        match TcpListener::bind(address).await {
            Ok(listener) => bound.push(listener),
            Err(error) => last = Some(error),
        }
    }
    match (bound.is_empty(), last) {
        (true, Some(error)) => Err(error),
        (true, None) => Err(std::io::Error::other("it has no address")),
        (false, _) => Ok(bound),
    }
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, Error> {
    let refused = |reason: String| Error::Certificates { reason };
    let Some((certificate, key)) = &tls.identity else {
        return Err(refused("there is none that can be read".to_owned()));
    };
    let certificates = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| refused(error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|error| refused(error.to_string()))?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| refused(error.to_string()))?;
    let builder = match &tls.ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(ca) {
                let added = authority.map(|authority| roots.add(authority));
                added
                    .map_err(|error| refused(error.to_string()))?
                    .map_err(|error| refused(causes(&error)))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| refused(causes(&error)))?)
        }
    };
    let config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| refused(causes(&error)))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What is served at one address.
struct Served {
    acceptor: Option<TlsAcceptor>,
    path: &'static str,
    answer: watch::Receiver<Vec<u8>>,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Served {
    async fn listen(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => self.accept(stream, from),
                // Such as too many open files.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Answers on a task of its own; whoever has too many connections is hung up on.
    fn accept(&self, stream: TcpStream, from: SocketAddr) {
        let Some(place) = Place::take(&self.open, from.ip()) else {
            return;
        };
        let (acceptor, path, answer) = (self.acceptor.clone(), self.path, self.answer.borrow().clone());
        tokio::spawn(async move {
            let served = async {
                match acceptor {
                    None => respond(stream, path, &answer).await,
                    Some(acceptor) => respond(acceptor.accept(stream).await?, path, &answer).await,
                }
            };
            // That somebody hangs up, is too slow or has no certificate is nobody else's concern.
            tokio::time::timeout(TIMEOUT, served).await.ok();
            drop(place);
        });
    }
}

/// One of the connections that an address may have.
struct Place {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    of: IpAddr,
}

impl Place {
    fn take(open: &Arc<Mutex<HashMap<IpAddr, usize>>>, of: IpAddr) -> Option<Place> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= MOST_CONNECTIONS
            || counts.get(&of).is_some_and(|count| *count >= MOST_OF_ONE)
        {
            return None;
        }
        *counts.entry(of).or_default() += 1;
        let open = Arc::clone(open);
        Some(Place { open, of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

/// Reads one request of HTTP 1.1 and answers it.
async fn respond(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, answer: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let read = stream.read(&mut part).await?;
        request.extend_from_slice(&part[..read]);
        if read == 0 || request.len() > MOST_REQUEST_BYTES {
            return Ok(());
        }
    }
    let (status, body) = match is_for(&request, path) {
        true => ("200 OK", answer),
        false => ("404 Not Found", &b"etcd is down: a restore is under way\n"[..]),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

fn is_for(request: &[u8], path: &str) -> bool {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    words.next() == Some(b"GET") && words.next() == Some(path.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net;

    use super::*;

    fn served(answer: &str) -> (tokio::runtime::Runtime, PeerPort, watch::Sender<Vec<u8>>, SocketAddr) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let free = net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (sender, answers) = watch::channel(answer.as_bytes().to_vec());
        let urls = [format!("http://{free}")];
        let port = PeerPort::open(&urls, &Tls::default(), "/here", &answers, runtime.handle()).unwrap();
        (runtime, port, sender, free)
    }

    fn ask(at: SocketAddr, request: &str) -> String {
        let mut stream = net::TcpStream::connect(at).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok();
        answer
    }

    #[test]
    fn it_answers_one_question_with_what_is_true_now_and_is_gone_when_dropped() {
        let (_runtime, port, sender, at) = served("one");
        let get = "GET /here HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(ask(at, get).ends_with("\r\n\r\none"));
        sender.send(b"two".to_vec()).unwrap();
        assert!(ask(at, get).ends_with("\r\n\r\ntwo"));
        for other in [
            "GET /members HTTP/1.1\r\n\r\n",
            "POST /here HTTP/1.1\r\n\r\n",
            "GET /here/there HTTP/1.1\r\n\r\n",
        ] {
            assert!(ask(at, other).starts_with("HTTP/1.1 404"), "{other}");
        }
        assert_eq!(ask(at, &"x".repeat(20_000)), "");
        drop(port);
        net::TcpListener::bind(at).expect("etcd can listen there at once");
    }

    /// An authority, and a certificate of it for a name, as PEM.
    fn certificates(name: &str) -> (Vec<u8>, Vec<u8>, String) {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        (
            authority.pem().into_bytes(),
            certificate.pem().into_bytes(),
            key.serialize_pem(),
        )
    }

    #[test]
    fn with_an_authority_only_its_members_are_heard_and_over_ipv6_too() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let Ok(free) = net::TcpListener::bind("[::1]:0") else {
            return;
        };
        let at = free.local_addr().unwrap();
        drop(free);
        let (ca, certificate, key) = certificates("::1");
        let own = Tls {
            ca: Some(ca.clone()),
            identity: Some((certificate, key.into())),
            server_name: None,
        };
        let (_sender, answers) = watch::channel(b"one".to_vec());
        let urls = [format!("https://{at}")];
        PeerPort::check(&urls, &own).unwrap();
        let _port = PeerPort::open(&urls, &own, "/here", &answers, runtime.handle()).unwrap();
        let look =
            |tls: &Tls| runtime.block_on(super::super::PeerClient::new(tls).unwrap().look(&urls[0], "/here", 10));
        assert_eq!(look(&own).unwrap(), super::super::PeerSight::Document(b"one".to_vec()));
        let without = Tls {
            identity: None,
            ..own.clone()
        };
        look(&without).unwrap_err();
        let (_, other, key) = certificates("::1");
        let stranger = Tls {
            identity: Some((other, key.into())),
            ..own.clone()
        };
        look(&stranger).unwrap_err();
        assert!(matches!(
            PeerPort::check(&urls, &without),
            Err(Error::Certificates { .. })
        ));
        let socket = ["unix:///run/etcd.sock".to_owned()];
        assert!(matches!(PeerPort::check(&socket, &own), Err(Error::Address { .. })));
    }

    #[test]
    fn one_address_cannot_take_all_connections_for_itself_for_long() {
        let (_runtime, _port, _sender, at) = served("one");
        let idle: Vec<_> = (0..20).map(|_| net::TcpStream::connect(at).unwrap()).collect();
        // Once the idle ones have had their time, whoever asks is heard.
        let until = std::time::Instant::now() + 3 * TIMEOUT;
        let get = "GET /here HTTP/1.1\r\n\r\n";
        while !ask(at, get).ends_with("one") {
            assert!(std::time::Instant::now() < until);
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(idle);
    }
}
