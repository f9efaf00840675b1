//! Tables: columns that line up, and those that can be done without where there is no room.

use crate::text::clean;

/// A table with left-aligned columns, except those whose heading starts with `>`.
pub struct Table {
    headings: Vec<&'static str>,
    widths: Vec<usize>,
    /// The cells of each row with [`CELL_END`] behind each, in one piece: there may be very many.
    rows: Vec<Box<str>>,
    /// Headings of columns that can be done without, the first to go first.
    may_go: Vec<&'static str>,
    /// Headings of columns that are shown only where a row has something in them.
    may_be_blank: Vec<&'static str>,
    /// Whether a row has something in each column.
    is_said: Vec<bool>,
}

/// A table as it fits somewhere.
pub struct Shown<'a> {
    table: &'a Table,
    /// Which columns are shown.
    is_shown: Vec<bool>,
    /// The headings of those that are not.
    pub left_out: Vec<&'static str>,
}

/// Ends a cell; no cell holds it.
const CELL_END: char = '\u{1f}';

impl Table {
    /// An empty table.
    pub fn new(headings: &[&'static str]) -> Self {
        let widths = headings.iter().map(|heading| name(heading).len());
        Table {
            headings: headings.to_vec(),
            widths: widths.collect(),
            rows: Vec::new(),
            may_go: Vec::new(),
            may_be_blank: Vec::new(),
            is_said: vec![false; headings.len()],
        }
    }

    /// Says which columns are left out where no row has anything but `-` in them.
    pub fn without_blank(mut self, headings: &[&'static str]) -> Self {
        self.may_be_blank = headings.to_vec();
        self
    }

    /// Says without which columns it can do where there is no room for all; the first goes first.
    pub fn may_go(mut self, headings: &[&'static str]) -> Self {
        self.may_go = headings.to_vec();
        self
    }

    /// The table in so many columns of a terminal, or all of it.
    pub fn within(&self, columns: Option<usize>) -> Shown<'_> {
        let mut shown = Shown {
            table: self,
            is_shown: self
                .headings
                .iter()
                .zip(&self.is_said)
                .map(|(heading, is_said)| *is_said || !self.may_be_blank.contains(&name(heading)))
                .collect(),
            left_out: Vec::new(),
        };
        let mut may_go = self.may_go.iter();
        while columns.is_some_and(|columns| shown.width() > columns) {
            let Some(heading) = may_go.next() else { break };
            for (is_shown, of) in shown.is_shown.iter_mut().zip(&self.headings) {
                *is_shown &= name(of) != *heading;
            }
            shown.left_out.push(heading);
        }
        shown
    }

    /// Adds a row; one cell a heading.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headings.len());
        let mut row = String::new();
        for ((cell, width), is_said) in cells.iter().zip(&mut self.widths).zip(&mut self.is_said) {
            let cell = clean(cell);
            *is_said |= !matches!(&*cell, "" | "-");
            *width = cell.chars().count().max(*width);
            row.push_str(&cell);
            row.push(CELL_END);
        }
        self.rows.push(row.into());
    }
}

/// The text of a heading.
fn name(heading: &'static str) -> &'static str {
    heading.trim_start_matches('>')
}

impl Shown<'_> {
    fn width(&self) -> usize {
        let shown = self
            .table
            .widths
            .iter()
            .zip(&self.is_shown)
            .filter(|(_, shown)| **shown);
        shown.map(|(width, _)| width + 2).sum::<usize>().saturating_sub(2)
    }

    /// The table as lines, made as they are asked for.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let first = self.line(self.table.headings.iter().map(|heading| name(heading)));
        let rows = self.table.rows.iter();
        let rows = rows.map(|row| self.line(row.split_terminator(CELL_END)));
        std::iter::once(first).chain(rows)
    }

    fn line<'a>(&self, cells: impl Iterator<Item = &'a str>) -> String {
        let columns = self.table.widths.iter().zip(&self.table.headings).zip(&self.is_shown);
        let shown = cells.zip(columns).filter(|(_, (_, is_shown))| **is_shown);
        let aligned = shown.map(|(cell, ((&width, heading), _))| {
            if heading.starts_with('>') {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        aligned.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["ID", ">SIZE"]);
        table.row(vec!["a".into(), "10 B".into()]);
        table.row(vec!["longer".into(), "1.27 GiB".into()]);
        assert_eq!(
            table.within(None).lines().collect::<Vec<_>>(),
            ["ID          SIZE", "a           10 B", "longer  1.27 GiB"]
        );
    }

    #[test]
    fn a_column_with_nothing_in_it_is_shown_only_where_it_must_be() {
        let mut table = Table::new(&["ID", "LOCK", "PARTS", "IN"]).without_blank(&["LOCK", "PARTS"]);
        table.row(vec!["a".into(), "-".into(), "-".into(), "-".into()]);
        table.row(vec!["b".into(), "-".into(), "yes".into(), "-".into()]);
        let shown = table.within(None);
        assert_eq!(
            shown.lines().collect::<Vec<_>>(),
            ["ID  PARTS  IN", "a   -      -", "b   yes    -"]
        );
        assert!(shown.left_out.is_empty());
    }

    #[test]
    fn a_table_does_without_columns_where_there_is_no_room() {
        let mut table = Table::new(&["ID", ">SIZE", ">KEYS", "IN"]).may_go(&["KEYS", "SIZE"]);
        table.row(vec!["a".into(), "10 B".into(), "7".into(), "local".into()]);
        let within = |columns| {
            let shown = table.within(columns);
            (shown.lines().collect::<Vec<_>>(), shown.left_out)
        };
        let all = ["ID  SIZE  KEYS  IN", "a   10 B     7  local"];
        assert_eq!(within(None).0, all);
        assert_eq!(within(Some(21)), (all.map(str::to_owned).to_vec(), vec![]));
        assert_eq!(within(Some(20)).0, ["ID  SIZE  IN", "a   10 B  local"]);
        // What is needed stays, however narrow it is.
        assert_eq!(within(Some(3)).0, ["ID  IN", "a   local"]);
        assert_eq!(within(Some(3)).1, ["KEYS", "SIZE"]);
    }
}
