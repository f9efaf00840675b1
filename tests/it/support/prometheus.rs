//! A Prometheus of a test's own, which reads one address every second.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{ports, server, tools};

/// Within this it has read once.
const FIRST: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// A server. Dropping it kills it.
pub struct Prometheus {
    port: u16,
    process: Option<Child>,
    dir: TempDir,
}

impl Prometheus {
    /// One that reads `target` and judges by `rules`, or `None` after saying that the test is skipped.
    pub fn start(target: SocketAddr, rules: &Path) -> Option<Prometheus> {
        let program = tools::debian("prometheus")?;
        let dir = tempfile::Builder::new().prefix("lifeboat-prometheus-").tempdir();
        let dir = dir.expect("a directory can be made");
        let path = |name: &str| -> PathBuf { dir.path().join(name) };
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{rules:?}]\n\
             scrape_configs:\n- job_name: lifeboat\n  static_configs: [{{ targets: [\"{target}\"] }}]\n"
        );
        fs::write(path("prometheus.yml"), configuration).expect("a file can be written");
        let mut prometheus = Prometheus {
            port: ports::free(),
            process: None,
            dir,
        };
        let dir = prometheus.dir.path().to_owned();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", prometheus.port))
            .current_dir(&dir);
        let log = dir.join("log");
        server::boot(
            &mut command,
            &mut prometheus.process,
            "prometheus",
            prometheus.port,
            &log,
        );
        let deadline = Instant::now() + FIRST;
        // It listens before it answers with more than that it is starting.
        while !prometheus.answer("/-/ready").0.contains(" 200 ") {
            assert!(Instant::now() < deadline, "it is not ready: {}", server::said(&log));
            thread::sleep(POLL);
        }
        while prometheus.asked("up == 1").is_empty() {
            let targets = || prometheus.get("/api/v1/targets");
            assert!(
                Instant::now() < deadline,
                "nothing is read: {}\n{}",
                targets(),
                server::said(&log)
            );
            thread::sleep(POLL);
        }
        Some(prometheus)
    }

    /// What an expression comes to now: one row for each series.
    pub fn asked(&self, expression: &str) -> Vec<Value> {
        let quoted: String = expression
            .bytes()
            .map(|byte| match byte.is_ascii_alphanumeric() {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect();
        let answer = self.get(&format!("/api/v1/query?query={quoted}"));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().expect("a vector").clone()
    }

    /// The names of the alerts that are pending or firing.
    pub fn alerts(&self) -> Vec<String> {
        let answer = self.get("/api/v1/alerts");
        let alerts = answer["data"]["alerts"].as_array().expect("a list").iter();
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().expect("it has a name").to_owned();
        alerts.map(name).collect()
    }

    fn get(&self, path: &str) -> Value {
        let (_, body) = self.answer(path);
        serde_json::from_str(&body).expect("it answers with JSON")
    }

    /// The head and the body of an answer.
    fn answer(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers with text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}
