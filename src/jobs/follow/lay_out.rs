//! The newest point, laid out for the first time.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Event, Hears, stand_of};
use crate::destinations::Destinations;
use crate::jobs::named_backup::chosen;
use crate::jobs::point::{Point, Search};
use crate::jobs::rebuild::{expected, refused_by};
use crate::jobs::source::Found;
use crate::jobs::{Failure, Listener, stores};
use crate::layout::Manifest;
use crate::pipeline::Identities;
use crate::rebuild::{Error, Plan, Progress, Warm, rebuild};

/// Lays out the newest point for the first time.
pub(super) fn lay_out(
    plan: &Plan,
    places: &Destinations,
    identities: &Option<Arc<Identities>>,
    (listener, hears): (&dyn Listener, &dyn Hears),
    stop: &AtomicBool,
) -> Result<Warm, Failure> {
    let (found, manifest) = newest(places, identities, listener)?;
    found.say_point(listener);
    let laid_out = found.with_each(
        listener,
        |source, _| {
            let plan = Plan {
                expected: Some(expected(&manifest)),
                ..plan.clone()
            };
            let length = source.length();
            let rebuilt = rebuild(source, found.changes(), &plan, &|progress| {
                heard(progress, length, hears, stop)
            })?;
            Ok((Warm::open(&plan)?, rebuilt))
        },
        Error::is_fault_of_source,
        |error| refused_by(&error, Some(&manifest)),
    );
    found.tell_notes(listener);
    let (warm, rebuilt) = laid_out?;
    let event = Event::LaidOut {
        manifest: &manifest,
        rebuilt: &rebuilt,
        instead: None,
    };
    hears.event(&event, &stand_of(&warm, None));
    Ok(warm)
}

/// The newest point, and its full backup.
pub(super) fn newest(
    places: &Destinations,
    identities: &Option<Arc<Identities>>,
    listener: &dyn Listener,
) -> Result<(Found, Manifest), Failure> {
    let latest = chosen(listener, places, "latest")?;
    let search = Search {
        places,
        identities: identities.clone(),
        listener,
    };
    let (backup, point) = search.choose(latest, false, &Point::OfSource)?;
    let manifest = stores::manifest(places, backup)?.0;
    let found = Found::behind(backup, manifest.clone(), places, identities.clone(), point);
    Ok((found, manifest))
}

pub(super) fn heard(progress: Progress, length: Option<u64>, hears: &dyn Hears, stop: &AtomicBool) -> ControlFlow<()> {
    if let Progress::Reading { bytes } = progress {
        hears.lays_out(bytes, length.unwrap_or(bytes));
    }
    match stop.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}
