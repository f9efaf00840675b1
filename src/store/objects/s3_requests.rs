//! Requests to S3 that opendal does not make: which uploads are open, what a bucket enforces, how long an object is locked.
//!
//! They go the way of all others: by the same client, signed with the same keys.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use opendal::{Buffer, HttpTransporter};
use reqsign_aws_v4::Credential;
use reqsign_core::{Context, OsEnv, Signer};
use reqsign_file_read_tokio::TokioFileRead;
use serde::Deserialize;

use super::opendal_services::TRIED_AGAIN;

/// What asks S3, of a bucket and of what lies in it below a prefix.
pub(super) struct Requests {
    transport: HttpTransporter,
    /// None where requests are not signed.
    signer: Option<Signer<Credential>>,
    /// The URL of the bucket.
    bucket: String,
    /// What all names begin with: empty, or with a slash at its end.
    prefix: String,
    pause: Duration,
}

/// One request.
#[derive(Clone, Default)]
pub(super) struct Question<'a> {
    pub method: Method,
    /// Of which object; of the bucket, if none.
    pub path: Option<&'a str>,
    pub query: &'a [(&'a str, &'a str)],
    pub headers: &'a [(&'static str, String)],
    pub body: &'a [u8],
}

/// What came back.
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    /// What a server says of an error: its code and its words, or its status alone.
    pub fn said(&self) -> String {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Said {
            code: String,
            #[serde(default)]
            message: String,
        }
        match quick_xml::de::from_reader::<_, Said>(&*self.body) {
            Ok(said) if said.message.is_empty() => said.code,
            Ok(said) => format!("{}: {}", said.code, said.message),
            Err(_) => self.status.to_string(),
        }
    }

    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An upload in parts that was begun and neither completed nor given up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OpenUpload {
    /// The whole name of what it would become.
    pub key: String,
    pub upload_id: String,
    #[serde(default)]
    pub initiated: String,
}

/// A page of a listing of uploads.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Uploads {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default)]
    upload: Vec<OpenUpload>,
}

/// After what a page begins; nothing for the first.
#[derive(Debug, Default)]
pub(super) struct Marker {
    key: String,
    upload: String,
}

/// A page of what is open.
pub(super) struct OpenUploads {
    pub uploads: Vec<OpenUpload>,
    /// After what the next begins, if there is one.
    pub next: Option<Marker>,
}

impl Requests {
    pub fn new(
        transport: HttpTransporter,
        signer: Option<Signer<Credential>>,
        bucket: String,
        prefix: &str,
        pause: Duration,
    ) -> Requests {
        let prefix = match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Requests {
            transport,
            signer,
            bucket,
            prefix,
            pause,
        }
    }

    /// The reply to a request, whatever it is. What can be asked again is, a few times.
    pub async fn ask(&self, question: &Question<'_>) -> opendal::Result<Reply> {
        let mut pause = self.pause;
        for _ in 0..TRIED_AGAIN {
            match self.ask_once(question).await {
                Ok(reply) if !(reply.status.is_server_error() || reply.status == StatusCode::TOO_MANY_REQUESTS) => {
                    return Ok(reply);
                }
                // It knows no such request, and will not know it later.
                Ok(reply) if reply.status == StatusCode::NOT_IMPLEMENTED => return Ok(reply),
                Ok(_) => {}
                Err(error) if error.is_temporary() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.ask_once(question).await
    }

    async fn ask_once(&self, question: &Question<'_>) -> opendal::Result<Reply> {
        let mut url = self.bucket.clone();
        if let Some(path) = question.path {
            url.push('/');
            url.push_str(&encoded(&self.prefix, Slash::Kept));
            url.push_str(&encoded(path, Slash::Kept));
        }
        for (number, (name, value)) in question.query.iter().enumerate() {
            url.push(if number == 0 { '?' } else { '&' });
            url.push_str(&encoded(name, Slash::Encoded));
            url.push('=');
            url.push_str(&encoded(value, Slash::Encoded));
        }
        let mut request = http::Request::builder()
            .method(question.method.clone())
            .uri(url)
            .header(http::header::CONTENT_LENGTH, question.body.len());
        for (name, value) in question.headers {
            request = request.header(*name, value);
        }
        let unfit = |error: http::Error| opendal::Error::new(opendal::ErrorKind::Unexpected, error.to_string());
        let (mut parts, body) = request
            .body(Buffer::from(question.body.to_vec()))
            .map_err(unfit)?
            .into_parts();
        if let Some(signer) = &self.signer {
            let signer = signer.clone().with_context(
                Context::new()
                    .with_file_read(TokioFileRead)
                    .with_http_send(self.transport.clone())
                    .with_env(OsEnv),
            );
            signer.sign(&mut parts, None).await.map_err(|error| {
                opendal::Error::new(opendal::ErrorKind::Unexpected, "signing http request").set_source(error)
            })?;
            parts.headers.remove(http::header::HOST);
        }
        let reply = self.transport.send(http::Request::from_parts(parts, body)).await?;
        let (head, body) = reply.into_parts();
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body: body.to_vec(),
        })
    }

    /// The uploads below the prefix that are open, one page of them, or the reply of a server that does not tell.
    pub async fn open_uploads(&self, after: &Marker) -> opendal::Result<Result<OpenUploads, Reply>> {
        let mut query = vec![("uploads", ""), ("prefix", self.prefix.as_str())];
        if !after.key.is_empty() {
            query.extend([
                ("key-marker", after.key.as_str()),
                ("upload-id-marker", after.upload.as_str()),
            ]);
        }
        let reply = self
            .ask(&Question {
                query: &query,
                ..Question::default()
            })
            .await?;
        if !reply.status.is_success() {
            return Ok(Err(reply));
        }
        let page: Uploads = quick_xml::de::from_reader(&*reply.body).map_err(|error| {
            opendal::Error::new(opendal::ErrorKind::Unexpected, "it does not list open uploads").set_source(error)
        })?;
        // A server that knows no such listing may give one of the objects instead.
        let below = |upload: &OpenUpload| upload.key.starts_with(&self.prefix);
        let has_more = page.is_truncated && !page.next_key_marker.is_empty();
        Ok(Ok(OpenUploads {
            uploads: page.upload.into_iter().filter(below).collect(),
            next: has_more.then_some(Marker {
                key: page.next_key_marker,
                upload: page.next_upload_id_marker,
            }),
        }))
    }

    /// What the bucket says of locks.
    pub async fn locks(&self) -> opendal::Result<Reply> {
        self.ask(&Question {
            query: &[("object-lock", "")],
            ..Question::default()
        })
        .await
    }

    /// Gives an upload up.
    pub async fn abort(&self, path: &str, upload: &str) -> opendal::Result<Reply> {
        self.ask(&Question {
            method: Method::DELETE,
            path: Some(path),
            query: &[("uploadId", upload)],
            ..Question::default()
        })
        .await
    }

    /// The CRC-32C that the server tells of an object; none if it tells none.
    pub async fn crc32c_of(&self, path: &str) -> opendal::Result<Option<String>> {
        let reply = self
            .ask(&Question {
                method: Method::HEAD,
                path: Some(path),
                headers: &[("x-amz-checksum-mode", "ENABLED".to_owned())],
                ..Question::default()
            })
            .await?;
        Ok(reply.header("x-amz-checksum-crc32c").map(str::to_owned))
    }

    /// What a name in this bucket is called in the store.
    pub fn path_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What becomes of a slash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slash {
    Kept,
    Encoded,
}

/// As Amazon signs it: all but letters, digits and `-._~` by two digits each.
fn encoded(text: &str, slash: Slash) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            b'/' if slash == Slash::Kept => encoded.push('/'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_they_are_signed() {
        assert_eq!(encoded("a/b c+ü.json", Slash::Kept), "a/b%20c%2B%C3%BC.json");
        assert_eq!(encoded("a/b", Slash::Encoded), "a%2Fb");
    }

    #[test]
    fn what_a_server_says_of_an_error_is_in_its_words_where_it_has_any() {
        let reply = |body: &str| Reply {
            status: StatusCode::NOT_IMPLEMENTED,
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
        };
        let said = |body: &str| reply(body).said();
        let full =
            "<?xml version=\"1.0\"?>\n<Error><Code>NotImplemented</Code><Message>not here</Message><Resource/></Error>";
        assert_eq!(said(full), "NotImplemented: not here");
        assert_eq!(said("<Error><Code>NotImplemented</Code></Error>"), "NotImplemented");
        for none in ["", "<html>", "\u{0}"] {
            assert_eq!(said(none), "501 Not Implemented");
        }
    }
}
