//! What commands need of this host: the configuration, its secrets, its memory. Its destinations are `places`.

use std::path::Path;
use std::time::{Duration, Instant};

use age::secrecy::{ExposeSecret, SecretString};
use jiff::Timestamp;

use super::{Context, Exit, Failure};
use crate::catalog::HostName;
use crate::config::{self, Config, Secret, ThisHost};
use crate::durable;
use crate::etcd;
use crate::model::{ClusterName, with_causes};
use crate::state::{self, Holder, JobsLock, State};

/// A plain failure from an error and its causes.
pub(super) fn failed(error: impl std::error::Error + 'static) -> Failure {
    Failure::new(Exit::Failed, with_causes(&error))
}

/// The clock; the only place where it is read.
#[expect(clippy::disallowed_methods, reason = "the one home of the clock")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// Reads the configuration; its warnings are printed.
pub(super) fn configuration(context: &Context) -> Result<Config, Failure> {
    let loaded = config::load(&context.config).map_err(invalid)?;
    remember(context, &loaded);
    for warning in &loaded.warnings {
        context.output.warn(warning.to_string());
    }
    Ok(loaded.config)
}

/// The configuration; while it is broken, the last one that was right, and what is wrong. For commands that only look.
pub(super) fn last_configuration(context: &Context) -> Result<(Config, Option<Failure>), Failure> {
    let failure = match configuration(context) {
        Ok(config) => return Ok((config, None)),
        Err(failure) => failure,
    };
    let kept = state::base_folder().and_then(|base| state::remembered_configuration(&base, &context.config));
    match kept.ok().flatten().and_then(|record| config::recall(&record)) {
        Some(config) => Ok((config, Some(failure))),
        None => Err(failure),
    }
}

/// Keeps a configuration that is right. That it cannot be kept keeps nobody from working.
fn remember(context: &Context, loaded: &config::Loaded) {
    if let (Ok(base), Some(record)) = (state::base_folder(), loaded.to_record())
        && let Err(error) = state::remember_configuration(&base, &context.config, &record)
    {
        let path = context.config.display();
        context
            .output
            .detail(format!("{path} is not remembered: {}", with_causes(&error)));
    }
}

/// A failure of the configuration.
pub(super) fn invalid(error: config::Error) -> Failure {
    let next = match error {
        config::Error::Missing { .. } | config::Error::Blank { .. } => {
            format!("{}; to read a store without it: `--from DIR`", error.next_step())
        }
        config::Error::Unreadable { .. } | config::Error::Invalid { .. } => error.next_step(),
    };
    Failure::new(Exit::Configuration, with_causes(&error)).next(next)
}

/// This host's name as it stands in documents and object names.
pub(super) fn host_name() -> HostName {
    let name = nix::unistd::gethostname().unwrap_or_default();
    HostName::nearest(&name.to_string_lossy())
}

/// This host, for finding its own member.
pub(super) fn this_host() -> Result<ThisHost, Failure> {
    ThisHost::ask()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot ask for this host's addresses: {error}")))
}

/// Certificates and login, read from where the configuration says they are.
pub(super) fn access(config: &Config) -> Result<etcd::Access, Failure> {
    Ok(etcd::Access {
        tls: tls(config)?,
        login: login(config)?,
    })
}

/// Certificates, read from where the configuration says they are.
pub(super) fn tls(config: &Config) -> Result<etcd::Tls, Failure> {
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
pub(super) fn login(config: &Config) -> Result<Option<(String, SecretString)>, Failure> {
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
pub(super) fn spare_memory() -> u64 {
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

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// What can still be written.
    pub available: u64,
    /// How large it is.
    pub total: u64,
}

/// The space where `path` is or will be, if the system says.
pub(super) fn room_at(path: &Path) -> Option<Room> {
    let there = path.ancestors().find(|path| path.exists())?;
    let found = nix::sys::statvfs::statvfs(there).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Some(Room {
        available: bytes(found.blocks_available()),
        total: bytes(found.blocks()),
    })
}

/// The configured members with their endpoints.
pub(super) fn endpoints(config: &Config) -> Vec<etcd::Endpoints> {
    let members = config.members.iter().map(|(name, member)| etcd::Endpoints {
        name: name.to_string(),
        urls: member.client_urls.iter().map(ToString::to_string).collect(),
    });
    members.collect()
}

/// What this host remembers of the cluster.
pub(super) fn state(cluster: &ClusterName) -> Result<State, Failure> {
    Ok(State::at(&state::base_folder().map_err(failed)?, cluster))
}

/// The right to be the only job on this host.
pub(super) fn jobs_lock(state: &State, command: &str, wait: Duration) -> Result<JobsLock, Failure> {
    let begun = Instant::now();
    super::refuse_during_restore(wait)?;
    let wait = wait.saturating_sub(begun.elapsed());
    let holder = Holder::this(command, now());
    JobsLock::acquire(state, &holder, wait).map_err(|error| match error {
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
    })
}

/// How this user comes to write to the state.
fn way_in(state: &State) -> String {
    let name = super::user::NAME;
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
