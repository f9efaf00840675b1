//! Where the settings of etcd are, and what is there: from a unit to its flags, its variables or its YAML file.

use std::path::Path;

use super::flags::{self, Values};
use super::unit::Unit;
use super::{Error, EtcdSettings, Given, Place, Read, Source, start, yaml};

/// Reads the settings that `unit` starts etcd with.
///
/// Fails when something on the way is not understood or a file that has to be there is not; the error names it.
pub fn discover(unit: &Unit, given: &Given, read: Read<'_>) -> Result<EtcdSettings, Error> {
    let start = start::read(unit, given, read)?;
    let unit = &start.place(unit);
    let (source, values) = located(unit, given, &start, read)?;
    let mut settings = values.settings(unit, source, start.program)?;
    if let Some(data_dir) = &given.data_dir {
        settings.data_dir.clone_from(data_dir);
    }
    if let Some(wal_dir) = &given.wal_dir {
        settings.wal_dir = Some(wal_dir.clone());
    }
    Ok(settings)
}

/// The place of the settings, and what is there.
fn located(unit: &Unit, given: &Given, start: &start::Start, read: Read<'_>) -> Result<(Source, Values), Error> {
    let named = match &given.settings {
        Place::ConfigFile(path) => Some(path.clone()),
        Place::Flags => None,
        Place::Environment(_) | Place::Auto => start.config_file().map(|path| unit.absolute(&path)),
    };
    if let Some(path) = named {
        let values = yaml::values(&path, &content(unit, &path, read)?)?;
        return Ok((Source::ConfigFile { path }, values));
    }
    let is_by_flags = given.settings == Place::Flags || start.flags.keys().any(|key| flags::is_of_cluster(key));
    let source = match is_by_flags {
        true => Source::Flags,
        false => Source::Environment {
            files: start.files.clone(),
        },
    };
    Ok((source, Values::layered(start)))
}

/// What is in a file that the unit names.
pub(super) fn content(unit: &Unit, path: &Path, read: Read<'_>) -> Result<Vec<u8>, Error> {
    read(path).map_err(|source| Error::Unreadable {
        unit: unit.name.clone(),
        path: path.to_owned(),
        source,
    })
}
