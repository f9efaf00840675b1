//! An S3 server of a test's own: moto, in memory, on a port of the loopback address.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;

use tempfile::TempDir;

use super::{ports, server, tools};

/// The secret half of every key that the tests use.
pub const SECRET: &str = "not/even+a-good-secret";

/// A server. Dropping it kills it, and all that it holds is gone.
pub struct Moto {
    port: u16,
    process: Option<Child>,
    python: PathBuf,
    dir: TempDir,
}

/// A line to a server. Dropping it cuts it.
pub struct SlowLine {
    port: u16,
    process: Option<Child>,
}

impl SlowLine {
    /// The URL of the server at its other end.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

impl Moto {
    /// One that serves, or `None` after saying that the test is skipped. It lets everybody in.
    pub fn start() -> Option<Moto> {
        let mut moto = Moto {
            port: ports::free(),
            process: None,
            python: tools::moto()?,
            dir: tempfile::Builder::new()
                .prefix("lifeboat-moto-")
                .tempdir()
                .expect("a directory can be made"),
        };
        moto.boot();
        Some(moto)
    }

    /// Starts it again after [`Moto::kill`], with nothing in it.
    pub fn boot(&mut self) {
        let mut command = Command::new(&self.python);
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/moto-server.py"))
            .args(["-H", "127.0.0.1", "-p", &self.port.to_string()])
            .env("HOME", self.dir.path());
        let log = self.log();
        server::boot(&mut command, &mut self.process, "moto", self.port, &log);
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A slow line to it, of so many bytes a second.
    pub fn behind_a_slow_line(&self, rate: u32) -> SlowLine {
        let mut line = SlowLine {
            port: ports::free(),
            process: None,
        };
        let mut command = Command::new(&self.python);
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/slow-line.py"))
            .args([line.port.to_string(), self.port.to_string(), rate.to_string()]);
        let log = self.dir.path().join("line.log");
        server::boot(&mut command, &mut line.process, "slow-line", line.port, &log);
        line
    }

    /// Kills it with SIGKILL: its port is nobody's then.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("our own child can be killed");
            process.wait().expect("our own child can be waited for");
        }
    }

    /// Stops it where it stands, or lets it go on: it takes connections and answers none.
    pub fn freeze(&self, is_frozen: bool) {
        let signal = if is_frozen { "STOP" } else { "CONT" };
        let pid = self.process.as_ref().expect("it was started").id();
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()])
            .status();
        assert!(sent.is_ok_and(|sent| sent.success()), "our own child can be signalled");
    }

    /// What it has written: a line for each request.
    pub fn said(&self) -> String {
        server::said(&self.log())
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        self.ask("PUT", &format!("/{name}"), "");
    }

    /// Makes a bucket whose objects can be locked.
    pub fn make_locking_bucket(&self, name: &str) {
        let (status, ..) = self.answer_with(
            "PUT",
            &format!("/{name}"),
            "",
            "x-amz-bucket-object-lock-enabled: true\r\n",
        );
        assert_eq!(status, 200);
    }

    /// What is said of an object besides its content.
    pub fn head(&self, bucket: &str, key: &str) -> String {
        self.answer_with("HEAD", &format!("/{bucket}/{key}"), "", "").1
    }

    /// The keys in a bucket, in order.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.ask("GET", &format!("/{bucket}?list-type=2&start-after={after}"), "");
            let found = values(&page, "Key");
            keys.extend(found.iter().cloned());
            match found.last() {
                Some(last) if page.contains("<IsTruncated>true") => after.clone_from(last),
                Some(_) | None => return keys,
            }
        }
    }

    /// The uploads in parts that were begun and neither completed nor given up.
    pub fn open_uploads(&self, bucket: &str) -> Vec<String> {
        values(&self.ask("GET", &format!("/{bucket}?uploads"), ""), "Key")
    }

    /// What an object holds.
    pub fn object(&self, bucket: &str, key: &str) -> String {
        self.ask("GET", &format!("/{bucket}/{key}"), "")
    }

    /// The same of one that may be gone meanwhile.
    pub fn find_object(&self, bucket: &str, key: &str) -> Option<String> {
        let path = format!("/{bucket}/{key}");
        let (status, answer) = self.answer("GET", &path, "");
        match status {
            404 => None,
            200 => Some(answer),
            _ => panic!("GET {path}: {status} {answer}"),
        }
    }

    /// Puts an object, as a stranger would.
    pub fn put(&self, bucket: &str, key: &str, content: &str) {
        self.ask("PUT", &format!("/{bucket}/{key}"), content);
    }

    /// Has a bucket hold what another one holds, and nothing else. What is begun in it stays.
    pub fn make_equal(&self, bucket: &str, to: &str) {
        for key in self.keys(bucket) {
            self.remove(bucket, &key);
        }
        for key in self.keys(to) {
            let source = format!("x-amz-copy-source: /{to}/{key}\r\n");
            let (status, _, said) = self.answer_with("PUT", &format!("/{bucket}/{key}"), "", &source);
            assert_eq!(status, 200, "{key}: {said}");
        }
    }

    /// Removes an object, as a stranger would.
    pub fn remove(&self, bucket: &str, key: &str) {
        self.ask("DELETE", &format!("/{bucket}/{key}"), "");
    }

    /// Makes a user who may do what a policy says, and gives the id of the key, whose secret goes to `secret`.
    pub fn make_user(&self, name: &str, policy: &str) -> (String, String) {
        let iam = |action: &str| self.ask("POST", "/", &format!("{action}&Version=2010-05-08&UserName={name}"));
        iam("Action=CreateUser");
        iam(&format!(
            "Action=PutUserPolicy&PolicyName=backups&PolicyDocument={}",
            percent_encoded(policy)
        ));
        let made = iam("Action=CreateAccessKey");
        let value = |tag| values(&made, tag).pop().unwrap_or_else(|| panic!("no {tag} in {made}"));
        (value("AccessKeyId"), value("SecretAccessKey"))
    }

    /// From now on it lets in only users that were made, and each does what its policy allows.
    pub fn lock(&self) {
        self.ask("POST", "/moto-api/reset-auth", "0");
    }

    /// The body of its answer, which must be a good one.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.answer(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The status and the body of its answer.
    #[track_caller]
    fn answer(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, _, answer) = self.answer_with(method, path, body, "");
        (status, answer)
    }

    /// The status, the head and the body of its answer to a request with more headers.
    #[track_caller]
    fn answer_with(&self, method: &str, path: &str, body: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a running server takes connections");
        // By the scope of the key, moto tells its services apart.
        let (service, kind) = match path {
            "/" => ("iam", "application/x-www-form-urlencoded"),
            _ => ("s3", "application/octet-stream"),
        };
        let scope = format!("AWS4-HMAC-SHA256 Credential=test/20261129/us-east-1/{service}/aws4_request");
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\nAuthorization: {scope}, SignedHeaders=host, Signature=0\r\n\
             Content-Type: {kind}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .expect("a running server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("a running server answers");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        (
            status.unwrap_or_else(|| panic!("{method} {path}: {answer}")),
            head.to_owned(),
            body.to_owned(),
        )
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            eprintln!("--- the last of moto's log\n{}", last.join("\n"));
        }
    }
}

/// What stands between the tags of this name.
fn values(xml: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts = xml.split(&open).skip(1);
    parts
        .filter_map(|part| Some(part.split_once(&close)?.0.to_owned()))
        .collect()
}

fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() {
            true => encoded.push(char::from(byte)),
            false => write!(encoded, "%{byte:02X}").expect("a string can be written to"),
        }
    }
    encoded
}
