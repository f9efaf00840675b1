//! The group that lets a user read what he may not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group, User, getegid, geteuid, getgroups};

/// What root types so that this user may read what lies at `path`; none if no group would let him, or he is in it.
pub fn joins_readers_of(path: &Path) -> Option<String> {
    const READS: u32 = 0o040;
    const ENTERS: u32 = 0o050;
    // The first that can be seen is the one that lets nobody further.
    let closed = path.ancestors().find_map(|path| fs::symlink_metadata(path).ok())?;
    let (group, needed) = (
        Gid::from_raw(closed.gid()),
        if closed.is_dir() { ENTERS } else { READS },
    );
    let is_member = group == getegid() || getgroups().is_ok_and(|groups| groups.contains(&group));
    let is_no_way = is_member || group.as_raw() == 0 || closed.uid() == geteuid().as_raw();
    if is_no_way || closed.mode() & needed != needed {
        return None;
    }
    let group = Group::from_gid(group).ok().flatten()?.name;
    let user = User::from_uid(geteuid()).ok().flatten()?.name;
    Some(format!("usermod -aG {group} {user}"))
}
