//! From files to a checked configuration, or to all that is wrong with them.

use std::io;
use std::path::{Path, PathBuf};

use super::merge_files::merge;
use super::problem::{self, Problem, Problems, Source};
use super::{Config, LARGEST_FILE, file, keys, reader};
use crate::durable;

/// A configuration with what was noticed on the way.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed but doubtful.
    pub warnings: Vec<Problem>,
    /// The files it was read from, in the order of reading.
    pub files: Vec<PathBuf>,
    /// What stands in them, in the same order.
    pub(super) texts: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither the file nor a drop-in exists.
    #[error("there is no configuration: {} does not exist", path.display())]
    Missing {
        /// The main file.
        path: PathBuf,
    },
    /// What exists holds comments and nothing else, as right after the installation.
    #[error("nothing is configured yet: {} sets nothing", path.display())]
    Blank {
        /// The main file.
        path: PathBuf,
    },
    /// A file, or the directory of drop-ins, cannot be read.
    #[error("read configuration {}: {source}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration is wrong.
    #[error("the configuration is invalid: {}\n{}", count(problems.len()), listed(problems))]
    Invalid {
        /// Everything that was found, in the order of the files; at least one.
        problems: Vec<Problem>,
    },
}

impl Error {
    /// What the operator does next.
    pub fn next_step(&self) -> String {
        match self {
            Error::Missing { path } => {
                let drop_ins = drop_in_directory(path).map_or(String::new(), |directory| {
                    format!(" (or parts of it into {}/*.toml)", directory.display())
                });
                format!(
                    "copy config.example.toml there and adapt it{drop_ins}, or name another file with `--config FILE`"
                )
            }
            Error::Blank { .. } => {
                "set at least `[cluster]`, `[members.NAME]`, `[encryption]` and `[destinations.NAME]` there".to_owned()
            }
            Error::Unreadable { source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
                "that is a directory: name the file in it with `--config FILE`".to_owned()
            }
            Error::Unreadable { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                match durable::joins_readers_of(path) {
                    Some(command) => format!("as root `{command}` lets you, from the next login on"),
                    None => "run as a user that may read it, or name another file with `--config FILE`".to_owned(),
                }
            }
            Error::Unreadable { .. } => {
                "run as a user that may read it, or name another file with `--config FILE`".to_owned()
            }
            Error::Invalid { .. } => "correct it and run `lifeboat check`".to_owned(),
        }
    }
}

/// The files that the configuration at `path` is read from, as far as they are there and can be listed.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let main = std::iter::once(path.to_owned());
    main.chain(drop_ins(path).unwrap_or_default()).collect()
}

/// Reads `path` and, for `X/name.toml`, the drop-ins `X/name.d/*.toml` in lexical order: later keys win, tables merge,
/// everything else is replaced. Drop-ins alone suffice; hidden files among them are not read. Secrets are not read.
pub fn load(path: &Path) -> Result<Loaded, Error> {
    let mut files = Vec::new();
    match read(path) {
        Ok(content) => files.push((path.to_owned(), content)),
        Err(Error::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for drop_in in drop_ins(path)? {
        let content = read(&drop_in)?;
        files.push((drop_in, content));
    }
    if files.is_empty() {
        return Err(Error::Missing { path: path.to_owned() });
    }
    if files.iter().all(|(_, content)| is_blank(content)) {
        return Err(Error::Blank { path: path.to_owned() });
    }
    let paths = files.iter().map(|(path, _)| path.clone()).collect();
    let texts = files
        .iter()
        .map(|(_, content)| String::from_utf8_lossy(content).into_owned());
    let texts = texts.collect();
    let (config, warnings) = parse(files).map_err(|problems| Error::Invalid { problems })?;
    Ok(Loaded {
        config,
        warnings,
        files: paths,
        texts,
    })
}

/// Whether a file holds comments and nothing else.
fn is_blank(content: &[u8]) -> bool {
    let mut lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.all(|line| line.is_empty() || line.starts_with(b"#"))
}

/// Merges and checks the contents of files; the second half of the answer is what is doubtful.
pub(super) fn parse(files: Vec<(PathBuf, Vec<u8>)>) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let (mut problems, mut warnings) = (Problems::default(), Problems::default());
    let mut merged = file::Table::new();
    let mut is_whole = true;
    for (index, (path, content)) in files.into_iter().enumerate() {
        let (text, valid) = match String::from_utf8(content) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(valid))
            }
        };
        let source = Source::new(&path, text, index);
        if let Some(at) = valid {
            problems.at(
                &problem::Origin::new(&source, at..at),
                "not valid TOML: this is not UTF-8 text",
            );
            is_whole = false;
            continue;
        }
        let Some(mut table) = file::parse(&source, &mut problems) else {
            is_whole = false;
            continue;
        };
        keys::check(&mut table, &mut problems);
        merge(&mut merged, table);
    }
    // With a file left out, what seems to be missing may stand in it.
    let config = if is_whole {
        reader::config(&merged, &mut problems, &mut warnings)
    } else {
        None
    };
    match config.filter(|_| problems.is_empty()) {
        Some(config) => Ok((config, warnings.into_sorted())),
        None => Err(problems.into_sorted()),
    }
}

/// `X/name.d` for `X/name.toml`; files of other names have no drop-ins.
fn drop_in_directory(path: &Path) -> Option<PathBuf> {
    (path.extension()? == "toml").then(|| path.with_extension("d"))
}

fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let Some(directory) = drop_in_directory(path) else {
        return Ok(Vec::new());
    };
    let unreadable = |source| Error::Unreadable {
        path: directory.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable {
        path: path.to_owned(),
        source,
    };
    durable::read_linked(path, LARGEST_FILE).map_err(unreadable)
}

fn count(problems: usize) -> String {
    match problems {
        1 => "1 problem".to_owned(),
        several => format!("{several} problems"),
    }
}

pub(super) fn listed(problems: &[Problem]) -> String {
    let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
    problems.join("\n")
}
