//! Who of the cluster is well: asks, and has the restore judged by that.

use tokio::runtime::Handle;

use super::this_host::{Here, configured};
use crate::config::{Config, Secret};
use crate::etcd_settings::{Source, shell_word as word};
use crate::jobs::{Exit, Failure, Listener, failed, host};
use crate::restore::{LedgerPaths, RestoreId, ThisMember, Wanted, held, judge_running, look_for_clusters};

/// Refuses while members of a cluster run on other hosts, whether the new cluster has them or not. Needs no backup to say so.
pub fn refuse_running(
    runtime: &Handle,
    listener: &dyn Listener,
    config: Option<&Config>,
    here: &Here,
    wanted: &Wanted<'_>,
) -> Result<(), Failure> {
    let this = this_member(config, here, wanted)?;
    let own = &here.etcd.settings.initial_advertise_peer_urls;
    let mut asked = this.to_ask(wanted, here.etcd.known_members(configured(config)), own);
    if here.etcd.is_up {
        // Alone it may know of others that nothing here names.
        asked.extend(own.iter().map(|url| (wanted.member.to_owned(), url.clone())));
    }
    let clients = config
        .into_iter()
        .flat_map(|config| &config.members)
        .map(|(name, member)| {
            let urls = member.client_urls.iter().map(ToString::to_string);
            (name.to_string(), urls.collect())
        });
    let clients: Vec<(String, Vec<String>)> = clients.collect();
    let around = look_for_clusters(&asked, &clients, &here.access);
    let found = runtime.block_on(around);
    let judged = judge_running(&this, wanted, &found);
    let warnings = judged.map_err(|not_now| Failure::new(Exit::Refused, not_now.message).next(not_now.next))?;
    warnings.into_iter().for_each(|warning| listener.warn(&warning));
    Ok(())
}

fn this_member(config: Option<&Config>, here: &Here, wanted: &Wanted<'_>) -> Result<ThisMember, Failure> {
    let settings = &here.etcd.settings;
    let urls = wanted.members.urls_of(wanted.member).map_err(failed)?;
    Ok(ThisMember {
        member: wanted.member.to_owned(),
        peer_urls: urls.iter().map(ToString::to_string).collect(),
        unit: here.etcd.unit.name.to_string(),
        data_dir: settings.data_dir.clone(),
        wal_dir: settings
            .wal_dir
            .clone()
            .filter(|path| !path.starts_with(&settings.data_dir)),
        has_data: settings.data_dir.join("member").exists(),
        settings: match (
            here.etcd.takes_variables(wanted.members, wanted.member),
            &settings.source,
        ) {
            (true, _) => None,
            (false, Source::ConfigFile { path }) => Some(path.display().to_string()),
            (false, Source::Flags | Source::Environment { .. }) => Some(here.etcd.unit.name.to_string()),
        },
        proof: proof(config, here),
        aside: RestoreId::new(host::now(), getrandom::u32().map_err(failed)?).to_string(),
        // Who may not look there is not the one who types it either.
        held_by: held(&LedgerPaths::default()).ok().flatten(),
    })
}

/// What etcdctl must be given to be let in: from the configuration, else etcd's own certificates.
fn proof(config: Option<&Config>, here: &Here) -> String {
    let configured = config.map(|config| &config.cluster.tls);
    let file = |secret: &Secret| match secret {
        Secret::File(path) => Some(path.clone()),
        Secret::Credential(_) | Secret::Env(_) => None,
    };
    let own = &here.etcd.settings.client_tls;
    let ca = configured.and_then(|tls| tls.ca.as_ref().and_then(file));
    let client = configured.and_then(|tls| tls.client.as_ref());
    let (cert, key) = (
        client.and_then(|client| file(&client.cert)),
        client.and_then(|client| file(&client.key)),
    );
    let flags = [
        ("cacert", ca.or_else(|| own.trusted_ca_file.clone())),
        ("cert", cert.or_else(|| own.cert_file.clone())),
        ("key", key.or_else(|| own.key_file.clone())),
    ];
    let mut proof = String::new();
    for (flag, path) in flags {
        if let Some(path) = path {
            proof.push_str(&format!(" --{flag}={}", word(&path.display().to_string())));
        }
    }
    if let Some(auth) = config.and_then(|config| config.cluster.auth.as_ref()) {
        proof.push_str(&format!(" --user={}", word(&auth.user)));
    }
    proof
}
