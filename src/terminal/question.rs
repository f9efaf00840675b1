//! What is asked before something is changed for good.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::jobs::{Exit, Failure, failed};

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
    write!(io::stderr(), "{question} Type `yes` to go on: ").ok();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Refused, "nothing was done")),
    }
}
