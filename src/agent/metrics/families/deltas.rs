//! What there is to tell of the capture of changes: nothing but the names where none are captured.

use jiff::{SignedDuration, Timestamp};

use super::{Page, flag, seconds, unix};
use crate::health::{Capturing, LaneState, LaneThere, RESTORED};
use crate::layout::delta::GapReason;

/// How much a lane has of something.
type OfLane<'a> = &'a dyn Fn(&LaneState) -> String;

/// The same of a destination.
type OfDestination<'a> = &'a dyn Fn(&LaneThere) -> String;

fn lasting(span: SignedDuration) -> String {
    seconds(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn families(page: &mut Page, lanes: &[LaneState], now: Timestamp) {
    let mut lags = page.gauge(
        "deltas_lag_seconds",
        "How long etcd has had changes that are on no disk of this host and in no destination; 0 where it has none. Where another \
         host writes, as far as is seen of it, and nothing where nothing is.",
    );
    for lane in lanes {
        let lag = match lane.capturing {
            Capturing::StandingBy => lane.lag(now),
            Capturing::Waiting | Capturing::Writing => Some(lane.lag(now).unwrap_or(SignedDuration::ZERO)),
        };
        if let Some(lag) = lag {
            lags.sample(&[("lane", &lane.lane)], lasting(lag));
        }
    }
    let gauges: [(&str, &str, OfLane<'_>); 10] = [
        (
            "deltas_late_after_seconds",
            "From which lag on that is told.",
            &|lane| lasting(lane.late_after()),
        ),
        (
            "deltas_lag_revisions",
            "By how many revisions, as far as etcd was heard of.",
            &|lane| lane.revisions_behind().unwrap_or(0).to_string(),
        ),
        (
            "deltas_etcd_silent",
            "Whether capture does not go on because no member of etcd answers.",
            &|lane| flag(lane.hears_nobody()).to_string(),
        ),
        (
            "deltas_captured_revision",
            "The last revision that is safe on this host's disk or in a destination.",
            &|lane| lane.captured_to.map_or(0, |revision| revision.get()).to_string(),
        ),
        (
            "deltas_whole_timestamp_seconds",
            "When everything that etcd had was captured last; 0 if not yet.",
            &|lane| unix(lane.whole_at),
        ),
        (
            "deltas_last_flush_timestamp_seconds",
            "When a delta was finished last; 0 if not yet.",
            &|lane| unix(lane.flushed_at),
        ),
        ("deltas_writing", "Whether this host writes the deltas.", &|lane| {
            flag(lane.capturing == Capturing::Writing).to_string()
        }),
        (
            "deltas_epoch",
            "The epoch under which the deltas are written; 0 if none is known.",
            &|lane| lane.epoch.unwrap_or(0).to_string(),
        ),
        (
            "deltas_spool_bytes",
            "What waits on this host for its destinations.",
            &|lane| lane.spool.to_string(),
        ),
        ("deltas_spool_limit_bytes", "How much may.", &|lane| {
            lane.spool_most.to_string()
        }),
    ];
    for (name, help, value) in gauges {
        let mut family = page.gauge(name, help);
        for lane in lanes {
            family.sample(&[("lane", &lane.lane)], value(lane));
        }
    }
    let mut gaps = page.counter("deltas_gaps", "How often a chain was ended since capture began.");
    for lane in lanes {
        for reason in GapReason::ALL.map(GapReason::name).into_iter().chain([RESTORED]) {
            let count = lane.gaps.get(reason).copied().unwrap_or(0);
            gaps.sample(&[("lane", &lane.lane), ("reason", reason)], count);
        }
    }
    let there = || lanes.iter().flat_map(|lane| &lane.destinations);
    let gauges: [(&str, &str, OfDestination<'_>); 2] = [
        (
            "deltas_destination_revision",
            "The last revision that the destination was given; 0 if none since capture began.",
            &|there| there.stored_to.map_or(0, |revision| revision.get()).to_string(),
        ),
        (
            "deltas_destination_last_put_timestamp_seconds",
            "When it was given something last; 0 if not since capture began.",
            &|there| unix(there.stored_at),
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = page.gauge(name, help);
        for there in there() {
            family.sample(&[("destination", &there.destination)], value(there));
        }
    }
    let counters: [(&str, &str, OfDestination<'_>); 2] = [
        (
            "deltas_puts",
            "How many deltas and marks it was given since capture began.",
            &|there| there.puts.to_string(),
        ),
        ("deltas_put_bytes", "How large they were.", &|there| {
            there.put_bytes.to_string()
        }),
    ];
    for (name, help, value) in counters {
        let mut family = page.counter(name, help);
        for there in there() {
            family.sample(&[("destination", &there.destination)], value(there));
        }
    }
}
