//! How the members of a restore are spoken with: certificates, login and addresses, of the configuration or of etcd itself.

use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::find_etcd::{connect, settings_in};
use crate::config::Config;
use crate::etcd;
use crate::etcd_settings::{self, EtcdSettings};
use crate::jobs::{Failure, Listener, configuration, failed, host};
use crate::restore::{Access, Ledger};
use crate::systemd::{Systemd, read_file};

/// How members are spoken with: as the configuration says, else with what etcd itself has.
pub(super) fn access(config: Option<&Config>, settings: &EtcdSettings) -> Result<Access, Failure> {
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

/// Where this host's etcd may be reached by clients.
pub(super) fn client_urls(config: Option<&Config>, settings: &EtcdSettings) -> Vec<String> {
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
    let config = configuration::last_good(configuration);
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
