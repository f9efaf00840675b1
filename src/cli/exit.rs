//! How a command ends: exit codes and failures, as people and programs are told of them.

use std::process::ExitCode;

pub use crate::jobs::{Exit, Failure};
use crate::json;
use crate::terminal::{Format, Output, lost_result};

impl Exit {
    /// The exit code when the work is over: what was done counts as failed if its result could not be written, and the
    /// reason comes along. A reader that has gone is no failure.
    pub fn with_output(self) -> (Exit, Option<&'static str>) {
        match (self, lost_result()) {
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

impl Failure {
    /// The failure as one JSON document, for programs.
    pub fn to_json(&self) -> String {
        json::failure::document(self).to_string()
    }

    /// How a command ends that has printed its result already: programs read one document, so that nothing but the code
    /// and, for people, the text follows it.
    pub(super) fn after_result(self, output: &Output) -> Result<Exit, Failure> {
        match output.format {
            Format::Text => Err(self),
            Format::Json => {
                output.problem(self.to_string());
                Ok(self.exit)
            }
        }
    }
}
