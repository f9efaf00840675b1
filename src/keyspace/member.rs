//! Bucket `members`: who belongs to the cluster. The key is the member's id in hexadecimal, the value a JSON text.
//!
//! How an id comes from peer URLs is left to `datadir`.
//!
//! Invariant: the text is what Go's `encoding/json` writes, to the letter; restored write-ahead logs hold it too.
//!
//! Source of the format: etcd `server/etcdserver/api/membership/member.go` of 3.5.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::model::MemberId;

/// One member as its cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The id that the cluster knows the member by.
    #[serde(with = "decimal")]
    pub id: MemberId,
    /// Where the other members reach it, sorted.
    #[serde(rename = "peerURLs", default, deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    /// Whether it has no vote.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
    /// The name it published; empty before its first start.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty before its first start.
    #[serde(
        rename = "clientURLs",
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
}

impl Member {
    /// A voting member that has not started yet.
    pub fn voter(id: MemberId, name: &str, peer_urls: Vec<String>) -> Self {
        Member {
            id,
            peer_urls,
            is_learner: false,
            name: name.to_owned(),
            client_urls: Vec::new(),
        }
    }

    /// Reads an entry of bucket `members`; the key must be the id that the value names.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, Error> {
        let malformed = |source| Error::malformed("members", key, source);
        let member: Member = serde_json::from_slice(value).map_err(|error| malformed(error.into()))?;
        if key != member.id.to_string().as_bytes() {
            return Err(malformed(format!("the value names member {}", member.id).into()));
        }
        Ok(member)
    }

    /// The key of the member's entry.
    pub fn key(&self) -> Vec<u8> {
        self.id.to_string().into_bytes()
    }

    /// The member as JSON.
    pub fn to_json(&self) -> String {
        go_json(self)
    }
}

/// `value` as Go's `encoding/json` writes it: no spaces, and what HTML or JavaScript would trip over escaped.
pub(crate) fn go_json(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("strings, numbers and sequences of them always have a JSON text");
    // None of these occurs outside of string literals.
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A nil slice of Go is `null` in JSON.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Ids are decimal numbers in this text and hexadecimal everywhere else.
mod decimal {
    use crate::model::MemberId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &MemberId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(id.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MemberId, D::Error> {
        u64::deserialize(deserializer).map(MemberId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_restored_member_has_three_fields() {
        let member = Member::voter(MemberId(0xafc1e72027c1b84), "m2", vec!["http://127.0.0.1:23802".into()]);
        let json = r#"{"id":791541109527157636,"peerURLs":["http://127.0.0.1:23802"],"name":"m2"}"#;
        assert_eq!(member.to_json(), json);
        assert_eq!(Member::decode(b"afc1e72027c1b84", json.as_bytes()).unwrap(), member);
    }

    #[test]
    fn the_text_of_a_started_learner_has_all_fields_in_go_order() {
        let json = r#"{"id":5,"peerURLs":["http://a:1","http://b:1"],"isLearner":true,"name":"n","clientURLs":["http://c:2"]}"#;
        let member = Member::decode(b"5", json.as_bytes()).unwrap();
        assert!(member.is_learner);
        assert_eq!(member.to_json(), json);
    }

    #[test]
    fn go_escapes_what_html_and_javascript_trip_over() {
        let member = Member::voter(MemberId(1), "<a&b>\u{2028}\u{2029}\u{1}\"é", vec![]);
        let json = r#"{"id":1,"peerURLs":[],"name":"\u003ca\u0026b\u003e\u2028\u2029\u0001\"é"}"#;
        assert_eq!(member.to_json(), json);
        assert_eq!(Member::decode(b"1", json.as_bytes()).unwrap(), member);
    }

    #[test]
    fn a_text_that_is_no_member_is_refused() {
        assert!(Member::decode(b"1", br#"{"id":1,"peerURLs":null}"#).is_ok());
        for (key, value) in [
            (&b"1"[..], &b""[..]),
            (b"1", b"{}"),
            (b"1", br#"{"id":-1}"#),
            (b"01", br#"{"id":1}"#),
            (b"2", br#"{"id":1}"#),
            (b"1", br#"{"id":1,"peerURLs":"x"}"#),
        ] {
            assert!(
                Member::decode(key, value).is_err(),
                "{}",
                String::from_utf8_lossy(value)
            );
        }
    }
}
