//! What the peer port says: which cluster a member is of, and who else is in it.
//!
//! A member of a cluster without a quorum answers no client, not even `Status`; only this port then tells that it runs
//! and what it believes. It is asked by plain HTTP, as other members do.
//!
//! Source: etcd `server/etcdserver/api/etcdhttp/peer.go` of 3.4 to 3.7: `GET /members` answers with a JSON list and names
//! the cluster in `X-Etcd-Cluster-ID`.

use std::time::Duration;

use age::secrecy::ExposeSecret;
use serde::Deserialize;

use super::certificate_check::client_config;
use super::{Error, Tls, causes};
use crate::model::{ClusterId, MemberId};

/// It answers from memory; a host that is off does not answer at all.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is read: etcd's largest clusters have a dozen members.
const MOST_BYTES: usize = 1 << 20;
const CALL: &str = "GET /members";

/// What a member says at its peer port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAnswer {
    /// The cluster it is of.
    pub cluster: ClusterId,
    /// The members that it knows, in order of their ids.
    pub members: Vec<PeerMember>,
}

impl PeerAnswer {
    /// Whether it knows a member of that id.
    pub fn knows(&self, id: MemberId) -> bool {
        self.members.iter().any(|member| member.id == id)
    }
}

/// A member, as another one knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerMember {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started for the first time, unless it founded the cluster.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it has started for the first time.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(default, rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
    #[serde(default)]
    is_learner: bool,
}

/// What is heard at a peer address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerSight {
    /// An etcd that runs.
    Etcd(PeerAnswer),
    /// The document at the path that was asked for.
    Document(Vec<u8>),
    /// What neither is an etcd nor has that document.
    Strange(String),
}

/// The body of an answer.
pub(super) enum Body {
    Whole(Vec<u8>),
    /// It goes on beyond what is read.
    Longer,
}

/// An answer over HTTP.
struct Answer {
    status: u16,
    /// The cluster that it names.
    cluster: Option<ClusterId>,
    body: Body,
}

/// Asks at peer addresses, as other members do.
#[derive(Debug, Clone)]
pub struct PeerClient {
    client: reqwest::Client,
}

impl PeerClient {
    /// `tls.identity` must be a certificate that members take for one of their own where they ask for it.
    pub fn new(tls: &Tls) -> Result<PeerClient, Error> {
        let client = client(tls).map_err(|reason| Error::Misfit {
            url: "the members' peer addresses".to_owned(),
            reason,
        })?;
        Ok(PeerClient { client })
    }

    /// Asks the member whose peer URL this is which cluster it is of.
    pub async fn members(&self, url: &str) -> Result<PeerAnswer, Error> {
        let nonsense = |what: String| Error::Nonsense {
            url: url.to_owned(),
            call: CALL,
            what,
        };
        let answer = self.get(url, "/members", MOST_BYTES).await?;
        let (status, cluster, body) = (answer.status, answer.cluster, whole(url, answer.body)?);
        if status != 200 {
            return Err(nonsense(format!("HTTP status {status}")));
        }
        let cluster = cluster.ok_or_else(|| nonsense("no cluster id".to_owned()))?;
        let members = members_of(&body).ok_or_else(|| nonsense("what is no list of members".to_owned()))?;
        Ok(PeerAnswer { cluster, members })
    }

    /// Asks for a document of ours, and where there is none for an etcd. Fails where nobody answers.
    pub async fn look(&self, url: &str, path: &str, most: usize) -> Result<PeerSight, Error> {
        let answer = self.get(url, path, most).await?;
        let body = whole(url, answer.body)?;
        if answer.status == 200 {
            return Ok(PeerSight::Document(body));
        }
        match self.members(url).await {
            Ok(answer) => Ok(PeerSight::Etcd(answer)),
            Err(Error::Nonsense { what, .. }) => Ok(PeerSight::Strange(what)),
            Err(error) => Err(error),
        }
    }

    /// What the v2 API of a member lists, asked at its client URL; none where it does not serve that API.
    pub(super) async fn v2_keys(&self, url: &str) -> Option<Body> {
        let answer = self.get(url, "/v2/keys", MOST_BYTES).await.ok()?;
        (answer.status == 200).then_some(answer.body)
    }

    /// The answer, of whose body at most so many bytes are read.
    async fn get(&self, url: &str, path: &str, most: usize) -> Result<Answer, Error> {
        let unreachable = |error: reqwest::Error| Error::Unreachable {
            url: url.to_owned(),
            reason: causes(&error.without_url()),
        };
        let asked = self.client.get(format!("{}{path}", url.trim_end_matches('/'))).send();
        let mut answer = asked.await.map_err(unreachable)?;
        let cluster = answer.headers().get("X-Etcd-Cluster-ID");
        let cluster = cluster.and_then(|id| id.to_str().ok()?.parse().ok());
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&part);
            if body.len() > most {
                let body = Body::Longer;
                return Ok(Answer { status, cluster, body });
            }
        }
        let body = Body::Whole(body);
        Ok(Answer { status, cluster, body })
    }
}

fn whole(url: &str, body: Body) -> Result<Vec<u8>, Error> {
    match body {
        Body::Whole(body) => Ok(body),
        Body::Longer => Err(Error::Nonsense {
            url: url.to_owned(),
            call: CALL,
            what: "an answer that does not end".to_owned(),
        }),
    }
}

/// Asks the member whose peer URL this is.
pub async fn ask_peer(url: &str, tls: &Tls) -> Result<PeerAnswer, Error> {
    PeerClient::new(tls)?.members(url).await
}

fn members_of(body: &[u8]) -> Option<Vec<PeerMember>> {
    let listed: Vec<Listed> = serde_json::from_slice(body).ok()?;
    let members = listed.into_iter().map(|listed| PeerMember {
        id: MemberId(listed.id),
        name: listed.name,
        peer_urls: listed.peer_urls.unwrap_or_default(),
        client_urls: listed.client_urls.unwrap_or_default(),
        is_learner: listed.is_learner,
    });
    let mut members: Vec<PeerMember> = members.collect();
    members.sort_unstable_by_key(|member| member.id);
    Some(members)
}

fn client(tls: &Tls) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    if let Some(ca) = &tls.ca {
        return builder
            .tls_backend_preconfigured(client_config(tls, ca)?)
            .build()
            .map_err(|error| causes(&error));
    }
    if let Some((certificate, key)) = &tls.identity {
        let mut pem = certificate.clone();
        pem.push(b'\n');
        pem.extend_from_slice(key.expose_secret().as_bytes());
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| causes(&error))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| causes(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_and_what_is_none_is_not() {
        let body = br#"[{"id":791541109527157636,"peerURLs":["http://b:1"],"name":"m2","clientURLs":[]},{"id":5,"peerURLs":[]}]"#;
        let members = members_of(body).unwrap();
        let ids: Vec<MemberId> = members.iter().map(|member| member.id).collect();
        assert_eq!(ids, [MemberId(5), MemberId(791541109527157636)]);
        assert_eq!(
            (&*members[1].name, &*members[1].peer_urls),
            ("m2", &["http://b:1".to_owned()][..])
        );
        assert!(members[0].client_urls.is_empty() && !members[0].is_learner);
        for body in [&b""[..], b"{}", b"404 page not found", br#"[{"id":"5"}]"#] {
            assert_eq!(members_of(body), None);
        }
    }
}
