//! Keys of the old v2 API, which etcd up to 3.5 can still serve: they lie in raft's snapshots, not in the database, so that
//! no snapshot has them.
//!
//! Source: etcd `server/etcdserver/api/v2http/client.go` of 3.5: `GET /v2/keys`, served with `--enable-v2` alone.

use super::{Tls, peer};

/// Whether the member whose client URL this is says that it holds keys of the v2 API. One that does not serve them, or
/// not to us, does not say so.
pub async fn holds_v2_keys(url: &str, tls: &Tls, version: &str) -> bool {
    const WITH_V2: [&str; 4] = ["3.2.", "3.3.", "3.4.", "3.5."];
    if !WITH_V2.iter().any(|line| version.starts_with(line)) {
        return false;
    }
    let Ok(client) = peer::PeerClient::new(tls) else {
        return false;
    };
    client.v2_keys(url).await.is_some_and(|listing| lists_keys(&listing))
}

fn lists_keys(listing: &[u8]) -> bool {
    let listing: serde_json::Value = serde_json::from_slice(listing).unwrap_or_default();
    let nodes = listing.pointer("/node/nodes").and_then(|nodes| nodes.as_array());
    nodes.is_some_and(|nodes| !nodes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_without_keys_is_none() {
        assert!(lists_keys(
            br#"{"action":"get","node":{"dir":true,"nodes":[{"key":"/a","value":"1"}]}}"#
        ));
        for empty in [
            &br#"{"action":"get","node":{"dir":true}}"#[..],
            b"404 page not found",
            b"{}",
            b"",
        ] {
            assert!(!lists_keys(empty));
        }
    }
}
