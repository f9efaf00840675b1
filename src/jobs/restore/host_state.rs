//! What is on this host: systemd, etcd's unit and settings, the data in place.

use std::io;
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::errors::refused_here;
use crate::config::{self, Config};
use crate::datadir::InitialCluster;
use crate::error_chain::with_causes;
use crate::etcd;
use crate::etcd_settings::{self, Change, EtcdSettings, Given, Unit};
use crate::jobs::{Exit, Failure, Listener, failed, host};
use crate::model::UnitName;
use crate::restore::{self, Access, EtcdHere, Ledger, OverDbus, Plan, Site, Units, changes_after};
use crate::systemd::{self, Systemd, read_file};

/// The unit that etcd runs as where nothing else is said.
const USUAL_UNIT: &str = "etcd.service";

/// What was found on this host.
pub struct Here {
    /// The init system.
    pub systemd: Systemd,
    /// How members are spoken with.
    pub access: Access,
    /// etcd, as it is set up.
    pub etcd: EtcdHere,
}

impl Here {
    /// Looks at everything, changes nothing.
    pub fn find(runtime: &Handle, config: Option<&Config>) -> Result<Here, Failure> {
        let systemd = connect(runtime)?;
        let name = unit_name(runtime, &systemd, config)?;
        let (unit, settings) = settings_of(runtime, &systemd, &name, config)?;
        let access = access(config, &settings)?;
        let loaded = runtime.block_on(systemd.unit(&name)).map_err(failed)?;
        let guard = etcd_settings::guard_path(&name);
        let has_triggers = loaded.conditions.iter().any(|condition| condition.is_trigger)
            // Those of a guard that was left are ours.
            && !loaded.drop_in_paths.contains(&guard);
        restore::refuse_not_loaded(&name, &loaded.load_state).map_err(refused_here)?;
        let units = OverDbus::new(&systemd, runtime);
        let state = units
            .state(name.as_str())
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        let is_up = state.is_up();
        let client_urls = client_urls(config, &settings);
        let etcd = EtcdHere {
            unit,
            given: given(config),
            settings,
            client_urls,
            is_up,
            has_triggers,
        };
        Ok(Here { systemd, access, etcd })
    }

    /// Which member of the new cluster this host is: the one that etcd calls itself, unless the configuration says.
    pub fn member(&self, config: Option<&Config>, members: &InitialCluster) -> Result<String, Failure> {
        let configured = config.and_then(|config| config.host.member.as_ref());
        let own = &self.etcd.settings.name;
        if configured.is_none() && members.urls_of(own).is_ok() {
            return Ok(own.clone());
        }
        if let Some(config) = config {
            let local = config.local_member(&host::this_host()?);
            return match local.name() {
                Some(name) if members.urls_of(name.as_str()).is_ok() => Ok(name.to_string()),
                Some(name) => Err(Failure::new(
                    Exit::Usage,
                    format!("this host is member `{name}`, which is not one of the new cluster"),
                )
                .next("correct the members, or set `[host] member`")),
                None => Err(Failure::new(Exit::Usage, &local).next("set `[host] member`")),
            };
        }
        let known: Vec<&str> = members.iter().map(|(name, _)| name).collect();
        Err(Failure::new(
            Exit::Usage,
            format!(
                "{} runs etcd as `{own}`, which is not one of: {}",
                self.etcd.unit.name,
                known.join(", ")
            ),
        )
        .next("correct the members"))
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
    let config = config::load(configuration).ok().map(|loaded| loaded.config);
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

/// The members that the configuration names, each with one peer URL.
pub(super) fn configured(config: Option<&Config>) -> Vec<(String, String)> {
    let members = config.into_iter().flat_map(|config| &config.members);
    let urls = members.flat_map(|(name, member)| {
        let urls = member.peer_urls.iter();
        urls.map(move |url| (name.to_string(), url.to_string()))
    });
    urls.collect()
}

/// Refuses while a file system is mounted in what is exchanged as a whole.
pub fn refuse_mounts(site: &Site) -> Result<(), Failure> {
    restore::refuse_mounts(site).map_err(refused_here)
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

/// systemd, which must be there.
pub fn connect(runtime: &Handle) -> Result<Systemd, Failure> {
    let connected = runtime.block_on(Systemd::connect());
    connected.map_err(|error| {
        Failure::new(Exit::Failed, with_causes(&error)).next(
            "without systemd, lay the data out with `lifeboat rebuild` and start etcd with the flags that it prints",
        )
    })
}

fn unit_name(runtime: &Handle, systemd: &Systemd, config: Option<&Config>) -> Result<UnitName, Failure> {
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
fn settings_of(
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

fn given(config: Option<&Config>) -> Given {
    let Some(config) = config else { return Given::default() };
    Given {
        settings: config.host.settings.clone(),
        data_dir: config.host.data_dir.clone(),
        wal_dir: config.host.wal_dir.clone(),
    }
}

/// How members are spoken with: as the configuration says, else with what etcd itself has.
fn access(config: Option<&Config>, settings: &EtcdSettings) -> Result<Access, Failure> {
    let configured = config.map(host::access).transpose()?;
    Ok(completed(configured.unwrap_or_default(), settings))
}

/// The same for whoever goes on with what is open, which must not stand still for want of a secret that only somebody
/// else was given: what cannot be read is said, and done without.
pub fn access_at_hand(listener: &dyn Listener, config: Option<&Config>, settings: &EtcdSettings) -> Access {
    let Some(config) = config else {
        return completed(etcd::Access::default(), settings);
    };
    let unread = |refused: Failure| {
        let what = refused.message().to_owned();
        listener.warn(&format!("{what}; etcd is asked without it"));
        what
    };
    let (tls, lacks) = match host::tls(config).map_err(unread) {
        Ok(tls) => (tls, None),
        Err(what) => {
            let server_name = config.cluster.tls.server_name.clone();
            let none = etcd::Tls {
                server_name,
                ..etcd::Tls::default()
            };
            (none, Some(what))
        }
    };
    let login = host::login(config).map_err(unread).unwrap_or_default();
    let access = completed(etcd::Access { tls, login }, settings);
    Access { lacks, ..access }
}

fn completed(mut client: etcd::Access, settings: &EtcdSettings) -> Access {
    if client.tls.ca.is_none() {
        let server_name = client.tls.server_name.take();
        client.tls = etcd::Tls {
            server_name,
            ..own_tls(&settings.client_tls)
        };
    }
    Access {
        client,
        peer: own_tls(&settings.peer_tls),
        lacks: None,
    }
}

/// etcd's own certificates, as far as they can be read.
fn own_tls(tls: &etcd_settings::Tls) -> etcd::Tls {
    let read = |path: &Option<PathBuf>| read_file(path.as_ref()?).ok();
    let key = read(&tls.key_file).and_then(|key| String::from_utf8(key).ok());
    etcd::Tls {
        ca: read(&tls.trusted_ca_file),
        identity: read(&tls.cert_file).zip(key.map(age::secrecy::SecretString::from)),
        server_name: None,
    }
}

fn client_urls(config: Option<&Config>, settings: &EtcdSettings) -> Vec<String> {
    let named = config.and_then(|config| config.members.get(settings.name.as_str()));
    let mut urls: Vec<String> = named.map_or(Vec::new(), |member| {
        member.client_urls.iter().map(ToString::to_string).collect()
    });
    for url in settings
        .advertise_client_urls
        .iter()
        .chain(&settings.listen_client_urls)
    {
        if !urls.contains(url) {
            urls.push(url.clone());
        }
    }
    urls
}

/// systemd, and how the members of an open restore are spoken with.
pub fn reach(
    runtime: &Handle,
    listener: &dyn Listener,
    configuration: &Path,
    ledger: &Ledger,
) -> Result<(Systemd, Access), Failure> {
    let config = config::load(configuration).ok().map(|loaded| loaded.config);
    let systemd = connect(runtime)?;
    let unit = ledger.plan.host.site.unit.parse().map_err(failed)?;
    let settings = match runtime.block_on(systemd.etcd_unit(&unit)) {
        // Asked again, it tells with what etcd is to be asked; without that, silence would be all there is to see of etcd.
        Err(error) if error.is_momentary() => return Err(failed(error)),
        Err(error) => Err(failed(error)),
        Ok(unit) => settings_in(&unit, config.as_ref()),
    };
    let access = match settings {
        Ok(settings) => access_at_hand(listener, config.as_ref(), &settings),
        Err(refused) => {
            listener.warn(&format!("{}; members are asked without TLS", refused.message()));
            Access {
                lacks: Some(refused.message().to_owned()),
                ..Access::default()
            }
        }
    };
    Ok((systemd, access))
}
