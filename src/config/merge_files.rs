//! Several files laid over each other.
//!
//! Invariant: merging never changes a value, it only chooses; so every value in the result has the place it was
//! written at.

use super::file::{Node, Table, Value};

/// Lays `over` onto `base`: later keys win, tables merge, everything else is replaced.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (name, later) in over {
        let Some(earlier) = base.get_mut(&name) else {
            base.insert(name, later);
            continue;
        };
        earlier.key = later.key;
        match (&mut earlier.node.value, later.node) {
            (
                Value::Table(earlier),
                Node {
                    value: Value::Table(later),
                    ..
                },
            ) => merge(earlier, later),
            (_, later) => earlier.node = later,
        }
    }
}
