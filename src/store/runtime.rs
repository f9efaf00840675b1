//! What waits for the servers of stores. Every call of a backend blocks a thread of its own.

use std::cell::Cell;
use std::sync::LazyLock;

use tokio::runtime::Runtime;

static WAITING: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("stores")
        .on_thread_start(|| WAITS.set(true))
        .enable_all()
        .build()
        .expect("threads can be started")
});

thread_local! {
    /// Whether somebody waits by this thread: it waits for one thing at a time.
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// Waits until it is done.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    let before = WAITS.replace(true);
    let output = WAITING.block_on(future);
    WAITS.set(before);
    output
}

/// Has it done meanwhile; nobody waits for it.
#[cfg(feature = "sftp")]
pub(super) fn meanwhile(future: impl Future<Output = ()> + Send + 'static) {
    WAITING.spawn(future);
}

/// Waits until it is done, but has it done meanwhile where what lets go of something is itself waited for.
#[cfg(feature = "sftp")]
pub(super) fn wait_or_leave(future: impl Future<Output = ()> + Send + 'static) {
    match WAITS.get() {
        true => meanwhile(future),
        false => wait(future),
    }
}

#[cfg(all(test, feature = "sftp"))]
mod tests {
    use super::*;

    /// Lets go of something by asking for it, as what is begun on a server does.
    struct Begun(std::sync::mpsc::Sender<()>);

    impl Drop for Begun {
        fn drop(&mut self) {
            let sender = self.0.clone();
            wait_or_leave(async move {
                tokio::task::yield_now().await;
                sender.send(()).ok();
            });
        }
    }

    #[test]
    fn what_is_let_go_of_while_somebody_waits_is_done_meanwhile() {
        let (sender, done) = std::sync::mpsc::channel();
        let patience = std::time::Duration::from_secs(20);
        // Here it is done when the call returns.
        drop(Begun(sender.clone()));
        done.try_recv().unwrap();
        let begun = Begun(sender.clone());
        wait(async move { drop(begun) });
        done.recv_timeout(patience).unwrap();
        let begun = Begun(sender);
        meanwhile(async move { drop(begun) });
        done.recv_timeout(patience).unwrap();
    }
}
