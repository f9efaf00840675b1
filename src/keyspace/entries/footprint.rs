//! What entries of the log look at and change: the keys and leases whose present state has to be known to execute them.
//!
//! So the walk over a database keeps these keys alone, and memory follows what the log holds, not what the database does.

use std::collections::HashSet;

use super::request::{Compare, Op, Range, Request, Txn};

/// Keys, ranges of keys, and leases.
#[derive(Debug, Default)]
pub(super) struct Footprint<'a> {
    keys: HashSet<&'a [u8]>,
    /// From a key up to but not including another, or without an end; sorted and joined once it is settled.
    ranges: Vec<(&'a [u8], Option<&'a [u8]>)>,
    leases: HashSet<i64>,
}

impl<'a> Footprint<'a> {
    /// Takes in what a request touches.
    pub fn add(&mut self, request: &Request<'a>) {
        match request {
            Request::Put(put) => drop(self.keys.insert(put.key)),
            Request::DeleteRange(range) => self.range(*range),
            Request::Txn(txn) => self.txn(txn),
            Request::LeaseRevoke(lease) => drop(self.leases.insert(lease.0)),
            Request::Compaction(_)
            | Request::LeaseGrant { .. }
            | Request::LeaseCheckpoint(_)
            | Request::Alarm(_)
            | Request::Nothing
            | Request::Unknown(_) => {}
        }
    }

    fn txn(&mut self, txn: &Txn<'a>) {
        let (mut ranges, mut keys) = (Vec::new(), Vec::new());
        let mut compared = Vec::new();
        txn.visit(
            &mut |compare: &Compare<'a>| compared.push(compare.range),
            &mut |op| match op {
                Op::Put(put) => keys.push(put.key),
                Op::DeleteRange(range) => ranges.push(*range),
                Op::Read(_) | Op::Txn(_) | Op::Empty => {}
            },
        );
        self.keys.extend(keys);
        ranges.into_iter().chain(compared).for_each(|range| self.range(range));
    }

    fn range(&mut self, range: Range<'a>) {
        match range.end {
            b"" => drop(self.keys.insert(range.key)),
            b"\0" => self.ranges.push((range.key, None)),
            end => self.ranges.push((range.key, Some(end))),
        }
    }

    /// Sorts what was taken in, so that it can be asked.
    pub fn settle(&mut self) {
        self.ranges.retain(|(from, to)| to.is_none_or(|to| *from < to));
        self.ranges.sort_unstable_by_key(|(from, _)| *from);
        let mut joined: Vec<(&'a [u8], Option<&'a [u8]>)> = Vec::new();
        for (from, to) in self.ranges.drain(..) {
            match joined.last_mut() {
                Some((_, last)) if last.is_none_or(|last| from <= last) => {
                    *last = match (*last, to) {
                        (Some(last), Some(to)) => Some(last.max(to)),
                        _ => None,
                    }
                }
                _ => joined.push((from, to)),
            }
        }
        self.ranges = joined;
    }

    /// Whether a key is in it.
    pub fn has_key(&self, key: &[u8]) -> bool {
        let after = self.ranges.partition_point(|(from, _)| *from <= key);
        let range = after.checked_sub(1).and_then(|place| self.ranges.get(place));
        range.is_some_and(|(_, to)| to.is_none_or(|to| key < to)) || self.keys.contains(key)
    }

    /// Whether a lease is in it.
    pub fn has_lease(&self, lease: i64) -> bool {
        lease != 0 && self.leases.contains(&lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_keys_found_in_them() {
        let mut footprint = Footprint::default();
        let range = |key: &'static str, end: &'static str| {
            Request::DeleteRange(Range {
                key: key.as_bytes(),
                end: end.as_bytes(),
            })
        };
        for request in [
            range("f", "h"),
            range("a", "c"),
            range("b", "d"),
            range("m", ""),
            range("z", "y"),
            range("x", "\0"),
            range("xa", "xb"),
        ] {
            footprint.add(&request);
        }
        footprint.add(&Request::LeaseRevoke(super::super::super::LeaseId(7)));
        footprint.settle();
        assert_eq!(footprint.ranges.len(), 3);
        for key in ["a", "bb", "cz", "f", "gzz", "m", "x", "zzz"] {
            assert!(footprint.has_key(key.as_bytes()), "{key}");
        }
        for key in ["", "d", "e", "h", "ma", "l", "w"] {
            assert!(!footprint.has_key(key.as_bytes()), "{key}");
        }
        assert!(footprint.has_lease(7) && !footprint.has_lease(8) && !footprint.has_lease(0));
    }
}
