//! Which unit runs etcd, and that unit as `etcd_settings` wants it.

use std::io;
use std::path::{Path, PathBuf};

use super::{CALL_TIMEOUT, Error, MANAGER_INTERFACE, MANAGER_PATH, PROPERTIES_INTERFACE, Service, Systemd, failed};
use crate::durable;
use crate::etcd_settings::{self, Environment};
use crate::model::UnitName;

/// The largest file that is read because a unit names it.
const LARGEST_FILE: u64 = 1 << 20;

/// Reads a file that a unit names, as [`etcd_settings::Read`] wants it.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    durable::read_linked(path, LARGEST_FILE)
}

impl Systemd {
    /// The unit as the reader of etcd's settings wants it.
    pub async fn etcd_unit(&self, name: &UnitName) -> Result<etcd_settings::Unit, Error> {
        let service = self.service(name).await?;
        let doing = || "read the manager's environment".to_owned();
        let answer = self
            .call(
                &doing,
                MANAGER_PATH,
                PROPERTIES_INTERFACE,
                "Get",
                &(MANAGER_INTERFACE, "Environment"),
            )
            .await?;
        let body = answer.body();
        let manager: zbus::Variant<'_> = body.deserialize().map_err(|error| failed(&doing, error))?;
        let manager = Vec::<String>::try_from(manager).map_err(|_| Error::Unexpected {
            doing: doing(),
            what: "another type".to_owned(),
        })?;
        Ok(service.etcd_unit(name, manager))
    }

    /// The services whose command line starts etcd, running ones first.
    pub async fn etcd_units(&self) -> Result<Vec<UnitName>, Error> {
        /// Name, description, four words for its state, the unit it follows, its object, its job with type and object.
        type Row = (
            String,
            String,
            String,
            String,
            String,
            String,
            zbus::OwnedObjectPath,
            u32,
            String,
            zbus::OwnedObjectPath,
        );
        let doing = || "list the services".to_owned();
        let no_states: &[&str] = &[];
        let patterns: &[&str] = &["*.service"];
        let answer = self
            .manager(&doing, CALL_TIMEOUT, "ListUnitsByPatterns", &(no_states, patterns))
            .await?;
        let rows: Vec<Row> = answer.body().deserialize().map_err(|error| failed(&doing, error))?;
        let (mut running, mut stopped) = (Vec::new(), Vec::new());
        for (name, _, load_state, ..) in rows {
            let (Ok(name), "loaded") = (name.parse::<UnitName>(), load_state.as_str()) else {
                continue;
            };
            // One that went away meanwhile is not it.
            let Ok(service) = self.service(&name).await else {
                continue;
            };
            if service.exec_start.iter().any(etcd_settings::starts_etcd) {
                match service.main_pid {
                    Some(_) => running.push(name),
                    None => stopped.push(name),
                }
            }
        }
        running.extend(stopped);
        Ok(running)
    }
}

impl Service {
    fn etcd_unit(self, name: &UnitName, manager: Vec<String>) -> etcd_settings::Unit {
        let working_directory = self.working_directory.as_deref().unwrap_or("/");
        // `!`: it may be missing.
        let working_directory = working_directory.strip_prefix('!').unwrap_or(working_directory);
        let root = self.sandbox.root_directory.filter(|root| root != Path::new("/"));
        etcd_settings::Unit {
            name: name.clone(),
            files: self
                .unit
                .fragment_path
                .into_iter()
                .chain(self.unit.drop_in_paths)
                .collect(),
            exec_start: self.exec_start,
            environment: Environment {
                manager,
                ..self.environment
            },
            working_directory: (working_directory != "~").then(|| PathBuf::from(working_directory)),
            root: root.or(self.root_image),
            user: self.sandbox.user,
        }
    }
}
