//! What the packages install, by their list of files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

const DOC: &str = "usr/share/doc/etcd-lifeboat";
/// build.sh makes it the packages' own changelog.
const CHANGELOG: &str = "CHANGELOG.md";

/// What is referred to lies where the reference leads to, for readers of the repository and of the package.
#[test]
fn every_document_that_is_referred_to_is_packaged() {
    let installed = installed();
    let documents = installed.iter().filter(|(_, path)| path.starts_with(DOC));
    let packaged: BTreeSet<PathBuf> = documents.clone().map(|(_, path)| path.clone()).collect();
    let mut missing = Vec::new();
    for (source, path) in documents {
        let folder = path.parent().expect("it is in one");
        let text = read(source);
        for link in links(&text) {
            let target = plain(&folder.join(&link));
            if !packaged.contains(&target) && target != Path::new(DOC).join(CHANGELOG) {
                missing.push(format!("{source} refers to {link}"));
            }
        }
    }
    // What is said elsewhere names them as they are called in the repository.
    let others = installed.iter().filter(|(_, path)| !path.starts_with(DOC));
    let others = others
        .map(|(source, _)| source.clone())
        .filter(|source| !source.starts_with("STAGE/"));
    let sources = others.chain(["config.example.toml".to_owned()]).chain(messages());
    for source in sources {
        for name in names(&read(&source)) {
            if !packaged.contains(&Path::new(DOC).join(&name)) {
                missing.push(format!("{source} names {name}"));
            }
        }
    }
    assert!(packaged.len() > 4, "the list is read: {packaged:?}");
    assert!(missing.is_empty(), "not in packaging/files: {missing:#?}");
}

#[test]
fn a_purge_forgets_every_file_of_the_state_directory() {
    let (formats, purge) = (read("docs/formats.md"), read("packaging/purge.sh"));
    let rows = formats
        .lines()
        .filter_map(|line| line.strip_prefix("| `CLUSTER/")?.split('`').next());
    let files: Vec<&str> = rows.collect();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file);
        let is_forgotten = match file.split_once('/') {
            // Each of several: all that is in the folder goes.
            Some((folder, _)) if name.starts_with(char::is_uppercase) => purge.contains(folder),
            Some(_) => purge.contains(&format!("/{name} ")) || purge.contains(&format!("/{name}\n")),
            None => purge.split([' ', ';', '\n']).any(|word| word == name),
        };
        assert!(
            is_forgotten,
            "CLUSTER/{file} of docs/formats.md stays when the package is purged"
        );
    }
}

/// Source and path on a host of all that is installed.
fn installed() -> Vec<(String, PathBuf)> {
    let list = read("packaging/files");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .map(|words| (words[1].to_owned(), PathBuf::from(words[2])))
        .collect()
}

/// The files of the code, whose messages and help may refer to something.
fn messages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found
}

/// Where the links of a page lead to within the repository.
fn links(text: &str) -> Vec<String> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let own = links.map(|link| link.split('#').next().unwrap_or_default());
    own.filter(|link| !link.is_empty() && !link.contains("://"))
        .map(str::to_owned)
        .collect()
}

/// The pages that a text names, `docs/NAME.md`.
fn names(text: &str) -> Vec<String> {
    let rest = text.split("docs/").skip(1);
    let ends = rest.filter_map(|rest| rest.split_once(".md").map(|(name, _)| name));
    let named = ends.filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    named.map(|name| format!("docs/{name}.md")).collect()
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
