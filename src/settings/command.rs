//! From a unit to the program that is etcd, its flags and its environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::unit::{Command, EnvironmentFile, Unit};
use super::{Error, Given, Place, Read, Variables, arguments, environment, overlay, shell, words};

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
}

impl Start {
    /// The YAML file that etcd reads instead of everything else.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        let flag = self.flags.get("config-file").filter(|path| !path.is_empty());
        let variable = self.environment.get("ETCD_CONFIG_FILE");
        flag.or(variable.filter(|path| !path.is_empty())).map(PathBuf::from)
    }
}

/// The one command of the unit.
pub(super) fn only(unit: &Unit) -> Result<&Command, Error> {
    let refused = |reason: &str| Error::Unit {
        unit: unit.name.clone(),
        line: "ExecStart=".to_owned(),
        reason: reason.to_owned(),
    };
    match unit.exec_start.as_slice() {
        [command] => Ok(command),
        [] => Err(refused("there is none")),
        [..] => Err(refused("there are several")),
    }
}

/// Whether the command is a shell with a script on its command line.
pub(super) fn is_shell(command: &Command) -> bool {
    let name = command.program.file_name().and_then(|name| name.to_str());
    matches!(name, Some("sh" | "bash" | "dash")) && command.words.len() == 3 && command.words[1] == "-c"
}

/// Whether a command of a unit looks as if it started etcd: the program is etcd, or a script names it.
pub fn starts_etcd(command: &Command) -> bool {
    let script = command.words.get(2).filter(|_| is_shell(command));
    let mut names = script.iter().flat_map(|script| script.split_whitespace());
    is_etcd(&command.program) || names.any(|name| is_etcd(Path::new(name)))
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
    let (mut variables, files) = match &given.settings {
        Place::Environment(path) => environment::of(&with_file(unit, path), read)?,
        Place::Auto | Place::Flags | Place::ConfigFile(_) => environment::of(unit, read)?,
    };
    let refused = |reason: String| Error::Unit {
        unit: unit.name.clone(),
        line: format!("ExecStart={}", Unit::line(command)),
        reason,
    };
    let mut words = words::expanded(command, &variables);
    let mut program = command.program.clone();
    if is_shell(command)
        && let Some(text) = words.get(2)
        && let Some(script) = understood(shell::parse(text, &variables), given).map_err(refused)?
    {
        variables.extend(script.assignments);
        program = PathBuf::from(&script.words[0]);
        words = script.words;
    }
    let is_etcd = is_etcd(&program);
    let flags = match (&given.settings, is_etcd) {
        (Place::Auto, false) => Err(format!("`{}` is not known to be etcd", program.display())),
        (Place::Environment(_) | Place::ConfigFile(_), false) => Ok(BTreeMap::new()),
        (_, true) | (Place::Flags, false) => arguments::parse(words.get(1..).unwrap_or_default()),
    };
    Ok(Start {
        program,
        is_etcd,
        flags: flags.map_err(refused)?,
        environment: variables,
        files,
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
