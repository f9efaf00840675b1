//! What jobs need of this host: its name, clock and memory, the secrets of its configuration, the right to be the only job.

use std::fs::TryLockError;
use std::path::Path;
use std::time::{Duration, Instant};

use age::secrecy::{ExposeSecret, SecretString};
use jiff::Timestamp;

use super::give_way_to_restore::refuse_during_restore;
use super::{Exit, Failure, failed};
use crate::config::{Config, Secret, ThisHost};
use crate::durable;
use crate::error_chain::with_causes;
use crate::etcd;
use crate::layout::HostName;
use crate::model::ClusterName;
use crate::pipeline::{Identities, KeyError};
use crate::process;
use crate::state::{self, Holder, JobsLock, State};

/// The clock; the only place where it is read.
#[expect(clippy::disallowed_methods, reason = "the one home of the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// This host's name as it stands in documents and object names.
pub fn host_name() -> HostName {
    let name = nix::unistd::gethostname().unwrap_or_default();
    HostName::nearest(&name.to_string_lossy())
}

/// This host, for finding its own member.
pub fn this_host() -> Result<ThisHost, Failure> {
    ThisHost::ask()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot ask for this host's addresses: {error}")))
}

/// Certificates and login, read from where the configuration says they are.
pub fn access(config: &Config) -> Result<etcd::Access, Failure> {
    Ok(etcd::Access {
        tls: tls(config)?,
        login: login(config)?,
    })
}

/// Certificates, read from where the configuration says they are.
pub fn tls(config: &Config) -> Result<etcd::Tls, Failure> {
    let tls = &config.cluster.tls;
    let public = |key: &str, secret: &Secret| Ok(secret_of(key, secret)?.expose_secret().as_bytes().to_vec());
    let identity = match &tls.client {
        Some(client) => Some((
            public("cluster.tls.cert", &client.cert)?,
            secret_of("cluster.tls.key", &client.key)?,
        )),
        None => None,
    };
    Ok(etcd::Tls {
        ca: tls.ca.as_ref().map(|ca| public("cluster.tls.ca", ca)).transpose()?,
        identity,
        server_name: tls.server_name.clone(),
    })
}

/// User and password, if etcd asks for them, read from where the configuration says they are.
pub fn login(config: &Config) -> Result<Option<(String, SecretString)>, Failure> {
    let Some(auth) = &config.cluster.auth else {
        return Ok(None);
    };
    let password = secret_of("cluster.auth.password", &auth.password)?;
    Ok(Some((auth.user.clone(), password)))
}

fn secret_of(key: &str, secret: &Secret) -> Result<SecretString, Failure> {
    let read = secret.read();
    read.map_err(|error| Failure::new(Exit::Configuration, format!("`{key}`: {}", with_causes(&error))))
}

/// How much memory one piece of work may take: half of what this host has to spare, and of what the service is allowed.
pub fn spare_memory() -> u64 {
    let available = read_number("/proc/meminfo", |text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    });
    let group = durable::read_kernel("/proc/self/cgroup").unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let folder = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    // A limit may stand on any group above.
    let allowed = folder
        .ancestors()
        .take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    let allowed = allowed.filter_map(|folder| {
        let number = |name: &str| read_number(folder.join(name), |text| text.trim().parse().ok());
        number("memory.max")?.checked_sub(number("memory.current")?)
    });
    let spare = allowed.chain(available).min();
    spare.unwrap_or(0) / 2
}

fn read_number(path: impl AsRef<Path>, number: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    number(&durable::read_kernel(path).ok()?)
}

/// The configured members with their endpoints.
pub fn endpoints(config: &Config) -> Vec<etcd::Endpoints> {
    let members = config.members.iter().map(|(name, member)| etcd::Endpoints {
        name: name.to_string(),
        urls: member.client_urls.iter().map(ToString::to_string).collect(),
    });
    members.collect()
}

/// What this host remembers of the cluster.
pub fn state(cluster: &ClusterName) -> Result<State, Failure> {
    Ok(State::at(&state::base_folder().map_err(failed)?, cluster))
}

/// The same for whoever only looks: the agent's, where this user has none of his own.
pub fn state_to_read(cluster: &ClusterName) -> Result<State, Failure> {
    Ok(State::at(
        &state::base_folder_to_read(cluster).map_err(failed)?,
        cluster,
    ))
}

/// What a run of the agent's own schedules calls itself where it takes the right to work.
pub const AGENT: &str = "agent";

/// Tells the agent that a command has changed something that it judges by.
pub fn tell_agent(state: &State, command: &str) {
    state.tell_agent(&Holder::this(command, now()));
}

/// The right to be the only job on this host. At its end the agent is told, unless it is the agent's own.
pub fn jobs_lock(state: &State, command: &str, wait: Duration) -> Result<JobsLock, Failure> {
    let begun = Instant::now();
    refuse_during_restore(wait)?;
    let wait = wait.saturating_sub(begun.elapsed());
    let holder = Holder::this(command, now());
    let lock = JobsLock::acquire(state, &holder, wait).map_err(|error| match error {
        state::Error::Locked { .. } => {
            Failure::new(Exit::Locked, &error).next("try again when it is done, or wait for it with `--wait 10m`")
        }
        // It is there, and another's.
        state::Error::Io { ref source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            failed(error).next(way_in(state))
        }
        state::Error::NoFolder
        | state::Error::Corrupt { .. }
        | state::Error::AlreadyBegun { .. }
        | state::Error::Io { .. } => failed(error),
    })?;
    Ok(match command {
        AGENT => lock,
        _ => lock.telling_agent(state, &holder),
    })
}

/// The right to be the only agent of this cluster on this host, as long as the file is open.
pub fn agent_lock(state: &State) -> Result<durable::Lock, Failure> {
    state.lock_agent().map_err(|error| match error {
        TryLockError::WouldBlock => Failure::new(Exit::Locked, "another agent runs for this cluster")
            .next("see `systemctl status lifeboat` and `lifeboat status`"),
        TryLockError::Error(error) => {
            let path = state.agent_lock();
            Failure::new(Exit::Failed, format!("lock `{}`: {error}", path.display()))
        }
    })
}

/// How this user comes to write to the state.
fn way_in(state: &State) -> String {
    let name = state::AGENTS_USER;
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    if own.is_none_or(|own| own.name != name) {
        return format!("run it as root, or as the user that the agent runs as ({name})");
    }
    // Made by root before there was that user: root gives away nothing that somebody else may have put there.
    let folder = state.folder();
    match folder.exists() {
        true => format!("give it to that user: `chown -R {name}: {}`", folder.display()),
        false => {
            let base = folder.parent().unwrap_or(folder);
            format!("give it to that user: `chown {name}: {}`", base.display())
        }
    }
}

/// Becomes the agent's user, where root runs this and that user exists: [`process::settle`].
pub fn settle() -> Result<(), Failure> {
    let name = state::AGENTS_USER;
    process::settle().map_err(|error| match error {
        process::Error::Refused { .. } => failed(error).next(format!(
            "run it as that user: `setpriv --reuid {name} --regid {name} --init-groups lifeboat …`"
        )),
        process::Error::State(_) | process::Error::Files(_) => failed(error),
    })
}

/// The keys that the configuration names.
pub fn identities(config: &Config) -> Result<Option<Identities>, Failure> {
    const NAME: &str = "`encryption.identity`";
    let Some(secret) = &config.encryption.identity else {
        return Ok(None);
    };
    let content = secret
        .read()
        .map_err(|error| Failure::new(Exit::Configuration, format!("{NAME}: {}", with_causes(&error))))?;
    let keys = Identities::parse_with(content.expose_secret().as_bytes(), NAME, &config.encryption.plugins);
    keys.map(Some).map_err(unusable)
}

/// A secret key that cannot be used.
pub fn unusable(error: KeyError) -> Failure {
    Failure::new(Exit::WrongKey, error).next("give the file that `lifeboat keygen` wrote")
}
