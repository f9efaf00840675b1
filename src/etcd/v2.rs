//! Keys of the old v2 API, which etcd up to 3.5 can still serve: they lie in raft's snapshots, not in the database, so that
//! no snapshot has them.
//!
//! Source: etcd `server/etcdserver/api/v2http/client.go` of 3.5: `GET /v2/keys`, served with `--enable-v2` alone.

use super::Tls;
use super::peer::{self, Body};

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

fn lists_keys(listing: &Body) -> bool {
    let listing = match listing {
        Body::Whole(listing) => listing,
        // A listing of nothing is short.
        Body::Longer => return true,
    };
    let listing: serde_json::Value = serde_json::from_slice(listing).unwrap_or_default();
    let nodes = listing.pointer("/node/nodes").and_then(|nodes| nodes.as_array());
    nodes.is_some_and(|nodes| !nodes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_without_keys_is_none() {
        let lists_keys = |listing: &[u8]| lists_keys(&Body::Whole(listing.to_vec()));
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

    #[tokio::test]
    async fn a_listing_that_is_too_long_to_be_read_has_keys() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let member = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1 << 10];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let value = "x".repeat(2 << 20);
            let listing =
                format!(r#"{{"action":"get","node":{{"dir":true,"nodes":[{{"key":"/a","value":"{value}"}}]}}}}"#);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", listing.len());
            // Whoever has read enough hangs up.
            stream.write_all((head + &listing).as_bytes()).await.ok();
        });
        assert!(holds_v2_keys(&url, &Tls::default(), "3.5.21").await);
        member.await.unwrap();
    }
}
