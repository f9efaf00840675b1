//! Which objects of a chain go into one pack, and what has become superfluous: from their names alone, and how many deltas
//! each holds.
//!
//! Packs grow by levels: sixteen objects of a level make one of the next. A day of one flush a second has 86 400 deltas and
//! never more than some sixty objects to read; a delta is copied four times.

use std::cmp::Reverse;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use crate::catalog::Link;
use crate::layout::{ObjectName, Span};
use crate::model::Revision;

/// How many objects of a level make one of the next.
pub const FAN: u64 = 16;

/// What a pack holds at the most: larger ones gain nothing and take long to make.
pub const LARGEST: u64 = 1 << 30;

/// A delta or a pack among those that are read one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its name.
    pub name: ObjectName,
    /// The revisions in it.
    pub span: Span,
    /// How large it is.
    pub bytes: u64,
    /// How many deltas it holds: one, if it is one.
    pub deltas: u64,
}

impl Piece {
    fn level(&self) -> u32 {
        self.deltas.max(1).ilog(FAN)
    }
}

/// Which of the pieces, which follow each other, are to become one; none if there is nothing to gain.
///
/// What lies between pieces of a level and is of a lower one goes with them: it is what another writer left.
pub fn next_pack(pieces: &[Piece]) -> Option<Range<usize>> {
    let highest = pieces.iter().map(Piece::level).max()?;
    (0..=highest).find_map(|level| run_of(pieces, level))
}

/// The first sixteen pieces of that level with nothing of a higher one between them.
fn run_of(pieces: &[Piece], level: u32) -> Option<Range<usize>> {
    let (mut start, mut found, mut bytes) = (0, 0, 0_u64);
    for (index, piece) in pieces.iter().enumerate() {
        let is_behind = index > 0 && !follows(pieces.get(index - 1)?, piece);
        bytes = bytes.saturating_add(piece.bytes);
        if piece.level() > level || is_behind || bytes > LARGEST {
            // A piece that is too much for those before it may begin the next.
            let begins = piece.level() == level && piece.bytes <= LARGEST;
            (start, found) = if begins { (index, 1) } else { (index + 1, 0) };
            bytes = if begins { piece.bytes } else { 0 };
            continue;
        }
        if piece.level() == level {
            found += 1;
        } else if found == 0 {
            (start, bytes) = (index + 1, 0);
        }
        if found == FAN {
            return Some(start..index + 1);
        }
    }
    None
}

fn follows(before: &Piece, piece: &Piece) -> bool {
    piece.span.from() <= before.span.to().next()
}

/// Of the links of a chain, those that nobody needs any more, each with what has taken its place: deltas and packs that lie
/// within a pack, and marks that a later mark or a change has overtaken. That must have been there for `grace`, as somebody may
/// be reading by an older listing. Whether it is whole is for the caller to prove.
pub fn superseded(links: &[Link], now: Timestamp, grace: SignedDuration) -> Vec<(&Link, &Link)> {
    let is_settled = |link: &Link| now.duration_since(link.written_at) >= grace;
    let packs: Vec<(&Link, Span)> = links
        .iter()
        .filter(|link| is_settled(link))
        .filter_map(|link| match &link.name {
            ObjectName::Pack(_, span, _) => Some((link, *span)),
            _ => None,
        })
        .collect();
    let holder = |link: &Link, span: Span| {
        let holds = |pack: Span| pack.from() <= span.from() && span.to() <= pack.to();
        // Of two packs of the same revisions the later one goes.
        let is_other = |pack: &Link, of: Span| of != span || (pack.name != link.name && is_before(pack, link));
        let found = packs.iter().filter(|(pack, of)| holds(*of) && is_other(pack, *of));
        // The widest, and of those the first: that one stays itself.
        let worth = |pack: &Link, of: Span| {
            (
                of.to().get() - of.from().get(),
                Reverse((pack.written_at, pack.name.clone())),
            )
        };
        found.max_by_key(|(pack, of)| worth(pack, *of)).map(|(pack, _)| *pack)
    };
    // Of marks the last, which is soon read; without any the last change, in the smallest object.
    let overtaker = |to: Revision, time: Timestamp| {
        let settled = links.iter().filter(|link| is_settled(link));
        let worth = settled.filter_map(|link| match &link.name {
            ObjectName::Mark(_, later, at, _) if (*later, *at) > (to, time) => {
                Some(((true, *later, Reverse(0), Some(*at)), link))
            }
            ObjectName::Delta(_, span, _) | ObjectName::Pack(_, span, _) if span.to() > to => {
                Some(((false, span.to(), Reverse(link.bytes), None), link))
            }
            _ => None,
        });
        worth.max_by_key(|(worth, _)| *worth).map(|(_, link)| link)
    };
    let mut gone = Vec::new();
    for link in links {
        match &link.name {
            ObjectName::Delta(_, span, _) | ObjectName::Pack(_, span, _) => {
                gone.extend(holder(link, *span).map(|pack| (link, pack)));
            }
            ObjectName::Mark(_, to, time, _) => gone.extend(overtaker(*to, *time).map(|by| (link, by))),
            _ => {}
        }
    }
    gone
}

/// A delta of the same revisions as a pack is the one that goes.
fn is_before(pack: &Link, link: &Link) -> bool {
    !matches!(link.name, ObjectName::Pack(..)) || (pack.written_at, &pack.name) < (link.written_at, &link.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{ChainPath, Epoch};
    use crate::model::ClusterId;

    fn chain() -> ChainPath {
        ChainPath {
            cluster: ClusterId(1),
            chain: "20261120T101530Z-00000001".parse().unwrap(),
        }
    }

    fn span(from: i64, to: i64) -> Span {
        Span::new(Revision::new(from).unwrap(), Revision::new(to).unwrap()).unwrap()
    }

    fn piece(from: i64, to: i64, deltas: u64) -> Piece {
        let name = match deltas {
            1 => ObjectName::Delta(chain(), span(from, to), Epoch(1)),
            _ => ObjectName::Pack(chain(), span(from, to), Epoch(1)),
        };
        Piece {
            name,
            span: span(from, to),
            bytes: 1000 * deltas,
            deltas,
        }
    }

    /// What is left to read when everything that can be packed is.
    fn packed(mut pieces: Vec<Piece>) -> (Vec<Piece>, u64) {
        let mut copied = 0;
        while let Some(range) = next_pack(&pieces) {
            let taken = &pieces[range.clone()];
            let deltas = taken.iter().map(|piece| piece.deltas).sum();
            copied += deltas;
            let whole = span(taken[0].span.from().get(), taken.last().unwrap().span.to().get());
            let one = piece(whole.from().get(), whole.to().get(), deltas);
            pieces.splice(range, [one]);
        }
        (pieces, copied)
    }

    #[test]
    fn any_point_of_a_day_of_one_flush_a_second_is_reached_with_few_objects() {
        let (mut pieces, mut most, mut copied) = (Vec::new(), 0, 0);
        for second in 0..86_400 {
            pieces.push(piece(second * 3 + 10, second * 3 + 12, 1));
            let (after, more) = packed(pieces);
            (pieces, copied) = (after, copied + more);
            most = most.max(pieces.len());
        }
        assert!(most <= 64, "{most}");
        assert!(copied <= 4 * 86_400, "{copied}");
        assert!(pieces.windows(2).all(|pair| follows(&pair[0], &pair[1])));
    }

    #[test]
    fn what_another_writer_left_goes_along_and_a_hole_ends_a_pack() {
        let mut pieces: Vec<Piece> = (0..16).map(|i| piece(i * 100, i * 100 + 98, 16)).collect();
        pieces.insert(8, piece(799, 799, 1));
        // 798, 799, 800: only there they follow each other.
        assert_eq!(next_pack(&pieces), None);
        let mut pieces: Vec<Piece> = (0..16).map(|i| piece(i * 100, i * 100 + 99, 16)).collect();
        pieces.insert(8, piece(799, 799, 1));
        assert_eq!(next_pack(&pieces), Some(0..17));
        pieces.remove(3);
        assert_eq!(next_pack(&pieces), None);
    }

    #[test]
    fn what_is_too_large_together_is_left() {
        let large = |i: i64| Piece {
            bytes: LARGEST / 10,
            ..piece(i, i, 1)
        };
        assert_eq!(next_pack(&(0..100).map(large).collect::<Vec<_>>()), None);
        let huge = Piece {
            bytes: 2 * LARGEST,
            ..piece(0, 0, 1)
        };
        let mut pieces = vec![huge];
        pieces.extend((1..17).map(|i| piece(i, i, 1)));
        assert_eq!(next_pack(&pieces), Some(1..17));
    }

    fn link(name: ObjectName, written: &str) -> Link {
        Link {
            name,
            bytes: 1,
            written_at: written.parse().unwrap(),
        }
    }

    #[test]
    fn only_what_was_overtaken_for_long_enough_goes() {
        let delta = |from, to| ObjectName::Delta(chain(), span(from, to), Epoch(1));
        let pack = |from, to| ObjectName::Pack(chain(), span(from, to), Epoch(1));
        let mark =
            |to, time: &str| ObjectName::Mark(chain(), Revision::new(to).unwrap(), time.parse().unwrap(), Epoch(1));
        let links = [
            link(delta(10, 12), "2026-11-20T10:00:00Z"),
            link(delta(13, 15), "2026-11-20T10:00:01Z"),
            link(delta(16, 18), "2026-11-20T10:00:02Z"),
            link(mark(12, "2026-11-20T10:00:00Z"), "2026-11-20T10:00:00Z"),
            link(mark(18, "2026-11-20T10:30:00Z"), "2026-11-20T10:30:00Z"),
            link(mark(18, "2026-11-20T10:31:00Z"), "2026-11-20T11:59:30Z"),
            link(pack(10, 15), "2026-11-20T10:00:03Z"),
            link(pack(10, 18), "2026-11-20T11:59:00Z"),
        ];
        let gone = |now: &str| {
            let gone = superseded(&links, now.parse().unwrap(), SignedDuration::from_hours(1));
            gone.into_iter().map(|(link, _)| link.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(gone("2026-11-20T10:59:00Z"), []);
        let first = [delta(10, 12), delta(13, 15), mark(12, "2026-11-20T10:00:00Z")];
        assert_eq!(gone("2026-11-20T12:10:00Z"), first);
        let all = [
            delta(10, 12),
            delta(13, 15),
            delta(16, 18),
            mark(12, "2026-11-20T10:00:00Z"),
            mark(18, "2026-11-20T10:30:00Z"),
            pack(10, 15),
        ];
        assert_eq!(gone("2026-11-20T14:00:00Z"), all);
    }

    #[test]
    fn of_two_packs_of_the_same_revisions_one_stays() {
        let pack = |epoch| ObjectName::Pack(chain(), span(10, 18), Epoch(epoch));
        let links = [
            link(pack(1), "2026-11-20T10:00:00Z"),
            link(pack(2), "2026-11-20T10:00:00Z"),
            link(
                ObjectName::Delta(chain(), span(10, 18), Epoch(1)),
                "2026-11-20T09:00:00Z",
            ),
        ];
        let gone = superseded(&links, "2026-11-21T10:00:00Z".parse().unwrap(), SignedDuration::ZERO);
        let names: Vec<_> = gone.into_iter().map(|(link, _)| &link.name).collect();
        assert_eq!(names, [&links[1].name, &links[2].name]);
    }
}
