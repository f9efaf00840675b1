//! Parses, runs, and turns a failure into text and an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use lifeboat::cli::{Cli, Exit, Failure};
use lifeboat::process::child_process::{self, Side};
use lifeboat::process::share_arenas;
use nix::sys::resource::{Resource, setrlimit};

fn main() -> ExitCode {
    // Keys and plaintext are in memory: nothing of it is to end up in a core file. Where it is refused, the limit is
    // lower already.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).ok();
    share_arenas();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error).into(),
    };
    // Where there is no other process to be had, what hangs holds this one.
    if cli.uses_stores()
        && let Ok(Side::IsDone(code)) = child_process::split()
    {
        return code;
    }
    let exit = carry_out(cli);
    child_process::tell(exit as u8);
    exit.into()
}

/// Runs the command, and says what came of it.
fn carry_out(cli: Cli) -> Exit {
    let (json, errors) = (cli.wants_json(), cli.errors());
    match cli.run() {
        Ok(exit) => {
            let (exit, lost) = exit.with_output();
            if let Some(reason) = lost {
                errors.say(&format!("the result could not be written: {reason}"));
            }
            exit
        }
        Err(failure) => {
            if json {
                writeln!(std::io::stdout(), "{}", failure.to_json()).ok();
            }
            errors.say(&failure.to_string());
            failure.exit
        }
    }
}

/// Says what is wrong with the command line, or what it asked to be told.
fn refuse(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        error.print().ok();
        return Exit::Done;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        writeln!(std::io::stdout(), "{}", Failure::new(Exit::Usage, message).to_json()).ok();
    }
    match error.kind() {
        ErrorKind::MissingSubcommand => writeln!(std::io::stderr(), "{}", Cli::help()).ok(),
        _ => error.print().ok(),
    };
    Exit::Usage
}
