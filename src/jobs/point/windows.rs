//! The points that can be restored, with their times, as `list`, `show` and `status` tell them.

use jiff::Timestamp;

use super::belongs;
use crate::catalog::{Backup, Following, PieceKind, Window};
use crate::destinations::{Destinations, side_by_side};
use crate::layout::delta::{Gap, GapReason};
use crate::layout::{MAX_BYTES, ObjectName};
use crate::model::Revision;
use crate::source::delta::head;
use crate::text::clean;

/// Of so many chains, the newest, the time of their end is read; of others names have to tell it.
const READ: usize = 32;

/// The end of a chain that somebody declared.
#[derive(Debug, Clone)]
pub struct KnownGap {
    /// The first revision that the chain does not have.
    pub from: Revision,
    /// What was said of it; none where that cannot be read.
    pub said: Option<Gap>,
}

/// The window of a chain.
#[derive(Debug, Clone)]
pub struct KnownWindow<'a> {
    /// Its full backup.
    pub backup: &'a Backup,
    /// What follows that.
    pub following: Following,
    /// Its points.
    pub window: Window,
    /// The time of the first.
    pub from_time: Timestamp,
    /// The time of the last.
    pub to_time: Timestamp,
    /// How the chain ended, if it did.
    pub gaps: Vec<KnownGap>,
}

/// What follows a full backup, counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// How many deltas.
    pub deltas: usize,
    /// How many packs.
    pub packs: usize,
    /// How many marks.
    pub marks: usize,
    /// How large the deltas and packs are.
    pub stored_bytes: u64,
}

impl Counted {
    /// Counts it.
    pub fn of(following: &Following) -> Counted {
        let pieces = following.pieces();
        let of_kind = |kind| pieces.iter().filter(|piece| piece.kind == kind).count();
        Counted {
            deltas: of_kind(PieceKind::Delta),
            packs: of_kind(PieceKind::Pack),
            marks: following.marks(),
            stored_bytes: pieces.iter().map(|piece| piece.bytes).sum(),
        }
    }
}

/// The windows of all good backups, in the order of the catalog.
pub fn windows(places: &Destinations) -> Vec<KnownWindow<'_>> {
    let good = places.catalog.backups().iter().filter(|backup| backup.is_good());
    let mut windows: Vec<KnownWindow<'_>> = good.map(KnownWindow::by_names).collect();
    let by_name = windows.len().saturating_sub(READ);
    let is_asked = |known: &&mut KnownWindow<'_>| !known.following.pieces().is_empty() || !known.gaps.is_empty();
    let asked = windows.iter_mut().skip(by_name).filter(is_asked);
    let asked: Vec<&mut KnownWindow<'_>> = asked.collect();
    let read = side_by_side(asked.into_iter(), |known| (known.end(places), known.read_gaps(places)));
    for (known, (end, gaps)) in read {
        known.to_time = end.unwrap_or(known.to_time);
        known.gaps = gaps;
    }
    windows
}

/// The window of one backup, good or not.
pub fn window_of<'a>(places: &Destinations, backup: &'a Backup) -> KnownWindow<'a> {
    let known = KnownWindow::by_names(backup);
    KnownWindow {
        to_time: known.end(places).unwrap_or(known.to_time),
        gaps: known.read_gaps(places),
        ..known
    }
}

impl<'a> KnownWindow<'a> {
    /// As far as names tell.
    fn by_names(backup: &'a Backup) -> KnownWindow<'a> {
        let following = Following::of(backup);
        let window = following.window();
        let begin = backup.manifest().first_byte_at;
        let plan = following.plan(window.to).unwrap_or_default();
        let written = plan.last().map_or(begin, |piece| piece.written_at);
        let gaps = following.gaps().map(|(_, from)| KnownGap { from, said: None });
        KnownWindow {
            backup,
            from_time: begin,
            to_time: window.marked_at.unwrap_or(written).max(begin),
            gaps: gaps.collect(),
            window,
            following,
        }
    }
}

/// Points that follow each other without a hole, of one chain or of several that go on in one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The first revision.
    pub from: Revision,
    /// The last.
    pub to: Revision,
    /// The time of the first.
    pub from_time: Timestamp,
    /// The time of the last.
    pub to_time: Timestamp,
    /// How many chains it is made of.
    pub chains: usize,
    /// Why it ends, as far as somebody said so.
    pub ends: Option<String>,
}

/// The stretches of one history, in order. A full backup that no change follows, and that is in no other, is one of a single
/// point.
pub fn stretches<'a>(windows: impl IntoIterator<Item = &'a KnownWindow<'a>>) -> Vec<Stretch> {
    let each = windows.into_iter().map(|known| Stretch {
        from: known.window.from,
        to: known.window.to,
        from_time: known.from_time,
        to_time: known.to_time,
        chains: 1,
        ends: known.ends(),
    });
    let mut each: Vec<Stretch> = each.collect();
    each.sort_by_key(|stretch| (stretch.from, stretch.to));
    let mut joined: Vec<Stretch> = Vec::new();
    for next in each {
        match joined.last_mut() {
            Some(last) if next.from <= last.to => {
                last.chains += 1;
                last.from_time = last.from_time.min(next.from_time);
                if next.to > last.to || (next.to == last.to && next.to_time > last.to_time) {
                    (last.to, last.to_time, last.ends) = (next.to, next.to_time, next.ends);
                }
            }
            _ => joined.push(next),
        }
    }
    joined
}

impl KnownGap {
    /// In words.
    pub fn words(&self) -> String {
        match &self.said {
            Some(said) => format!("{} ({})", reason(said.reason), clean(&said.detail)),
            None => "why, cannot be read".to_owned(),
        }
    }
}

fn reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Compacted => "etcd had compacted what was not captured yet",
        GapReason::Missed => "etcd left a revision out",
        GapReason::ClusterChanged => "another cluster answered",
        GapReason::WentBack => "etcd's data was replaced, or its revision went back",
        GapReason::SpoolFull => "there was no more room for what had not reached its destinations",
        GapReason::TooLarge => "a revision had more changes than a delta can hold",
        GapReason::AuthChanged => "users, roles or passwords changed",
        GapReason::Ended => "a full backup has taken its place, or capture was switched off",
    }
}

impl KnownWindow<'_> {
    /// Why no more follows, as far as it is known.
    pub fn ends(&self) -> Option<String> {
        if let Some(hole) = self.window.holes.first() {
            return Some(format!("revisions {} to {} are missing", hole.from(), hole.to()));
        }
        let mut gaps = self.gaps.iter();
        gaps.find(|gap| gap.from > self.window.to).map(KnownGap::words)
    }

    /// The time of the last mark, by the head of the object that ends with it.
    fn end(&self, places: &Destinations) -> Option<Timestamp> {
        let plan = self.following.plan(self.window.to).ok()?;
        let piece = plan.last()?;
        let belongs = belongs(self.backup);
        let stores = piece.destinations.iter().filter_map(|name| places.stores.get(name));
        let mut heads = stores.filter_map(|store| head(store, &belongs, &piece.name).ok());
        let last = heads.next()?.head.header.last_mark.time;
        Some(self.window.marked_at.map_or(last, |marked| marked.max(last)))
    }

    fn read_gaps(&self, places: &Destinations) -> Vec<KnownGap> {
        let gaps = self.following.gaps().map(|(name, from)| KnownGap {
            from,
            said: gap(places, name, self.following.destinations_of(name)),
        });
        gaps.collect()
    }
}

fn gap(places: &Destinations, name: &ObjectName, destinations: &[String]) -> Option<Gap> {
    let stores = destinations
        .iter()
        .filter_map(|destination| places.stores.get(destination));
    let mut said = stores.filter_map(|store| {
        let bytes = store.read_small(name, MAX_BYTES as u64).ok()?;
        store.authority().judge(name, &bytes).ok()?;
        Gap::from_bytes(&bytes).ok()
    });
    said.next()
}
