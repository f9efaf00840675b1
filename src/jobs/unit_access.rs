//! What a configuration needs of the agent's unit, and what the unit lets it have.
//!
//! The judgement itself is `sandbox`'s; here facts are gathered: the unit as systemd reports it, the user and its
//! groups, and owner, group and mode of every name on the way to a path.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User, getgrouplist};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::config::{Config, Listen, Secret, StoreUrl};
use crate::destinations::side_by_side;
use crate::durable;
use crate::error_chain::with_causes;
use crate::jobs::host;
use crate::mounts::{self, LARGEST_TABLE, Mounts, Planned};
use crate::pipeline::Recipient;
use crate::sandbox::{Acl, End, Facts, Ids, Mend, Need, Place, Purpose, Sandbox, Step, Who, judge, mend, of_unit_file};
use crate::store;
use crate::systemd::{Error, Systemd, UnitName};

/// The unit as it is shipped, for hosts where none is installed.
const SHIPPED: &str = include_str!("../../systemd/lifeboat.service");
/// The agent's unit.
pub const UNIT: &str = "lifeboat.service";
/// A drop-in is small.
const LARGEST_DROP_IN: u64 = 1 << 20;
const DROP_IN: &str = "/etc/systemd/system/lifeboat.service.d/50-paths.conf";
const ACL: &str = "system.posix_acl_access";
/// Where systemd has the units of this host's own mounts, those made of `/etc/fstab` too.
const UNITS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator"];
/// The largest list the kernel takes.
const LARGEST_ACL: usize = 64 << 10;

/// What stands between a configuration and the agent's unit.
#[derive(Debug, Serialize)]
pub struct Judgement {
    /// Which unit was judged.
    unit: &'static str,
    /// Why that one, where it is not the one that runs here.
    because: Option<String>,
    /// Whether there may be a unit on this host at all.
    #[serde(skip)]
    host: Host,
    /// What is not met.
    unmet: Vec<Unmet>,
    /// The drop-in that mends it.
    pub drop_in: Option<DropIn>,
    /// What to change in the configuration.
    pub configuration: Vec<String>,
    /// What else root has to do.
    pub commands: Vec<String>,
    /// What has to be thought about.
    pub remarks: Vec<String>,
    /// What is good to know.
    notes: Vec<String>,
}

/// What a host is to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    HasUnits,
    HasNoSystemd,
}

#[derive(Debug, Serialize)]
struct Unmet {
    what: String,
    path: PathBuf,
    obstacles: Vec<String>,
}

/// A file beside the unit, with settings.
#[derive(Debug, Serialize)]
pub struct DropIn {
    /// Where it belongs.
    pub path: &'static str,
    /// All that is to be in it.
    pub text: String,
}

impl Judgement {
    /// Judges what `config`, which was read from `files`, needs.
    pub fn of(runtime: &Handle, config: &Config, files: &[PathBuf]) -> Judgement {
        let (sandbox, because, host) = match runtime.block_on(installed()) {
            Ok(sandbox) => (sandbox, None, Host::HasUnits),
            Err(error) => {
                let host = match error {
                    Error::NoSystemd { .. } => Host::HasNoSystemd,
                    _ => Host::HasUnits,
                };
                (of_unit_file(SHIPPED), Some(with_causes(&error)), host)
            }
        };
        let mut judgement = Judgement {
            unit: match because {
                None => "lifeboat.service as systemd reports it",
                Some(_) => "lifeboat.service as it is shipped",
            },
            because,
            host,
            unmet: Vec::new(),
            drop_in: None,
            configuration: Vec::new(),
            commands: Vec::new(),
            remarks: Vec::new(),
            notes: Vec::new(),
        };
        let who = who(&sandbox);
        if who.ids.is_none() {
            let note = format!("user {} does not exist here, so rights were not judged", who.name);
            judgement.notes.push(note);
        }
        let mut lines = Vec::new();
        let around = Around::of_this_host(config);
        // Side by side: file systems that hang cost one wait.
        let seen = side_by_side(needs(config, files).into_iter(), |need| Facts {
            place: around.place(&need.path),
            ..facts(&need.path)
        });
        for (need, facts) in &seen {
            judgement.take(&sandbox, &who, need, facts, &mut lines);
        }
        judgement.take_secrets(&sandbox, config, &mut lines);
        judgement.drop_in = drop_in(&lines);
        judgement
    }

    /// Whether there may be a unit on this host at all.
    pub fn is_of_a_host_with_units(&self) -> bool {
        self.host == Host::HasUnits
    }

    /// Whether the agent's unit is installed here: then what is not met is a problem, not just good to know.
    pub fn is_of_this_host(&self) -> bool {
        self.because.is_none()
    }

    /// What is not met, in sentences.
    pub fn unmet(&self) -> impl Iterator<Item = String> {
        // There, no unit will ever want it.
        let unmet = self.unmet.iter().filter(|_| self.host == Host::HasUnits);
        unmet.map(|unmet| {
            let obstacles = unmet.obstacles.join("; ");
            format!("{}: {}: {obstacles}", unmet.what, unmet.path.display())
        })
    }

    /// What was judged and what is good to know, in sentences.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let notes = self.notes.iter().filter(|_| self.host == Host::HasUnits);
        let judged = match (&self.because, self.unmet.is_empty()) {
            (Some(because), _) if self.host == Host::HasNoSystemd => {
                format!("the sandbox of {UNIT} was not checked: {because}")
            }
            (None, true) => format!("{}: the sandbox allows everything this configuration needs", self.unit),
            (Some(_), true) => format!(
                "{}: the sandbox would allow everything this configuration needs",
                self.unit
            ),
            (None, false) => format!("judged by {}", self.unit),
            (Some(because), false) => format!("judged by {}: {because}", self.unit),
        };
        std::iter::once(judged).chain(notes.cloned())
    }

    fn take(&mut self, sandbox: &Sandbox, who: &Who, need: &Need, facts: &Facts, lines: &mut Vec<String>) {
        let obstacles = judge(sandbox, who, need, facts);
        if obstacles.is_empty() {
            return;
        }
        for mend in mend(need, who, facts, &obstacles) {
            match mend {
                Mend::DropIn(new) => lines.extend(new),
                Mend::Credential { name, from } => {
                    let key = need.what.trim_matches('`');
                    // Two files may have one name.
                    let taken = format!("LoadCredential={name}:");
                    let is_free = lines.iter().all(|line| !line.starts_with(&taken));
                    let name = if is_free { name.as_str() } else { key };
                    lines.push(format!("LoadCredential={name}:{from}"));
                    self.configuration.push(format!("{key} = {{ credential = {name:?} }}"));
                }
                // They name a user that is not there; the package makes it, and its folders.
                Mend::Command(_) if who.ids.is_none() => {}
                Mend::Command(command) => self.commands.push(command),
                Mend::Remark(remark) => self.remarks.push(format!("{}: {remark}", need.what)),
            }
        }
        self.unmet.push(Unmet {
            what: need.what.clone(),
            path: need.path.clone(),
            obstacles: obstacles.iter().map(ToString::to_string).collect(),
        });
    }

    /// What is handed over by the unit itself.
    fn take_secrets(&mut self, sandbox: &Sandbox, config: &Config, lines: &mut Vec<String>) {
        for (key, secret) in config.secrets() {
            match secret {
                Secret::File(_) => {}
                Secret::Env(name) => self.notes.push(format!(
                    "`{key}`: {name} must be in the unit's environment; it is read at start: restart lifeboat after changing it"
                )),
                Secret::Credential(name) => {
                    self.notes.push(format!(
                        "`{key}`: credential `{name}` is read at start; restart lifeboat after changing it"
                    ));
                    if !sandbox.credentials.iter().any(|known| known.name == *name) {
                        self.unmet.push(Unmet {
                            what: format!("`{key}`"),
                            path: PathBuf::from(name),
                            obstacles: vec!["the unit loads no credential of that name".to_owned()],
                        });
                        lines.push(format!("LoadCredential={name}:/path/to/{name}"));
                    }
                }
            }
        }
    }
}

/// The unit of this host.
async fn installed() -> Result<Sandbox, Error> {
    let name: UnitName = UNIT.parse().expect("it is the name of a unit");
    let service = Systemd::connect().await?.service(&name).await?;
    Ok(service.sandbox)
}

/// The lines as a whole drop-in. What stands in that file already stays.
fn drop_in(lines: &[String]) -> Option<DropIn> {
    let before = durable::read_linked(Path::new(DROP_IN), LARGEST_DROP_IN).unwrap_or_default();
    let before = String::from_utf8_lossy(&before);
    let mut text = match before.trim_end() {
        "" => "[Service]\n".to_owned(),
        before => format!("{before}\n"),
    };
    let mut is_new = false;
    for line in lines {
        if !text.lines().any(|known| known == line) {
            text.push_str(line);
            text.push('\n');
            is_new = true;
        }
    }
    is_new.then_some(DropIn { path: DROP_IN, text })
}

/// Every path that a configuration names, what for, and by which words.
fn needs(config: &Config, files: &[PathBuf]) -> Vec<Need> {
    let need = |what: String, path: &Path, purpose| Need {
        what,
        path: path.to_owned(),
        purpose,
    };
    let mut needs: Vec<Need> = files
        .iter()
        .map(|file| need("configuration".to_owned(), file, Purpose::Read))
        .collect();
    for (key, secret) in config.secrets() {
        if let Secret::File(path) = secret {
            needs.push(need(format!("`{key}`"), path, Purpose::Secret));
        }
    }
    if let Some(path) = &config.encryption.recipients_file {
        needs.push(need("`encryption.recipients_file`".to_owned(), path, Purpose::Read));
    }
    let programs: BTreeSet<&Path> = config
        .encryption
        .recipients
        .iter()
        .filter_map(Recipient::plugin)
        .collect();
    for program in programs {
        needs.push(need("`encryption.recipients`".to_owned(), program, Purpose::Run));
    }
    let socket = match &config.metrics.listen {
        Some(Listen::Socket(path)) => Some(("`metrics.listen`", path)),
        Some(Listen::Port(_)) | None => None,
    };
    let textfile = config
        .metrics
        .textfile
        .as_ref()
        .map(|path| ("`metrics.textfile`", path));
    for (what, path) in socket.into_iter().chain(textfile) {
        // Files are made beside it and renamed, so its folder has to be writable.
        if let Some(folder) = path.parent() {
            needs.push(need(what.to_owned(), folder, Purpose::Store));
        }
    }
    for (name, destination) in &config.destinations {
        match &destination.url {
            StoreUrl::File(root) => needs.push(need(format!("destination {name}"), root, Purpose::Store)),
            // It is reached over the network, which the agent needs for etcd anyway.
            StoreUrl::Bucket { .. } | StoreUrl::Server { .. } => {}
        }
    }
    needs
}

/// The unit's user, with the numbers that this host has for it.
fn who(sandbox: &Sandbox) -> Who {
    let name = sandbox.user.clone().unwrap_or_else(|| "root".to_owned());
    let found = User::from_name(&name).ok().flatten();
    let gid_of = |name: &String| Group::from_name(name).ok().flatten().map(|group| group.gid);
    let own_group = || {
        let gid = found.as_ref()?.gid;
        Group::from_gid(gid).ok().flatten().map(|group| group.name)
    };
    let group = sandbox.group.clone().or_else(own_group).unwrap_or_else(|| name.clone());
    let ids = found.as_ref().map(|user| {
        let primary = gid_of(&group).unwrap_or(user.gid);
        let name = std::ffi::CString::new(name.as_str()).unwrap_or_default();
        let mut groups = getgrouplist(&name, primary).unwrap_or_default();
        groups.extend(sandbox.supplementary_groups.iter().filter_map(gid_of));
        Ids {
            user: user.uid.as_raw(),
            groups: groups.iter().map(|group| group.as_raw()).collect(),
        }
    });
    Who { name, group, ids }
}

/// What can be seen of a path and of the folders above it. Of a file system that hangs that is nothing.
fn facts(path: &Path) -> Facts {
    let own = path.to_owned();
    store::asked(path, move || look(&own)).unwrap_or_else(|_| Facts {
        path: path.to_owned(),
        steps: Vec::new(),
        end: End::Unknown,
        place: Place::default(),
    })
}

/// Of this host: what is mounted, what should be, and where it has stored backups.
struct Around {
    mounts: Mounts,
    planned: Vec<Planned>,
    used: Vec<PathBuf>,
}

impl Around {
    /// What cannot be read is not known, and nothing follows from it.
    fn of_this_host(config: &Config) -> Around {
        let read = |path: &str| durable::read_linked(Path::new(path), LARGEST_TABLE);
        let mounts = read(mounts::TABLE).and_then(|table| Mounts::parse(&table));
        let mut planned = Planned::of_fstab(&read("/etc/fstab").unwrap_or_default());
        for folder in UNITS {
            let names = fs::read_dir(folder).into_iter().flatten().flatten();
            let names = names.map(|entry| entry.file_name());
            planned.extend(names.filter_map(|name| Planned::of_unit(name.to_str()?)));
        }
        let state = host::state_to_read(&config.cluster.name).ok();
        let was_seen = |name: &str| {
            let addresses = config.addresses();
            let address = addresses.iter().find(|address| address.name == name)?;
            let seen = state.as_ref()?.seen_store(name, &address.url);
            seen.ok().flatten()
        };
        let used = config
            .destinations
            .iter()
            .filter_map(|(name, destination)| match &destination.url {
                StoreUrl::File(root) => was_seen(name.as_str()).map(|_| root.clone()),
                StoreUrl::Bucket { .. } | StoreUrl::Server { .. } => None,
            });
        Around {
            mounts: mounts.unwrap_or_default(),
            planned,
            used: used.collect(),
        }
    }

    fn place(&self, path: &Path) -> Place {
        let way = self.mounts.on_the_way(path);
        Place {
            mount: way.last().map(|mount| mount.point.clone()),
            missing: Planned::missing_above(&self.planned, &self.mounts, path).cloned(),
            was_used: self.used.iter().any(|used| used == path),
        }
    }
}

fn look(path: &Path) -> Facts {
    let mut end = End::Whole;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut real = absolute.clone();
    for known in absolute.ancestors() {
        match fs::canonicalize(known) {
            Ok(found) => {
                let rest = absolute.strip_prefix(known).unwrap_or(Path::new(""));
                // Joining nothing would add a slash.
                real = match rest.as_os_str().is_empty() {
                    true => found,
                    false => found.join(rest),
                };
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => end = End::Unknown,
            Err(_) if end == End::Unknown => {}
            Err(_) => end = End::Missing,
        }
    }
    let mut names: Vec<&Path> = real.ancestors().collect();
    names.reverse();
    let steps: Vec<Step> = names.into_iter().map_while(step).collect();
    Facts {
        path: real,
        steps,
        end,
        place: Place::default(),
    }
}

fn step(path: &Path) -> Option<Step> {
    let found = fs::metadata(path).ok()?;
    let mut list = vec![0; LARGEST_ACL];
    let length = rustix::fs::getxattr(path, ACL, &mut list[..]).ok();
    Some(Step {
        path: path.to_owned(),
        user: found.uid(),
        group: found.gid(),
        mode: found.permissions().mode(),
        acl: length.and_then(|length| Acl::parse(list.get(..length)?)),
        is_folder: found.is_dir(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement(host: Host) -> Judgement {
        Judgement {
            unit: "lifeboat.service as it is shipped",
            because: Some("no systemd answers here".to_owned()),
            host,
            unmet: vec![Unmet {
                what: "destination local".to_owned(),
                path: "/srv".into(),
                obstacles: vec!["its unit may not write there".to_owned()],
            }],
            drop_in: None,
            configuration: Vec::new(),
            commands: Vec::new(),
            remarks: Vec::new(),
            notes: vec!["user lifeboat does not exist here".to_owned()],
        }
    }

    #[test]
    fn the_program_of_a_key_is_to_be_run_by_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let key = bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("age1tpm").unwrap(), &[7; 4]).unwrap();
        let text = format!(
            "[cluster]\nname = 'prod'\n[members.m1]\nclient_urls = ['http://127.0.0.1:1']\n\
             [encryption]\nrecipients = ['{key}']\nplugins = '/home/etcd/bin'\n"
        );
        fs::write(&path, text).unwrap();
        let config = crate::config::load(&path).unwrap().config;
        let needs = needs(&config, &[]);
        let programs: Vec<_> = needs.iter().filter(|need| need.purpose == Purpose::Run).collect();
        let [program] = programs.as_slice() else {
            panic!("{needs:?}")
        };
        assert_eq!(program.path, Path::new("/home/etcd/bin/age-plugin-tpm"));
    }

    #[test]
    fn where_no_unit_can_be_one_line_says_so() {
        let nowhere = judgement(Host::HasNoSystemd);
        assert_eq!((nowhere.unmet().count(), nowhere.notes().count()), (0, 1));
        let said = nowhere.notes().next().unwrap();
        assert!(said.contains("no systemd answers here"), "{said}");
        let here = judgement(Host::HasUnits);
        assert_eq!((here.unmet().count(), here.notes().count()), (1, 2));
    }
}
