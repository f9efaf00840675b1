//! `lifeboat completions` and `lifeboat manual`: what the packages are made with. Both are hidden.
//!
//! The page of the configuration is `config.example.toml` set as a manual page, so that there is one text to keep true.
//! Source: man(7) for the few macros.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::host::failed;
use super::{Cli, Context, Exit, Failure};
use crate::durable;

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Print the completions for a shell
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Write the manual pages: one a command, one for the configuration
#[derive(clap::Args)]
pub struct ManualArgs {
    /// The directory to write them to
    directory: PathBuf,
}

pub(super) fn completions(context: &Context, args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lifeboat", &mut script);
    context.output.line(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Done)
}

pub(super) fn manual(args: &ManualArgs) -> Result<Exit, Failure> {
    let commands = Cli::command().disable_help_subcommand(true);
    let refused = |error| Failure::new(Exit::Failed, format!("write to {}: {error}", args.directory.display()));
    clap_mangen::generate_to(commands, &args.directory).map_err(refused)?;
    let page = configuration_page(EXAMPLE);
    durable::replace(&args.directory.join("lifeboat.toml.5"), page.as_bytes(), 0o644).map_err(failed)?;
    Ok(Exit::Done)
}

/// The commented example of a configuration as a manual page.
fn configuration_page(example: &str) -> String {
    let mut page = String::from(concat!(
        ".TH lifeboat.toml 5 \"\" \"etcd-lifeboat\" \"File formats\"\n",
        ".SH NAME\nlifeboat.toml \\- configuration of etcd-lifeboat\n",
        ".SH SYNOPSIS\n/etc/lifeboat/config.toml\n.br\n/etc/lifeboat/config.d/*.toml\n",
        ".SH DESCRIPTION\n",
    ));
    let mut words: Vec<String> = Vec::new();
    for line in example.lines() {
        match Line::of(line) {
            Line::Nothing => {
                page.push_str(&paragraph(&mut words));
            }
            Line::Comment(text) => words.push(text.to_owned()),
            Line::Table(name) => {
                page.push_str(&format!(".SH \"{}\"\n{}", roff(name), paragraph(&mut words)));
            }
            Line::Key { name, value } => {
                let says = words.join("\n");
                words.clear();
                let value = roff(value);
                page.push_str(&format!(".TP\n.B {name}\n{}\n.br\n{value}\n", roff(&says)));
            }
        }
    }
    page.push_str(".SH SEE ALSO\n.BR lifeboat (1),\n.BR lifeboat-runbook (7),\n.BR systemd.time (7)\n");
    page
}

/// What a line of the example is.
enum Line<'a> {
    Nothing,
    Comment(&'a str),
    Table(&'a str),
    /// A key, switched on or off.
    Key {
        name: &'a str,
        /// What the page says of its value.
        value: &'a str,
    },
}

impl Line<'_> {
    fn of(line: &str) -> Line<'_> {
        if let Some(text) = line.strip_prefix("# ") {
            return Line::Comment(text);
        }
        let line = line.strip_prefix('#').unwrap_or(line).trim();
        if line.is_empty() {
            return Line::Nothing;
        }
        match line.split_once(" = ") {
            Some((name, _)) => Line::Key { name, value: line },
            None => Line::Table(line),
        }
    }
}

/// The gathered lines as a paragraph; those that are indented stay lines of their own.
fn paragraph(words: &mut Vec<String>) -> String {
    if words.is_empty() {
        return String::new();
    }
    let mut text = String::from(".PP\n");
    for line in words.drain(..) {
        if line.starts_with(' ') {
            text.push_str(".br\n");
        }
        text.push_str(&roff(line.trim_start()));
        text.push('\n');
    }
    text
}

/// Text as roff takes it literally.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    let lines = escaped.lines().map(|line| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_table_of_the_example_is_on_the_page() {
        let page = configuration_page(EXAMPLE);
        for (name, table) in [("recipients", "[encryption]"), ("keep_daily", "[members.m1]")] {
            assert!(page.contains(&format!("\n.B {name}\n")), "{name}");
            assert!(page.contains(&format!(".SH \"{table}\"\n")), "{table}");
        }
        let keys = EXAMPLE
            .lines()
            .filter(|line| line.contains(" = ") && !line.starts_with("# "));
        assert_eq!(page.matches("\n.TP\n").count(), keys.count());
    }

    #[test]
    fn text_is_literal_to_roff() {
        assert_eq!(roff(".so \\file \"a-b\""), "\\&.so \\efile \\(dqa\\-b\\(dq");
    }
}
