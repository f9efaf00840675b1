//! A page as blocks, and the two ways to print it: 80 columns of text, or one HTML file that needs nothing else.

use std::fmt::Write as _;

/// How wide the text is.
const COLUMNS: usize = 80;

/// How far what is below a heading stands in, and how far what is to be typed.
const INDENT: usize = 3;
const TYPED_INDENT: usize = 6;

/// One thing on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    /// What the page is.
    Title(String),
    /// What is below it.
    Heading(String),
    /// A few sentences.
    Text(String),
    /// Something and what is known of it.
    Row(String, String),
    /// Something that is to be filled in by hand.
    Blank(String),
    /// What is typed, at once.
    Typed(Vec<String>),
}

/// As text.
pub(super) fn text(blocks: &[Block]) -> String {
    let mut page = String::new();
    let mut before: Option<&Block> = None;
    for block in blocks {
        let is_row = |block: &Block| matches!(block, Block::Row(..) | Block::Blank(_));
        let goes_on = before.is_some_and(|before| is_row(before) && is_row(block));
        let is_below = matches!(before, Some(Block::Heading(_)));
        let is_shown = matches!((before, block), (Some(Block::Text(_)), Block::Typed(_)));
        if before.is_some() && !goes_on && !is_below && !is_shown {
            page.push('\n');
        }
        lines_of(block, &mut page);
        before = Some(block);
    }
    page
}

fn lines_of(block: &Block, page: &mut String) {
    let indent = " ".repeat(INDENT);
    match block {
        Block::Title(title) => push(page, title),
        Block::Heading(heading) => push(page, &heading.to_uppercase()),
        Block::Text(text) => {
            for line in filled(text, COLUMNS - INDENT) {
                push(page, &format!("{indent}{line}"));
            }
        }
        Block::Row(label, value) => {
            let hanging = " ".repeat(INDENT + 2);
            let whole = format!("{label}: {value}");
            for (index, line) in filled(&whole, COLUMNS - INDENT - 2).iter().enumerate() {
                let indent = if index == 0 { &indent } else { &hanging };
                push(page, &format!("{indent}{line}"));
            }
        }
        Block::Blank(label) => {
            let begin = format!("{indent}{label}: ");
            let rest = COLUMNS.saturating_sub(begin.chars().count()).max(20);
            push(page, &format!("{begin}{}", "_".repeat(rest)));
        }
        Block::Typed(commands) => {
            let indent = " ".repeat(TYPED_INDENT);
            for line in typed_lines(commands) {
                push(page, &format!("{indent}{line}"));
            }
        }
    }
}

fn push(page: &mut String, line: &str) {
    page.push_str(line.trim_end());
    page.push('\n');
}

/// The lines of commands, those that are too long continued on the next one.
fn typed_lines(commands: &[String]) -> Vec<String> {
    let room = COLUMNS - TYPED_INDENT - 2;
    let mut lines = Vec::new();
    for command in commands {
        let mut line = String::new();
        for word in words(command) {
            let is_full = line.chars().count() + 1 + word.chars().count() > room;
            if is_full && !line.trim().is_empty() {
                lines.push(format!("{line} \\"));
                line = format!("  {word}");
            } else {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(&word);
            }
        }
        lines.push(line);
    }
    lines
}

/// A command's words, as a shell takes them apart; an option stays with its value.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote): (Vec<String>, String, Option<char>) = (Vec::new(), String::new(), None);
    for c in command.chars() {
        match (c, quote) {
            (' ', None) if !word.is_empty() => words.push(std::mem::take(&mut word)),
            (' ', None) => {}
            ('\'' | '"', None) => {
                quote = Some(c);
                word.push(c);
            }
            (c, of) => {
                if of == Some(c) {
                    quote = None;
                }
                word.push(c);
            }
        }
    }
    words.push(word);
    let mut together: Vec<String> = Vec::new();
    for word in words {
        let is_value = |option: &String| option.starts_with("--") && !option.contains(' ');
        match together.last_mut() {
            Some(option) if is_value(option) && !word.starts_with("--") => {
                option.push(' ');
                option.push_str(&word);
            }
            _ => together.push(word),
        }
    }
    together
}

/// Text in lines of at most so many characters; a longer word is broken.
fn filled(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        let last = lines.last_mut().expect("there is one");
        let length = last.chars().count();
        if length > 0 && length + 1 + rest.len() <= room {
            last.push(' ');
            last.extend(rest);
            continue;
        }
        if length > 0 {
            lines.push(String::new());
        }
        while rest.len() > room {
            let later = rest.split_off(room);
            lines.last_mut().expect("there is one").extend(rest);
            lines.push(String::new());
            rest = later;
        }
        lines.last_mut().expect("there is one").extend(rest);
    }
    lines
}

const STYLE: &str = "body{font:10pt/1.35 sans-serif;max-width:19cm;margin:1cm auto;padding:0 .5cm;color:#000;background:#fff}\
h1{font-size:15pt;margin:0 0 .2em}h2{font-size:11pt;margin:.9em 0 .2em;border-bottom:1px solid #000}p{margin:.3em 0}\
dl{margin:.2em 0;display:grid;grid-template-columns:max-content 1fr;column-gap:1em}dt{font-weight:bold}dd{margin:0;\
overflow-wrap:anywhere}dd.blank{border-bottom:1px solid #000;min-height:1.6em}pre{font:8.5pt/1.3 monospace;margin:.2em 0 .5em;\
padding:.3em .6em;background:#eee;white-space:pre-wrap;overflow-wrap:anywhere;break-inside:avoid}\
@media print{body{margin:0;max-width:none;padding:0}@page{size:A4;margin:1.2cm}}";

/// As one HTML file: no script, and nothing that is fetched from elsewhere.
pub(super) fn html(title: &str, blocks: &[Block]) -> String {
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    let mut out = |line: String| {
        page.push_str(&line);
        page.push('\n');
    };
    out(format!(
        "<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        escaped(title)
    ));
    let mut in_rows = false;
    for block in blocks {
        let is_row = matches!(block, Block::Row(..) | Block::Blank(_));
        if is_row != in_rows {
            out((if is_row { "<dl>" } else { "</dl>" }).to_owned());
            in_rows = is_row;
        }
        out(match block {
            Block::Title(text) => format!("<h1>{}</h1>", escaped(text)),
            Block::Heading(text) => format!("<h2>{}</h2>", escaped(text)),
            Block::Text(text) => format!("<p>{}</p>", escaped(text)),
            Block::Row(label, value) => format!("<dt>{}</dt><dd>{}</dd>", escaped(label), escaped(value)),
            Block::Blank(label) => format!("<dt>{}</dt><dd class=\"blank\"></dd>", escaped(label)),
            Block::Typed(commands) => format!("<pre>{}</pre>", escaped(&typed_lines(commands).join("\n"))),
        });
    }
    if in_rows {
        out("</dl>".to_owned());
    }
    out("</body>\n</html>".to_owned());
    page
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() && c != '\n' => {
                write!(escaped, "&#{};", u32::from(char::REPLACEMENT_CHARACTER)).expect("a string can be written to");
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_goes_on_in_the_next_line_between_its_words() {
        let command = format!("lifeboat list --from {} --name 'a b' --last", "x".repeat(50));
        let lines = typed_lines(&[command]);
        assert_eq!(lines[0], format!("lifeboat list --from {} \\", "x".repeat(50)));
        assert_eq!(lines[1], "  --name 'a b' --last");
    }

    #[test]
    fn text_is_filled_and_what_has_no_blank_is_broken() {
        let filled = filled(&format!("one two {}", "x".repeat(25)), 10);
        assert_eq!(filled, ["one two", "xxxxxxxxxx", "xxxxxxxxxx", "xxxxx"]);
    }

    #[test]
    fn nothing_of_a_configuration_becomes_markup() {
        let page = html("a", &[Block::Row("<b>".to_owned(), "\"&\u{1b}".to_owned())]);
        assert!(
            page.contains("<dt>&lt;b&gt;</dt><dd>&quot;&amp;&#65533;</dd>"),
            "{page}"
        );
        assert!(page.contains("</dd>\n</dl>\n</body>"), "{page}");
    }
}
