//! Parses, runs, and turns a failure into text and an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use lifeboat::cli::{Cli, Exit};

fn main() -> ExitCode {
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
        Ok(exit) => exit.into(),
        Err(failure) => {
            if json {
                writeln!(std::io::stdout(), "{}", failure.to_json()).ok();
            }
            // Nobody may be there to read it any more.
            writeln!(std::io::stderr(), "error: {failure}").ok();
            failure.exit.into()
        }
    }
}
