//! Failures: what happened, the exit code for it, and the next step.

use std::fmt;

use super::Exit;
use crate::error_chain::with_causes;

/// Why work failed: what happened, and what to do about it.
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

    /// What the operator can do, if anything.
    pub fn next_step(&self) -> Option<&str> {
        self.next_step.as_deref()
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

/// A plain failure from an error and its causes.
pub fn failed(error: impl std::error::Error + 'static) -> Failure {
    Failure::new(Exit::Failed, with_causes(&error))
}
