//! What a terminal is asked and told: how wide it is, and colours.
//!
//! Elsewhere nothing has a width and nothing is coloured, unless that was asked for.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Columns of a terminal that does not say how wide it is.
const USUAL_COLUMNS: usize = 80;

/// The columns of standard output, where that is a terminal.
pub fn columns() -> Option<usize> {
    columns_of(&std::io::stdout())
}

/// The same of standard error.
pub fn columns_of_errors() -> Option<usize> {
    columns_of(&std::io::stderr())
}

fn columns_of(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let said = rustix::termios::tcgetwinsize(stream).map_or(0, |size| usize::from(size.ws_col));
    Some(if said == 0 { USUAL_COLUMNS } else { said })
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Color {
    /// On a terminal that can, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// What a text is to whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// All is well.
    Good,
    /// Something to look at.
    Doubtful,
    /// Something is wrong.
    Bad,
    /// What stands over other text.
    Heading,
}

/// Which of the two streams are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Paint {
    /// Standard output.
    pub out: bool,
    /// Standard error.
    pub err: bool,
}

impl Paint {
    /// Which are to be, where `color` was asked for.
    pub fn wanted(color: Color) -> Paint {
        match color {
            Color::Always => Paint { out: true, err: true },
            Color::Never => Paint::default(),
            Color::Auto if !may_color(|name| std::env::var(name).ok()) => Paint::default(),
            Color::Auto => Paint {
                out: std::io::stdout().is_terminal(),
                err: std::io::stderr().is_terminal(),
            },
        }
    }
}

/// Whether the environment lets a terminal have colours: <https://no-color.org>.
fn may_color(variable: impl Fn(&str) -> Option<String>) -> bool {
    let forbids = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let cannot = variable("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    !forbids && !cannot
}

/// `text` in a style, if it is wanted.
pub fn styled(text: &str, style: Style, wanted: bool) -> String {
    let code = match style {
        Style::Good => "32",
        Style::Doubtful => "33",
        Style::Bad => "31",
        Style::Heading => "1",
    };
    match wanted && !text.is_empty() {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_can_and_may() {
        let with = |set: &[(&str, &str)]| {
            may_color(|name| {
                let mut set = set.iter().filter(|(set, _)| *set == name);
                set.next().map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(with(&[("TERM", "xterm")]));
        assert!(with(&[("TERM", "xterm"), ("NO_COLOR", "")]));
        assert!(!with(&[("TERM", "xterm"), ("NO_COLOR", "1")]));
        assert!(!with(&[("TERM", "dumb")]) && !with(&[]));
        assert_eq!(Paint::wanted(Color::Never), Paint::default());
    }

    #[test]
    fn a_style_ends_where_the_text_does() {
        assert_eq!(styled("ok", Style::Good, true), "\u{1b}[32mok\u{1b}[0m");
        assert_eq!(styled("ok", Style::Good, false), "ok");
        assert_eq!(styled("", Style::Bad, true), "");
    }
}
