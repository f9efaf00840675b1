//! How a command ends: the exit codes of the contract, and failures that carry one and the next step.

use std::fmt;
use std::process::ExitCode;

use super::output;

/// What an exit code says. The numbers are documented and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Some destination failed; which is in the output.
    Partly = 3,
    /// There is no such backup.
    NotFound = 4,
    /// Data is wrong.
    Damaged = 5,
    /// Another run is active.
    Locked = 6,
    /// A guard stopped it; the message names what overrides it.
    Refused = 7,
    /// No given identity opens it.
    WrongKey = 8,
    /// The configuration is invalid.
    Configuration = 78,
}

impl Exit {
    /// The exit code when the work is over: what was done counts as failed if its result could not be written, and the
    /// reason comes along. A reader that has gone is no failure.
    pub fn with_output(self) -> (Exit, Option<&'static str>) {
        match (self, output::lost_result()) {
            (Exit::Done, Some(reason)) => (Exit::Failed, Some(reason)),
            (exit, lost) => (exit, lost),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command failed: what happened, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    message: String,
    next_step: Option<String>,
}

impl Failure {
    /// A failure that says `message`.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Failure {
            exit,
            message: message.to_string(),
            next_step: None,
        }
    }

    /// What happened, without the next step.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The failure as people read it.
    pub fn for_people(&self) -> String {
        output::printable(&self.to_string()).into_owned()
    }

    /// The failure as one JSON document, for programs.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "schema": 1, "error": self.to_value() }).to_string()
    }

    /// The same as a part of another document.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::json!({ "code": self.exit as u8, "message": self.message, "next": self.next_step })
    }

    /// How a command ends that has printed its result already: programs read one document, so that nothing but the code
    /// and, for people, the text follows it.
    pub(super) fn after_result(self, output: &output::Output) -> Result<Exit, Failure> {
        match output.format {
            output::Format::Text => Err(self),
            output::Format::Json => {
                output.problem(self.to_string());
                Ok(self.exit)
            }
        }
    }

    /// The same with the operator's next step.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next_step = Some(step.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.next_step {
            Some(step) => write!(f, "\n  next: {step}"),
            None => Ok(()),
        }
    }
}
