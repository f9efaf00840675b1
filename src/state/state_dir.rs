//! Where this host's memory is: the folder with one folder a cluster.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::unistd::{Uid, User, geteuid};

use super::{AGENTS_USER, Error};
use crate::model::ClusterName;

const DEFAULT: &str = "/var/lib/lifeboat";
/// What an agent leaves in the folder of its cluster.
pub const AGENTS_REPORT: &str = "status.json";

/// The folder of this host's memory: `$STATE_DIRECTORY`, else `/var/lib/lifeboat` for root and for its owner, else
/// the XDG state directory of this user.
///
/// A unit of somebody else's that has root run this has a `$STATE_DIRECTORY` too, which is none of ours: for root it does
/// not count where it belongs to another user than the one that root writes as.
pub fn base_folder() -> Result<PathBuf, Error> {
    // Asked once: root becomes another user on the way, and must not come to another folder then.
    static CHOSEN: OnceLock<PathBuf> = OnceLock::new();
    if let Some(chosen) = CHOSEN.get() {
        return Ok(chosen.clone());
    }
    let environment = |name: &str| std::env::var_os(name);
    let owner = |path: &Path| fs::metadata(path).ok().map(|found| Uid::from_raw(found.uid()));
    let user = geteuid();
    let writer = if user.is_root() { roots_writer() } else { user };
    let chosen = choose_base(environment, user, writer, owner)?;
    Ok(CHOSEN.get_or_init(|| chosen).clone())
}

/// The folder in which whoever only looks finds what is remembered of `cluster`: the agent's, which everybody may read,
/// unless this user runs an agent of his own or there is no other. A command that he has run leaves a folder too, which
/// knows of no agent.
pub fn base_folder_to_read(cluster: &ClusterName) -> Result<PathBuf, Error> {
    let found = |base: &Path| {
        let folder = base.join(cluster.as_str());
        match (folder.is_dir(), folder.join(AGENTS_REPORT).is_file()) {
            (_, true) => Found::AgentsReport,
            (true, false) => Found::Folder,
            (false, false) => Found::Nothing,
        }
    };
    let is_chosen = std::env::var_os("STATE_DIRECTORY").is_some_and(|path| !path.is_empty());
    choose_to_read(base_folder(), is_chosen, found)
}

/// What a folder holds of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    Folder,
    AgentsReport,
}

fn choose_to_read(
    own: Result<PathBuf, Error>,
    is_chosen: bool,
    found: impl Fn(&Path) -> Found,
) -> Result<PathBuf, Error> {
    let agents = Path::new(DEFAULT);
    let in_own = own.as_deref().map_or(Found::Nothing, &found);
    let in_agents = found(agents);
    let has_own = is_chosen || in_own == Found::AgentsReport || in_agents == Found::Nothing;
    match has_own {
        true => own,
        false => Ok(agents.to_owned()),
    }
}

/// Whom root writes as, see [`AGENTS_USER`].
fn roots_writer() -> Uid {
    let agents = User::from_name(AGENTS_USER).ok().flatten();
    agents.map_or(Uid::from_raw(0), |user| user.uid)
}

fn choose_base(
    environment: impl Fn(&str) -> Option<OsString>,
    user: Uid,
    writer: Uid,
    owner: impl Fn(&Path) -> Option<Uid>,
) -> Result<PathBuf, Error> {
    let absolute = |path: &OsStr| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    // systemd separates several state directories by colons; ours is the first.
    let of_unit = environment("STATE_DIRECTORY").and_then(|paths| std::env::split_paths(&paths).next());
    let is_ours = |path: &PathBuf| !user.is_root() || owner(path).is_none_or(|owner| owner == writer);
    if let Some(path) = of_unit.and_then(|path| absolute(path.as_os_str())).filter(is_ours) {
        return Ok(path);
    }
    if user.is_root() || owner(Path::new(DEFAULT)) == Some(user) {
        return Ok(PathBuf::from(DEFAULT));
    }
    let xdg = environment("XDG_STATE_HOME").and_then(|path| absolute(&path));
    let home = || {
        environment("HOME")
            .and_then(|path| absolute(&path))
            .map(|home| home.join(".local/state"))
    };
    xdg.or_else(home)
        .map(|folder| folder.join("lifeboat"))
        .ok_or(Error::NoFolder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_that_of_the_unit_then_of_the_system_then_of_the_user() {
        let (root, owner, other) = (Uid::from_raw(0), Uid::from_raw(990), Uid::from_raw(1000));
        let unit = ("STATE_DIRECTORY", "/run/s:/other");
        let xdg = ("XDG_STATE_HOME", "/x");
        let home = ("HOME", "/home/u");
        type Case<'a> = (&'a [(&'a str, &'a str)], Uid, Option<Uid>, Option<&'a str>);
        let cases: [Case; 9] = [
            (&[unit, xdg, home], root, None, Some("/run/s")),
            (&[unit], other, None, Some("/run/s")),
            (&[("STATE_DIRECTORY", "")], root, None, Some(DEFAULT)),
            (&[xdg, home], root, None, Some(DEFAULT)),
            (&[xdg, home], owner, Some(owner), Some(DEFAULT)),
            (&[xdg, home], other, Some(owner), Some("/x/lifeboat")),
            (&[home], other, None, Some("/home/u/.local/state/lifeboat")),
            (
                &[("XDG_STATE_HOME", "x"), home],
                other,
                None,
                Some("/home/u/.local/state/lifeboat"),
            ),
            (&[], other, Some(owner), None),
        ];
        for (variables, user, default_owner, expected) in cases {
            let environment = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            let owner_of = |path: &Path| default_owner.filter(|_| path == Path::new(DEFAULT));
            let chosen = choose_base(environment, user, user, owner_of).ok();
            assert_eq!(chosen.as_deref(), expected.map(Path::new), "{variables:?} {user}");
        }
    }

    #[test]
    fn whoever_only_looks_and_has_no_memory_of_his_own_reads_the_agents() {
        let own = PathBuf::from("/home/u/.local/state/lifeboat");
        use Found::{AgentsReport, Folder};
        let chosen = |own: Option<&Path>, is_chosen, there: &[(&Path, Found)]| {
            let own = own.map(Path::to_owned).ok_or(Error::NoFolder);
            let found = |base: &Path| {
                there
                    .iter()
                    .find(|(path, _)| *path == base)
                    .map_or(Found::Nothing, |there| there.1)
            };
            choose_to_read(own, is_chosen, found).ok()
        };
        let (own, agents) = (own.as_path(), Path::new(DEFAULT));
        for of_agent in [Folder, AgentsReport] {
            let agents_there = (agents, of_agent);
            assert_eq!(chosen(Some(own), false, &[agents_there]).as_deref(), Some(agents));
            assert_eq!(chosen(None, false, &[agents_there]).as_deref(), Some(agents));
            // A command that he has run has left something.
            assert_eq!(
                chosen(Some(own), false, &[(own, Folder), agents_there]).as_deref(),
                Some(agents)
            );
            assert_eq!(
                chosen(Some(own), false, &[(own, AgentsReport), agents_there]).as_deref(),
                Some(own)
            );
            assert_eq!(chosen(Some(own), true, &[agents_there]).as_deref(), Some(own));
        }
        assert_eq!(chosen(Some(own), false, &[(own, Folder)]).as_deref(), Some(own));
        assert_eq!(chosen(Some(own), false, &[]).as_deref(), Some(own));
        assert_eq!(chosen(None, false, &[]), None);
    }

    #[test]
    fn for_root_the_folder_of_another_unit_does_not_count() {
        let (root, agents, other) = (Uid::from_raw(0), Uid::from_raw(990), Uid::from_raw(1000));
        let environment = |name: &str| (name == "STATE_DIRECTORY").then(|| OsString::from("/var/lib/upgrade"));
        let chosen = |user: Uid, writer: Uid, found: Option<Uid>| {
            let owner_of = move |path: &Path| found.filter(|_| path != Path::new(DEFAULT));
            let chosen = choose_base(environment, user, writer, owner_of).unwrap();
            chosen == Path::new("/var/lib/upgrade")
        };
        // Where there is the agent's user, and where there is none.
        assert!(!chosen(root, agents, Some(root)) && !chosen(root, agents, Some(other)));
        assert!(chosen(root, agents, Some(agents)) && chosen(root, agents, None));
        assert!(chosen(root, root, Some(root)) && !chosen(root, root, Some(other)));
        // Who is not root gives nothing away, and is told when it may not write there.
        assert!(chosen(other, other, Some(root)));
    }
}
