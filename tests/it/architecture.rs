//! Holds the code to the module list of `docs/architecture.md`: imports only point up that list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One `crate::X` in the sources.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    line: usize,
    module: String,
}

#[test]
fn imports_only_point_up_the_list_of_modules() {
    let order = listed_modules();
    let rank = |module: &str| order.iter().position(|listed| listed == module);
    let mut faults = Vec::new();
    for (module, path) in sources() {
        let text = fs::read_to_string(&path).expect("the sources can be read");
        let own = rank(&module);
        for import in imports(&text) {
            let used = rank(&import.module);
            // What is not a module is an item of lib.rs, which stands below all modules.
            if import.module != module && (used.is_none() || used > own) {
                let (path, line, used) = (path.display(), import.line, import.module);
                faults.push(format!("{path}:{line}: `{module}` must not use `crate::{used}`"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "imports only point up the list:\n{}",
        faults.join("\n")
    );
}

#[test]
fn every_module_is_listed_and_every_listed_module_exists() {
    let listed: BTreeSet<String> = listed_modules().into_iter().collect();
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("the library has a root");
    let declared: BTreeSet<String> = text
        .lines()
        .filter_map(|line| {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
        })
        .collect();
    assert_eq!(
        declared, listed,
        "lib.rs (left) and docs/architecture.md (right) name the same modules"
    );
}

#[test]
fn an_import_is_found_in_every_way_it_can_be_written() {
    let found = |text: &str| {
        imports(text)
            .into_iter()
            .map(|import| import.module)
            .collect::<Vec<_>>()
    };
    assert_eq!(found("use crate::bbolt::Page;"), ["bbolt"]);
    assert_eq!(found("    let page = crate::bbolt::Page::new();"), ["bbolt"]);
    assert_eq!(
        found("use crate::{bbolt, model::{Revision, Digest}};"),
        ["bbolt", "model"]
    );
    assert_eq!(
        found("use crate::{\n    bbolt::{Page, Meta},\n    model,\n};"),
        ["bbolt", "model"]
    );
    assert_eq!(found("#[cfg(test)]\nmod tests {\n    use crate::store;\n}"), ["store"]);
    assert_eq!(found("pub(crate) fn f() {} // see crate::store"), Vec::<String>::new());
    assert_eq!(found("/// [`crate::store`]\nstruct S;"), Vec::<String>::new());
    let lines: Vec<usize> = imports("use crate::{\n    bbolt,\n    model,\n};")
        .iter()
        .map(|i| i.line)
        .collect();
    assert_eq!(lines, [2, 3]);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of the block marked `modules`, in order.
fn listed_modules() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).expect("the architecture is written down");
    let block = text.lines().skip_while(|line| *line != "```modules").skip(1);
    let modules: Vec<String> = block.take_while(|line| *line != "```").map(str::to_owned).collect();
    assert!(
        !modules.is_empty(),
        "docs/architecture.md has a block marked ```modules"
    );
    modules
}

/// Every source file below a module, with the name of its top-level module.
fn sources() -> Vec<(String, PathBuf)> {
    let src = root().join("src");
    let (mut found, mut open) = (Vec::new(), vec![src.clone()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("the sources can be listed") {
            let path = entry.expect("the sources can be listed").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let inner = path.strip_prefix(&src).expect("it was found below").with_extension("");
            let module = inner
                .iter()
                .next()
                .and_then(|part| part.to_str())
                .expect("sources have plain names");
            if module != "lib" && module != "main" && path.extension().is_some_and(|extension| extension == "rs") {
                found.push((module.to_owned(), path));
            }
        }
    }
    found.sort();
    found
}

/// The top-level names behind every `crate::` outside comments.
fn imports(text: &str) -> Vec<Import> {
    let code: String = text
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _comment)| code))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    for (start, path) in code.match_indices("crate::") {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = start + path.len();
        if code[rest..].starts_with('{') {
            found.extend(group(&code, rest + 1));
        } else {
            found.extend(name_at(&code, rest));
        }
    }
    found
}

/// The first names of the items of a `{…}` that opened just before `start`.
fn group(code: &str, start: usize) -> Vec<Import> {
    let mut found = Vec::new();
    let (mut depth, mut item_begins) = (0_usize, true);
    for (offset, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => item_begins = true,
            c if c.is_whitespace() => {}
            _ if item_begins => {
                found.extend(name_at(code, start + offset));
                item_begins = false;
            }
            _ => {}
        }
    }
    found
}

fn name_at(code: &str, start: usize) -> Option<Import> {
    let module: String = code[start..]
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let line = code[..start].matches('\n').count() + 1;
    (!module.is_empty()).then_some(Import { line, module })
}
