//! What is on this host before a restore: systemd, etcd as `find_etcd` finds it, and which member of the new cluster it is.

use tokio::runtime::Handle;

use super::errors::refused_here;
use super::find_etcd::{connect, given, settings_of, unit_name};
use super::member_access::{access, client_urls};
use crate::config::Config;
use crate::datadir::InitialCluster;
use crate::etcd_settings;
use crate::jobs::{Exit, Failure, failed, host};
use crate::restore::{self, Access, EtcdHere, OverDbus, Site, Units};
use crate::systemd::Systemd;

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
