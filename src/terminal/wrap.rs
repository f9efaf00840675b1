//! Lines as long as a terminal is wide: broken between words, never within a command or a path.

/// Lines of at most `columns` characters, unless a word is longer.
pub fn wrap(first: &str, text: &str, columns: usize) -> Vec<String> {
    // Where the text itself is indented, so is the rest of it.
    let own = text.chars().take_while(|character| *character == ' ').count();
    let indent = " ".repeat(first.chars().count() + own);
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut is_begun = false;
    for word in words(text) {
        let length = line.chars().count() + usize::from(is_begun) + word.chars().count();
        if is_begun && length > columns {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(&word);
        is_begun = true;
    }
    lines.push(line);
    lines
}

/// The words of a text; a command between backticks is one of them.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in text.split(' ') {
        match words.last_mut().filter(|_| is_open) {
            Some(last) => {
                last.push(' ');
                last.push_str(word);
            }
            None => words.push(word.to_owned()),
        }
        is_open ^= word.matches('`').count() % 2 == 1;
    }
    words
}

/// A message, perhaps of several lines, in lines of at most `columns` characters; the first has `label` before it, of which
/// `label_columns` characters are seen. What shows a place in a file, and what is indented, stays as it is: it is aligned, or to
/// be copied.
pub fn wrap_message(label: &str, label_columns: usize, text: &str, columns: usize) -> String {
    let mut wrapped: Vec<String> = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let is_first = index == 0;
        let is_as_it_is = line.starts_with("    ") || line.contains(" |");
        let first = if is_first {
            " ".repeat(label_columns)
        } else {
            String::new()
        };
        let mut lines = match is_as_it_is {
            true => vec![format!("{first}{line}")],
            false => wrap_under(&first, line, columns),
        };
        if let Some(start) = lines.first_mut().filter(|_| is_first) {
            start.replace_range(..label_columns, label);
        }
        wrapped.extend(lines);
    }
    wrapped.join("\n")
}

/// As [`wrap`], but the lines that follow begin two characters in: a message mostly stands among others.
fn wrap_under(first: &str, text: &str, columns: usize) -> Vec<String> {
    let mut lines = wrap(first, text, columns);
    let rest = lines.split_off(1.min(lines.len()));
    let rest = rest.iter().map(|line| line.trim_start()).collect::<Vec<_>>().join(" ");
    if !rest.is_empty() {
        lines.extend(wrap("  ", &rest, columns));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_go_on_under_their_beginning() {
        assert_eq!(wrap("a  ", "bb cc dd", 8), ["a  bb cc", "   dd"]);
        assert_eq!(wrap("", "bb cc", 80), ["bb cc"]);
        assert_eq!(wrap("a ", "averylongword b", 5), ["a averylongword", "  b"]);
        assert_eq!(
            wrap("", "do `a b c`, d e", 8),
            ["do", "`a b c`,", "d e"],
            "a command can be copied"
        );
    }

    #[test]
    fn a_message_goes_on_two_characters_in_and_what_it_quotes_stays_as_it_is() {
        let told = wrap_message(
            "error:",
            6,
            " one two three `a b c d e`\n9 | key = value of some length\n    do this or that thing",
            16,
        );
        assert_eq!(
            told,
            "error: one two\n  three\n  `a b c d e`\n9 | key = value of some length\n    do this or that thing"
        );
        assert_eq!(wrap_message("", 0, "one two", 80), "one two");
        let path = "/var/lib/a/very/long/path/that/has/no/blank";
        assert_eq!(wrap_message("", 0, &format!("at {path}"), 10), format!("at\n  {path}"));
    }
}
