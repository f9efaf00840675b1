//! `failure`: why a command failed, as a document of its own or as a part of another.

use serde_json::Value;

use crate::jobs::Failure;

/// The document of a command that has no other result.
pub fn document(failure: &Failure) -> Value {
    serde_json::json!({ "schema": 1, "error": of(failure) })
}

/// The same as a part of another document.
pub fn of(failure: &Failure) -> Value {
    serde_json::json!({ "code": failure.exit as u8, "message": failure.message(), "next": failure.next_step() })
}
