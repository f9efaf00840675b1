//! Configuration files as written: one tree of values per file, each value with its place.
//!
//! Leaves to `merge_files` how several become one, to `keys` which keys there are, and to `check` what their values mean.

use std::collections::BTreeMap;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problems, Source};

/// A table of a file, or of several merged.
pub(super) type Table = BTreeMap<String, Entry>;

/// A key and what it was given.
#[derive(Clone)]
pub(super) struct Entry {
    /// Where the key stands.
    pub(super) key: Origin,
    pub(super) node: Node,
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A value as TOML knows it. Has no `Debug`: a secret may have been written where its place belongs.
#[derive(Clone)]
pub(super) enum Value {
    Table(Table),
    /// A table that is one value: a later file replaces it whole.
    Whole(Table),
    List(Vec<Node>),
    Text(String),
    /// Saturates: what does not fit is out of every range.
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Time(String),
    /// Was reported already: says nothing, but is not missing either.
    Refused,
}

/// Mistakes of syntax reported per file: what follows the first few is mostly their consequence.
const MOST_SYNTAX_ERRORS: usize = 5;

/// Reads one file. None if it is not TOML; `problems` then says why.
pub(super) fn parse(source: &Rc<Source>, problems: &mut Problems) -> Option<Table> {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    let mut line = None;
    let mut reported = 0;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let origin = Origin::new(source, span);
        let this_line = origin.line();
        if reported == MOST_SYNTAX_ERRORS || line.as_ref() == Some(&this_line) {
            continue;
        }
        line = Some(this_line);
        reported += 1;
        problems.at(&origin, &format!("not valid TOML: {}", error.message()));
    }
    errors.is_empty().then(|| read_table(source, table.into_inner()))
}

fn read_table(source: &Rc<Source>, table: DeTable<'_>) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let origin = Origin::new(source, key.span());
            let node = read_node(source, value);
            (key.into_inner().into_owned(), Entry { key: origin, node })
        })
        .collect()
}

/// The parser bounds the depth of what it accepts, so this recursion is bounded too.
fn read_node(source: &Rc<Source>, node: Spanned<DeValue<'_>>) -> Node {
    let origin = Origin::new(source, node.span());
    let value = match node.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => {
            let negative = integer.as_str().starts_with('-');
            let saturated = if negative { i64::MIN } else { i64::MAX };
            Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(saturated))
        }
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(list) => Value::List(list.into_iter().map(|node| read_node(source, node)).collect()),
        DeValue::Table(table) => Value::Table(read_table(source, table)),
    };
    Node { value, origin }
}
