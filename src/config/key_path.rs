//! The path of a key as messages name it: `destinations.far.url`.

/// Joins a key to the path of its table, quoted as TOML wants it.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if bare {
        name.to_owned()
    } else {
        format!("\"{}\"", name.escape_debug())
    };
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}
