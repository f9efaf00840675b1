//! etcd's YAML file, read for its settings as etcd reads it.
//!
//! etcd gives the file to Go's `sigs.k8s.io/yaml`: YAML 1.1 of the first document only, of a key that is there twice the
//! last counts, keys match in any case, and a plain `0x10` or `on` where text is wanted becomes the text `16` or `true`.
//!
//! Source: etcd `server/embed/config.go`, `configFromFile`; sigs.k8s.io/yaml `yaml.go`, `convertToJSONableObject`, and its
//! goyaml.v2 `resolve.go`, `decode.go`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::flags::{DISCOVERY_ENDPOINTS, KNOWN, Values};
use super::{Error, SetIn};

/// A table of the file, and what comes before its keys in the names of flags.
const SIDES: [(&str, &str); 2] = [("client-transport-security", ""), ("peer-transport-security", "peer-")];
/// More keys than any file of etcd's has: merged tables may hold far more than their text.
const MOST_KEYS: usize = 10_000;

/// The settings in a file.
pub(super) fn values(path: &Path, bytes: &[u8]) -> Result<Values, Error> {
    let refused = |reason: String| Error::File {
        path: path.to_owned(),
        reason,
    };
    let text = decoded(bytes).map_err(refused)?;
    let file = match read(&text).map_err(refused)? {
        Node::Table(file) => file,
        Node::Null => Vec::new(),
        Node::Text(_) | Node::Scalar(_) | Node::List(_) => {
            return Err(refused("not a file of keys and values".to_owned()));
        }
    };
    let mut values = Values::default();
    for (flag, _) in KNOWN.iter().filter(|(flag, _)| *flag != "config-file") {
        let side = SIDES.iter().rev().find_map(|(table, prefix)| {
            let key = flag.strip_prefix(prefix)?;
            is_tls(key).then_some((*table, key))
        });
        let value = match side {
            _ if *flag == DISCOVERY_ENDPOINTS => discovery(&file),
            Some((table, key)) => get(&file, table).and_then(|table| get(table.table()?, key)),
            None => get(&file, flag),
        };
        match value.as_deref() {
            None | Some(Node::Null) => {}
            Some(Node::Text(text) | Node::Scalar(text)) => values.set(flag, text, SetIn::ConfigFile(path.to_owned())),
            Some(Node::List(_) | Node::Table(_)) => {
                return Err(refused(format!("`{flag}` is neither text nor a number nor a switch")));
            }
        }
    }
    Ok(values)
}

/// What stands for discovery by etcd's own service of version 3, which has a table of its own.
fn discovery(file: &Keys) -> Option<Rc<Node>> {
    let table = get(file, "discovery-config")?;
    let client = get(table.table()?, "client");
    let endpoints = client.and_then(|client| get(client.table()?, "endpoints"));
    match endpoints.as_deref() {
        Some(Node::List(first)) => first.clone(),
        _ => get(table.table()?, "token"),
    }
}

/// Keys and values in their order.
type Keys = Vec<(String, Rc<Node>)>;

/// A value of the file.
#[derive(Debug)]
enum Node {
    Null,
    /// Text, as it is.
    Text(String),
    /// A number or a switch, as etcd has it where it wants text.
    Scalar(String),
    /// A list, of which the first is known.
    List(Option<Rc<Node>>),
    Table(Keys),
}

impl Node {
    fn table(&self) -> Option<&Keys> {
        match self {
            Node::Table(keys) => Some(keys),
            Node::Null | Node::Text(_) | Node::Scalar(_) | Node::List(_) => None,
        }
    }

    fn key(&self) -> String {
        match self {
            Node::Text(text) | Node::Scalar(text) => text.clone(),
            Node::Null => "null".to_owned(),
            Node::List(_) | Node::Table(_) => String::new(),
        }
    }
}

/// The value of a key, in whatever case it is written. Go sorts the keys, and goes by the last that matches.
fn get(keys: &Keys, key: &str) -> Option<Rc<Node>> {
    let fold = |name: &str| {
        name.replace('\u{212a}', "k")
            .replace('\u{17f}', "s")
            .to_ascii_lowercase()
    };
    let matching = keys.iter().filter(|(name, _)| fold(name) == key);
    // The last of the greatest.
    matching.max_by_key(|(name, _)| name).map(|(_, value)| Rc::clone(value))
}

fn is_tls(key: &str) -> bool {
    matches!(
        key,
        "cert-file" | "key-file" | "trusted-ca-file" | "client-cert-auth" | "auto-tls"
    )
}

/// The text of a file in any of YAML's encodings, without its byte order mark.
fn decoded(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16(&units).map(Cow::Owned)
    };
    let not_text = |_| "not UTF-16 text, as its first bytes say".to_owned();
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes).map_err(not_text),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes).map_err(not_text),
        _ => {
            let rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = std::str::from_utf8(rest);
            text.map(Cow::Borrowed).map_err(|error| {
                let lines = rest[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n');
                format!("line {} is not UTF-8 text", 1 + lines.count())
            })
        }
    }
}

/// A table or list that is being read.
enum Open {
    Table { keys: Keys, key: Option<String> },
    List { first: Option<Rc<Node>> },
}

/// The first document.
fn read(text: &str) -> Result<Node, String> {
    let mut anchors: BTreeMap<usize, Rc<Node>> = BTreeMap::new();
    // Each with its anchor, 0 for none.
    let mut open: Vec<(Open, usize)> = Vec::new();
    let mut room = MOST_KEYS;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("not the YAML of etcd: {error}"))?;
        let line = span.start.line();
        let (node, anchor, is_merge) = match event {
            Event::MappingStart(_, anchor, _) => {
                let (keys, key) = (Vec::new(), None);
                open.push((Open::Table { keys, key }, anchor));
                continue;
            }
            Event::SequenceStart(_, anchor, _) => {
                open.push((Open::List { first: None }, anchor));
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some((Open::Table { keys, .. }, anchor)) => (Rc::new(Node::Table(keys)), anchor, false),
                Some((Open::List { first }, anchor)) => (Rc::new(Node::List(first)), anchor, false),
                None => return Err("not the YAML of etcd".to_owned()),
            },
            Event::Scalar(value, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                let node = match style == ScalarStyle::Plain || tag.is_some() {
                    true => resolved(&value, tag.as_deref()),
                    false => Node::Text(value.into_owned()),
                };
                let is_merge = is_plain && matches!(&node, Node::Text(text) if text == "<<");
                (Rc::new(node), anchor, is_merge)
            }
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => (Rc::clone(node), 0, false),
                None => return Err(format!("line {line}: an anchor holds itself")),
            },
            Event::DocumentEnd => break,
            _ => continue,
        };
        if anchor != 0 {
            anchors.insert(anchor, Rc::clone(&node));
        }
        match open.last_mut() {
            None => return Ok(Rc::try_unwrap(node).unwrap_or_else(|shared| copied(&shared))),
            Some((Open::List { first }, _)) => {
                first.get_or_insert(node);
            }
            Some((Open::Table { keys, key }, _)) => match key.take() {
                None if is_merge => *key = Some(MERGE.to_owned()),
                None => *key = Some(node.key()),
                Some(name) if name == MERGE => {
                    let merged = merged(&node, &mut room).map_err(|reason| format!("line {line}: {reason}"))?;
                    keys.extend(merged);
                }
                Some(name) => keys.push((name, node)),
            },
        }
    }
    Ok(Node::Null)
}

/// Stands for a merge among keys; no key of a file has a line break at its head and none of etcd's is meant by it.
const MERGE: &str = "\n<<";

/// The keys of the table that is merged into another one.
fn merged(node: &Node, room: &mut usize) -> Result<Keys, String> {
    match node {
        Node::Table(keys) => {
            let left = room.checked_sub(keys.len()).ok_or("tables are merged over and over")?;
            *room = left;
            Ok(keys.clone())
        }
        Node::List(_) => Err("a list of tables is merged, which is not understood".to_owned()),
        Node::Null | Node::Text(_) | Node::Scalar(_) => Err("what is merged is no table".to_owned()),
    }
}

/// The same without what is inside, for a document that is one anchor.
fn copied(node: &Node) -> Node {
    match node {
        Node::Null => Node::Null,
        Node::Text(text) => Node::Text(text.clone()),
        Node::Scalar(text) => Node::Scalar(text.clone()),
        Node::List(first) => Node::List(first.clone()),
        Node::Table(keys) => Node::Table(keys.clone()),
    }
}

/// What a plain value is.
fn resolved(text: &str, tag: Option<&Tag>) -> Node {
    if let Some("str") = tag.and_then(Tag::core_suffix) {
        return Node::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Node::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Node::Scalar("true".to_owned());
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Node::Scalar("false".to_owned());
        }
        _ => {}
    }
    let is_numeric = text.starts_with(|sign: char| sign.is_ascii_digit() || matches!(sign, '+' | '-' | '.'));
    match is_numeric.then(|| number(text)).flatten() {
        Some(number) => Node::Scalar(number),
        None => Node::Text(text.to_owned()),
    }
}

/// A number as Go prints it, if the text is one.
fn number(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.split_at_checked(1) {
        Some(("-", rest)) => ("-", rest),
        Some(("+", rest)) => ("", rest),
        _ => ("", plain.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let based = [("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)];
    let whole = match based
        .iter()
        .find(|(prefix, _)| lower.len() > prefix.len() && lower.starts_with(prefix))
    {
        Some((prefix, base)) => u64::from_str_radix(&lower[prefix.len()..], *base),
        None => digits.parse::<u64>(),
    };
    // Signs after the first are none of a number's.
    if digits.starts_with(|sign: char| sign.is_ascii_digit())
        && let Ok(whole) = whole
    {
        let sign = if whole == 0 { "" } else { sign };
        return Some(format!("{sign}{whole}"));
    }
    let is_float = {
        let (mantissa, exponent) = lower
            .split_once('e')
            .map_or((lower.as_str(), None), |(m, e)| (m, Some(e)));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let mantissa = match mantissa.split_once('.') {
            Some(("", fraction)) => is_digits(fraction),
            Some((whole, fraction)) => is_digits(whole) && (fraction.is_empty() || is_digits(fraction)),
            None => is_digits(mantissa),
        };
        mantissa && exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
    };
    let float = is_float.then(|| plain.parse::<f64>().ok()).flatten()?;
    let magnitude = float.abs();
    Some(match magnitude == 0.0 || (1e-4..1e6).contains(&magnitude) {
        true => format!("{float}"),
        false => {
            // Go writes an exponent with its sign and two digits at least.
            let text = format!("{float:e}");
            let (mantissa, exponent) = text.split_once('e')?;
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
    })
}
