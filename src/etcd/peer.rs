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
    pub members: Vec<MemberId>,
}

#[derive(Deserialize)]
struct Listed {
    id: u64,
}

/// Asks the member whose peer URL this is.
///
/// `tls.identity` must be a certificate that members take for one of their own where they ask for it.
pub async fn ask_peer(url: &str, tls: &Tls) -> Result<PeerAnswer, Error> {
    let unreachable = |reason: String| Error::Unreachable {
        url: url.to_owned(),
        reason,
    };
    let client = client(tls).map_err(|error| unreachable(causes(&error)))?;
    let asked = client.get(format!("{}/members", url.trim_end_matches('/'))).send();
    let mut answer = asked.await.map_err(|error| unreachable(causes(&error.without_url())))?;
    let nonsense = |what: &str| Error::Nonsense {
        url: url.to_owned(),
        call: CALL,
        what: what.to_owned(),
    };
    if !answer.status().is_success() {
        return Err(nonsense(&format!("HTTP status {}", answer.status().as_u16())));
    }
    let cluster = answer.headers().get("X-Etcd-Cluster-ID");
    let cluster = cluster.and_then(|id| id.to_str().ok()?.parse().ok());
    let cluster = cluster.ok_or_else(|| nonsense("no cluster id"))?;
    let mut body = Vec::new();
    let broken = |error: reqwest::Error| unreachable(causes(&error.without_url()));
    while let Some(part) = answer.chunk().await.map_err(broken)? {
        body.extend_from_slice(&part);
        if body.len() > MOST_BYTES {
            return Err(nonsense("a list of members that does not end"));
        }
    }
    let members = members_of(&body).ok_or_else(|| nonsense("what is no list of members"))?;
    Ok(PeerAnswer { cluster, members })
}

fn members_of(body: &[u8]) -> Option<Vec<MemberId>> {
    let listed: Vec<Listed> = serde_json::from_slice(body).ok()?;
    let mut members: Vec<MemberId> = listed.into_iter().map(|member| MemberId(member.id)).collect();
    members.sort_unstable();
    Some(members)
}

fn client(tls: &Tls) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    if let Some(ca) = &tls.ca {
        builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(ca)?);
    }
    if let Some((certificate, key)) = &tls.identity {
        let mut pem = certificate.clone();
        pem.push(b'\n');
        pem.extend_from_slice(key.expose_secret().as_bytes());
        builder = builder.identity(reqwest::Identity::from_pem(&pem)?);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_and_what_is_none_is_not() {
        let body = br#"[{"id":791541109527157636,"peerURLs":["http://b:1"],"name":"m2","clientURLs":[]},{"id":5,"peerURLs":[]}]"#;
        assert_eq!(members_of(body), Some(vec![MemberId(5), MemberId(791541109527157636)]));
        for body in [&b""[..], b"{}", b"404 page not found", br#"[{"id":"5"}]"#] {
            assert_eq!(members_of(body), None);
        }
    }
}
