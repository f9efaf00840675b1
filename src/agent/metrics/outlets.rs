//! Where the metrics go: to whoever asks at `metrics.listen`, and into the file `metrics.textfile`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::super::status_file::Report;
use super::families::{Flavour, render};
use super::server::{MetricsServer, Standing};
use crate::config::{self, Listen};
use crate::durable;
use crate::error_chain::with_causes;
use crate::health::{Event, Notice};

const FILE_MODE: u32 = 0o644;
/// How long a file may take to be written, or an address to be taken, before it is told that nothing comes of it.
const TAKES_AT_MOST: Duration = Duration::from_secs(60);

/// What is served and written.
pub struct Metrics {
    reports: watch::Sender<Option<Arc<Report>>>,
    /// The responder, and since when there is one.
    server: Option<(MetricsServer, Instant)>,
    /// Why nobody was answered where the configuration wants it, when that was tried before.
    unserved: Option<(Listen, String)>,
    /// A file that is being written.
    writing: Option<Writing>,
    /// Why the last one could not be.
    unwritten: Option<(PathBuf, String)>,
}

struct Writing {
    path: PathBuf,
    since: Instant,
    written: oneshot::Receiver<Result<(), durable::Error>>,
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
        // What was tried last is told until it is known that it works now.
        match self.server.as_ref().map(|(server, _)| (server.at(), server.standing())) {
            Some((at, Standing::Failed(error))) => self.unserved = Some((at.clone(), error)),
            Some((_, Standing::Serves)) | None => self.unserved = None,
            Some((_, Standing::Begins)) => {}
        }
        self.unserved.take_if(|(at, _)| wanted != Some(at));
        let is_of_use = |server: &MetricsServer| match server.standing() {
            Standing::Begins | Standing::Serves => wanted == Some(server.at()),
            // Tried again with each report.
            Standing::Failed(_) => false,
        };
        if !self.server.as_ref().is_some_and(|(server, _)| is_of_use(server)) {
            // First, as the other one may be at the same port.
            self.server = None;
            let begin = |at| (MetricsServer::listen(at, self.reports.subscribe(), now), Instant::now());
            self.server = wanted.map(begin);
        }
    }

    /// Writes the file on a thread of its own: its file system may hang.
    fn write(&mut self, wanted: Option<&PathBuf>, report: &Report, now: Timestamp) {
        // One that hangs at a path that nobody wants any more keeps nothing back.
        self.writing.take_if(|writing| wanted != Some(&writing.path));
        self.unwritten.take_if(|(path, _)| wanted != Some(path));
        let Some(path) = wanted else { return };
        if let Some(writing) = &mut self.writing {
            let written = match writing.written.try_recv() {
                Ok(written) => written.map_err(|error| with_causes(&error)),
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(oneshot::error::TryRecvError::Closed) => Err("its thread ended without a word".to_owned()),
            };
            self.unwritten = written.err().map(|error| (path.clone(), error));
        }
        let text = render(Some(report), true, now, Flavour::Prometheus);
        let (sender, written) = oneshot::channel();
        self.writing = Some(Writing {
            path: path.clone(),
            since: Instant::now(),
            written,
        });
        let path = path.clone();
        std::thread::spawn(move || sender.send(durable::replace(&path, text.as_bytes(), FILE_MODE)).ok());
    }

    /// What of it does not work.
    pub fn problems(&self, now: Instant) -> Vec<Notice> {
        let unserved = self.why_unserved(now);
        let unserved = unserved.map(|(at, error)| format!("metrics are not served at {at}: {error}"));
        let unwritten = self.why_unwritten(now);
        let unwritten =
            unwritten.map(|(path, error)| format!("metrics are not written to {}: {error}", path.display()));
        let messages = unserved.into_iter().chain(unwritten);
        messages
            .map(|message| Notice::new(Event::MetricsUnserved, message))
            .collect()
    }

    fn why_unserved(&self, now: Instant) -> Option<(&Listen, String)> {
        let (server, since) = self.server.as_ref()?;
        match server.standing() {
            Standing::Serves => None,
            Standing::Failed(error) => Some((server.at(), error)),
            Standing::Begins => match &self.unserved {
                Some((at, error)) => Some((at, error.clone())),
                None => Some((server.at(), silence(*since, now)?)),
            },
        }
    }

    fn why_unwritten(&self, now: Instant) -> Option<(&PathBuf, String)> {
        let goes_on = self.writing.as_ref().filter(|writing| writing.written.is_empty());
        let hangs = goes_on.and_then(|writing| Some((&writing.path, silence(writing.since, now)?)));
        let failed = self.unwritten.as_ref();
        hangs.or_else(|| failed.map(|(path, error)| (path, error.clone())))
    }
}

/// That something which began at `since` does not end.
fn silence(since: Instant, now: Instant) -> Option<String> {
    let waited = now.saturating_duration_since(since);
    (waited > TAKES_AT_MOST).then(|| format!("no answer within {} s", TAKES_AT_MOST.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(metrics: &Metrics, after: Duration) -> Vec<String> {
        let problems = metrics.problems(Instant::now() + after);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn a_write_that_hangs_is_told_until_it_ends() {
        let (hangs, written) = oneshot::channel();
        let mut metrics = Metrics::new();
        metrics.writing = Some(Writing {
            path: "/mnt/lifeboat.prom".into(),
            since: Instant::now(),
            written,
        });
        let (soon, late) = (TAKES_AT_MOST / 2, TAKES_AT_MOST * 2);
        assert_eq!(told(&metrics, soon), [""; 0]);
        assert_eq!(
            told(&metrics, late),
            ["metrics are not written to /mnt/lifeboat.prom: no answer within 60 s"]
        );
        hangs.send(Ok(())).unwrap();
        assert_eq!(told(&metrics, late), [""; 0]);
    }

    #[test]
    fn an_address_that_cannot_be_taken_is_told_until_it_can_and_not_once_a_report() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let path = folder.path().join("metrics");
            std::fs::write(&path, "somebody's").unwrap();
            let (at, mut metrics) = (Listen::Socket(path.clone()), Metrics::new());
            let mut try_again = async || {
                metrics.listen(Some(&at), Timestamp::now);
                let at_once = told(&metrics, Duration::ZERO).len();
                let (server, _) = metrics.server.as_ref().unwrap();
                while server.standing() == Standing::Begins {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                (at_once, told(&metrics, Duration::ZERO).len())
            };
            assert_eq!(try_again().await, (0, 1));
            assert_eq!(try_again().await, (1, 1), "told all the while");
            std::fs::remove_file(&path).unwrap();
            assert_eq!(try_again().await, (1, 0));
            assert_eq!(try_again().await, (0, 0));
            metrics.listen(None, Timestamp::now);
            assert!(!path.exists());
        });
    }
}
