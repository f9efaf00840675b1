//! The lab: the product on real hosts, each a Debian with its own systemd, journal, address and etcd.
//!
//! `make lab` runs it; so does `cargo test` where that runs as root. The program first prepares what needs the network,
//! then starts itself again inside namespaces of its own (`enclosure`), in which hosts are booted and cases run (`cases`).
//!
//! Invariant: when this program has ended, in whatever way, nothing runs and nothing is mounted any more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::disallowed_methods, reason = "the lab plays everybody else on a host, too")]

mod arguments;
mod cases;
mod cluster;
mod enclosure;
mod figures;
mod hosts;
mod install;
mod packing;
mod preparation;
mod report;
mod runner;
#[path = "../spellings/mod.rs"]
#[allow(dead_code, reason = "the unit tests use the rest")]
mod spellings;
#[path = "../it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the shelf of the integration tests; some of it serves here too"
)]
mod support;

use std::process::ExitCode;

use arguments::{Arguments, Demand};

fn main() -> ExitCode {
    let arguments = Arguments::parse(std::env::args().skip(1));
    let runs = runner::select(&arguments);
    if arguments.list {
        for run in &runs {
            println!("{run}: test");
        }
        return ExitCode::SUCCESS;
    }
    if let Some(stage) = enclosure::entered() {
        return runner::run_all(runs, &arguments, stage);
    }
    if runs.is_empty() {
        return match arguments.demand {
            Demand::MayBeSkipped => ExitCode::SUCCESS,
            Demand::MustRun => {
                eprintln!("lab: no case has such a name; `make lab ARGS=--list` names them");
                ExitCode::from(2)
            }
        };
    }
    let suites = runs.iter().map(|run| run.suite).collect();
    match preparation::prepare(&suites).and_then(|left_out| enclosure::run(&left_out)) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("skipped: the lab: {why}");
            match arguments.demand {
                Demand::MayBeSkipped => ExitCode::SUCCESS,
                Demand::MustRun => ExitCode::FAILURE,
            }
        }
    }
}
