//! etcd's YAML file, read for its settings.
//!
//! Source: etcd `server/embed/config.go`, `configYAML` and `configFromFile`. Keys match in any case, as Go's JSON
//! decoder matches them.

use std::path::Path;

use serde_json::{Map, Value};

use super::Error;
use super::flags::{KNOWN, Values};

/// A table of the file, and what comes before its keys in the names of flags.
const SIDES: [(&str, &str); 2] = [("client-transport-security", ""), ("peer-transport-security", "peer-")];

/// The settings in a file.
pub(super) fn values(path: &Path, text: &str) -> Result<Values, Error> {
    let file = parse(path, text)?;
    let mut values = Values::default();
    for (flag, _) in KNOWN.iter().filter(|(flag, _)| *flag != "config-file") {
        let side = SIDES.iter().rev().find_map(|(table, prefix)| {
            let key = flag.strip_prefix(prefix)?;
            is_tls(key).then_some((*table, key))
        });
        let value = match side {
            Some((table, key)) => get(&file, table).and_then(|table| get(table.as_object()?, key)),
            None => get(&file, flag),
        };
        match value.map(scalar) {
            None | Some(Some(None)) => {}
            Some(Some(Some(value))) => {
                values.0.insert(flag, value);
            }
            Some(None) => {
                return Err(refused(
                    path,
                    format!("`{flag}` is neither text nor a number nor a switch"),
                ));
            }
        }
    }
    Ok(values)
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Value>, Error> {
    let value: Value =
        serde_saphyr::from_str(text).map_err(|error| refused(path, format!("not the YAML of etcd: {error}")))?;
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(refused(path, "not a file of keys and values".to_owned()))
        }
    }
}

/// The value of a key, in whatever case the key is written.
fn get<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).or_else(|| {
        let found = map.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value)
    })
}

/// A value as text, if it can be; nothing if it is null.
fn scalar(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::Bool(switch) => Some(Some(switch.to_string())),
        Value::Number(number) => Some(Some(number.to_string())),
        Value::String(text) => Some(Some(text.clone())),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_tls(key: &str) -> bool {
    matches!(
        key,
        "cert-file" | "key-file" | "trusted-ca-file" | "client-cert-auth" | "auto-tls"
    )
}

fn refused(path: &Path, reason: String) -> Error {
    Error::File {
        path: path.to_owned(),
        reason,
    }
}
