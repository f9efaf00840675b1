//! How often users, roles and passwords were changed: what a watch does not tell.
//!
//! The client library lacks the call, so it is made by hand: two messages of a few fields each.
//! Source: `Auth.AuthStatus` of etcd 3.5 and later, and of late versions of 3.4.

use age::secrecy::ExposeSecret;
use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{Access, Ahead, CALL_TIMEOUT, Error, channel_to, failed};

/// How many times the auth store was changed; none where the member's version does not tell.
pub async fn auth_revision(url: &str, access: &Access) -> Result<Option<u64>, Error> {
    let channel = channel_to(url, access, Ahead::Little).await?;
    let silent = |call| Error::Silent {
        url: url.to_owned(),
        call,
        after: CALL_TIMEOUT,
    };
    let token = match &access.login {
        None => None,
        Some((user, password)) => {
            let (user, password) = (field(1, user.as_bytes()), field(2, password.expose_secret().as_bytes()));
            let path = "/etcdserverpb.Auth/Authenticate";
            let asked = unary(&channel, path, [user, password].concat(), None);
            let answered = tokio::time::timeout(CALL_TIMEOUT, asked).await;
            let answer = answered.map_err(|_| silent("Authenticate"))?;
            let answer =
                answer.map_err(|status| failed(url, "Authenticate", &etcd_client::Error::GRpcStatus(status)))?;
            Fields(&answer).find_map(|(number, value)| match value {
                Value::Bytes(token) if number == 2 => AsciiMetadataValue::try_from(token).ok(),
                Value::Bytes(_) | Value::Number(_) => None,
            })
        }
    };
    let asked = unary(&channel, "/etcdserverpb.Auth/AuthStatus", Vec::new(), token);
    let answered = tokio::time::timeout(CALL_TIMEOUT, asked).await;
    match answered.map_err(|_| silent("AuthStatus"))? {
        Ok(answer) => Ok(Some(revision_of(&answer))),
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        Err(status) => Err(failed(url, "AuthStatus", &etcd_client::Error::GRpcStatus(status))),
    }
}

/// The third field of `AuthStatusResponse`; one that is 0 is left out.
fn revision_of(answer: &[u8]) -> u64 {
    let revision = Fields(answer).find_map(|(number, value)| match value {
        Value::Number(revision) if number == 3 => Some(revision),
        Value::Number(_) | Value::Bytes(_) => None,
    });
    revision.unwrap_or(0)
}

async fn unary(
    channel: &Channel,
    path: &'static str,
    message: Vec<u8>,
    token: Option<AsciiMetadataValue>,
) -> Result<Vec<u8>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token);
    }
    let path = PathAndQuery::from_static(path);
    Ok(grpc.unary(request, path, AsItIs).await?.into_inner())
}

/// A field of bytes, as protobuf writes it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![(number << 3) | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push((length as u8) | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    field.extend_from_slice(bytes);
    field
}

/// The fields of a protobuf message, up to what is none.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl Fields<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for index in 0..10 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

/// Messages as bytes.
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = AsItIs;
    type Decoder = AsItIs;

    fn encoder(&mut self) -> AsItIs {
        AsItIs
    }

    fn decoder(&mut self) -> AsItIs {
        AsItIs
    }
}

impl Encoder for AsItIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length).to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_found_behind_what_else_there_is_and_no_bytes_do_harm() {
        let header = field(1, &[8, 1, 16, 2]);
        let answer = [header.as_slice(), &[16, 1, 24, 0xac, 2]].concat();
        assert_eq!(revision_of(&answer), 300);
        assert_eq!(revision_of(&header), 0);
        for end in 0..answer.len() {
            revision_of(&answer[..end]);
        }
        assert_eq!(revision_of(&[0xff; 40]), 0);
        assert_eq!(field(2, &[7; 200])[..3], [0x12, 0xc8, 1]);
    }
}
