//! Parses, runs, and turns a failure into text and an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use lifeboat::cli::{Cli, Exit};
use nix::sys::resource::{Resource, setrlimit};

fn main() -> ExitCode {
    // Keys and plaintext are in memory: nothing of it is to end up in a core file. Where it is refused, the limit is
    // lower already.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).ok();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            error.print().ok();
            return exit.into();
        }
    };
    let json = cli.wants_json();
    match cli.run() {
        Ok(exit) => {
            let (exit, lost) = exit.with_output();
            if let Some(reason) = lost {
                writeln!(std::io::stderr(), "error: the result could not be written: {reason}").ok();
            }
            exit.into()
        }
        Err(failure) => {
            if json {
                writeln!(std::io::stdout(), "{}", failure.to_json()).ok();
            }
            // Nobody may be there to read it any more.
            writeln!(std::io::stderr(), "error: {}", failure.for_people()).ok();
            failure.exit.into()
        }
    }
}
