//! What a process of the unit sees at a path: the rules by which systemd builds the unit's file system.
//!
//! Source: `systemd.exec(5)`, and the order of `MountMode` in systemd's `namespace.c`: of two settings for one path the
//! one listed first there counts, and nothing below an inaccessible path can be had back.

use std::path::{Path, PathBuf};

use super::{ProtectHome, ProtectSystem, Sandbox};

/// What a process of the unit finds at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// What the host has there, and may write if its owner and mode let it.
    Writable {
        /// The directory that is bound into the unit, if it is one: the directories above it do not matter.
        bound_at: Option<PathBuf>,
    },
    /// What the host has there, and cannot write.
    ReadOnly {
        /// The setting.
        by: String,
        /// As above.
        bound_at: Option<PathBuf>,
    },
    /// Not what the host has there.
    Hidden {
        /// The setting.
        by: String,
    },
}

/// What a setting does to a path and all below it, in the order of systemd's `MountMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Inaccessible,
    Bound { writable: bool },
    Private,
    ReadOnly,
    ReadWrite,
    Temporary,
    Own,
}

struct Rule {
    path: PathBuf,
    effect: Effect,
    by: String,
}

/// What a process of the unit finds at `path`, which has no links in it.
pub fn seen(sandbox: &Sandbox, path: &Path) -> Seen {
    let mut rules = rules(sandbox);
    rules.retain(|rule| path.starts_with(&rule.path));
    rules.sort_by_key(|rule| (rule.path.components().count(), rule.effect));
    rules.dedup_by(|later, earlier| later.path == earlier.path);
    let mut seen = Seen::Writable { bound_at: None };
    for rule in rules {
        let (by, path) = (rule.by, rule.path);
        seen = match (rule.effect, seen) {
            (Effect::Inaccessible, _) => return Seen::Hidden { by },
            (Effect::Bound { writable: true } | Effect::Own, _) => Seen::Writable { bound_at: Some(path) },
            (Effect::Bound { writable: false }, _) => Seen::ReadOnly {
                by,
                bound_at: Some(path),
            },
            (Effect::Private | Effect::Temporary, _) => Seen::Hidden { by },
            (Effect::ReadOnly | Effect::ReadWrite, Seen::Hidden { by }) => Seen::Hidden { by },
            (Effect::ReadOnly, Seen::Writable { bound_at } | Seen::ReadOnly { bound_at, .. }) => {
                Seen::ReadOnly { by, bound_at }
            }
            (Effect::ReadWrite, Seen::Writable { bound_at } | Seen::ReadOnly { bound_at, .. }) => {
                Seen::Writable { bound_at }
            }
        };
    }
    seen
}

fn rules(sandbox: &Sandbox) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut add = |paths: &[&str], effect: Effect, by: &str| {
        rules.extend(paths.iter().map(|path| Rule {
            path: PathBuf::from(path),
            effect,
            by: by.to_owned(),
        }));
    };
    let homes = ["/home", "/root", "/run/user"];
    match sandbox.protect_system {
        ProtectSystem::No => {}
        ProtectSystem::Yes => add(&["/usr", "/boot", "/efi"], Effect::ReadOnly, "ProtectSystem=yes"),
        ProtectSystem::Full => add(
            &["/usr", "/boot", "/efi", "/etc"],
            Effect::ReadOnly,
            "ProtectSystem=full",
        ),
        ProtectSystem::Strict => {
            add(&["/"], Effect::ReadOnly, "ProtectSystem=strict");
            add(&["/proc", "/sys", "/dev"], Effect::ReadWrite, "ProtectSystem=strict");
        }
    }
    match sandbox.protect_home {
        ProtectHome::No => {}
        ProtectHome::Yes => add(&homes, Effect::Inaccessible, "ProtectHome=yes"),
        ProtectHome::ReadOnly => add(&homes, Effect::ReadOnly, "ProtectHome=read-only"),
        ProtectHome::Tmpfs => add(&homes, Effect::Temporary, "ProtectHome=tmpfs"),
    }
    if sandbox.private_tmp {
        add(&["/tmp", "/var/tmp"], Effect::Private, "PrivateTmp=yes");
    }
    if sandbox.private_devices {
        add(&["/dev"], Effect::Private, "PrivateDevices=yes");
    }
    let lists = [
        (&sandbox.read_write, Effect::ReadWrite, "ReadWritePaths"),
        (&sandbox.read_only, Effect::ReadOnly, "ReadOnlyPaths"),
        (&sandbox.inaccessible, Effect::Inaccessible, "InaccessiblePaths"),
    ];
    for (paths, effect, setting) in lists {
        rules.extend(paths.iter().map(|listed| Rule {
            by: format!("{setting}={}", listed.path.display()),
            path: listed.path.clone(),
            effect,
        }));
    }
    rules.extend(sandbox.temporary.iter().map(|path| Rule {
        by: format!("TemporaryFileSystem={}", path.display()),
        path: path.clone(),
        effect: Effect::Temporary,
    }));
    rules.extend(sandbox.own_directories.iter().map(|path| Rule {
        by: String::new(),
        path: path.clone(),
        effect: Effect::Own,
    }));
    // What is bound in from elsewhere hides what the host has there.
    rules.extend(sandbox.bound.iter().map(|bound| Rule {
        by: match bound.from == bound.to {
            true => format!("BindReadOnlyPaths={}", bound.to.display()),
            false => format!("a bind of {} to {}", bound.from.display(), bound.to.display()),
        },
        path: bound.to.clone(),
        effect: match bound.from == bound.to {
            true => Effect::Bound {
                writable: bound.writable,
            },
            false => Effect::Private,
        },
    }));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Bound, Listed};

    fn sandbox(change: impl FnOnce(&mut Sandbox)) -> Sandbox {
        let mut sandbox = Sandbox {
            protect_system: ProtectSystem::Strict,
            protect_home: ProtectHome::Yes,
            private_tmp: true,
            private_devices: true,
            read_write: vec![Listed::of("-/var/backups/lifeboat")],
            own_directories: vec!["/var/lib/lifeboat".into()],
            ..Sandbox::default()
        };
        change(&mut sandbox);
        sandbox
    }

    fn bound(from: &str, to: &str, writable: bool) -> Bound {
        Bound {
            from: from.into(),
            to: to.into(),
            writable,
        }
    }

    /// In one word and the setting.
    fn told(sandbox: &Sandbox, path: &str) -> String {
        match seen(sandbox, Path::new(path)) {
            Seen::Writable { bound_at: None } => "writable".to_owned(),
            Seen::Writable { bound_at: Some(at) } => format!("writable at {}", at.display()),
            Seen::ReadOnly { by, .. } => format!("read-only by {by}"),
            Seen::Hidden { by } => format!("hidden by {by}"),
        }
    }

    #[test]
    fn the_shipped_unit_sees_its_two_folders_and_reads_the_rest() {
        let shipped = sandbox(|_| {});
        for (path, expected) in [
            ("/var/backups/lifeboat", "writable"),
            ("/var/backups/lifeboat/prod/x", "writable"),
            ("/var/lib/lifeboat/prod", "writable at /var/lib/lifeboat"),
            ("/var/backups/lifeboat2", "read-only by ProtectSystem=strict"),
            ("/srv/backups", "read-only by ProtectSystem=strict"),
            ("/etc/etcd/pki/client.key", "read-only by ProtectSystem=strict"),
            ("/root/key", "hidden by ProtectHome=yes"),
            ("/home", "hidden by ProtectHome=yes"),
            ("/tmp/x", "hidden by PrivateTmp=yes"),
            ("/dev/sda", "hidden by PrivateDevices=yes"),
            ("/proc/sys", "writable"),
        ] {
            assert_eq!(told(&shipped, path), expected, "{path}");
        }
    }

    #[test]
    fn the_deepest_setting_counts_but_nothing_comes_back_from_what_is_hidden() {
        let mended = sandbox(|sandbox| {
            for path in ["/srv/backups", "/home/b", "-/tmp/b"] {
                sandbox.read_write.push(Listed::of(path));
            }
            sandbox.read_only.push(Listed::of("/srv/backups/old"));
            sandbox.inaccessible.push(Listed::of("/srv/backups/secret"));
            sandbox
                .bound
                .push(bound("/srv/backups/secret/in", "/srv/backups/secret/in", true));
        });
        for (path, expected) in [
            ("/srv/backups/prod", "writable"),
            ("/srv", "read-only by ProtectSystem=strict"),
            ("/srv/backups/old/x", "read-only by ReadOnlyPaths=/srv/backups/old"),
            (
                "/srv/backups/secret/in",
                "hidden by InaccessiblePaths=/srv/backups/secret",
            ),
            ("/home/b", "hidden by ProtectHome=yes"),
            ("/tmp/b", "hidden by PrivateTmp=yes"),
        ] {
            assert_eq!(told(&mended, path), expected, "{path}");
        }
    }

    #[test]
    fn a_bind_brings_back_what_an_empty_file_system_lies_over() {
        let bound_in = sandbox(|sandbox| {
            sandbox.protect_home = ProtectHome::Tmpfs;
            sandbox.temporary.push("/opt".into());
            sandbox.bound = vec![
                bound("/home/b", "/home/b", true),
                bound("/tmp/b", "/tmp/b", false),
                bound("/data", "/srv", true),
            ];
        });
        for (path, expected) in [
            ("/home/b/prod", "writable at /home/b"),
            ("/home/c", "hidden by ProtectHome=tmpfs"),
            ("/tmp/b/x", "read-only by BindReadOnlyPaths=/tmp/b"),
            ("/opt/x", "hidden by TemporaryFileSystem=/opt"),
            ("/srv/x", "hidden by a bind of /data to /srv"),
        ] {
            assert_eq!(told(&bound_in, path), expected, "{path}");
        }
    }

    #[test]
    fn of_two_settings_for_one_path_systemds_order_decides() {
        let both = sandbox(|sandbox| {
            sandbox.read_write.push(Listed::of("/srv"));
            sandbox.read_only.push(Listed::of("/srv"));
        });
        assert_eq!(told(&both, "/srv/x"), "read-only by ReadOnlyPaths=/srv");
    }
}
