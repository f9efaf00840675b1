//! The sandbox as a unit's file states it, for hosts where no systemd can be asked.

use std::path::{Path, PathBuf};

use super::{Bound, Credential, Listed, ProtectHome, ProtectSystem, Sandbox, boolean};

/// What the settings of a service's file mean. What is not about the sandbox is passed over; specifiers are not filled
/// in.
pub fn of_unit_file(text: &str) -> Sandbox {
    let mut sandbox = Sandbox::default();
    let mut in_service = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_service = line == "[Service]";
        } else if let Some((key, value)) = line.split_once('=')
            && in_service
            && !line.starts_with(['#', ';'])
        {
            take(&mut sandbox, key.trim(), value.trim());
        }
    }
    sandbox
}

fn take(sandbox: &mut Sandbox, key: &str, value: &str) {
    let one = || Some(value.to_owned()).filter(|value| !value.is_empty());
    match key {
        "User" => sandbox.user = one(),
        "Group" => sandbox.group = one(),
        "RootDirectory" => sandbox.root_directory = one().map(PathBuf::from),
        "ProtectSystem" => sandbox.protect_system = ProtectSystem::of(value).unwrap_or_default(),
        "ProtectHome" => sandbox.protect_home = ProtectHome::of(value).unwrap_or_default(),
        "PrivateTmp" => sandbox.private_tmp = boolean(value).unwrap_or_default(),
        "PrivateDevices" => sandbox.private_devices = boolean(value).unwrap_or_default(),
        "SupplementaryGroups" => add(&mut sandbox.supplementary_groups, value, |word| word.to_owned()),
        "ReadWritePaths" => add(&mut sandbox.read_write, value, Listed::of),
        "ReadOnlyPaths" => add(&mut sandbox.read_only, value, Listed::of),
        "InaccessiblePaths" => add(&mut sandbox.inaccessible, value, Listed::of),
        "TemporaryFileSystem" => add(&mut sandbox.temporary, value, |word| PathBuf::from(before_colon(word))),
        "BindPaths" => add(&mut sandbox.bound, value, |word| bound(word, true)),
        "BindReadOnlyPaths" => add(&mut sandbox.bound, value, |word| bound(word, false)),
        "StateDirectory" => add(&mut sandbox.own_directories, value, |word| {
            Path::new("/var/lib").join(word)
        }),
        "CacheDirectory" => add(&mut sandbox.own_directories, value, |word| {
            Path::new("/var/cache").join(word)
        }),
        "LogsDirectory" => add(&mut sandbox.own_directories, value, |word| {
            Path::new("/var/log").join(word)
        }),
        "RuntimeDirectory" => add(&mut sandbox.own_directories, value, |word| Path::new("/run").join(word)),
        "LoadCredential" | "LoadCredentialEncrypted" => add(&mut sandbox.credentials, value, |word| Credential {
            name: before_colon(word).to_owned(),
            from: word.split_once(":/").map(|(_, path)| Path::new("/").join(path)),
        }),
        _ => {}
    }
}

/// Adds the words of a list; an empty one takes back what stood before.
fn add<T>(list: &mut Vec<T>, value: &str, of: impl Fn(&str) -> T) {
    if value.is_empty() {
        list.clear();
    }
    list.extend(value.split_whitespace().map(of));
}

fn before_colon(word: &str) -> &str {
    word.split_once(':').map_or(word, |(before, _)| before)
}

fn bound(word: &str, writable: bool) -> Bound {
    let mut parts = word.trim_start_matches('-').split(':');
    let from = parts.next().unwrap_or_default();
    Bound {
        from: PathBuf::from(from),
        to: PathBuf::from(parts.next().unwrap_or(from)),
        writable,
    }
}
