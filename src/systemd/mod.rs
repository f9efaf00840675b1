//! systemd over D-Bus: how a unit is set up and how it is, and its start and stop.
//!
//! Leaves to `sandbox` and `etcd_settings` what a unit's settings mean, and to the use cases what is done about it.
//!
//! Invariant: every wait here has a bound; a manager that does not answer is an error, not a hang.
//! Invariant: reading changes nothing. To look at a unit loads it, as `systemctl show` does. What changes something is in
//! `jobs` and `scope`.
//!
//! Source: `org.freedesktop.systemd1(5)`, versions 252 to 257; what a newer one adds is passed over.

mod etcd;
mod jobs;
mod properties;
mod scope;
mod unit;

use std::path::Path;
use std::time::Duration;

use zbus::fdo;
use zbus::{Connection, OwnedObjectPath};

pub use etcd::read_file;
pub use jobs::{Enabled, JobResult};
use properties::Properties;
pub use unit::{ActiveState, Condition, LoadState, Service, Unit};

pub use crate::model::UnitName;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls that the manager answers from memory. While it reads its units anew it answers nobody.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// There while systemd is what started this host; `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";

const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES_INTERFACE: &str = "org.freedesktop.DBus.Properties";

/// What went wrong with systemd.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This host was not started by systemd, or its manager cannot be reached from here, as in most containers.
    #[error("no systemd answers here: {reason}")]
    NoSystemd {
        /// How that shows.
        reason: String,
    },
    /// There is no such unit.
    #[error("systemd knows no unit `{unit}`")]
    NoUnit {
        /// Its name.
        unit: UnitName,
    },
    /// This user may not.
    #[error("systemd refuses to {doing}: {reason}")]
    Denied {
        /// What was attempted.
        doing: String,
        /// What it says.
        reason: String,
    },
    /// The manager did not answer in time.
    #[error("systemd did not answer within {} s when asked to {doing}", .within.as_secs())]
    Silent {
        /// What was attempted.
        doing: String,
        /// How long it had.
        within: Duration,
    },
    /// What was begun did not come to its end in time; it may still.
    #[error("{doing} was not done within {} s", .within.as_secs())]
    Unfinished {
        /// What was attempted.
        doing: String,
        /// How long it had.
        within: Duration,
    },
    /// systemd gave up what was asked for.
    #[error("{doing} ended as \"{result}\"")]
    Job {
        /// What was attempted.
        doing: String,
        /// What came of it.
        result: JobResult,
    },
    /// The answer is not what the manual says.
    #[error("systemd's answer to {doing} has {what}")]
    Unexpected {
        /// What was attempted.
        doing: String,
        /// What is wrong with it.
        what: String,
    },
    /// Anything else.
    #[error("{doing}")]
    Failed {
        /// What was attempted.
        doing: String,
        /// What came back.
        source: zbus::Error,
    },
}

/// Answers to a request that will be the same until somebody changes something.
const REFUSALS: [&str; 5] = [
    "org.freedesktop.systemd1.UnitMasked",
    "org.freedesktop.systemd1.BadUnitSetting",
    "org.freedesktop.systemd1.LoadFailed",
    "org.freedesktop.systemd1.NoSuchUnit",
    "org.freedesktop.systemd1.OnlyByDependency",
];

impl Error {
    /// Whether it says that what was asked for will not be done, however often it is asked for.
    pub fn is_refusal(&self) -> bool {
        match self {
            Error::NoUnit { .. } | Error::Denied { .. } => true,
            Error::Failed {
                source: zbus::Error::MethodError(name, ..),
                ..
            } => REFUSALS.contains(&name.as_str()),
            Error::NoSystemd { .. }
            | Error::Silent { .. }
            | Error::Unfinished { .. }
            | Error::Job { .. }
            | Error::Unexpected { .. }
            | Error::Failed { .. } => false,
        }
    }

    /// Whether it says only that nobody answered, which may be otherwise in a moment.
    pub fn is_momentary(&self) -> bool {
        match self {
            Error::NoSystemd { .. } | Error::Silent { .. } | Error::Unfinished { .. } => true,
            Error::NoUnit { .. }
            | Error::Denied { .. }
            | Error::Job { .. }
            | Error::Unexpected { .. }
            | Error::Failed { .. } => false,
        }
    }
}

/// A connection to the manager of this host.
#[derive(Debug, Clone)]
pub struct Systemd {
    connection: Connection,
}

impl Systemd {
    /// Connects over the system bus. (The manager's own socket, which root could use before there is a bus, sends
    /// headers that zbus refuses.)
    pub async fn connect() -> Result<Systemd, Error> {
        if !Path::new(BOOTED).is_dir() {
            let reason = format!("{BOOTED} does not exist");
            return Err(Error::NoSystemd { reason });
        }
        let opened = zbus::connection::Builder::system().build();
        match tokio::time::timeout(CONNECT_TIMEOUT, opened).await {
            Ok(Ok(connection)) => Ok(Systemd { connection }),
            Ok(Err(error)) => Err(Error::NoSystemd {
                reason: format!("connect to the system bus: {error}"),
            }),
            Err(_) => Err(Error::Silent {
                doing: "open a connection".to_owned(),
                within: CONNECT_TIMEOUT,
            }),
        }
    }

    /// The unit as it is now, loaded if it was not.
    pub async fn unit(&self, name: &UnitName) -> Result<Unit, Error> {
        self.load(name).await.map(|(unit, _)| unit)
    }

    /// The service as it is set up and as it is now.
    pub async fn service(&self, name: &UnitName) -> Result<Service, Error> {
        let (unit, path) = self.load(name).await?;
        Service::read(unit, self.properties(name, &path, SERVICE_INTERFACE).await?)
    }

    /// Has systemd keep a unit in mind for as long as this connection is open, also when nothing runs of it and nothing
    /// else refers to it.
    pub async fn keep_loaded(&self, name: &UnitName) -> Result<(), Error> {
        let doing = || format!("keep unit {name} loaded");
        let (_, path) = self.load(name).await?;
        // By its path, not its name: that loads it once more, should it be forgotten by now.
        self.call(&doing, &path, UNIT_INTERFACE, "Ref", &()).await.map(drop)
    }

    async fn load(&self, name: &UnitName) -> Result<(Unit, OwnedObjectPath), Error> {
        let doing = || format!("load unit {name}");
        let answer = self
            .call(&doing, MANAGER_PATH, MANAGER_INTERFACE, "LoadUnit", &name.as_str())
            .await?;
        let path: OwnedObjectPath = answer.body().deserialize().map_err(|error| failed(&doing, error))?;
        let unit = Unit::read(self.properties(name, &path, UNIT_INTERFACE).await?)?;
        match unit.load_state {
            LoadState::NotFound => Err(Error::NoUnit { unit: name.clone() }),
            LoadState::Loaded | LoadState::Masked | LoadState::BadSetting | LoadState::Error | LoadState::Other(_) => {
                Ok((unit, path))
            }
        }
    }

    async fn properties(&self, name: &UnitName, path: &str, interface: &str) -> Result<Properties, Error> {
        let doing = || format!("read the properties of {name}");
        let answer = self
            .call(&doing, path, PROPERTIES_INTERFACE, "GetAll", &interface)
            .await?;
        let values = answer.body().deserialize().map_err(|error| failed(&doing, error))?;
        Ok(Properties::new(doing(), values))
    }

    async fn call<B>(
        &self,
        doing: &dyn Fn() -> String,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<zbus::Message, Error>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.call_within(CALL_TIMEOUT, doing, (path, interface, method), body)
            .await
    }

    async fn call_within<B>(
        &self,
        within: Duration,
        doing: &dyn Fn() -> String,
        (path, interface, method): (&str, &str, &str),
        body: &B,
    ) -> Result<zbus::Message, Error>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let called = self
            .connection
            .call_method(Some(MANAGER), path, Some(interface), method, body);
        match tokio::time::timeout(within, called).await {
            Ok(answer) => answer.map_err(|error| failed(doing, error)),
            Err(_) => Err(Error::Silent { doing: doing(), within }),
        }
    }
}

/// What an answer that is an error means to the caller.
fn failed(doing: &dyn Fn() -> String, error: zbus::Error) -> Error {
    let denied = |reason: &str| Error::Denied {
        doing: doing(),
        reason: reason.to_owned(),
    };
    match &error {
        zbus::Error::FDO(answer) => match &**answer {
            fdo::Error::AccessDenied(reason) | fdo::Error::InteractiveAuthorizationRequired(reason) => {
                return denied(reason);
            }
            // A bus without a manager behind it, as in some containers.
            fdo::Error::ServiceUnknown(reason)
            | fdo::Error::NameHasNoOwner(reason)
            | fdo::Error::SpawnServiceNotFound(reason)
            | fdo::Error::SpawnFailed(reason)
            | fdo::Error::SpawnChildExited(reason)
            | fdo::Error::Disconnected(reason) => {
                let reason = reason.clone();
                return Error::NoSystemd { reason };
            }
            _ => {}
        },
        zbus::Error::InputOutput(reason) => {
            let reason = reason.to_string();
            return Error::NoSystemd { reason };
        }
        _ => {}
    }
    Error::Failed {
        doing: doing(),
        source: error,
    }
}
