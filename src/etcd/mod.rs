//! etcd's gRPC API, as far as a backup needs it: who the members are, how they are, the snapshot stream, HashKV.
//!
//! Invariant: a [`Member`] is one connection to one endpoint. Nothing here balances over members, because a snapshot
//! and the HashKV that proves it must come from the same one.
//! Invariant: nothing here writes into etcd's key space.
//!
//! Which member to ask is decided in [`choose_member`]; the bytes of the stream are understood elsewhere.

mod alarms;
mod auth_status;
mod certificate;
mod certificate_check;
pub mod choose_member;
mod fault;
mod lease;
mod peer;
mod peer_port;
mod snapshot;
mod survey;
mod v2;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use age::secrecy::{ExposeSecret, SecretString};
use etcd_client::{Channel, Client, Compare, CompareOp, ConnectOptions, GetOptions, HashKvResponse, Txn, TxnOp};
use tonic::transport::{ClientTlsConfig, Endpoint, Identity, Uri};

use crate::keyspace::{Alarm, AlarmKind};
use crate::model::{ClusterId, HashKv, MemberId, Revision};

pub use alarms::complaints;
pub use auth_status::auth_revision;
pub use certificate::Certificate;
pub use fault::Error;
use fault::{causes, explained, failed, is_of_tls};
pub use peer::{PeerAnswer, PeerClient, PeerMember, PeerSight, ask_peer};
pub use peer_port::{Error as PeerPortError, PeerPort};
pub use snapshot::{Chunk, DIGEST_BYTES, SnapshotStream};
pub use survey::{Endpoints, Surveyed, survey};
pub use v2::holds_v2_keys;
pub use watch::{Heard, KeyChange, KeyPut, WatchEnd, Watching, WholeRevision, loses_deletions};

/// Where etcd listens unless told otherwise.
const CLIENT_PORT: u16 = 2379;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls that answer from memory.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// For calls that read the whole key space; etcd needs about 0.4 s a GiB from the page cache, far more from a disk.
const SCAN_TIMEOUT: Duration = Duration::from_secs(300);
/// A peer that is gone without a word is found within this and half as much again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A flow-control window at which round trips do not stall the member.
const WIDE_WINDOW: u32 = 4 << 20;
/// Also over some milliseconds of distance the stream then gets on.
const REMOTE_WINDOW: u32 = 1 << 20;
/// Two messages of a snapshot. Then the member waits for us, and its clients are served meanwhile: with more it sends for
/// up to 10 ms without a pause, which is as long as a goroutine may run.
const NARROW_WINDOW: u32 = 64 << 10;

/// How to get in: TLS material and login, read from wherever they are kept.
#[derive(Clone, Default)]
pub struct Access {
    /// Certificates for `https` endpoints; without a CA the system's roots are trusted.
    pub tls: Tls,
    /// User and password.
    pub login: Option<(String, SecretString)>,
}

/// TLS material in PEM.
#[derive(Clone, Default)]
pub struct Tls {
    /// The authority that signed the members' certificates.
    pub ca: Option<Vec<u8>>,
    /// Our certificate and its key.
    pub identity: Option<(Vec<u8>, SecretString)>,
    /// The name to expect in the members' certificates, instead of the endpoint's host.
    pub server_name: Option<String>,
}

/// What a member says of itself.
#[derive(Debug, Clone)]
pub struct Status {
    /// The member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its leader, if it knows one.
    pub leader: Option<MemberId>,
    /// Whether it only follows and has no vote.
    pub learner: bool,
    /// Server version, `3.6.15`.
    pub version: String,
    /// Version of the storage format, from 3.6 on.
    pub storage_version: Option<String>,
    /// Size of the database file.
    pub db_bytes: u64,
    /// Raft's term.
    pub raft_term: u64,
    /// Index of the last log entry applied to the database.
    pub applied_index: u64,
    /// The alarms of the whole cluster, as this member knows them.
    pub alarms: Vec<Alarm>,
    /// What else it complains of, in etcd's words.
    pub errors: Vec<String>,
}

impl Status {
    /// Whether this member leads.
    pub fn leads(&self) -> bool {
        self.leader == Some(self.member)
    }

    /// Whether its data is said to differ from the others'. An alarm that names no member may mean any.
    pub fn is_corrupt(&self) -> bool {
        let mut corrupt = self.alarms.iter().filter(|alarm| alarm.kind == AlarmKind::Corrupt);
        corrupt.any(|alarm| alarm.member == self.member || alarm.member == MemberId(0))
    }

    /// What it is in its cluster, in a word or two.
    pub fn role(&self) -> &'static str {
        match self.leader {
            _ if self.learner => "learner",
            None => "no leader",
            Some(_) if self.leads() => "leader",
            Some(_) => "follower",
        }
    }
}

/// A member as the cluster lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: MemberId,
    /// Its `--name`; empty until it has started once.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub learner: bool,
}

/// How far a member may send ahead of what we have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ahead {
    /// As far as makes a stream fast.
    Far,
    /// So little that its clients hardly notice the stream: least where it shares this host's processors with us.
    Little,
}

/// One connection to one endpoint of one member.
pub struct Member {
    url: String,
    client: Client,
    /// Who answered at this endpoint last: behind a balancer it may be another the next time.
    identity: Option<(ClusterId, MemberId)>,
}

impl Member {
    /// Connects to `url` and logs in.
    pub async fn connect(url: &str, access: &Access, ahead: Ahead) -> Result<Member, Error> {
        Member::connect_with(url, access, ahead, ConnectOptions::new()).await
    }

    /// The same for a watch: the member refuses each call, and ends what goes on, while it knows no leader.
    pub async fn connect_to_watch(url: &str, access: &Access) -> Result<Member, Error> {
        let options = ConnectOptions::new().with_require_leader(true);
        Member::connect_with(url, access, Ahead::Far, options).await
    }

    async fn connect_with(url: &str, access: &Access, ahead: Ahead, options: ConnectOptions) -> Result<Member, Error> {
        let channel = channel_to(url, access, ahead).await?;
        let options = match &access.login {
            // A token ends after some minutes without a call, or at all: whoever stays connected gets another one.
            Some((user, password)) => options
                .with_user(user.clone(), password.expose_secret().to_owned())
                .with_auto_token_refresh(true),
            None => options,
        };
        let client = call(url, "Authenticate", CALL_TIMEOUT, async {
            Client::from_channel(Channel::Tonic(channel), Some(options)).await
        })
        .await?;
        Ok(Member {
            url: url.to_owned(),
            client,
            identity: None,
        })
    }

    /// The same connection, for calls beside those of this one.
    pub fn again(&self) -> Member {
        Member {
            url: self.url.clone(),
            client: self.client.clone(),
            identity: self.identity,
        }
    }

    /// The endpoint of this connection.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks for the member's state.
    pub async fn status(&mut self) -> Result<Status, Error> {
        let mut client = self.client.maintenance_client();
        let answer = call(&self.url, "Status", CALL_TIMEOUT, client.status()).await?;
        let header = answer.header().ok_or_else(|| self.nonsense("Status", "no header"))?;
        self.identity = Some((ClusterId(header.cluster_id()), MemberId(header.member_id())));
        Ok(Status {
            member: MemberId(header.member_id()),
            cluster: ClusterId(header.cluster_id()),
            leader: (answer.leader() != 0).then(|| MemberId(answer.leader())),
            learner: answer.is_learner(),
            version: answer.version().to_owned(),
            storage_version: Some(answer.storage_version().to_owned()).filter(|version| !version.is_empty()),
            db_bytes: u64::try_from(answer.db_size()).unwrap_or(0),
            raft_term: answer.raft_term(),
            applied_index: answer.raft_applied_index(),
            alarms: answer
                .errors()
                .iter()
                .filter_map(|error| alarms::parse(error))
                .collect(),
            errors: answer
                .errors()
                .iter()
                .filter(|error| alarms::parse(error).is_none())
                .cloned()
                .collect(),
        })
    }

    /// Asks for the cluster's members.
    pub async fn members(&mut self) -> Result<Vec<Listed>, Error> {
        let mut client = self.client.cluster_client();
        let answer = call(&self.url, "MemberList", CALL_TIMEOUT, client.member_list()).await?;
        let listed = answer.members().iter().map(|member| Listed {
            id: MemberId(member.id()),
            name: member.name().to_owned(),
            peer_urls: member.peer_urls().to_vec(),
            client_urls: member.client_urls().to_vec(),
            learner: member.is_learner(),
        });
        Ok(listed.collect())
    }

    /// The store's revision after everything that was committed before this call has been applied on this member.
    ///
    /// Fails when the member cannot reach its quorum.
    pub async fn current_revision(&mut self) -> Result<Revision, Error> {
        // A linearizable read. No key of this name is expected; the header carries the answer.
        let mut client = self.client.kv_client();
        let options = GetOptions::new().with_count_only();
        let answer = call(&self.url, "Range", CALL_TIMEOUT, client.get("\0", Some(options))).await?;
        let revision = answer.header().map(|header| header.revision());
        revision
            .and_then(|revision| Revision::new(revision).ok())
            .ok_or_else(|| self.nonsense("Range", "no revision"))
    }

    /// Whether a compaction has taken away what a store of `revision` needs: reading at it is refused.
    pub async fn is_compacted(&mut self, revision: Revision) -> Result<bool, Error> {
        let mut client = self.client.kv_client();
        let options = GetOptions::new()
            .with_count_only()
            .with_serializable()
            .with_revision(revision.get());
        match call(&self.url, "Range", CALL_TIMEOUT, client.get("\0", Some(options))).await {
            Ok(_) => Ok(false),
            Err(Error::Call { reason, .. }) if reason.contains("compacted") => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes a write through the cluster's log that changes nothing: a put behind a comparison that no store fulfils.
    ///
    /// Fails when the member cannot get a write through: without a quorum, or with an alarm raised.
    pub async fn try_write(&mut self) -> Result<(), Error> {
        // Versions count from 0, so none is below; the put is never carried out.
        let never = Compare::version("\0", CompareOp::Less, 0);
        let txn = Txn::new().when([never]).and_then([TxnOp::put("\0", "", None)]);
        let mut client = self.client.kv_client();
        let answer = call(&self.url, "Txn", CALL_TIMEOUT, client.txn(txn)).await?;
        match answer.succeeded() {
            false => Ok(()),
            true => Err(self.nonsense("Txn", "a version below 0")),
        }
    }

    /// The number of keys that are alive at `revision`.
    pub async fn count_keys(&mut self, revision: Revision) -> Result<u64, Error> {
        let mut client = self.client.kv_client();
        let options = GetOptions::new()
            .with_all_keys()
            .with_count_only()
            .with_serializable()
            .with_revision(revision.get());
        let answer = call(&self.url, "Range", SCAN_TIMEOUT, client.get("", Some(options)))
            .await
            .map_err(|error| self.at_revision(error, revision))?;
        u64::try_from(answer.count()).map_err(|_| self.nonsense("Range", "a negative count"))
    }

    /// HashKV of exactly `revision`. Stalls the writes of this member while it reads its whole key space.
    pub async fn hash_kv(&mut self, revision: Revision) -> Result<HashKv, Error> {
        let answer = self.hash_kv_at(revision.get()).await;
        let answer = answer.map_err(|error| self.at_revision(error, revision))?;
        Ok(HashKv {
            revision,
            compact_revision: answer.compact_version(),
            hash: answer.hash(),
        })
    }

    /// HashKV of the revision that it has come to, which is in the answer.
    pub async fn hash_kv_now(&mut self) -> Result<HashKv, Error> {
        let answer = self.hash_kv_at(0).await?;
        let revision = answer.header().and_then(|header| Revision::new(header.revision()).ok());
        Ok(HashKv {
            revision: revision.ok_or_else(|| self.nonsense("HashKV", "no revision"))?,
            compact_revision: answer.compact_version(),
            hash: answer.hash(),
        })
    }

    async fn hash_kv_at(&mut self, revision: i64) -> Result<HashKvResponse, Error> {
        let mut client = self.client.maintenance_client();
        let answer = call(&self.url, "HashKV", SCAN_TIMEOUT, client.hash_kv(revision)).await?;
        let answered = answer
            .header()
            .map(|header| (ClusterId(header.cluster_id()), MemberId(header.member_id())));
        match answered == self.identity {
            true => Ok(answer),
            false => Err(self.nonsense("HashKV", "the ids of a different member than before")),
        }
    }

    /// Opens the snapshot stream; `idle` is the longest silence that is borne.
    pub async fn snapshot(&mut self, idle: Duration) -> Result<SnapshotStream, Error> {
        let mut client = self.client.maintenance_client();
        let stream = call(&self.url, "Snapshot", idle, client.snapshot()).await?;
        Ok(SnapshotStream::new(self.url.clone(), stream, idle))
    }

    fn nonsense(&self, call: &'static str, what: &str) -> Error {
        Error::Nonsense {
            url: self.url.clone(),
            call,
            what: what.to_owned(),
        }
    }

    fn at_revision(&self, error: Error, revision: Revision) -> Error {
        match error {
            Error::Call { url, reason, .. } if reason.contains("compacted") || reason.contains("future revision") => {
                Error::NoSuchRevision { url, revision, reason }
            }
            other => other,
        }
    }
}

/// A connection to `url`, nobody logged in.
async fn channel_to(url: &str, access: &Access, ahead: Ahead) -> Result<tonic::transport::Channel, Error> {
    let unreachable = |reason: String| Error::Unreachable {
        url: url.to_owned(),
        reason,
    };
    let misfit = |reason: String| Error::Misfit {
        url: url.to_owned(),
        reason,
    };
    let endpoint = endpoint(url, &access.tls, window(url, ahead).await).map_err(misfit)?;
    tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect())
        .await
        .map_err(|_| unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())))?
        .map_err(|error| {
            let reason = explained(url, "connect", causes(&error));
            if is_of_tls(&error) {
                misfit(reason)
            } else {
                unreachable(reason)
            }
        })
}

async fn window(url: &str, ahead: Ahead) -> u32 {
    match ahead {
        Ahead::Far => WIDE_WINDOW,
        Ahead::Little if is_on_this_host(url).await => NARROW_WINDOW,
        Ahead::Little => REMOTE_WINDOW,
    }
}

/// Whether what is sent to `url` comes from the address that it goes to. Where that cannot be told, connecting will tell
/// why.
async fn is_on_this_host(url: &str) -> bool {
    let Some(authority) = url.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority) else {
        return false;
    };
    let port = authority.port_u16().unwrap_or(CLIENT_PORT);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let looked_up = tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let Ok(Ok(mut addresses)) = looked_up else {
        return false;
    };
    addresses.any(|address| {
        // All of 127.0.0.0/8 is reached from 127.0.0.1.
        if address.ip().is_loopback() {
            return true;
        }
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting such a socket sends nothing; the kernel only chooses the way.
        let way = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(address)?;
            socket.local_addr()
        });
        way.is_ok_and(|own| own.ip() == address.ip())
    })
}

fn endpoint(url: &str, tls: &Tls, window: u32) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| causes(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE / 2)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window);
    if !url.starts_with("https://") {
        return Ok(endpoint);
    }
    let mut config = ClientTlsConfig::new();
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(certificate, key.expose_secret()));
    }
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    let endpoint = match &tls.ca {
        Some(ca) => {
            let verifier = certificate_check::Verifier::new(ca, tls.server_name.as_deref())?;
            endpoint.tls_config_with_verifier(config, Arc::new(verifier))
        }
        None => endpoint.tls_config(config.with_native_roots()),
    };
    endpoint.map_err(|error| causes(&error))
}

async fn call<T>(
    url: &str,
    name: &'static str,
    limit: Duration,
    answer: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(url, name, &error)),
        Err(_) => Err(Error::Silent {
            url: url.to_owned(),
            call: name,
            after: limit,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_may_pass_and_tls_that_does_not_fit_may_not() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = async |tls: Tls| {
            let access = Access { tls, login: None };
            let url = format!("https://127.0.0.1:{port}");
            Member::connect(&url, &access, Ahead::Far)
                .await
                .err()
                .expect("nobody speaks TLS there")
        };
        let rubbish = Tls {
            identity: Some((b"rubbish".to_vec(), "rubbish".to_owned().into())),
            ..Tls::default()
        };
        let error = connect(rubbish).await;
        assert!(!error.may_pass(), "{error}");
        let plain = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            }
        });
        let error = connect(Tls::default()).await;
        assert!(!error.may_pass(), "{error}");
        plain.abort();
        assert!(plain.await.unwrap_err().is_cancelled());
        let error = connect(Tls::default()).await;
        assert!(error.may_pass(), "{error}");
    }

    #[tokio::test]
    async fn a_member_is_on_this_host_when_what_is_sent_to_it_never_leaves() {
        for here in ["http://127.0.0.1:2379", "https://127.8.9.10", "http://localhost:1"] {
            assert!(is_on_this_host(here).await, "{here}");
        }
        // A group's address, which no host has for its own, and what is none.
        for elsewhere in ["http://239.1.2.3:2379", "http://", "http://[::", "unix:socket", ""] {
            assert!(!is_on_this_host(elsewhere).await, "{elsewhere}");
        }
    }
}
