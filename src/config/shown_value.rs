//! A value of a file as messages show it, and what is never shown.

use super::file::Value;

/// A value for a message: short, and never a private key.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Table(_) | Value::Whole(_) => "a table".to_owned(),
        Value::List(list) => match list.iter().find(|node| !matches!(node.value, Value::Text(_))) {
            Some(node) => format!("a list with {}", shown(&node.value)),
            None => "a list".to_owned(),
        },
        Value::Text(text) if text.chars().count() > 60 => {
            format!("\"{}…\"", text.chars().take(60).collect::<String>().escape_debug())
        }
        Value::Text(text) => format!("\"{}\"", text.escape_debug()),
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) => float.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Time(time) => time.clone(),
        Value::Refused => "a value".to_owned(),
    }
}

/// Whether `text` holds an age identity or a PEM private key.
pub(super) fn is_private_key(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    text.contains("AGE-SECRET-KEY-") || text.contains("PRIVATE KEY-----") || text.contains("AGE-PLUGIN-")
}
