//! What is asked before something is changed for good.

use std::io::{self, BufRead, IsTerminal, Write};

use age::secrecy::SecretString;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{columns_of_errors, printable, wrap_message};
use crate::jobs::{Exit, Failure, failed};
use crate::pipeline::{Question, allow_questions};
use crate::text::clean;

/// Refuses where there is nobody to ask.
pub fn need_somebody(yes: bool, command: &str) -> Result<(), Failure> {
    match yes || (io::stdin().is_terminal() && io::stderr().is_terminal()) {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Refused,
            format!("`{command}` asks before it changes anything, and there is no terminal"),
        )
        .next("if it is meant, say so with --yes")),
    }
}

/// Asks, and refuses unless the answer is yes.
pub fn ask(question: &str) -> Result<(), Failure> {
    let question = format!("{} Type `yes` to go on:", printable(question));
    let question = match columns_of_errors() {
        Some(columns) => wrap_message("", 0, &question, columns),
        None => question,
    };
    write!(io::stderr(), "{question} ").ok();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Refused, "nothing was done")),
    }
}

/// Has what plugins of keys ask answered here, if somebody is there.
pub fn answer_plugins() {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        allow_questions(answer);
    }
}

fn answer(question: Question<'_>) -> Option<SecretString> {
    let say = |text: &str| writeln!(io::stderr(), "{}", clean(text)).ok();
    match question {
        Question::Message(text) => {
            say(text);
            None
        }
        Question::Confirm(text, yes, no) => {
            say(text);
            let others = no.map_or(String::new(), |no| format!(", anything else for `{}`", clean(no)));
            write!(io::stderr(), "Type `yes` for `{}`{others}: ", clean(yes)).ok();
            let answer = line()?;
            (answer.trim() == "yes").then(|| answer.into())
        }
        Question::Public(text) => {
            write!(io::stderr(), "{} ", clean(text)).ok();
            line().map(SecretString::from)
        }
        Question::Secret(text) => {
            write!(io::stderr(), "{} ", clean(text)).ok();
            let secret = unseen(line);
            say("");
            secret.map(SecretString::from)
        }
    }
}

/// A line without its end; none where there is no more.
fn line() -> Option<String> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads while the terminal shows nothing of what is typed.
fn unseen(read: impl FnOnce() -> Option<String>) -> Option<String> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).ok()?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).ok()?;
    let read = read();
    tcsetattr(&stdin, OptionalActions::Flush, &before).ok();
    read
}
