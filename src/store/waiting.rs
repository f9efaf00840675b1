//! What waits for the servers of stores. Every call of a backend blocks a thread of its own.

use std::sync::LazyLock;

use tokio::runtime::Runtime;

static WAITING: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("stores")
        .enable_all()
        .build()
        .expect("threads can be started")
});

/// Waits until it is done.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    WAITING.block_on(future)
}

/// Has it done meanwhile; nobody waits for it.
#[cfg(feature = "sftp")]
pub(super) fn meanwhile(future: impl Future<Output = ()> + Send + 'static) {
    WAITING.spawn(future);
}
