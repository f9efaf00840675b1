//! The capture of changes, beside the jobs: begun with the agent, ended with it, begun anew with a new configuration.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::daemon::Agent;
use crate::health::{LaneState, Level};
use crate::jobs::capture::{CaptureOrder, OneLane, Say, lanes};

/// How often the agent says how capture is.
pub(super) const SAY_EVERY: Duration = Duration::from_secs(5);

/// What goes on.
pub(super) struct Capture {
    stop: watch::Sender<bool>,
    news: watch::Sender<u64>,
    lanes: Vec<OneLane>,
    done: oneshot::Receiver<()>,
}

impl Capture {
    /// Has it stop, as soon as what came is on the disk.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// There may be a new full backup.
    pub(super) fn look(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// How its lanes are.
    pub(super) fn states(&self) -> Vec<LaneState> {
        self.lanes.iter().map(|lane| lane.board.read()).collect()
    }
}

/// Done when it has ended.
pub(super) async fn ended(capture: &mut Option<Capture>) {
    match capture {
        Some(capture) => drop((&mut capture.done).await),
        None => std::future::pending().await,
    }
}

impl Agent {
    /// Begins to capture, where that is configured and does not go on already.
    pub(super) fn begin_capture(&mut self) {
        if self.capture.is_some() || *self.stop.borrow() {
            return;
        }
        let lanes = lanes(&self.config, &self.woken);
        if lanes.is_empty() {
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let (news, heard) = watch::channel(0);
        let (sender, done) = oneshot::channel();
        let log = self.log;
        let say: Say = Arc::new(move |level, lane, what| log.line(level, what, &[("lane", &lane)]));
        let order = CaptureOrder {
            config: self.config.clone(),
            stop: stopped,
            news: heard,
            lanes: lanes.clone(),
            say,
            said: self.said_of_capture.clone(),
        };
        let work = self.work.clone();
        std::thread::spawn(move || {
            work.capture(&order);
            // The agent may have gone.
            sender.send(()).ok();
        });
        self.log
            .line(Level::Info, "capture of changes begins", &[("lanes", &lanes.len())]);
        self.capture = Some(Capture {
            stop,
            news,
            lanes,
            done,
        });
    }
}
