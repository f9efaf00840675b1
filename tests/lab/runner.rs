//! Runs the cases, several beside each other, since most of what they do is wait: each on hosts of its own.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::arguments::{Arguments, Demand};
use super::cases::{CASES, Case};
use super::figures::FIGURES;
use super::hosts::{Lab, Switch};
use super::preparation::Suite;
use super::report;

/// How many cases run at a time.
const AT_ONCE: usize = 4;

/// One case on one suite.
pub struct Run {
    pub suite: Suite,
    case: &'static Case,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.suite.name(), self.case.name)
    }
}

/// The runs that were asked for, in the order of the table.
pub fn select(arguments: &Arguments) -> VecDeque<Run> {
    let table = if arguments.figures { FIGURES } else { CASES };
    let runs = table.iter().flat_map(|case| {
        let suites = case.suites.iter();
        suites.map(move |suite| Run { suite: *suite, case })
    });
    runs.filter(|run| arguments.ask_for(&run.to_string(), run.suite))
        .collect()
}

/// Runs all, prints a line for each, and tells whether all went well.
pub fn run_all(runs: VecDeque<Run>, arguments: &Arguments, stage: PathBuf) -> ExitCode {
    let (begin, count) = (Instant::now(), runs.len());
    let at_once = if arguments.figures { 1 } else { AT_ONCE };
    let is_thorough = arguments.demand == Demand::MustRun;
    report::note_panics();
    let switch = Switch::set_up(stage);
    let (runs, failed) = (Mutex::new(runs), Mutex::new(Vec::new()));
    println!("\nlab: {count} cases");
    thread::scope(|scope| {
        for _ in 0..at_once.min(count) {
            scope.spawn(|| {
                while let Some(run) = next(&runs) {
                    if !passes(&run, &switch, is_thorough) {
                        failed.lock().expect("nobody panics with it").push(run.to_string());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "lab: {} passed, {} failed in {seconds:.0} s\n",
        count - failed.len(),
        failed.len()
    );
    for name in &failed {
        println!("    {name}");
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn next(runs: &Mutex<VecDeque<Run>>) -> Option<Run> {
    runs.lock().expect("nobody panics with it").pop_front()
}

fn passes(run: &Run, switch: &Switch, is_thorough: bool) -> bool {
    let begin = Instant::now();
    let lab = Lab {
        suite: run.suite,
        switch,
        is_thorough,
    };
    let passed = panic::catch_unwind(AssertUnwindSafe(|| (run.case.run)(&lab))).is_ok();
    let (seconds, said) = (begin.elapsed().as_secs_f64(), report::take());
    match passed {
        true => println!("{run} … ok, {seconds:.1} s"),
        // One call, so that lines of other cases do not come between.
        false => println!("{run} … FAILED, {seconds:.1} s\n{said}"),
    }
    passed
}
