//! What goes wrong: the exit code, a message that names the thing and the next step, and nothing half-written.

mod endings;
mod members;
mod objects;
mod stores;
mod words;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::support::etcd::{Etcd, Options, PASSWORD, Security};
use super::support::gate::Gate;
use super::support::host::{CLUSTER, Host, Output, copy_tree, tree};
use super::support::running::until;
use super::support::shared;
use super::support::tls::Tls;
use super::support::tmpfs::Tmpfs;
use super::support::tools::{self, Version};

/// Where a stream is held to be in its middle. It is more than HTTP/2's window, which is 4 MiB: as much comes only when
/// what came first has been taken, so that the backup is known to be past its beginning.
const MIDDLE: u64 = 7 << 20;

/// A backup in a store, and the place for a directory that must not come to be.
struct Stored {
    host: Host,
    id: String,
    target: Etcd,
}

impl Stored {
    fn new() -> Option<Stored> {
        let host = Host::new(shared::unchanging()?);
        let id = host.backup();
        let target = Etcd::plan(Version::V3_6, Options::default())?;
        Some(Stored { host, id, target })
    }

    fn object(&self) -> PathBuf {
        object_in(&self.host.store())
    }

    /// A copy of the store whose one object was damaged.
    fn damaged(&self, name: &str, damage: &dyn Fn(&Path)) -> PathBuf {
        let copy = self.host.path(name);
        copy_tree(&self.host.store(), &copy);
        damage(&object_in(&copy));
        copy
    }

    /// Runs `rebuild` and `export`, both of which must end with this code, say this, and leave nothing.
    #[track_caller]
    fn refused(&self, source: &str, more: &[&str], code: i32, says: &[&str]) {
        let before = (tree(&self.host.path("")), tree(self.target.directory()));
        let mut rebuild = self.host.rebuild_args(source, &self.target, 0);
        let identity = rebuild.iter().position(|arg| arg == "--identity").expect("it is given");
        if more.contains(&"--identity") || more == ["no identity"] {
            rebuild.drain(identity..identity + 2);
        }
        let mut export = vec!["export".to_owned(), source.to_owned(), self.path("exported")];
        if !(more.contains(&"--identity") || more == ["no identity"]) {
            export.extend(["--identity".to_owned(), self.path("identity.txt")]);
        }
        for mut args in [rebuild, export] {
            args.extend(
                more.iter()
                    .filter(|arg| **arg != "no identity")
                    .map(|arg| (*arg).to_owned()),
            );
            self.host.lifeboat(&args).expect_code(code).says(says);
        }
        assert_eq!((tree(&self.host.path("")), tree(self.target.directory())), before);
    }

    fn path(&self, name: &str) -> String {
        text(&self.host.path(name)).to_owned()
    }
}

/// A host whose way to the member is held in the middle of a stream.
fn held(etcd: &Etcd) -> (Host, Gate) {
    let host = Host::new(etcd);
    let url = &etcd.members[0].client_url;
    let gate = Gate::before(url, MIDDLE);
    host.reconfigure(url, &gate.url);
    (host, gate)
}

/// Nothing but its marker is in the store, no folder and no temporary file either.
#[track_caller]
fn untouched(host: &Host) {
    let left = tree(&host.store());
    let marker = format!("{CLUSTER}/store.json ");
    assert!(
        left.iter()
            .all(|name| *name == format!("{CLUSTER}/") || name.starts_with(&marker)),
        "{left:?}"
    );
}

/// The files of the store beside its marker.
fn objects(host: &Host) -> Vec<String> {
    let files = host.stored_files().into_iter().map(|path| text(&path).to_owned());
    files
        .filter(|name| !name.ends_with("store.json") && !name.contains("/.store.json"))
        .collect()
}

fn object_in(store: &Path) -> PathBuf {
    let mut files = super::support::host::files_below(store).into_iter();
    let object = files.find(|path| path.ends_with("full.db.zst.age"));
    store.join(object.expect("there is a backup"))
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[usize::try_from(at).expect("it is small")] ^= 1;
    fs::write(path, bytes).expect("it can be written");
}

/// Changes a character of what is for the recipient in the header of an age file, to another that may stand there.
fn readdress(path: &Path) {
    const SHARE: usize = "age-encryption.org/v1\n-> X25519 ".len();
    let mut bytes = fs::read(path).expect("it is there");
    bytes[SHARE] = if bytes[SHARE] == b'A' { b'B' } else { b'A' };
    fs::write(path, bytes).expect("it can be written");
}

fn cut(path: &Path, length: u64) {
    let file = fs::File::options().write(true).open(path).expect("it is there");
    file.set_len(length).expect("it can be written");
}

fn move_dir(from: &Path, to: &Path) {
    copy_tree(from, to);
    fs::remove_dir_all(from).expect("it is there");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}
