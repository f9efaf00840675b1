//! The command line: words that pick cases by their names, and what `cargo test` hands to every test program.

use super::preparation::Suite;

/// Whether the lab may say that this machine cannot run it; if it may not, it tries everything that it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    MayBeSkipped,
    MustRun,
}

/// What is asked for.
#[derive(Debug)]
pub struct Arguments {
    /// Cases are run whose names contain one of these; all if there is none.
    pub words: Vec<String>,
    /// Cases are left out whose names contain one of these.
    pub skip: Vec<String>,
    /// One suite only.
    pub suite: Option<Suite>,
    /// The figures instead of the cases.
    pub figures: bool,
    /// Names only.
    pub list: bool,
    pub demand: Demand,
}

impl Arguments {
    /// Takes the arguments after the program's name. Flags of Rust's own test programs are let pass.
    pub fn parse(given: impl Iterator<Item = String>) -> Arguments {
        let mut arguments = Arguments {
            words: Vec::new(),
            skip: Vec::new(),
            suite: None,
            figures: false,
            list: false,
            demand: Demand::MayBeSkipped,
        };
        let mut given = given.peekable();
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--must-run" => arguments.demand = Demand::MustRun,
                "--figures" => arguments.figures = true,
                "--list" => arguments.list = true,
                "--skip" => arguments.skip.extend(given.next()),
                "--suite" => {
                    let name = given.next().unwrap_or_default();
                    let suite = Suite::ALL.into_iter().find(|suite| suite.name() == name);
                    arguments.suite = Some(suite.unwrap_or_else(|| panic!("no suite `{name}`: trixie or bookworm")));
                }
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(given.next()),
                flag if flag.starts_with('-') => {}
                word => arguments.words.push(word.to_owned()),
            }
        }
        arguments
    }

    /// Whether a case of this name is asked for.
    pub fn ask_for(&self, name: &str, suite: Suite) -> bool {
        let named = |words: &[String]| words.iter().any(|word| name.contains(word.as_str()));
        let picked = self.words.is_empty() || named(&self.words);
        picked && !named(&self.skip) && self.suite.is_none_or(|only| only == suite)
    }
}
