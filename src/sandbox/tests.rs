//! The judge on the shipped unit: one table of what configurations ask for.

use std::path::{Path, PathBuf};

use super::*;
use crate::mounts::Planned;

const SHIPPED: &str = include_str!("../../systemd/lifeboat.service");

const USER: u32 = 990;

fn who() -> Who {
    Who {
        name: "lifeboat".to_owned(),
        group: "lifeboat".to_owned(),
        ids: Some(Ids {
            user: USER,
            groups: vec![991],
        }),
    }
}

/// A way to `path`; each name on it has the owner, the group and the mode that `has` gives for it, or 0755 of root.
fn facts(path: &str, end: End, has: &[(&str, u32, u32, u32)]) -> Facts {
    let mut steps: Vec<Step> = Path::new(path)
        .ancestors()
        .map(|path| {
            let special = has.iter().find(|(special, ..)| Path::new(special) == path);
            let (_, user, group, mode) = *special.unwrap_or(&("", 0, 0, 0o755));
            Step {
                path: path.to_owned(),
                user,
                group,
                mode,
                acl: None,
                is_folder: true,
            }
        })
        .collect();
    steps.reverse();
    if end != End::Whole {
        steps.pop();
    }
    Facts {
        path: PathBuf::from(path),
        steps,
        end,
        place: Place::default(),
    }
}

fn need(path: &str, purpose: Purpose) -> Need {
    Need {
        what: "it".to_owned(),
        path: PathBuf::from(path),
        purpose,
    }
}

/// Obstacles and mends as an operator reads them.
fn told(sandbox: &Sandbox, purpose: Purpose, facts: &Facts) -> Vec<String> {
    let need = Need {
        path: facts.path.clone(),
        ..need("", purpose)
    };
    let obstacles = judge(sandbox, &who(), &need, facts);
    let mends = mend(&need, &who(), facts, &obstacles);
    let mends = mends.iter().map(|mend| match mend {
        Mend::DropIn(lines) => format!("drop-in {}", lines.join("; ")),
        Mend::Credential { name, from } => format!("credential {name} from {from}"),
        Mend::Command(command) => format!("run {command}"),
        Mend::Remark(remark) => remark.clone(),
    });
    obstacles.iter().map(Obstacle::to_string).chain(mends).collect()
}

#[test]
fn the_shipped_unit_is_read_as_it_is_written() {
    let sandbox = of_unit_file(SHIPPED);
    assert_eq!(sandbox.user.as_deref(), Some("lifeboat"));
    assert_eq!(sandbox.group.as_deref(), Some("lifeboat"));
    assert_eq!(sandbox.protect_system, ProtectSystem::Strict);
    assert_eq!(sandbox.protect_home, ProtectHome::Yes);
    assert!(sandbox.private_tmp && sandbox.private_devices);
    assert!(sandbox.read_write.contains(&Listed::of("-/var/backups/lifeboat")));
    assert_eq!(sandbox.own_directories, [PathBuf::from("/var/lib/lifeboat")]);
}

#[test]
fn drop_ins_add_to_a_list_and_an_empty_value_takes_it_back() {
    let text = format!(
        "{SHIPPED}\n[Service]\nReadWritePaths=/srv/a -/srv/b\nReadWritePaths=\nReadWritePaths=/srv/c\n# User=x\n\
         LoadCredential=client.key:/etc/etcd/client.key\nLoadCredential=bare\nBindPaths=-/a:/b:rbind /c\n\
         TemporaryFileSystem=/opt:ro\n[Install]\nUser=y\n"
    );
    let sandbox = of_unit_file(&text);
    assert_eq!(sandbox.user.as_deref(), Some("lifeboat"));
    assert_eq!(sandbox.read_write, [Listed::of("/srv/c")]);
    let credentials = sandbox.credentials.iter();
    let credentials: Vec<_> = credentials
        .map(|found| (found.name.as_str(), found.from.clone()))
        .collect();
    assert_eq!(
        credentials,
        [("client.key", Some("/etc/etcd/client.key".into())), ("bare", None)]
    );
    let bound: Vec<_> = sandbox
        .bound
        .iter()
        .map(|bound| (bound.from.clone(), bound.to.clone()))
        .collect();
    assert_eq!(bound, [("/a".into(), "/b".into()), ("/c".into(), "/c".into())]);
    assert_eq!(sandbox.temporary, [PathBuf::from("/opt")]);
}

#[test]
fn what_is_not_mounted_is_to_be_mounted_and_no_folder_made_in_its_place() {
    let shipped = of_unit_file(SHIPPED);
    let on = |end, place: Place| Facts {
        place,
        ..facts("/mnt/nas/lifeboat", end, &[("/mnt/nas/lifeboat", USER, 991, 0o750)])
    };
    let planned = Planned::of_fstab(b"nas:/b /mnt/nas nfs rw 0 0").remove(0);
    // Also where somebody has made the folder beneath already.
    for end in [End::Missing, End::Whole] {
        let place = Place {
            missing: Some(planned.clone()),
            ..Place::default()
        };
        assert_eq!(
            told(&shipped, Purpose::Store, &on(end, place)),
            [
                "the unit may only read there (ProtectSystem=strict)",
                "nothing is mounted at /mnt/nas, which /etc/fstab is to mount",
                "drop-in ReadWritePaths=-/mnt/nas",
                "run mount /mnt/nas",
            ]
        );
    }
    let used = Place {
        was_used: true,
        ..Place::default()
    };
    let told_of_used = told(&shipped, Purpose::Store, &on(End::Missing, used));
    assert!(
        told_of_used.iter().all(|told| !told.contains("install -d"))
            && told_of_used.concat().contains("mount what they are on"),
        "{told_of_used:?}"
    );
    let lies = |mount: &str| {
        let place = Place {
            mount: Some(mount.into()),
            ..Place::default()
        };
        told(&shipped, Purpose::Store, &on(End::Whole, place)).remove(1)
    };
    assert_eq!(lies("/mnt/nas"), "drop-in ReadWritePaths=-/mnt/nas");
    assert_eq!(lies("/mnt"), "drop-in ReadWritePaths=-/mnt/nas/lifeboat");
}

#[test]
fn every_obstacle_has_its_mend() {
    use Purpose::{Read, Run, Secret, Store};
    let shipped = of_unit_file(SHIPPED);
    let whole = |path, has: &[(&str, u32, u32, u32)]| facts(path, End::Whole, has);
    let own = |path| (path, USER, 991, 0o750);
    let cases: &[(Purpose, Facts, &[&str])] = &[
        (
            Store,
            whole("/var/backups/lifeboat", &[own("/var/backups/lifeboat")]),
            &[],
        ),
        (
            Store,
            whole("/srv/backups", &[own("/srv/backups")]),
            &[
                "the unit may only read there (ProtectSystem=strict)",
                "drop-in ReadWritePaths=-/srv/backups",
            ],
        ),
        (
            Store,
            facts("/var/backups/lifeboat", End::Missing, &[]),
            &[
                "it does not exist",
                "run install -d -o lifeboat -g lifeboat -m 0750 /var/backups/lifeboat",
            ],
        ),
        (
            Store,
            whole("/var/backups/lifeboat", &[]),
            &[
                "the unit's user may not write to it (owner 0, group 0, mode 0755)",
                "run chown -R lifeboat:lifeboat /var/backups/lifeboat",
            ],
        ),
        (
            Store,
            whole(
                "/home/b c/50%",
                &[("/home/b c", 1000, 1000, 0o700), own("/home/b c/50%")],
            ),
            &[
                "the unit does not see it (ProtectHome=yes)",
                "the unit's user cannot enter /home/b c",
                "drop-in ProtectHome=tmpfs; BindPaths=-\"/home/b c/50%%\"",
                "run setfacl -m u:lifeboat:x /home/b c",
            ],
        ),
        (
            Store,
            whole("/tmp/b", &[own("/tmp/b")]),
            &["the unit does not see it (PrivateTmp=yes)", "drop-in BindPaths=-/tmp/b"],
        ),
        (
            Secret,
            whole(
                "/etc/etcd/pki/client.key",
                &[("/etc/etcd/pki/client.key", 2379, 2379, 0o600)],
            ),
            &[
                "the unit's user may not read it (owner 2379, group 2379, mode 0600)",
                "credential client.key from /etc/etcd/pki/client.key",
            ],
        ),
        (
            Secret,
            whole(
                "/etc/etcd/pki/client.key",
                &[
                    ("/etc/etcd", 2379, 2379, 0o750),
                    ("/etc/etcd/pki/client.key", 2379, 2379, 0o640),
                ],
            ),
            &[
                "the unit's user cannot enter /etc/etcd",
                "the unit's user may not read it (owner 2379, group 2379, mode 0640)",
                "credential client.key from /etc/etcd/pki/client.key",
            ],
        ),
        (
            Secret,
            whole("/etc/etcd/ca.crt", &[("/etc/etcd/ca.crt", 0, 0, 0o644)]),
            &[],
        ),
        (
            Secret,
            whole("/etc/etcd/client.key", &[("/etc/etcd/client.key", 0, 991, 0o640)]),
            &[],
        ),
        (
            Read,
            whole("/root/recipients", &[("/root", 0, 0, 0o700)]),
            &[
                "the unit does not see it (ProtectHome=yes)",
                "the unit's user cannot enter /root",
                "drop-in ProtectHome=tmpfs; BindReadOnlyPaths=-/root/recipients",
                "run setfacl -m u:lifeboat:x /root",
            ],
        ),
        (
            Read,
            whole(
                "/etc/lifeboat/config.toml",
                &[("/etc/lifeboat/config.toml", 0, 0, 0o600)],
            ),
            &[
                "the unit's user may not read it (owner 0, group 0, mode 0600)",
                "run chgrp lifeboat /etc/lifeboat/config.toml && chmod g+r /etc/lifeboat/config.toml",
            ],
        ),
        (
            Run,
            whole("/usr/local/bin/page", &[("/usr/local/bin/page", 0, 0, 0o744)]),
            &[
                "the unit's user may not run it (owner 0, group 0, mode 0744)",
                "run chgrp lifeboat /usr/local/bin/page && chmod g+rx /usr/local/bin/page",
            ],
        ),
        (
            Read,
            facts("/etc/secret/recipients", End::Unknown, &[]),
            &[
                "whether the unit's user can reach it cannot be seen from here",
                "run this as root, who can look there",
            ],
        ),
    ];
    for (purpose, facts, expected) in cases {
        assert_eq!(
            &told(&shipped, *purpose, facts),
            expected,
            "{purpose:?} {}",
            facts.path.display()
        );
    }
}

#[test]
fn what_was_mended_is_fine() {
    let mended = |lines: &str| of_unit_file(&format!("{SHIPPED}\n[Service]\n{lines}\n"));
    let own = |path| (path, USER, 991, 0o750);
    let store = facts("/srv/backups", End::Whole, &[own("/srv/backups")]);
    let mended_store = mended("ReadWritePaths=-/srv/backups");
    assert_eq!(told(&mended_store, Purpose::Store, &store), [""; 0]);
    let home = [("/home/b", 1000, 1000, 0o700), own("/home/b/store")];
    let home = facts("/home/b/store", End::Whole, &home);
    let mended_home = mended("ProtectHome=tmpfs\nBindPaths=-/home/b/store");
    assert_eq!(told(&mended_home, Purpose::Store, &home), [""; 0]);
}

#[test]
fn an_access_list_lets_the_user_in() {
    let shipped = of_unit_file(SHIPPED);
    let mut facts = facts("/etc/r", End::Whole, &[("/etc/r", 0, 0, 0o640)]);
    assert_eq!(told(&shipped, Purpose::Read, &facts).len(), 2);
    let none = u32::MAX;
    let list = [(1, 6, none), (2, 4, USER), (4, 0, none), (16, 4, none), (32, 0, none)];
    facts.steps.last_mut().unwrap().acl = Acl::parse(&acl::tests::bytes(&list));
    assert_eq!(told(&shipped, Purpose::Read, &facts), [""; 0]);
}

#[test]
fn where_the_user_does_not_exist_only_the_unit_is_judged() {
    let shipped = of_unit_file(SHIPPED);
    let nobody = Who { ids: None, ..who() };
    let facts = facts("/srv/b", End::Whole, &[("/srv", 0, 0, 0o700)]);
    let obstacles = judge(&shipped, &nobody, &need("/srv/b", Purpose::Store), &facts);
    assert!(matches!(&obstacles[..], [Obstacle::ReadOnly { .. }]), "{obstacles:?}");
}
