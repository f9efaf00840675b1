//! Where the metrics go: to whoever asks at `metrics.listen`, and into the file `metrics.textfile`.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::exposition::{Flavour, render};
use super::metrics_server::MetricsServer;
use super::status::Report;
use crate::config::{self, Listen};
use crate::durable;
use crate::error_chain::with_causes;
use crate::health::{Event, Notice};

const FILE_MODE: u32 = 0o644;

/// What is served and written.
pub struct Metrics {
    reports: watch::Sender<Option<Arc<Report>>>,
    server: Option<MetricsServer>,
    /// Why nobody is answered where the configuration wants it.
    unserved: Option<(Listen, String)>,
    /// A file that is being written.
    writing: Option<oneshot::Receiver<Result<(), durable::Error>>>,
    /// Why the last one could not be.
    unwritten: Option<(PathBuf, String)>,
}

impl Metrics {
    /// Nothing is served yet.
    pub fn new() -> Metrics {
        Metrics {
            reports: watch::channel(None).0,
            server: None,
            unserved: None,
            writing: None,
            unwritten: None,
        }
    }

    /// Publishes a report as the configuration wants it. Needs a runtime to run in.
    pub fn publish(&mut self, config: &config::Metrics, report: &Report, now: fn() -> Timestamp) {
        self.reports.send_replace(Some(Arc::new(report.clone())));
        self.listen(config.listen.as_ref(), now);
        self.write(config.textfile.as_ref(), report, now());
    }

    fn listen(&mut self, wanted: Option<&Listen>, now: fn() -> Timestamp) {
        if self.server.as_ref().map(MetricsServer::at) != wanted {
            // First, as the other one may be at the same port.
            self.server = None;
        }
        self.unserved = None;
        let Some(at) = wanted.filter(|_| self.server.is_none()) else {
            return;
        };
        match MetricsServer::listen(at, self.reports.subscribe(), now) {
            Ok(server) => self.server = Some(server),
            // Tried again with the next report.
            Err(error) => self.unserved = Some((at.clone(), error.to_string())),
        }
    }

    /// Writes the file on a thread of its own: its file system may hang.
    fn write(&mut self, wanted: Option<&PathBuf>, report: &Report, now: Timestamp) {
        let Some(path) = wanted else {
            self.unwritten = None;
            return;
        };
        if let Some(writing) = &mut self.writing {
            let written = match writing.try_recv() {
                Ok(written) => written.map_err(|error| with_causes(&error)),
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(oneshot::error::TryRecvError::Closed) => Err("its thread ended without a word".to_owned()),
            };
            self.unwritten = written.err().map(|error| (path.clone(), error));
        }
        let text = render(Some(report), true, now, Flavour::Prometheus);
        let (sender, writing) = oneshot::channel();
        let path = path.clone();
        std::thread::spawn(move || sender.send(durable::replace(&path, text.as_bytes(), FILE_MODE)).ok());
        self.writing = Some(writing);
    }

    /// What of it does not work.
    pub fn problems(&self) -> Vec<Notice> {
        let notice = |message: String| Notice::new(Event::MetricsUnserved, message);
        let unserved = self.unserved.as_ref();
        let unserved = unserved.map(|(at, error)| notice(format!("metrics are not served at {at}: {error}")));
        let unwritten = self.unwritten.as_ref();
        let unwritten =
            unwritten.map(|(path, error)| notice(format!("metrics are not written to {}: {error}", path.display())));
        unserved.into_iter().chain(unwritten).collect()
    }
}
