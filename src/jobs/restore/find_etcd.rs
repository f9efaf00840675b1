//! How etcd is found on this host: its unit, and the settings that this starts it with.
//!
//! The unit is the one that `[host] unit` names, else `etcd.service`, else the only one that starts etcd. What its settings are
//! is for `etcd_settings` to say.

use std::io;
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::errors::refused_here;
use crate::config::Config;
use crate::error_chain::with_causes;
use crate::etcd_settings::{self, Change, EtcdSettings, Given, Unit};
use crate::jobs::{Exit, Failure, configuration, failed};
use crate::model::UnitName;
use crate::restore::{self, Plan, changes_after};
use crate::systemd::{self, Systemd, read_file};

/// The unit that etcd runs as where nothing else is said.
const USUAL_UNIT: &str = "etcd.service";

/// systemd, which must be there.
pub fn connect(runtime: &Handle) -> Result<Systemd, Failure> {
    let connected = runtime.block_on(Systemd::connect());
    connected.map_err(|error| {
        Failure::new(Exit::Failed, with_causes(&error)).next(
            "without systemd, lay the data out with `lifeboat rebuild` and start etcd with the flags that it prints",
        )
    })
}

/// The unit that runs etcd.
pub(super) fn unit_name(runtime: &Handle, systemd: &Systemd, config: Option<&Config>) -> Result<UnitName, Failure> {
    let wait = |answer| runtime.block_on(answer);
    let no_unit = |message: String| Failure::new(Exit::Failed, message).next("name etcd's unit with `[host] unit`");
    if let Some(name) = config.and_then(|config| config.host.unit.as_ref()) {
        wait(systemd.unit(name)).map_err(|error| no_unit(with_causes(&error)))?;
        return Ok(name.clone());
    }
    let usual: UnitName = USUAL_UNIT.parse().expect("it is one");
    match wait(systemd.unit(&usual)) {
        Ok(_) => return Ok(usual),
        Err(systemd::Error::NoUnit { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    let found = runtime.block_on(systemd.etcd_units()).map_err(failed)?;
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(no_unit(format!(
            "there is no {USUAL_UNIT}, and no other unit starts etcd"
        ))),
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(no_unit(format!("several units start etcd: {}", names.join(", "))))
        }
    }
}

/// etcd's unit and its settings.
pub(super) fn settings_of(
    runtime: &Handle,
    systemd: &Systemd,
    name: &UnitName,
    config: Option<&Config>,
) -> Result<(Unit, EtcdSettings), Failure> {
    let unit = runtime.block_on(systemd.etcd_unit(name)).map_err(failed)?;
    let found = settings_in(&unit, config)?;
    Ok((unit, found))
}

/// etcd's settings, as its unit has them.
pub(super) fn settings_in(unit: &Unit, config: Option<&Config>) -> Result<EtcdSettings, Failure> {
    etcd_settings::discover(unit, &given(config), &read_file).map_err(|error| refused(&error))
}

fn refused(error: &etcd_settings::Error) -> Failure {
    Failure::new(Exit::Failed, with_causes(error)).next(error.next_step())
}

/// What the operator says of etcd on this host.
pub(super) fn given(config: Option<&Config>) -> Given {
    let Some(config) = config else { return Given::default() };
    Given {
        settings: config.host.settings.clone(),
        data_dir: config.host.data_dir.clone(),
        wal_dir: config.host.wal_dir.clone(),
    }
}

/// Where the etcd of this host has its data, as far as that can be told without any trouble.
pub fn data_dir(runtime: &Handle, config: &Config) -> Option<PathBuf> {
    if config.host.data_dir.is_some() {
        return config.host.data_dir.clone();
    }
    let systemd = connect(runtime).ok()?;
    let name = unit_name(runtime, &systemd, Some(config)).ok()?;
    let (_, settings) = settings_of(runtime, &systemd, &name, Some(config)).ok()?;
    Some(settings.data_dir)
}

/// Why a restore on this host would be refused for etcd's unit or its settings; nothing where this host runs no etcd that can be seen.
pub fn foreseen(runtime: &Handle, config: &Config) -> Option<Failure> {
    let systemd = connect(runtime).ok()?;
    let name = match unit_name(runtime, &systemd, Some(config)) {
        Ok(name) => name,
        // Of several, one has to be named; with none, there is nothing to restore here.
        Err(failure) if failure.message().starts_with("several") || config.host.unit.is_some() => return Some(failure),
        Err(_) => return None,
    };
    let loaded = runtime.block_on(systemd.unit(&name)).ok()?;
    if let Err(error) = restore::refuse_not_loaded(&name, &loaded.load_state) {
        return Some(refused_here(error));
    }
    let unit = runtime.block_on(systemd.etcd_unit(&name)).ok()?;
    match etcd_settings::discover(&unit, &given(Some(config)), &read_file) {
        Ok(settings) => restore::refuse_other_ways(&unit, &settings).err().map(refused_here),
        Err(etcd_settings::Error::Unreadable { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            None
        }
        Err(error) => Some(refused(&error)),
    }
}

/// etcd's settings as they are, beside what a restore made of the cluster.
#[derive(Debug, Default)]
pub struct SettingsNow {
    /// What the operator should change in them.
    pub to_change: Vec<Change>,
    /// Flags of etcd's command that keep it from starting beside the variables that the restore has laid on.
    pub in_conflict: Vec<String>,
}

/// Looks at the settings of the unit that a plan was carried out for, as systemd has it now.
pub fn settings_now(runtime: &Handle, configuration: &Path, plan: &Plan) -> SettingsNow {
    let config = configuration::last_good(configuration);
    let given = given(config.as_ref());
    let look = || {
        let systemd = connect(runtime).ok()?;
        let name = plan.host.site.unit.parse().ok()?;
        let unit = runtime.block_on(systemd.etcd_unit(&name)).ok()?;
        Some(SettingsNow {
            to_change: changes_after(&unit, &given, plan),
            in_conflict: etcd_settings::shadowed(&unit, &given, &read_file).unwrap_or_default(),
        })
    };
    look().unwrap_or_default()
}
