//! JSON as the documents of a store are written: one key of the outermost object on each line.

use serde_json::ser::Formatter;

/// Compact JSON with a line break after each comma of the outermost object.
#[derive(Default)]
pub(super) struct OneKeyPerLine {
    depth: usize,
}

impl Formatter for OneKeyPerLine {
    fn begin_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.depth = self.depth.saturating_add(1);
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        match (first, self.depth) {
            (true, _) => Ok(()),
            (false, 1) => writer.write_all(b",\n"),
            (false, _) => writer.write_all(b","),
        }
    }
}
