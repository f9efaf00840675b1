//! The runbooks as they are shipped: the lines that README.md and lifeboat-runbook(7) tell somebody to type.

const README: &str = include_str!("../../../README.md");
const MANUAL: &str = include_str!("../../../packaging/man/lifeboat-runbook.7");

/// The blocks of commands below a heading of the README, each as the lines that one types.
#[track_caller]
pub fn readme(heading: &str) -> Vec<Vec<String>> {
    let below = section(README, &format!("\n### {heading}\n"), &["\n### ", "\n## "]);
    blocks(below, "```sh\n", "\n```")
}

/// The same below the heading of the first steps, with the configuration that they show.
#[allow(dead_code, reason = "only the lab has hosts to install it on")]
pub fn quick_start() -> (Vec<Vec<String>>, &'static str) {
    let below = section(README, "\n## Quick start\n", &["\n## "]);
    let (_, configuration) = below.split_once("```toml\n").expect("it shows one");
    let (configuration, _) = configuration.split_once("\n```").expect("a block has an end");
    (blocks(below, "```sh\n", "\n```"), configuration)
}

/// The same below a heading of the manual page.
#[track_caller]
pub fn manual(heading: &str) -> Vec<Vec<String>> {
    let below = section(MANUAL, &format!("\n.SH {heading}\n"), &["\n.SH "]);
    let plain = below.replace("\\-", "-").replace("\\e", "\\");
    blocks(&plain, ".nf\n", "\n.fi")
}

/// The headings of the README below which there is something to type when a cluster is gone.
pub fn headings() -> Vec<&'static str> {
    let restore = section(README, "\n## Restore\n", &["\n## "]);
    restore.lines().filter_map(|line| line.strip_prefix("### ")).collect()
}

#[track_caller]
fn section(text: &'static str, heading: &str, ends: &[&str]) -> &'static str {
    let (_, below) = text
        .split_once(heading)
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    let end = ends.iter().filter_map(|end| below.find(end)).min();
    &below[..end.unwrap_or(below.len())]
}

fn blocks(text: &str, begin: &str, end: &str) -> Vec<Vec<String>> {
    let parts = text.split(begin).skip(1);
    let blocks = parts.map(|part| {
        let (block, _) = part.split_once(end).expect("a block has an end");
        let whole = block.replace(" \\\n", "");
        whole.lines().map(str::to_owned).collect()
    });
    blocks.collect()
}
