//! etcd on this host, as a restore finds it: its unit and settings, the data in place, and what is laid over its settings.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::exchange_dir;
use super::forward_steps::RESUME_UNIT;
use super::ledger::LedgerPaths;
use super::plan::{Plan, PlannedFile, Site};
use super::refusals::{Error, refuse_links, refuse_mounts};
use crate::datadir::{self, InitialCluster, wal};
use crate::durable::{self, NotPlain};
use crate::etcd_settings::{self, Change, EtcdSettings, Given, NewCluster, Overlay, Start, Unit};
use crate::keyspace::EtcdLine;
use crate::model::ClusterId;
use crate::rebuild::log_beside_member;
use crate::systemd::read_file;

/// etcd as this host has it.
#[derive(Debug)]
pub struct EtcdHere {
    /// Its unit.
    pub unit: Unit,
    /// What the operator says of its settings.
    pub given: Given,
    /// What it is started with.
    pub settings: EtcdSettings,
    /// Where its member serves clients.
    pub client_urls: Vec<String>,
    /// Whether its unit runs.
    pub is_up: bool,
    /// Whether the unit has conditions of which one is enough.
    pub has_triggers: bool,
}

impl EtcdHere {
    /// The other members that the configuration and etcd's own settings name, each with one peer URL; of the new cluster
    /// or not.
    pub fn known_members(&self, configured: Vec<(String, String)>) -> Vec<(String, String)> {
        // What etcd began with may be long out of date; what it cannot read says nothing.
        let initial = self.settings.initial_cluster.parse::<InitialCluster>().ok();
        let initial = initial.iter().flat_map(InitialCluster::iter);
        let initial = initial.flat_map(|(name, urls)| urls.iter().map(move |url| (name.to_owned(), url.to_string())));
        let others = configured
            .into_iter()
            .chain(initial)
            .filter(|(name, _)| *name != self.settings.name);
        others.collect()
    }

    /// Where it is restored.
    pub fn site(&self, member: &str, etcd_line: Option<EtcdLine>) -> Result<Site, Error> {
        let data_dir = &self.settings.data_dir;
        let wal_dir = log_beside_member(data_dir, self.settings.wal_dir.as_deref());
        let site = Site {
            member: member.to_owned(),
            unit: self.unit.name.to_string(),
            owner: self.owner()?,
            data_dir: data_dir.clone(),
            wal_dir: wal_dir.map_err(Error::LogInside)?,
            client_urls: self.client_urls.clone(),
            listen_peer_urls: self.settings.listen_peer_urls.clone(),
            etcd_line,
            etcd_version: None,
            quota_bytes: self.settings.quota_bytes,
        };
        refuse_links(&site)?;
        refuse_mounts(&site)?;
        Ok(site)
    }

    /// Who owns etcd's data: whoever owns it now, else the unit's user.
    fn owner(&self) -> Result<(u32, u32), Error> {
        let member = self.settings.data_dir.join("member");
        match exchange_dir::owner(&member) {
            Ok(Some(owner)) => return Ok(owner),
            Ok(None) => {}
            // Whoever only looks may not be let in, and changes nobody's data.
            Err(_) if !nix::unistd::geteuid().is_root() => {}
            Err(error) => return Err(Error::Owner(error)),
        }
        let Some(name) = &self.unit.user else { return Ok((0, 0)) };
        let found = match name.parse() {
            Ok(id) => nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(id)),
            Err(_) => nix::unistd::User::from_name(name),
        };
        match found {
            Ok(Some(user)) => Ok((user.uid.as_raw(), user.gid.as_raw())),
            Ok(None) | Err(_) => Err(Error::UnknownUser {
                unit: self.unit.name.clone(),
                user: name.clone(),
            }),
        }
    }

    /// The cluster whose data is in place, by its log.
    pub fn in_place(&self) -> Result<Option<ClusterId>, Error> {
        let inside = self.settings.data_dir.join(datadir::WAL_DIR);
        let folder = self.settings.wal_dir.as_deref().unwrap_or(&inside);
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(None);
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| wal::is_segment(name)).collect();
        names.sort();
        identity_in(folder, &names).map_err(Error::Log)
    }

    /// What the operator should change in his settings once `plan` is carried out.
    pub fn to_change(&self, plan: &Plan) -> Vec<Change> {
        changes_after(&self.unit, &self.given, plan)
    }

    /// What is laid over etcd's settings, and what earlier restores left there.
    pub fn files(&self, plan: &Plan) -> Result<(Option<Overlay>, Vec<PathBuf>), Error> {
        let cluster = new_cluster(plan).map_err(Error::Members)?;
        let overlay = etcd_settings::overlay(&self.unit, &self.given, &cluster, &plan.host.id.to_string(), &read_file);
        let overlay = overlay.map_err(Error::Settings)?;
        let is_laid = |path: &PathBuf| overlay.iter().flat_map(Overlay::paths).any(|laid| laid == path);
        let mut stale = Vec::from(etcd_settings::ours(&self.unit.name));
        stale.retain(|path| path.exists() && !is_laid(path));
        Ok((overlay, stale))
    }

    /// Whether variables of a cluster that are laid over etcd's settings count, and keep it from nothing.
    pub fn takes_variables(&self, members: &InitialCluster, member: &str) -> bool {
        let all = members
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
        let cluster = NewCluster {
            name: member.to_owned(),
            initial_cluster: all.collect::<Vec<_>>().join(","),
            advertise_peer_urls: members
                .urls_of(member)
                .map_or(Vec::new(), |urls| urls.iter().map(ToString::to_string).collect()),
        };
        let overlay = etcd_settings::overlay(&self.unit, &self.given, &cluster, "rejoin", &read_file);
        overlay.is_ok_and(|overlay| overlay.is_some())
    }

    /// The drop-in that keeps etcd from starting meanwhile, and has an open restore taken up before it may.
    pub fn guard(&self, plan: &Plan, ledger_paths: &LedgerPaths) -> PlannedFile {
        let start = match plan.is_single() {
            true => Start::AsBefore,
            false => Start::WaitsForOthers,
        };
        // After a boot, when what etcd needs may come late, the first step is that of whoever takes the restore up. One such
        // condition is enough for all that a unit has: where it has some of its own, ours would stand in for them.
        let until_taken_up = match self.has_triggers {
            true => String::new(),
            false => format!(
                "ConditionPathExists=|{}\nConditionPathExists=|!{}\n",
                ledger_paths.let_start().display(),
                ledger_paths.ledger().display()
            ),
        };
        let more = format!(
            "{until_taken_up}Documentation=man:lifeboat-runbook(7)\nWants={RESUME_UNIT}\nAfter={RESUME_UNIT}\n"
        );
        let guard = etcd_settings::guard(&self.unit.name, &ledger_paths.lock(), &more, start);
        PlannedFile {
            path: guard.path,
            content: guard.content,
            mode: 0o644,
            owner: (0, 0),
        }
    }
}

/// The cluster of the log whose segments are so called, first to last. etcd's user writes there: what is no segment in the
/// place of one does not hide what the others say.
fn identity_in(folder: &Path, names: &[String]) -> io::Result<Option<ClusterId>> {
    for name in names {
        let opened = match durable::open_plain(&folder.join(name)) {
            Err(error) if NotPlain::of(&error).is_some() || error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let mut head = Vec::new();
        opened.take(wal::HEAD_BYTES).read_to_end(&mut head)?;
        if let Some((cluster, _)) = wal::identity(&head) {
            return Ok(Some(cluster));
        }
    }
    Ok(None)
}

/// What the operator should change in the settings of `unit` after a restore; nothing where they cannot be read.
pub fn changes_after(unit: &Unit, given: &Given, plan: &Plan) -> Vec<Change> {
    let cluster = new_cluster(plan).ok();
    let changes = cluster.and_then(|cluster| etcd_settings::changes(unit, given, &cluster, &read_file).ok());
    changes.unwrap_or_default()
}

/// Who is in the cluster that is planned.
fn new_cluster(plan: &Plan) -> Result<NewCluster, datadir::Error> {
    Ok(NewCluster {
        name: plan.host.site.member.clone(),
        initial_cluster: plan.initial_cluster()?,
        advertise_peer_urls: plan.own_peer_urls().to_vec(),
    })
}

/// The flags of the new cluster, for whoever starts etcd otherwise.
pub fn flags(plan: &Plan) -> BTreeMap<&'static str, String> {
    let mut flags = BTreeMap::from([
        ("--data-dir", plan.host.site.data_dir.display().to_string()),
        ("--name", plan.host.site.member.clone()),
        ("--initial-advertise-peer-urls", plan.own_peer_urls().join(",")),
        ("--initial-cluster", plan.initial_cluster().unwrap_or_default()),
        ("--initial-cluster-state", "existing".to_owned()),
    ]);
    if let Some(is) = &plan.host.identity {
        flags.insert("--initial-cluster-token", is.token.clone());
    }
    if let Some(wal_dir) = &plan.host.site.wal_dir {
        flags.insert("--wal-dir", wal_dir.display().to_string());
    }
    flags
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::datadir::Membership;

    #[test]
    fn what_etcds_user_puts_beside_the_log_does_not_hide_whose_it_is() {
        let cluster: InitialCluster = "m1=http://127.0.0.1:2380".parse().unwrap();
        let membership = Membership::new(&cluster, "token").unwrap();
        let place = tempfile::tempdir().unwrap();
        let name = |number: u8| format!("{number:016x}-0000000000000000.wal");
        let at = |number: u8| place.path().join(name(number));
        let segment = wal::first_segment(&membership, membership.member("m1").unwrap());
        fs::write(at(3), &segment).unwrap();
        // A pipe, a link, junk, and something later.
        mkfifo(&at(0), Mode::from_bits_truncate(0o600)).unwrap();
        std::os::unix::fs::symlink(at(3), at(1)).unwrap();
        fs::write(at(2), b"junk").unwrap();
        mkfifo(&at(4), Mode::from_bits_truncate(0o600)).unwrap();
        let found = identity_in(place.path(), &[0, 1, 2, 3, 4].map(name)).unwrap();
        assert_eq!(found, wal::identity(&segment).map(|(cluster, _)| cluster));
        assert!(found.is_some());
        assert_eq!(identity_in(place.path(), &[0, 1, 2, 4].map(name)).unwrap(), None);
    }
}
