//! What is on this host: systemd, etcd's unit and settings, the data in place.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::super::host::{self, failed};
use super::super::output::Output;
use super::super::{Context, Exit, Failure};
use super::{failure, free_bytes};
use crate::config::{self, Config};
use crate::datadir::{self, InitialCluster, wal};
use crate::durable::{self, Dir, NotPlain};
use crate::etcd;
use crate::model::{ByteSize, ClusterId, UnitName, with_causes};
use crate::rebuild::{self, is_held, log_beside_member, needed_bytes};
use crate::restore::{
    Access, Error, LedgerPaths, OverDbus, Plan, PlannedFile, RESUME_UNIT, Site, Units, mounted_inside, owner_of,
};
use crate::settings::{self, Change, EtcdSettings, Given, NewCluster, Overlay, Start, Unit};
use crate::systemd::{self, LoadState, Systemd, read_file};

/// The unit that etcd runs as where nothing else is said.
const USUAL_UNIT: &str = "etcd.service";

/// What was found on this host.
pub(super) struct Here {
    pub systemd: Systemd,
    pub unit: Unit,
    pub settings: EtcdSettings,
    pub access: Access,
    /// Where this host's member serves clients.
    pub client_urls: Vec<String>,
    given: Given,
    pub is_up: bool,
    /// Whether the unit has conditions of which one is enough.
    has_triggers: bool,
}

impl Here {
    /// Looks at everything, changes nothing.
    pub fn find(context: &Context, config: Option<&Config>) -> Result<Here, Failure> {
        let systemd = connect(context)?;
        let name = unit_name(context, &systemd, config)?;
        let (unit, settings) = settings_of(context, &systemd, &name, config)?;
        let access = access(config, &settings)?;
        let loaded = context.runtime.block_on(systemd.unit(&name)).map_err(failed)?;
        let guard = settings::guard_path(&name);
        let has_triggers = loaded.conditions.iter().any(|condition| condition.is_trigger)
            // Those of a guard that was left are ours.
            && !loaded.drop_in_paths.contains(&guard);
        let loaded = loaded.load_state;
        if loaded != LoadState::Loaded {
            let message = match loaded {
                LoadState::Masked => format!("{name} is masked: systemd does not start it"),
                _ => format!("systemd cannot read {name} as it should ({loaded:?})"),
            };
            return Err(Failure::new(Exit::Failed, message).next(format!("see `systemctl status {name}`, and mend it")));
        }
        let units = OverDbus::new(&systemd, context.runtime.handle());
        let state = units
            .state(name.as_str())
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        let is_up = state.is_up();
        let client_urls = client_urls(config, &settings);
        Ok(Here {
            systemd,
            unit,
            settings,
            access,
            client_urls,
            given: given(config),
            is_up,
            has_triggers,
        })
    }

    /// Which member of the new cluster this host is: the one that etcd calls itself, unless the configuration says.
    pub fn member(&self, config: Option<&Config>, members: &InitialCluster) -> Result<String, Failure> {
        let configured = config.and_then(|config| config.host.member.as_ref());
        let own = &self.settings.name;
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
                self.unit.name,
                known.join(", ")
            ),
        )
        .next("correct the members"))
    }

    /// The other members that the configuration and etcd's own settings name, each with one peer URL; of the new cluster
    /// or not.
    pub fn known_members(&self, config: Option<&Config>) -> Vec<(String, String)> {
        let configured = config.into_iter().flat_map(|config| &config.members);
        let configured = configured.flat_map(|(name, member)| {
            let urls = member.peer_urls.iter();
            urls.map(move |url| (name.to_string(), url.to_string()))
        });
        // What etcd began with may be long out of date; what it cannot read says nothing.
        let initial = self.settings.initial_cluster.parse::<InitialCluster>().ok();
        let initial = initial.iter().flat_map(InitialCluster::iter);
        let initial = initial.flat_map(|(name, urls)| urls.iter().map(move |url| (name.to_owned(), url.to_string())));
        let others = configured
            .chain(initial)
            .filter(|(name, _)| *name != self.settings.name);
        others.collect()
    }

    /// Where it is restored.
    pub fn site(&self, config: Option<&Config>, member: &str) -> Result<Site, Failure> {
        let data_dir = &self.settings.data_dir;
        let wal_dir = log_beside_member(data_dir, self.settings.wal_dir.as_deref());
        let site = Site {
            member: member.to_owned(),
            unit: self.unit.name.to_string(),
            owner: self.owner()?,
            data_dir: data_dir.clone(),
            wal_dir: wal_dir.map_err(log_inside)?,
            client_urls: self.client_urls.clone(),
            listen_peer_urls: self.settings.listen_peer_urls.clone(),
            etcd_line: config.and_then(|config| config.host.etcd_version),
            etcd_version: None,
            quota_bytes: self.settings.quota_bytes,
        };
        refuse_links(&site)?;
        refuse_mounts(&site)?;
        Ok(site)
    }

    /// Who owns etcd's data: whoever owns it now, else the unit's user.
    fn owner(&self) -> Result<(u32, u32), Failure> {
        let member = self.settings.data_dir.join("member");
        match owner_of(&member) {
            Ok(Some(owner)) => return Ok(owner),
            Ok(None) => {}
            // Whoever only looks may not be let in, and changes nobody's data.
            Err(_) if !nix::unistd::geteuid().is_root() => {}
            Err(error) => return Err(failed(error)),
        }
        let Some(name) = &self.unit.user else { return Ok((0, 0)) };
        let found = match name.parse() {
            Ok(id) => nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(id)),
            Err(_) => nix::unistd::User::from_name(name),
        };
        match found {
            Ok(Some(user)) => Ok((user.uid.as_raw(), user.gid.as_raw())),
            Ok(None) | Err(_) => Err(Failure::new(
                Exit::Failed,
                format!(
                    "{} runs as user `{name}`, which this host does not know",
                    self.unit.name
                ),
            )),
        }
    }

    /// The cluster whose data is in place, by its log.
    pub fn in_place(&self) -> Result<Option<ClusterId>, Failure> {
        let inside = self.settings.data_dir.join(datadir::WAL_DIR);
        let folder = self.settings.wal_dir.as_deref().unwrap_or(&inside);
        let Ok(entries) = fs::read_dir(folder) else {
            return Ok(None);
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| wal::is_segment(name)).collect();
        names.sort();
        identity_in(folder, &names).map_err(failed)
    }

    /// Refuses settings that make every start put another cluster together.
    pub fn refuse_other_ways(&self) -> Result<(), Failure> {
        other_way(&self.unit, &self.settings).map_or(Ok(()), Err)
    }

    /// What the operator should change in his settings once `plan` is carried out.
    pub fn to_change(&self, plan: &Plan) -> Vec<Change> {
        changes(&self.unit, &self.given, plan)
    }

    /// What is laid over etcd's settings, and what earlier restores left there.
    pub fn files(&self, plan: &Plan) -> Result<(Option<Overlay>, Vec<PathBuf>), Failure> {
        let cluster = new_cluster(plan)?;
        let overlay = settings::overlay(&self.unit, &self.given, &cluster, &plan.host.id.to_string(), &read_file);
        let overlay = overlay.map_err(|error| refused(&error))?;
        let is_laid = |path: &PathBuf| overlay.iter().flat_map(Overlay::paths).any(|laid| laid == path);
        let mut stale = Vec::from(settings::ours(&self.unit.name));
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
        let overlay = settings::overlay(&self.unit, &self.given, &cluster, "rejoin", &read_file);
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
        let guard = settings::guard(&self.unit.name, &ledger_paths.lock(), &more, start);
        PlannedFile {
            path: guard.path,
            content: guard.content,
            mode: 0o644,
            owner: (0, 0),
        }
    }

    /// Refuses what would come to nothing later.
    pub fn refuse_unready(&self, plan: &Plan) -> Result<(), Failure> {
        let data_dir = &plan.host.site.data_dir;
        if !self.is_up && is_held(data_dir).map_err(failed)? {
            let message = format!(
                "an etcd that {} did not start uses {}",
                self.unit.name,
                data_dir.display()
            );
            return Err(Failure::new(Exit::Refused, message).next("stop it, then run this again"));
        }
        let needed = ByteSize(needed_bytes(plan.cluster.backup.bytes));
        match free_bytes(data_dir) {
            Some(free) if free < needed => Err(Failure::new(
                Exit::Failed,
                format!(
                    "{} has {free} free, and {needed} are needed beside the old data",
                    data_dir.display()
                ),
            )
            .next("make room; the data of earlier restores is given up with `lifeboat release`")),
            Some(_) | None => Ok(()),
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

/// Refuses where somebody but root decides where the data is, as by a link that etcd's user has made.
fn refuse_links(site: &Site) -> Result<(), Failure> {
    for path in site.dirs() {
        if let Some(link) = Dir::foreign_link(path).map_err(failed)? {
            let (path, owner) = (link.path.display(), link.owner);
            let message = format!("`{path}` is a link of user {owner}, who could lead root anywhere by it");
            return Err(Failure::new(Exit::Refused, message).next(format!(
                "see where it leads (`readlink -f {path}`); if that is meant, take it over with `chown -h root: {path}`"
            )));
        }
    }
    Ok(())
}

/// Refuses while a file system is mounted in what is exchanged as a whole.
pub(in crate::cli) fn refuse_mounts(site: &Site) -> Result<(), Failure> {
    match mounted_inside(site).map_err(failed)? {
        Some(path) => Err(failure(Error::Mounted { path })),
        None => Ok(()),
    }
}

fn log_inside(error: rebuild::Error) -> Failure {
    Failure::new(Exit::Refused, with_causes(&error)).next(
        "a restore exchanges the data directory's `member` and the log each as a whole: stop etcd, move its log to a directory \
         beside `member` or elsewhere, give it that as its `--wal-dir`, start it, and run this again",
    )
}

/// The refusal of a setting that makes every start put another cluster together.
fn other_way(unit: &Unit, settings: &EtcdSettings) -> Option<Failure> {
    let way = settings.other_way(&unit.name)?;
    let message = format!("etcd would not start as a member of the restored cluster: {way} is set");
    Some(
        Failure::new(Exit::Refused, message)
            .next("remove that setting, run `systemctl daemon-reload`, and run this again"),
    )
}

/// What the operator should change in the settings of `unit` after a restore; nothing where they cannot be read.
fn changes(unit: &Unit, given: &Given, plan: &Plan) -> Vec<Change> {
    let cluster = new_cluster(plan).ok();
    let changes = cluster.and_then(|cluster| settings::changes(unit, given, &cluster, &read_file).ok());
    changes.unwrap_or_default()
}

/// The same for a restore that was carried out, with the settings as they are now.
pub(in crate::cli) fn to_change(context: &Context, plan: &Plan) -> Vec<Change> {
    let config = config::load(&context.config).ok().map(|loaded| loaded.config);
    unit_of(context, plan).map_or(Vec::new(), |unit| changes(&unit, &given(config.as_ref()), plan))
}

/// Flags of etcd's command that keep it from starting beside the variables that a restore has laid on.
pub(in crate::cli) fn shadowed(context: &Context, plan: &Plan) -> Vec<String> {
    let config = config::load(&context.config).ok().map(|loaded| loaded.config);
    let unit = unit_of(context, plan);
    let found = unit.and_then(|unit| settings::shadowed(&unit, &given(config.as_ref()), &read_file).ok());
    found.unwrap_or_default()
}

/// The unit that a plan was for, as systemd has it now.
fn unit_of(context: &Context, plan: &Plan) -> Option<Unit> {
    let systemd = connect(context).ok()?;
    let name = plan.host.site.unit.parse().ok()?;
    context.runtime.block_on(systemd.etcd_unit(&name)).ok()
}

/// Why a restore on this host would be refused for etcd's settings; nothing where this host runs no etcd that can be seen.
pub(in crate::cli) fn foreseen(context: &Context, config: &Config) -> Option<Failure> {
    let systemd = connect(context).ok()?;
    let name = match unit_name(context, &systemd, Some(config)) {
        Ok(name) => name,
        // Of several, one has to be named; with none, there is nothing to restore here.
        Err(failure) if failure.message().starts_with("several") || config.host.unit.is_some() => return Some(failure),
        Err(_) => return None,
    };
    let unit = context.runtime.block_on(systemd.etcd_unit(&name)).ok()?;
    match settings::discover(&unit, &given(Some(config)), &read_file) {
        Ok(settings) => other_way(&unit, &settings),
        Err(settings::Error::Unreadable { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => Some(refused(&error)),
    }
}

/// Who is in the cluster that is planned.
fn new_cluster(plan: &Plan) -> Result<NewCluster, Failure> {
    Ok(NewCluster {
        name: plan.host.site.member.clone(),
        initial_cluster: plan.initial_cluster().map_err(failed)?,
        advertise_peer_urls: plan.own_peer_urls().to_vec(),
    })
}

/// systemd, which must be there.
pub(in crate::cli) fn connect(context: &Context) -> Result<Systemd, Failure> {
    let connected = context.runtime.block_on(Systemd::connect());
    connected.map_err(|error| {
        Failure::new(Exit::Failed, with_causes(&error)).next(
            "without systemd, lay the data out with `lifeboat rebuild` and start etcd with the flags that it prints",
        )
    })
}

fn unit_name(context: &Context, systemd: &Systemd, config: Option<&Config>) -> Result<UnitName, Failure> {
    let wait = |answer| context.runtime.block_on(answer);
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
    let found = context.runtime.block_on(systemd.etcd_units()).map_err(failed)?;
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
    context: &Context,
    systemd: &Systemd,
    name: &UnitName,
    config: Option<&Config>,
) -> Result<(Unit, EtcdSettings), Failure> {
    let unit = context.runtime.block_on(systemd.etcd_unit(name)).map_err(failed)?;
    let found = settings_in(&unit, config)?;
    Ok((unit, found))
}

/// etcd's settings, as its unit has them.
pub(super) fn settings_in(unit: &Unit, config: Option<&Config>) -> Result<EtcdSettings, Failure> {
    settings::discover(unit, &given(config), &read_file).map_err(|error| refused(&error))
}

fn refused(error: &settings::Error) -> Failure {
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
pub(super) fn access_at_hand(output: &Output, config: Option<&Config>, settings: &EtcdSettings) -> Access {
    let Some(config) = config else {
        return completed(etcd::Access::default(), settings);
    };
    let unread = |refused: Failure| {
        let what = refused.message().to_owned();
        output.warn(format!("{what}; etcd is asked without it"));
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
fn own_tls(tls: &settings::Tls) -> etcd::Tls {
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

/// The flags of the new cluster, for whoever starts etcd otherwise.
pub(super) fn flags(plan: &Plan) -> BTreeMap<&'static str, String> {
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

/// Where something is, as text.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
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
