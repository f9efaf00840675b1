//! The points of a chain that can be restored, and which objects lead to each.
//!
//! Names alone decide: a delta or a pack holds every revision that its name says. At each point whatever reaches furthest
//! without a hole is taken, packs before deltas; so a plan has the fewest objects that there can be.
//!
//! Invariant: a plan covers every revision behind the full backup up to the point, or there is none.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Backup, Link};
use crate::layout::{Epoch, ObjectName, Span};
use crate::model::Revision;

/// Whether an object holds changes by itself or several that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PieceKind {
    /// A delta.
    Delta,
    /// A pack.
    Pack,
}

/// A delta or a pack, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its name.
    pub name: ObjectName,
    /// Which of the two it is.
    pub kind: PieceKind,
    /// The revisions in it.
    pub span: Span,
    /// How large it is.
    pub bytes: u64,
    /// When it was first written, by the clock of a store.
    pub written_at: Timestamp,
    /// The destinations that have it, in their order.
    pub destinations: Vec<String>,
}

impl Piece {
    /// What is better for whoever wants to get to `to`: whatever reaches further, packs before deltas; of those that reach
    /// it the one with the fewest bytes.
    fn worth(&self, to: Revision) -> impl Ord + use<> {
        let reaches = self.span.to().min(to);
        let is_there = reaches == to;
        (
            reaches,
            is_there.then_some(Reverse(self.bytes)),
            self.kind,
            Reverse(self.span.from()),
        )
    }
}

/// Everything that follows a full backup in its chain, in one destination or in all together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Following {
    base: Revision,
    /// In the order in which they begin.
    pieces: Vec<Piece>,
    marks: Vec<(Revision, Timestamp, ObjectName)>,
    gaps: BTreeSet<ObjectName>,
    epochs: BTreeSet<Epoch>,
    destinations: BTreeMap<ObjectName, Vec<String>>,
}

/// The points of a chain that can be restored, as far as names tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The first: the revision of the full backup.
    pub from: Revision,
    /// The last that is reached without a hole.
    pub to: Revision,
    /// The newest mark at the last, to the second.
    pub marked_at: Option<Timestamp>,
    /// What is missing between what is reached and what lies behind, and between that; in order.
    pub holes: Vec<Span>,
    /// The last revision that lies behind a hole.
    pub behind: Option<Revision>,
}

/// That a point is not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing holds revision {}", .reached.next())]
pub struct Hole {
    /// The last revision that is.
    pub reached: Revision,
}

fn before(revision: Revision) -> Revision {
    Revision::new(revision.get().saturating_sub(1)).unwrap_or(revision)
}

impl Following {
    /// What follows the backup, wherever it lies.
    pub fn of(backup: &Backup) -> Following {
        let copies = backup.copies.iter();
        let links = copies.flat_map(|copy| copy.links.iter().map(|link| (copy.destination.as_str(), link)));
        Following::of_links(backup.revision(), links)
    }

    /// What follows it in that destination.
    pub fn in_destination(backup: &Backup, destination: &str) -> Following {
        let copies = backup.copies.iter().filter(|copy| copy.destination == destination);
        let links = copies.flat_map(|copy| copy.links.iter().map(|link| (copy.destination.as_str(), link)));
        Following::of_links(backup.revision(), links)
    }

    /// What follows a full backup of the revision `base`, by the links of destinations.
    pub fn of_links<'a>(base: Revision, links: impl IntoIterator<Item = (&'a str, &'a Link)>) -> Following {
        let mut pieces: BTreeMap<&ObjectName, Piece> = BTreeMap::new();
        let mut following = Following {
            base,
            pieces: Vec::new(),
            marks: Vec::new(),
            gaps: BTreeSet::new(),
            epochs: BTreeSet::new(),
            destinations: BTreeMap::new(),
        };
        for (destination, link) in links {
            let (kind, span) = match &link.name {
                ObjectName::Delta(_, span, _) => (PieceKind::Delta, *span),
                ObjectName::Pack(_, span, _) => (PieceKind::Pack, *span),
                ObjectName::Mark(_, revision, time, _) => {
                    following.marks.push((*revision, *time, link.name.clone()));
                    following.also_in(&link.name, destination);
                    continue;
                }
                ObjectName::Gap(..) => {
                    following.gaps.insert(link.name.clone());
                    following.also_in(&link.name, destination);
                    continue;
                }
                ObjectName::Epoch(_, epoch) => {
                    following.epochs.insert(*epoch);
                    continue;
                }
                ObjectName::StoreMarker
                | ObjectName::Signers
                | ObjectName::Acceptance(_)
                | ObjectName::Full(_)
                | ObjectName::FullManifest(..)
                | ObjectName::Pin(_)
                | ObjectName::Check(..)
                | ObjectName::Canary(_)
                | ObjectName::Claim(..) => continue,
            };
            let piece = pieces.entry(&link.name).or_insert_with(|| Piece {
                name: link.name.clone(),
                kind,
                span,
                bytes: link.bytes,
                written_at: link.written_at,
                destinations: Vec::new(),
            });
            piece.written_at = piece.written_at.min(link.written_at);
            piece.destinations.push(destination.to_owned());
        }
        following.pieces = pieces.into_values().collect();
        following.pieces.sort_by_key(|piece| (piece.span, piece.kind));
        following
    }

    /// The links of one destination as this was made of them, but for epochs, of which it is not kept where they lie.
    pub fn links_in(&self, destination: &str) -> Vec<Link> {
        let is_there = |destinations: &[String]| destinations.iter().any(|name| name == destination);
        let pieces = self.pieces.iter().filter(|piece| is_there(&piece.destinations));
        let pieces = pieces.map(|piece| Link {
            name: piece.name.clone(),
            bytes: piece.bytes,
            written_at: piece.written_at,
        });
        let others = self.destinations.iter().filter(|(_, there)| is_there(there));
        let others = others.map(|(name, _)| Link {
            name: name.clone(),
            bytes: 0,
            written_at: Timestamp::UNIX_EPOCH,
        });
        pieces.chain(others).collect()
    }

    fn also_in(&mut self, name: &ObjectName, destination: &str) {
        let destinations = self.destinations.entry(name.clone()).or_default();
        destinations.push(destination.to_owned());
    }

    /// The revision of the full backup.
    pub fn base(&self) -> Revision {
        self.base
    }

    /// The deltas and packs, in the order in which they begin.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The words that the chain ends, and the revisions before which it does.
    pub fn gaps(&self) -> impl Iterator<Item = (&ObjectName, Revision)> {
        self.gaps.iter().filter_map(|name| match name {
            ObjectName::Gap(_, from, _) => Some((name, *from)),
            _ => None,
        })
    }

    /// The epochs that somebody began.
    pub fn epochs(&self) -> &BTreeSet<Epoch> {
        &self.epochs
    }

    /// The destinations that have a mark or a gap.
    pub fn destinations_of(&self, name: &ObjectName) -> &[String] {
        self.destinations.get(name).map_or(&[], Vec::as_slice)
    }

    /// The newest mark at this revision.
    pub fn marked_at(&self, revision: Revision) -> Option<(Timestamp, &ObjectName)> {
        let of_revision = self.marks.iter().filter(|(marked, ..)| *marked == revision);
        let newest = of_revision.max_by_key(|(_, time, _)| *time);
        newest.map(|(_, time, name)| (*time, name))
    }

    /// How many marks there are.
    pub fn marks(&self) -> usize {
        let names: BTreeSet<&ObjectName> = self.marks.iter().map(|(.., name)| name).collect();
        names.len()
    }

    /// The points that can be restored, and what lies behind them.
    pub fn window(&self) -> Window {
        let mut holes = Vec::new();
        // To the last revision that is reached without a hole, and to the last one that there is.
        let (mut to, mut reached) = (None, self.base);
        for piece in &self.pieces {
            if piece.span.from() > reached.next() {
                to.get_or_insert(reached);
                holes.extend(Span::new(reached.next(), before(piece.span.from())));
            }
            reached = reached.max(piece.span.to());
        }
        let tip = to.unwrap_or(reached);
        Window {
            from: self.base,
            to: tip,
            marked_at: self.marked_at(tip).map(|(time, _)| time),
            holes,
            behind: to.map(|_| reached),
        }
    }

    /// The revisions that deltas and packs hold, each stretch without a hole, whatever leads to them.
    pub fn stretches(&self) -> Vec<Span> {
        let mut stretches: Vec<Span> = Vec::new();
        for piece in &self.pieces {
            let joined = stretches
                .last_mut()
                .filter(|last| piece.span.from() <= last.to().next());
            match joined {
                Some(last) => {
                    if let Some(longer) = Span::new(last.from(), last.to().max(piece.span.to())) {
                        *last = longer;
                    }
                }
                None => stretches.push(piece.span),
            }
        }
        stretches
    }

    /// The objects that lead from the full backup to `to`, in the order in which they are applied.
    pub fn plan(&self, to: Revision) -> Result<Vec<&Piece>, Hole> {
        self.plan_from(self.base, to, |_| true)
    }

    /// The same from a revision that was reached already, by those that `may_be_used`.
    pub fn plan_from(
        &self,
        mut reached: Revision,
        to: Revision,
        may_be_used: impl Fn(&Piece) -> bool,
    ) -> Result<Vec<&Piece>, Hole> {
        let (mut plan, mut best): (Vec<&Piece>, Option<&Piece>) = (Vec::new(), None);
        let mut rest = self.pieces.iter().filter(|piece| may_be_used(piece)).peekable();
        while reached < to {
            while let Some(piece) = rest.next_if(|piece| piece.span.from() <= reached.next()) {
                if best.is_none_or(|best| best.worth(to) < piece.worth(to)) {
                    best = Some(piece);
                }
            }
            match best.take() {
                Some(piece) if piece.span.to() > reached => {
                    reached = piece.span.to();
                    plan.push(piece);
                }
                Some(_) | None => return Err(Hole { reached }),
            }
        }
        Ok(plan)
    }
}

/// A point, and which window it is of.
pub type PointOf<T> = (T, Revision);

/// The points next to one that cannot be restored: the last before it and the first behind it, of several windows.
pub fn nearest<'a, T>(
    windows: impl IntoIterator<Item = (T, &'a Window)>,
    wanted: Revision,
) -> (Option<PointOf<T>>, Option<PointOf<T>>) {
    let (mut last, mut first): (Option<PointOf<T>>, Option<PointOf<T>>) = (None, None);
    for (which, window) in windows {
        match (window.to < wanted, window.from > wanted) {
            (true, _) if last.as_ref().is_none_or(|(_, known)| window.to > *known) => last = Some((which, window.to)),
            (_, true) if first.as_ref().is_none_or(|(_, known)| window.from < *known) => {
                first = Some((which, window.from));
            }
            _ => {}
        }
    }
    (last, first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::ChainPath;
    use crate::model::ClusterId;

    fn revision(revision: i64) -> Revision {
        Revision::new(revision).unwrap()
    }

    fn chain() -> ChainPath {
        ChainPath {
            cluster: ClusterId(0xab),
            chain: "20261120T101530Z-00000001".parse().unwrap(),
        }
    }

    fn link(name: ObjectName, bytes: u64) -> Link {
        Link {
            name,
            bytes,
            written_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn piece(kind: PieceKind, from: i64, to: i64, epoch: u32) -> Link {
        let span = Span::new(revision(from), revision(to)).unwrap();
        let name = match kind {
            PieceKind::Delta => ObjectName::Delta(chain(), span, Epoch(epoch)),
            PieceKind::Pack => ObjectName::Pack(chain(), span, Epoch(epoch)),
        };
        link(name, 100)
    }

    fn delta(from: i64, to: i64) -> Link {
        piece(PieceKind::Delta, from, to, 1)
    }

    fn mark(at: i64, second: i64) -> Link {
        let time = Timestamp::from_second(second).unwrap();
        link(ObjectName::Mark(chain(), revision(at), time, Epoch(1)), 50)
    }

    fn following(base: i64, links: &[Link]) -> Following {
        Following::of_links(revision(base), links.iter().map(|link| ("local", link)))
    }

    fn spans(plan: &[&Piece]) -> Vec<(i64, i64)> {
        let spans = plan.iter().map(|piece| piece.span);
        spans.map(|span| (span.from().get(), span.to().get())).collect()
    }

    #[test]
    fn a_window_ends_before_the_first_hole_and_says_what_lies_behind() {
        let links = [
            delta(11, 20),
            delta(21, 30),
            delta(35, 40),
            delta(45, 50),
            mark(30, 7),
            mark(50, 9),
        ];
        let window = following(10, &links).window();
        assert_eq!((window.from, window.to), (revision(10), revision(30)));
        let holes: Vec<_> = window
            .holes
            .iter()
            .map(|hole| (hole.from().get(), hole.to().get()))
            .collect();
        assert_eq!((holes, window.behind), (vec![(31, 34), (41, 44)], Some(revision(50))));
        assert_eq!(window.marked_at, Timestamp::from_second(7).ok());
        let alone = following(10, &[]).window();
        assert_eq!((alone.to, alone.holes.len(), alone.behind), (revision(10), 0, None));
    }

    #[test]
    fn what_reaches_furthest_is_taken_and_of_what_holds_the_point_the_smallest() {
        let pack = piece(PieceKind::Pack, 11, 40, 1);
        let large = Link { bytes: 10_000, ..pack };
        let links = [delta(11, 20), delta(21, 30), delta(5, 40), large, delta(31, 50)];
        let all = following(10, &links);
        assert_eq!(spans(&all.plan(revision(50)).unwrap()), [(11, 40), (31, 50)]);
        assert_eq!(all.plan(revision(50)).unwrap()[0].kind, PieceKind::Pack);
        assert_eq!(spans(&all.plan(revision(15)).unwrap()).len(), 1);
        assert_eq!(
            all.plan(revision(15)).unwrap()[0].kind,
            PieceKind::Delta,
            "the pack is larger"
        );
        assert!(all.plan(revision(10)).unwrap().is_empty());
        let hole = all.plan(revision(51)).unwrap_err();
        assert_eq!(hole.reached, revision(50));
    }

    #[test]
    fn one_object_in_two_destinations_is_one() {
        let (here, there) = (delta(11, 20), delta(11, 20));
        let only_there = delta(21, 30);
        let links = [("far", &there), ("far", &only_there), ("local", &here)];
        let both = Following::of_links(revision(10), links);
        let plan = both.plan(revision(30)).unwrap();
        assert_eq!(plan[0].destinations, ["far", "local"]);
        assert_eq!(plan[1].destinations, ["far"]);
    }

    #[test]
    fn the_nearest_points_are_the_end_before_and_the_full_backup_behind() {
        let windows = [(10, 30), (50, 60), (5, 20)].map(|(from, to)| Window {
            from: revision(from),
            to: revision(to),
            marked_at: None,
            holes: Vec::new(),
            behind: None,
        });
        let around = |wanted| nearest(windows.iter().enumerate(), revision(wanted));
        assert_eq!(around(40), (Some((0, revision(30))), Some((1, revision(50)))));
        assert_eq!(around(3), (None, Some((2, revision(5)))));
        assert_eq!(around(99), (Some((1, revision(60))), None));
    }

    fn any_links() -> impl Strategy<Value = Vec<Link>> {
        let one = (any::<bool>(), 1_i64..60, 0_i64..15, 1_u32..3, 1_u64..9);
        let one = one.prop_map(|(is_pack, from, length, epoch, bytes)| {
            let kind = if is_pack { PieceKind::Pack } else { PieceKind::Delta };
            let link = piece(kind, from, from + length, epoch);
            Link { bytes, ..link }
        });
        proptest::collection::vec(one, 0..24)
    }

    /// What can be reached, the slow way: revision by revision.
    fn reached(base: i64, links: &[Link]) -> i64 {
        let holds = |wanted: i64| {
            links.iter().any(|link| match &link.name {
                ObjectName::Delta(_, span, _) | ObjectName::Pack(_, span, _) => {
                    (span.from().get()..=span.to().get()).contains(&wanted)
                }
                _ => false,
            })
        };
        (base + 1..).take_while(|wanted| holds(*wanted)).last().unwrap_or(base)
    }

    /// The fewest objects that cover base + 1..=to, found the slow way.
    fn fewest(base: i64, to: i64, all: &Following) -> usize {
        let mut ends = BTreeSet::from([base]);
        for count in 0.. {
            if ends.iter().any(|end| *end >= to) {
                return count;
            }
            let further = all.pieces().iter().filter(|piece| {
                let (from, until) = (piece.span.from().get(), piece.span.to().get());
                ends.iter().any(|end| from <= end + 1 && until > *end)
            });
            ends = further.map(|piece| piece.span.to().get()).collect();
        }
        unreachable!()
    }

    proptest! {
        #[test]
        fn a_plan_covers_everything_or_says_the_hole(base in 0_i64..40, links in any_links(), to in 0_i64..80) {
            let all = following(base, &links);
            let window = all.window();
            let tip = reached(base, &links);
            prop_assert_eq!(window.to.get(), tip);
            match all.plan(revision(to)) {
                Ok(plan) => {
                    prop_assert!(to <= tip);
                    let mut end = base;
                    for piece in &plan {
                        prop_assert!(piece.span.from().get() <= end + 1, "a hole before {:?}", piece.span);
                        prop_assert!(piece.span.to().get() > end, "{:?} is of no use", piece.span);
                        end = piece.span.to().get();
                    }
                    prop_assert!(end >= to);
                    prop_assert_eq!(plan.len(), if to <= base { 0 } else { fewest(base, to, &all) });
                }
                Err(hole) => {
                    prop_assert!(to > tip);
                    prop_assert_eq!(hole.reached.get(), tip);
                }
            }
            // Whatever lies behind is told, and so is each hole before it.
            let last = all.pieces().iter().map(|piece| piece.span.to().get()).max();
            let last = last.filter(|last| *last > tip);
            prop_assert_eq!(window.behind.map(Revision::get), last);
            for hole in &window.holes {
                for missing in hole.from().get()..=hole.to().get() {
                    let holds = |piece: &Piece| (piece.span.from().get()..=piece.span.to().get()).contains(&missing);
                    prop_assert!(!all.pieces().iter().any(holds));
                }
            }
        }
    }
}
