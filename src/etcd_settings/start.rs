//! From a unit to the program that is etcd, its flags and its environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::exec::Command;
use super::unit::{EnvironmentFile, Unit};
use super::{Error, Given, Place, Read, SetIn, Variables, arguments, environment, exec_words, overlay, shell};

/// Programs that start the one that they are given, with the words behind it.
const STARTERS: &[&str] = &[
    "chrt", "env", "ionice", "nice", "nohup", "numactl", "prlimit", "setsid", "stdbuf", "taskset",
];
const SHELLS: &[&str] = &["ash", "bash", "dash", "ksh", "sh", "zsh"];

/// How the unit starts etcd.
pub(super) struct Start {
    /// The program that is etcd, or that starts it.
    pub(super) program: PathBuf,
    /// Whether that is etcd itself.
    pub(super) is_etcd: bool,
    /// What etcd's command line says, by flag.
    pub(super) flags: BTreeMap<String, String>,
    /// What etcd gets as its environment.
    pub(super) environment: Variables,
    /// The environment files that are there.
    pub(super) files: Vec<PathBuf>,
    /// The environment file that has the last word on a variable.
    origins: BTreeMap<String, PathBuf>,
    /// The folder that a script goes to before it starts etcd.
    folder: Option<PathBuf>,
}

impl Start {
    /// The YAML file that etcd reads instead of everything else.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        let flag = self.flags.get("config-file").filter(|path| !path.is_empty());
        let variable = self.environment.get("ETCD_CONFIG_FILE");
        flag.or(variable.filter(|path| !path.is_empty())).map(PathBuf::from)
    }

    /// Where a variable that etcd gets is set.
    pub(super) fn origin(&self, variable: &str) -> SetIn {
        match self.origins.get(variable) {
            Some(path) => SetIn::EnvironmentFile(path.clone()),
            None => SetIn::Environment,
        }
    }

    /// The unit as etcd finds it where it is started.
    pub(super) fn place(&self, unit: &Unit) -> Unit {
        let mut unit = unit.clone();
        if let Some(folder) = &self.folder {
            let from = unit.working_directory.take().unwrap_or_default();
            unit.working_directory = Some(from.join(folder)).filter(|folder| folder.is_absolute());
        }
        unit
    }
}

/// The command of the unit that starts etcd: the only one, or the only one that looks like it.
fn only(unit: &Unit) -> Result<&Command, Error> {
    let refused = |reason: &str| Error::Unit {
        unit: unit.name.clone(),
        line: "ExecStart=".to_owned(),
        reason: reason.to_owned(),
    };
    let mut likely = unit.exec_start.iter().filter(|command| starts_etcd(command));
    match (unit.exec_start.as_slice(), likely.next(), likely.next()) {
        ([], _, _) => Err(refused("there is none")),
        ([command], _, _) | (_, Some(command), None) => Ok(command),
        (_, _, _) => Err(refused("there are several")),
    }
}

/// Where the script of a shell is among its words, if that is what they are.
fn script_at(words: &[String]) -> Option<usize> {
    let name = Path::new(words.first()?).file_name()?.to_str()?;
    let mut at = 1;
    while SHELLS.contains(&name) {
        match words.get(at)?.as_str() {
            "--norc" | "--noprofile" => at += 1,
            options => {
                let letters = options.strip_prefix('-')?;
                let is_plain = letters.bytes().all(|letter| b"ceux".contains(&letter));
                match (is_plain, letters.contains('c')) {
                    (true, true) => return words.get(at + 1).map(|_| at + 1),
                    (true, false) if !letters.is_empty() => at += 1,
                    (_, _) => return None,
                }
            }
        }
    }
    None
}

/// A variable and its value.
type Assignment = (String, String);

/// etcd's own words, and the variables that are set on the way, where `words` start it through nothing, or through a program
/// that starts it with the words behind it.
fn own_words(words: &[String]) -> Option<(Vec<Assignment>, &[String])> {
    let mut set = Vec::new();
    let name = |word: &str| {
        Path::new(word)
            .file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
    };
    let mut starter = None;
    for (at, word) in words.iter().enumerate() {
        let program = name(word);
        if is_etcd(Path::new(word)) {
            return Some((set, &words[at..]));
        }
        match program.filter(|program| STARTERS.contains(&program.as_str())) {
            Some(program) => {
                starter = Some(program);
                continue;
            }
            None if starter.is_none() => return None,
            None => {}
        }
        let is_env = starter.as_deref() == Some("env");
        match word.split_once('=') {
            Some((name, value)) if is_env && !word.starts_with('-') => set.push((name.to_owned(), value.to_owned())),
            // What it takes away is not known.
            _ if is_env => return None,
            _ if word.starts_with('-')
                || word
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || b"xX,:-".contains(&byte)) => {}
            _ => return None,
        }
    }
    None
}

/// Whether a command of a unit looks as if it started etcd: the program is etcd or starts it, or a script names it.
pub fn starts_etcd(command: &Command) -> bool {
    let words = with_path(&command.program, &command.words);
    let script = script_at(&words).map(|at| words[at].as_str());
    let mut names = script.iter().flat_map(|script| script.split_whitespace());
    own_words(&words).is_some() || names.any(|name| is_etcd(Path::new(name)))
}

/// The words with the program's path in the place of its own name for itself.
fn with_path(program: &Path, words: &[String]) -> Vec<String> {
    let rest = words.iter().skip(1).cloned();
    [program.to_string_lossy().into_owned()]
        .into_iter()
        .chain(rest)
        .collect()
}

/// Reads how the unit starts etcd.
pub(super) fn read(unit: &Unit, given: &Given, read: Read<'_>) -> Result<Start, Error> {
    if let Some(root) = &unit.root {
        return Err(Error::Unit {
            unit: unit.name.clone(),
            line: format!("RootDirectory={}", root.display()),
            reason: "the paths in its settings are not those of this host".to_owned(),
        });
    }
    let command = only(unit)?;
    let found = match &given.settings {
        Place::Environment(path) => environment::of(&with_file(unit, path), read)?,
        Place::Auto | Place::Flags | Place::ConfigFile(_) => environment::of(unit, read)?,
    };
    let mut variables = found.variables;
    let refused = |reason: String| Error::Unit {
        unit: unit.name.clone(),
        line: format!("ExecStart={}", command.line()),
        reason,
    };
    let is_known = known(command, given).map_err(|sign| Error::UnknownSign {
        unit: unit.name.clone(),
        line: format!("ExecStart={}", command.line()),
        sign: sign.to_owned(),
    })?;
    let mut words = with_path(&command.program, &exec_words::expanded(command, &variables));
    let mut folder = None;
    if let Some(at) = script_at(&words) {
        let is_wanted = |words: &[String]| own_words(words).is_some();
        let script = shell::parse(&words[at], &words[at + 1..], &variables, &is_wanted);
        if let Some(script) = understood(script, given).map_err(refused)? {
            variables = script.environment;
            folder = script.folder;
            words = script.words;
        }
    }
    let own = own_words(&words);
    let is_etcd = own.is_some() && is_known;
    let (set, words) = own.unwrap_or((Vec::new(), &words));
    let program = PathBuf::from(&words[0]);
    variables.extend(set);
    let flags = match (&given.settings, is_etcd) {
        (Place::Auto, false) => Err(format!("`{}` is not known to be etcd", program.display())),
        (Place::Environment(_) | Place::ConfigFile(_), false) => Ok(BTreeMap::new()),
        (_, true) | (Place::Flags, false) => arguments::parse(words.get(1..).unwrap_or_default()),
    };
    Ok(Start {
        flags: flags.map_err(refused)?,
        program,
        is_etcd,
        environment: variables,
        files: found.files,
        origins: found.origins,
        folder,
    })
}

/// A script; one that is not understood is borne where the operator says what comes of it.
fn understood(script: Result<shell::Script, String>, given: &Given) -> Result<Option<shell::Script>, String> {
    match (script, &given.settings) {
        (Ok(script), _) => Ok(Some(script)),
        (Err(reason), Place::Auto | Place::Flags) => Err(reason),
        (Err(_), Place::Environment(_) | Place::ConfigFile(_)) => Ok(None),
    }
}

/// Whether all signs of a command are known; one that is not is borne where the operator says what comes of it, as etcd may be
/// started otherwise than the words say.
fn known<'a>(command: &'a Command, given: &Given) -> Result<bool, &'a str> {
    match (command.unknown_flag(), &given.settings) {
        (None, _) => Ok(true),
        (Some(sign), Place::Auto | Place::Flags) => Err(sign),
        (Some(_), Place::Environment(_) | Place::ConfigFile(_)) => Ok(false),
    }
}

/// Whether a program is etcd by its name: `etcd`, or with a version behind.
fn is_etcd(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str());
    let version = name.and_then(|name| name.strip_prefix("etcd"));
    version.is_some_and(|version| {
        let rest = version.trim_start_matches(['-', '_', '.', 'v']);
        version.is_empty() || rest.starts_with(|sign: char| sign.is_ascii_digit())
    })
}

/// The unit as if it read the file that the operator names; ours still comes last.
fn with_file(unit: &Unit, path: &Path) -> Unit {
    let mut unit = unit.clone();
    let files = &mut unit.environment.files;
    files.retain(|file| file.path != path);
    let at = files
        .iter()
        .position(|file| overlay::is_ours(&file.path))
        .unwrap_or(files.len());
    let path = path.to_owned();
    let is_optional = false;
    files.insert(at, EnvironmentFile { path, is_optional });
    unit
}
