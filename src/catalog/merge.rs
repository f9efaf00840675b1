//! The catalogs of two destinations become one.
//!
//! Invariant: what differs between copies of one backup is told of the second, and the first counts.

use std::cmp::Ordering;

use super::{Backup, Damaged, LastWord, damaged, order};
use crate::layout::Fault;

fn differing<'a>(known: &'a Backup, other: &'a Backup) -> impl Iterator<Item = Damaged> + 'a {
    let taken_from = known.destinations().next().unwrap_or_default();
    other.destinations().map(move |destination| {
        let other_taken = Fault::Differs {
            other: taken_from.to_owned(),
        };
        damaged(
            destination,
            &other.manifest().name(),
            other_taken,
            Some(other.manifest().document),
        )
    })
}

/// The backups of two catalogs, each in their order; those of `known` count.
pub(super) fn backups(known: Vec<Backup>, new: Vec<Backup>, damaged: &mut Vec<Damaged>) -> Vec<Backup> {
    if known.is_empty() {
        return new;
    }
    let mut merged = Vec::with_capacity(known.len().max(new.len()));
    let (mut known, mut new) = (known.into_iter().peekable(), new.into_iter().peekable());
    while let (Some(one), Some(other)) = (known.peek(), new.peek()) {
        match order(one).cmp(&order(other)) {
            Ordering::Less => merged.extend(known.next()),
            Ordering::Greater => merged.extend(new.next()),
            Ordering::Equal => {
                if let (Some(mut one), Some(other)) = (known.next(), new.next()) {
                    match one.manifest.document == other.manifest.document {
                        true => one.copies.extend(other.copies),
                        false => damaged.extend(differing(&one, &other)),
                    }
                    merged.push(one);
                }
            }
        }
    }
    merged.extend(known);
    merged.extend(new);
    merged
}

/// Of two destinations' last words the one given later counts; one that cannot be read counts before any other, so
/// that it is not passed over.
pub(super) fn newer_word(a: Option<LastWord>, b: Option<LastWord>) -> Option<LastWord> {
    let (Some(a), Some(b)) = (a.clone(), b.clone()) else {
        return a.or(b);
    };
    let number = a.number.max(b.number);
    let time = |word: &LastWord| {
        word.acceptance
            .as_ref()
            .ok()
            .map(|said| (said.accepted_at, word.number))
    };
    let newer = match (time(&a), time(&b)) {
        (None, _) => a,
        (_, None) => b,
        (a_time, b_time) if a_time >= b_time => a,
        _ => b,
    };
    Some(LastWord { number, ..newer })
}
