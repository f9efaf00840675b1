//! Whether somebody asks the program to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::child_process;

/// Tells when somebody asks the program to stop.
#[derive(Clone)]
pub struct Interrupt {
    /// Set when it was asked, for work that does not wait.
    pub flag: Arc<AtomicBool>,
    raised: watch::Receiver<bool>,
}

impl Interrupt {
    /// One that whoever runs this raises.
    pub fn of(runtime: &Handle, mut stop: watch::Receiver<bool>) -> Interrupt {
        let flag = Arc::new(AtomicBool::new(false));
        let (set, raised) = (flag.clone(), stop.clone());
        runtime.spawn(async move {
            if stop.wait_for(|stop| *stop).await.is_ok() {
                set.store(true, Ordering::Relaxed);
            }
        });
        Interrupt { flag, raised }
    }

    /// Listens from now on for SIGINT and SIGTERM, whatever the program is busy with. The second one ends it at once, with
    /// this exit code.
    pub fn listen(runtime: &Handle, code: u8) -> Interrupt {
        let flag = Arc::new(AtomicBool::new(false));
        let (sender, raised) = watch::channel(false);
        let set = flag.clone();
        runtime.spawn(async move {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            let mut asked: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                // Sent to all processes of a service or a group, it is handed on once more.
                if asked.is_some_and(|first| first.elapsed() < HANDED_ON_WITHIN) {
                    continue;
                }
                if asked.replace(Instant::now()).is_some() {
                    child_process::tell(code);
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "asked for twice: what is half-done is swept by the next run"
                    )]
                    std::process::exit(i32::from(code));
                }
                set.store(true, Ordering::Relaxed);
                sender.send(true).ok();
            }
        });
        Interrupt { flag, raised }
    }

    /// Done when it was asked.
    pub async fn raised(mut self) {
        if self.raised.wait_for(|raised| *raised).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A signal that comes so soon after the first is the same one.
const HANDED_ON_WITHIN: Duration = Duration::from_millis(300);
