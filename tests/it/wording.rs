//! The words of messages: plain, short, and the field's own. What had to be read twice once is not written again.

use std::fs;
use std::path::{Path, PathBuf};

/// Parts of sentences that had to be read twice, and what to write instead.
const BANNED: [(&str, &str); 22] = [
    ("lets the agent have", "say what the sandbox allows"),
    ("not through", "say who cannot enter what"),
    ("which is meant", "say what to confirm"),
    ("is to be said", "say it"),
    ("what it comes to", "the result"),
    ("came to nothing", "failed"),
    ("what was not done", "say what is left to do"),
    ("become well", "failed its health check"),
    ("one before goes on", "the previous one stays in force"),
    ("go before this", "have priority"),
    ("goes before this", "has priority"),
    ("more than backups can follow", "is very frequent"),
    ("other bytes than", "changed since"),
    ("is fixed while the unit", "read at start; restart after changing it"),
    ("none later than", "say what is known"),
    ("from before its compaction", "predates its last compaction"),
    ("is not good in", "has a bad copy in"),
    ("leavings", "leftovers"),
    ("(at `", "say in words how far it is"),
    ("keeps everything for ever", "has no retention"),
    ("So it is too", "Also if"),
    (" 1 times", "once"),
];

#[test]
fn no_message_has_words_that_had_to_be_read_twice() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for file in files(&root.join("src"), "rs") {
        let text = fs::read_to_string(&file).unwrap();
        for message in literals(without_tests(&text)) {
            // A line that goes on needs a `\\` before its end.
            if message.lines().any(has_gap) {
                wrong.push(format!("{}: `{message}` has several blanks in a row", file.display()));
            }
            for (part, instead) in BANNED.iter().filter(|(part, _)| message.contains(part)) {
                wrong.push(format!("{}: `{message}` has `{part}`: {instead}", file.display()));
            }
        }
    }
    for file in files(&root.join("docs"), "md")
        .into_iter()
        .chain([root.join("README.md")])
    {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (part, instead) in BANNED.iter().filter(|(part, _)| text.contains(part)) {
            wrong.push(format!("{} has `{part}`: {instead}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn messages_are_found_where_they_stand() {
    let source = r#"
        // "a comment" is none
        let said = format!("two \"words\" and \
                            more"); let other = 'x'; let quote = '"'; let raw = r"no";
    "#;
    assert_eq!(literals(source), ["two \"words\" and more", "no"]);
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n\"b\""), "a\n");
}

/// Whether there are several blanks in the middle of a sentence. Columns, and what stands behind a `#`, may have them.
fn has_gap(line: &str) -> bool {
    let line = line.trim();
    let mut gaps = line.match_indices("  ").map(|(at, _)| line[at..].trim_start());
    gaps.any(|rest| rest.starts_with(char::is_alphabetic))
}

#[test]
fn a_gap_in_a_sentence_is_found() {
    assert!(has_gap("that the restore has set                  in {}"));
    for line in [
        "    two words",
        "good  {id}: well",
        "lifeboat list    # all of it",
        "BAD   {id}",
    ] {
        assert!(!has_gap(line), "{line}");
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for path in entries.filter(|path| !path.ends_with("tests") && !path.ends_with("tests.rs")) {
        match path.is_dir() {
            true => found.extend(files(&path, ending)),
            false if path.extension().is_some_and(|of| of == ending) => found.push(path),
            false => {}
        }
    }
    found
}

fn without_tests(source: &str) -> &str {
    source
        .find("#[cfg(test)]\nmod tests {")
        .map_or(source, |at| &source[..at])
}

/// The texts in quotes of Rust source, as they are printed.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source.chars().peekable();
    while let Some(sign) = rest.next() {
        match sign {
            '/' if rest.peek() == Some(&'/') => {
                rest.by_ref().find(|sign| *sign == '\n');
            }
            '\'' => {
                // A character, or a lifetime, which has no end.
                let mut ahead = rest.clone();
                let first = ahead.next();
                let skipped = if first == Some('\\') { 3 } else { 2 };
                if rest.clone().take(skipped + 4).skip(1).any(|sign| sign == '\'') {
                    rest.by_ref().nth(usize::from(first == Some('\\')));
                    rest.by_ref().find(|sign| *sign == '\'');
                }
            }
            '"' => {
                let mut text = String::new();
                while let Some(sign) = rest.next() {
                    match sign {
                        '"' => break,
                        '\\' => match rest.next() {
                            Some('\n') => while rest.next_if(|sign| sign.is_whitespace()).is_some() {},
                            Some('n') => text.push('\n'),
                            Some(escaped) => text.push(escaped),
                            None => break,
                        },
                        sign => text.push(sign),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}
