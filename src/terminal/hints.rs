//! Commands that are named in messages, as they can be typed: with the options of this run that the next one needs too.
//!
//! Every text for people passes through here on its way out; no message has to think of it.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::etcd_settings::shell_word;

/// The commands that read a configuration.
pub(crate) const CONFIGURED: [&str; 22] = [
    "agent",
    "status",
    "backup",
    "list",
    "show",
    "verify",
    "inspect",
    "export",
    "compact",
    "rebuild",
    "restore",
    "rollback",
    "prune",
    "pin",
    "unpin",
    "check",
    "accept-lineage",
    "copy",
    "rewrap",
    "metrics",
    "notify",
    "recovery-sheet",
];

/// Those of them that read a store that is only named.
pub(crate) const READING: [&str; 8] = [
    "list", "show", "verify", "inspect", "export", "compact", "rebuild", "restore",
];

/// What this run was given and the next one needs too.
#[derive(Debug, Default)]
pub struct Given {
    /// The configuration, if it is not the usual one.
    pub config: Option<String>,
    /// `--from` with its value, and `--cluster` if there is one.
    pub from: Option<String>,
}

static GIVEN: OnceLock<Given> = OnceLock::new();

/// Remembers what this run was given, from its beginning.
pub fn remember(given: Given) {
    GIVEN.set(given).ok();
}

/// The text with its commands as they can be typed.
pub fn typed(text: &str) -> Cow<'_, str> {
    match GIVEN.get() {
        Some(given) => given.completed(text),
        None => text.into(),
    }
}

const PROGRAM: &str = "lifeboat ";

impl Given {
    fn completed<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.config.is_none() && self.from.is_none() || !text.contains(PROGRAM) {
            return text.into();
        }
        let mut completed = String::with_capacity(text.len() + 64);
        let mut rest = text;
        while let Some(at) = rest.find(PROGRAM) {
            let (before, found) = rest.split_at(at);
            completed.push_str(before);
            let after = &found[PROGRAM.len()..];
            let length = after.find(|c: char| !c.is_ascii_lowercase() && c != '-');
            let (command, behind) = after.split_at(length.unwrap_or(after.len()));
            completed.push_str(PROGRAM);
            completed.push_str(command);
            if is_begun_by(&completed[..completed.len() - PROGRAM.len() - command.len()]) {
                let line = behind.split(['`', '\n']).next().unwrap_or_default();
                completed.push_str(&self.options(command, line));
            }
            rest = behind;
        }
        completed.push_str(rest);
        completed.into()
    }

    /// What is missing behind a command, where `line` is said already.
    fn options(&self, command: &str, line: &str) -> String {
        let mut options = String::new();
        if let Some(config) = &self.config
            && CONFIGURED.contains(&command)
            && !line.contains("--config")
        {
            options.push_str(&format!(" --config {}", shell_word(config)));
        }
        if let Some(from) = &self.from
            && READING.contains(&command)
            && !line.contains("--from")
            && !line.contains("--wait")
        {
            options.push_str(&format!(" {from}"));
        }
        options
    }
}

/// Whether what follows is a command to type, and not a word of a sentence.
fn is_begun_by(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.trim().is_empty() || ["`", "&& ", "sudo "].iter().any(|begin| line.ends_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(config: Option<&str>, from: Option<&str>) -> Given {
        Given {
            config: config.map(str::to_owned),
            from: from.map(str::to_owned),
        }
    }

    #[test]
    fn a_command_is_told_as_it_was_run() {
        let config = given(Some("/etc/c d.toml"), None);
        for (text, expected) in [
            ("see `lifeboat list`", "see `lifeboat list --config '/etc/c d.toml'`"),
            (
                "say which:\n    lifeboat accept-lineage ab-1   # up to 5",
                "say which:\n    lifeboat accept-lineage --config '/etc/c d.toml' ab-1   # up to 5",
            ),
            ("`lifeboat backup --wait 5m && lifeboat accept-lineage`", {
                "`lifeboat backup --config '/etc/c d.toml' --wait 5m && lifeboat accept-lineage --config '/etc/c d.toml'`"
            }),
            (
                "`sudo lifeboat status`",
                "`sudo lifeboat status --config '/etc/c d.toml'`",
            ),
            // These read none, or have it already.
            ("`lifeboat keygen --identity FILE`", "`lifeboat keygen --identity FILE`"),
            ("`lifeboat list --config x`", "`lifeboat list --config x`"),
            ("stores of lifeboat list nothing", "stores of lifeboat list nothing"),
            ("lifeboat.service", "lifeboat.service"),
        ] {
            assert_eq!(config.completed(text), expected);
        }
        assert_eq!(given(None, None).completed("`lifeboat list`"), "`lifeboat list`");
    }

    #[test]
    fn a_store_that_is_named_is_named_again_to_commands_that_read_it() {
        let from = given(None, Some("--from /mnt/usb"));
        for (text, expected) in [
            ("`lifeboat list`", "`lifeboat list --from /mnt/usb`"),
            ("`lifeboat list --from DIR`", "`lifeboat list --from DIR`"),
            ("`lifeboat backup`", "`lifeboat backup`"),
            ("`lifeboat restore --wait`", "`lifeboat restore --wait`"),
        ] {
            assert_eq!(from.completed(text), expected);
        }
    }
}
