//! What the operator should change in his own settings after a restore, so that they say what the cluster is.
//!
//! etcd needs none of it to serve what was restored. It counts the day the data directory is empty: then these settings
//! decide whether etcd joins the cluster or begins another one.

use std::path::Path;

use serde::Serialize;

use super::flags::{ADVERTISE, CLUSTER, NAME, OTHER_WAYS, STATE, variable};
use super::overlay::without_ours;
use super::unit::Unit;
use super::{ClusterState, Error, EtcdSettings, Given, NewCluster, Read, SetIn, Source, discover};
use crate::model::UnitName;

/// One setting that should be another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where it is set, or should be.
    pub place: String,
    /// The setting, as it is written there.
    pub setting: String,
    /// What it is; none if it is not set.
    pub is: Option<String>,
    /// What it should be.
    pub should_be: String,
    /// Whether it decides that an empty directory begins a new cluster.
    #[serde(skip)]
    pub lets_begin_anew: bool,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is = self.is.as_deref().unwrap_or("not set");
        write!(f, "in {}: {}: {is} → {}", self.place, self.setting, self.should_be)
    }
}

/// What should change in the operator's own settings of `unit` now that its member is one of `cluster`.
pub fn changes(unit: &Unit, given: &Given, cluster: &NewCluster, read: Read<'_>) -> Result<Vec<Change>, Error> {
    let found = discover(&without_ours(unit), given, read)?;
    let state = match found.initial_cluster_state {
        ClusterState::Existing => "existing",
        ClusterState::New => "new",
    };
    let advertised = cluster.advertise_peer_urls.join(",");
    let is_advertised = found.initial_advertise_peer_urls.join(",");
    let wanted = [
        (NAME, found.name.as_str(), cluster.name.as_str()),
        (CLUSTER, &found.initial_cluster, &cluster.initial_cluster),
        (ADVERTISE, &is_advertised, &advertised),
        (STATE, state, "existing"),
    ];
    // Nothing is said against what is not known before etcd starts.
    let differ = wanted
        .into_iter()
        .filter(|(_, is, should)| !is.is_empty() && !is_same(is, should));
    Ok(differ
        .map(|(flag, is, should)| found.change(&unit.name, flag, is, should))
        .collect())
}

impl EtcdSettings {
    /// A setting that makes every start of etcd put another cluster together, and where it is set.
    pub fn other_way(&self, unit: &UnitName) -> Option<String> {
        let flag = OTHER_WAYS.iter().find(|flag| match **flag {
            super::flags::FORCE => self.forces_new_cluster,
            flag => self.discovery.is_some() && self.places.contains_key(flag),
        })?;
        let place = self.places.get(flag).cloned().unwrap_or_else(|| self.usual_place());
        Some(format!("`{}` in {}", place.spelled(flag), place.described(unit)))
    }

    fn change(&self, unit: &UnitName, flag: &'static str, is: &str, should: &str) -> Change {
        let set = self.places.get(flag);
        let place = set.cloned().unwrap_or_else(|| self.usual_place());
        Change {
            place: place.described(unit),
            setting: place.spelled(flag),
            is: set.is_some().then(|| is.to_owned()),
            should_be: should.to_owned(),
            lets_begin_anew: flag == STATE,
        }
    }

    /// Where a setting belongs that is not set.
    fn usual_place(&self) -> SetIn {
        match &self.source {
            Source::ConfigFile { path } => SetIn::ConfigFile(path.clone()),
            Source::Flags => SetIn::Command,
            Source::Environment { files } => match files.last() {
                Some(path) => SetIn::EnvironmentFile(path.clone()),
                None => SetIn::Environment,
            },
        }
    }
}

impl SetIn {
    fn described(&self, unit: &UnitName) -> String {
        let shown = |path: &Path| path.display().to_string();
        match self {
            SetIn::Command => format!("the command of {unit}"),
            SetIn::Environment => format!("the environment of {unit}"),
            SetIn::EnvironmentFile(path) | SetIn::ConfigFile(path) => shown(path),
        }
    }

    fn spelled(&self, flag: &str) -> String {
        match self {
            SetIn::Command => format!("--{flag}"),
            SetIn::Environment | SetIn::EnvironmentFile(_) => variable(flag),
            SetIn::ConfigFile(_) => flag.to_owned(),
        }
    }
}

/// Whether two lists between commas have the same in them.
fn is_same(is: &str, should: &str) -> bool {
    let parts = |text: &str| {
        let mut parts: Vec<String> = text
            .split(',')
            .map(|part| part.trim().trim_end_matches('/').to_owned())
            .collect();
        parts.sort();
        parts.dedup();
        parts
    };
    parts(is) == parts(should)
}
