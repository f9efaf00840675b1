//! What every full backup does on its way into its destinations, whether etcd sent it or it was made of an earlier one.

use super::Progress;
use super::destinations::{PATIENCE, Sinks, Written};
use super::failure::Error;
use super::sink::Sink;
use super::snapshot_observer::Observed;
use super::uncommitted::{AtWork, Traces};
use crate::catalog::Pinned;
use crate::layout::{ChainPath, HostName, Manifest, Pin};
use crate::pipeline::{EncodeError, Encoded, Encoder, Encoding, Head};

/// The pipeline of a backup, while there is one.
pub(super) type Running = Option<Encoder<Observed, Sink>>;

/// Does with `place` everything but the manifest's writing, unless `interrupted` comes first. What was begun in the pipeline is gone
/// before anybody is told that nothing was kept.
pub(super) async fn placed_unless<T>(
    interrupted: impl Future<Output = ()>,
    traces: &Traces,
    place: impl AsyncFnOnce(&mut Running, AtWork) -> Result<T, Error>,
) -> Option<Result<T, Error>> {
    let mut encoder = None;
    let placed = tokio::select! {
        placed = place(&mut encoder, traces.at_work()) => Some(placed),
        () = interrupted => None,
    };
    if let (Some(Err(_)) | None, Some(encoder)) = (&placed, encoder) {
        encoder.abort().await;
    }
    placed
}

/// That somebody asked to stop, once all is taken back that was in the stores.
pub(super) async fn interrupted(traces: Traces) -> Error {
    let left = traces.take_back(PATIENCE).await;
    Error::Interrupted { left }
}

/// Ends the pipeline, so that another one can begin for what is to be sent again.
pub(super) async fn begin_again(encoder: &mut Running, progress: &Progress) {
    if let Some(encoder) = encoder.take() {
        encoder.abort().await;
    }
    progress.begin_again();
}

/// Begins the object in each destination, and what stands at its head.
pub(super) async fn begin(
    encoding: &Encoding,
    sinks: &mut Sinks,
    path: &ChainPath,
    progress: &Progress,
    before_stores: impl Future<Output = ()>,
) -> Result<Head, Error> {
    let head = encoding.head_apart().await.map_err(Error::Encode)?;
    progress.pulse.beat();
    before_stores.await;
    progress.writes(true);
    let begun = sinks.begin(path).await;
    progress.writes(begun.as_ref().map_or_else(Error::may_have_written, |()| true));
    begun.map(|()| head)
}

/// What has come through the pipeline, once all was sent.
pub(super) async fn finished(encoder: &mut Running, sinks: &mut Sinks) -> Result<Encoded<Observed, Sink>, Error> {
    let finished = encoder.take().expect("something was sent through it").finish().await;
    finished.map_err(|error| match error {
        EncodeError::NoSinkLeft(errors) => sinks.none_left(errors),
        error @ (EncodeError::Recipients(_) | EncodeError::Zstd(_)) => Error::Encode(error),
    })
}

/// What a backup has beside its manifest from its first moment.
pub(super) struct Beside<'a> {
    pub pinned: Pinned,
    pub note: Option<&'a String>,
    pub host: &'a HostName,
}

/// Writes the manifest everywhere, as [`Sinks::publish`] has it. Its bytes, and what came of each destination.
pub(super) async fn published(
    sinks: Sinks,
    manifest: &Manifest,
    beside: Beside<'_>,
    interrupted: impl Future<Output = ()>,
) -> Result<(Vec<u8>, Vec<Written>), Error> {
    let Beside { pinned, note, host } = beside;
    let document = sinks.signed(manifest);
    let pin = match pinned {
        Pinned::Yes => Some(Pin::new(manifest.finished_at, host, note.cloned())),
        Pinned::No => None,
    };
    let written = sinks
        .publish(manifest, &document, pin.as_ref(), host, interrupted)
        .await?;
    Ok((document, written))
}
