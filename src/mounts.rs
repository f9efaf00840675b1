//! What is mounted where, as the kernel's table says; and which of it a process goes on to see though the host has taken
//! it away.
//!
//! A unit with a mount namespace of its own gets what the host mounts and unmounts, but for a mount on which systemd has
//! put another one for the unit: that stays, and what the host mounts there later comes to lie beneath it.
//!
//! Invariant: no file is opened here; the table is handed in.
//! Source of the format: proc_pid_mountinfo(5). Words between blanks, of which the fifth is where it is mounted; a blank,
//! tab, line feed or backslash in it is written as `\\` and three octal digits.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where the table of the process that asks is.
pub const TABLE: &str = "/proc/self/mountinfo";
/// A host with ten thousand containers has a table of some MiB.
pub const LARGEST_TABLE: u64 = 64 << 20;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, as long as it is there.
    pub id: u64,
    /// The number of the mount that it stands on.
    parent: u64,
    /// Which file system it shows: the kernel's number for it.
    device: String,
    /// Which folder of that file system.
    root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// The group of mounts whose changes it follows.
    follows: Option<u64>,
    /// The kind of file system.
    kind: String,
}

/// All of it, in the kernel's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads a table; fails where a line is none.
    pub fn parse(table: &[u8]) -> io::Result<Mounts> {
        let lines = table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mounts = lines.map(|line| {
            Mount::parse(line).ok_or_else(|| {
                let line: String = String::from_utf8_lossy(line).chars().take(120).collect();
                io::Error::new(io::ErrorKind::InvalidData, format!("`{line}` is no line of it"))
            })
        });
        mounts.collect::<io::Result<_>>().map(Mounts)
    }

    /// The places where something is mounted.
    pub fn points(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|mount| mount.point.as_path())
    }

    /// What is passed on the way to `path`, which has no links in it, the last one being what it lies on.
    pub fn on_the_way(&self, path: &Path) -> Vec<&Mount> {
        let is_child = |mount: &Mount| {
            self.0
                .iter()
                .any(|other| other.id == mount.parent && other.id != mount.id)
        };
        let mut way: Vec<&Mount> = Vec::new();
        let mut here = self.0.iter().find(|mount| !is_child(mount));
        while let Some(mount) = here {
            // A table that leads in a circle is none of the kernel's.
            if way.iter().any(|passed| passed.id == mount.id) {
                break;
            }
            way.push(mount);
            let children = self.0.iter().filter(|child| child.parent == mount.id);
            here = children
                .filter(|child| path.starts_with(&child.point) && child.point.starts_with(&mount.point))
                .min_by_key(|child| child.point.components().count());
        }
        way
    }

    /// The same by numbers and places: another one where anything on the way has come, gone, or was put in place of something.
    pub fn way_to(&self, path: &Path) -> Vec<(u64, PathBuf)> {
        self.on_the_way(path).into_iter().map(Mount::key).collect()
    }

    fn get(&self, id: u64) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.id == id)
    }
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let number = |word: &[u8]| str::from_utf8(word).ok()?.parse::<u64>().ok();
        let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        let path = |word: &[u8]| Some(PathBuf::from(OsString::from_vec(plain(word)?)));
        let (id, parent) = (number(words.next()?)?, number(words.next()?)?);
        let (device, root) = (text(words.next()?), path(words.next()?)?);
        let point = path(words.next()?).filter(|point| point.is_absolute())?;
        let mut follows = None;
        let options = words.by_ref().skip(1).take_while(|word| *word != b"-");
        for option in options {
            if let Some(group) = option.strip_prefix(b"master:") {
                follows = number(group);
            }
        }
        Some(Mount {
            id,
            parent,
            device,
            root,
            point,
            follows,
            kind: words.next().map(text).unwrap_or_default(),
        })
    }

    fn key(&self) -> (u64, PathBuf) {
        (self.id, self.point.clone())
    }

    fn shows_the_same_as(&self, other: &Mount) -> bool {
        (&self.device, &self.root) == (&other.device, &other.root)
    }
}

/// A mount that the host is set up to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Where.
    pub point: PathBuf,
    by: By,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Fstab,
    /// A unit of systemd, by its name.
    Unit(String),
}

impl Planned {
    /// What stands in `/etc/fstab`.
    pub fn of_fstab(text: &[u8]) -> Vec<Planned> {
        let lines = text.split(|byte| *byte == b'\n');
        let points = lines.filter_map(|line| {
            let mut words = line
                .split(|byte| byte.is_ascii_whitespace())
                .filter(|word| !word.is_empty());
            let source = words.next().filter(|source| !source.starts_with(b"#"));
            let point = source.and_then(|_| words.next()).and_then(plain)?;
            Some(PathBuf::from(OsString::from_vec(point))).filter(|point| point.is_absolute())
        });
        points.map(|point| Planned { point, by: By::Fstab }).collect()
    }

    /// What the file of a unit with this name is for, if it is one of a mount: systemd takes the place from the name.
    pub fn of_unit(name: &str) -> Option<Planned> {
        let escaped = name.strip_suffix(".mount").filter(|escaped| *escaped != "-")?;
        let mut point = vec![b'/'];
        let mut rest = escaped.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match (byte, after) {
                (b'-', _) => point.push(b'/'),
                (b'\\', [b'x', high, low, after @ ..]) => {
                    let digits = [*high, *low];
                    point.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
                    rest = after;
                }
                (byte, _) => point.push(*byte),
            }
        }
        Some(Planned {
            point: PathBuf::from(OsString::from_vec(point)),
            by: By::Unit(name.to_owned()),
        })
    }

    /// Of these, the one nearest above `path` where nothing is mounted.
    pub fn missing_above<'a>(planned: &'a [Planned], mounts: &Mounts, path: &Path) -> Option<&'a Planned> {
        let is_missing = |planned: &&Planned| {
            let Planned { point, .. } = planned;
            point.parent().is_some() && path.starts_with(point) && mounts.points().all(|mounted| mounted != point)
        };
        // Of two for one place the first: `/etc/fstab` is read before the units that are made of it.
        let missing = planned.iter().filter(is_missing);
        missing.rev().max_by_key(|planned| planned.point.components().count())
    }

    /// What root types to have it mounted.
    pub fn command(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let word = |text: &str| if is_plain(text) { text.to_owned() } else { quoted(text) };
        match &self.by {
            By::Fstab => format!("mount {}", word(&self.point.display().to_string())),
            By::Unit(name) => format!("systemctl start {}", word(name)),
        }
    }
}

/// By what it is planned.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            By::Fstab => f.write_str("/etc/fstab"),
            By::Unit(name) => f.write_str(name),
        }
    }
}

/// Notices, from one look to the next, what the host has taken away and this process still sees.
///
/// A mount that follows the host's ceases to do so when the host unmounts that, unless the same file system is mounted
/// elsewhere too and shared: then it follows that one. What the host mounts in its place slides in beneath it.
#[derive(Debug, Default)]
pub struct Pinned {
    /// As each mount was at the first look that saw it.
    known: BTreeMap<(u64, PathBuf), First>,
}

#[derive(Debug, Clone, Copy)]
struct First {
    parent: u64,
    follows: Option<u64>,
}

impl Pinned {
    /// Looks at the present table: where something that the host has unmounted since an earlier look, or has put another
    /// file system in the place of, still lies on the way to one of `paths`.
    pub fn look<'a>(&mut self, mounts: &Mounts, paths: impl IntoIterator<Item = &'a Path>) -> Option<PathBuf> {
        let is_given_up = |mount: &&Mount| {
            let first = self.known.get(&mount.key());
            first.is_some_and(|first| mount.is_given_up(*first, mounts))
        };
        let found = paths.into_iter().find_map(|path| {
            let way = mounts.on_the_way(path);
            way.into_iter().skip(1).find(is_given_up)
        });
        let found = found.map(|mount| mount.point.clone());
        self.known
            .retain(|(id, point), _| mounts.get(*id).is_some_and(|mount| mount.point == *point));
        for mount in &mounts.0 {
            let Mount { parent, follows, .. } = *mount;
            self.known.entry(mount.key()).or_insert(First { parent, follows });
        }
        found
    }
}

impl Mount {
    /// Whether the host sees something else here, or nothing.
    fn is_given_up(&self, first: First, mounts: &Mounts) -> bool {
        let follows_no_more = first.follows.is_some() && self.follows != first.follows;
        match mounts.get(self.parent).filter(|beneath| beneath.point == self.point) {
            // It is mounted anew when somebody comes near it.
            Some(beneath) if beneath.kind == "autofs" => false,
            Some(beneath) => (follows_no_more || self.parent != first.parent) && !beneath.shows_the_same_as(self),
            None => follows_no_more && !self.is_bound_to_itself(mounts),
        }
    }

    /// Whether it shows what is seen there without it, as what systemd mounts for a unit does: it goes by what is beneath.
    fn is_bound_to_itself(&self, mounts: &Mounts) -> bool {
        mounts.get(self.parent).is_some_and(|beneath| {
            let inside = self.point.strip_prefix(&beneath.point);
            let is_place = inside.is_ok_and(|inside| beneath.root.join(inside) == self.root);
            is_place && beneath.device == self.device
        })
    }
}

/// A word without its escapes; `None` if one of them is broken off or no byte.
fn plain(word: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            plain.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(3)?;
        let digits = str::from_utf8(digits).ok()?;
        plain.push(u8::from_str_radix(digits, 8).ok()?);
        rest = after;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    /// As the kernel writes it.
    fn line(point: &[u8]) -> Vec<u8> {
        let mut line = b"36 35 98:0 /mnt1 ".to_vec();
        for byte in point {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' => line.extend(format!("\\{byte:03o}").into_bytes()),
                byte => line.push(*byte),
            }
        }
        line.extend(b" rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
        line
    }

    proptest! {
        #[test]
        fn every_place_reads_as_it_is(names in proptest::collection::vec("[^/\0]{1,9}", 0..5)) {
            let paths: Vec<Vec<u8>> = names.iter().map(|name| format!("/srv/{name}").into_bytes()).collect();
            let table: Vec<u8> = paths.iter().flat_map(|path| line(path)).collect();
            let found = Mounts::parse(&table).unwrap();
            let found: Vec<Vec<u8>> = found.points().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
            prop_assert_eq!(found, paths);
        }

        #[test]
        fn whatever_is_in_the_table_it_is_read_or_refused(table in proptest::collection::vec(any::<u8>(), 0..300)) {
            Mounts::parse(&table).map(drop).unwrap_or_default();
        }

        #[test]
        fn no_way_is_endless(lines in proptest::collection::vec((0u64..5, 0u64..5, "/[ab](/[ab])?|/"), 0..9)) {
            let table: String = lines
                .iter()
                .map(|(id, parent, point)| format!("{id} {parent} 0:1 / {point} rw - tmpfs t rw\n"))
                .collect();
            let mounts = Mounts::parse(table.as_bytes()).unwrap();
            prop_assert!(mounts.on_the_way(Path::new("/a/b/c")).len() <= lines.len());
        }
    }

    #[test]
    fn lines_that_are_none_are_refused_and_not_passed_over() {
        for wrong in [
            "36 35 98:0 /mnt1",
            "36 35 98:0 /mnt1 /a\\04 x",
            "36 35 98:0 /mnt1 /a\\999 x",
            "36 35 98:0 /mnt1 a x",
            "36 b 98:0 /mnt1 /a x",
        ] {
            assert!(Mounts::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    const ROOT: &str = "282 281 254:0 /h1 / ro,relatime shared:80 master:5 - ext4 /dev/vda rw\n";
    /// A unit's view of a file system on which systemd has put a mount for `ReadWritePaths=`.
    const MOUNTED: &str = "310 282 0:53 / /mnt/b ro shared:87 master:9 - tmpfs b rw\n\
                           289 310 0:53 /lifeboat /mnt/b/lifeboat rw shared:88 master:9 - tmpfs b rw\n";
    /// The same after the host has unmounted it.
    const GIVEN_UP: &str = "310 282 0:53 / /mnt/b ro shared:87 - tmpfs b rw\n\
                            289 310 0:53 /lifeboat /mnt/b/lifeboat rw shared:88 - tmpfs b rw\n";
    const STORE: &str = "/mnt/b/lifeboat";

    fn table(lines: &[&str]) -> Mounts {
        Mounts::parse(lines.concat().as_bytes()).unwrap()
    }

    /// What the last of several looks finds.
    fn looks(tables: &[Mounts]) -> Option<PathBuf> {
        let mut pinned = Pinned::default();
        let found = tables.iter().map(|mounts| pinned.look(mounts, [Path::new(STORE)]));
        found.last().flatten()
    }

    #[test]
    fn the_way_to_a_path_leads_over_what_lies_on_top() {
        let mounts = table(&[ROOT, MOUNTED]);
        let way = |path: &str| {
            let way = mounts.on_the_way(Path::new(path));
            way.iter().map(|mount| mount.id).collect::<Vec<_>>()
        };
        assert_eq!(way("/mnt/b/lifeboat/prod"), [282, 310, 289]);
        assert_eq!(way("/mnt/b/else"), [282, 310]);
        assert_eq!(way("/mnt/big"), [282]);
        let by_numbers = |mounts: &Mounts| mounts.way_to(Path::new(STORE));
        let container = "400 282 0:60 / /run/containers/a rw shared:70 - tmpfs t rw\n";
        assert_eq!(by_numbers(&mounts), by_numbers(&table(&[ROOT, MOUNTED, container])));
        let anew = MOUNTED.replace("310 282", "311 282").replace("289 310", "289 311");
        assert_ne!(by_numbers(&mounts), by_numbers(&table(&[ROOT, &anew])));
        assert_eq!(by_numbers(&table(&[ROOT])), [(282, PathBuf::from("/"))]);
    }

    #[test]
    fn what_the_host_has_unmounted_is_noticed() {
        let before = table(&[ROOT, MOUNTED]);
        assert_eq!(looks(&[before.clone(), before.clone()]), None);
        let after = table(&[ROOT, GIVEN_UP]);
        assert_eq!(looks(&[before.clone(), after.clone()]), Some("/mnt/b".into()));
        assert_eq!(
            looks(&[before.clone(), after.clone(), after.clone()]),
            Some("/mnt/b".into())
        );
        // Nothing was known of it: whether it ever followed the host is open.
        assert_eq!(looks(&[after.clone(), after]), None);
        assert_eq!(looks(&[before, table(&[ROOT])]), None, "it is gone here too");
    }

    #[test]
    fn what_the_host_has_mounted_in_its_place_is_noticed_unless_it_is_the_same() {
        let before = table(&[ROOT, MOUNTED]);
        let on_another = GIVEN_UP.replace("310 282", "310 78");
        let other = "78 282 254:0 /disk /mnt/b rw shared:66 master:6 - ext4 /dev/vda rw\n";
        assert_eq!(
            looks(&[before.clone(), table(&[ROOT, other, &on_another])]),
            Some("/mnt/b".into())
        );
        // A folder that is bound there is of the same group as all of its file system.
        let bound = MOUNTED.replace("310 282", "310 78");
        assert_eq!(
            looks(&[before.clone(), table(&[ROOT, other, &bound])]),
            Some("/mnt/b".into())
        );
        assert_eq!(
            looks(&vec![table(&[ROOT, other, &bound]); 2]),
            None,
            "the host has both"
        );
        let same = "78 282 0:53 / /mnt/b rw shared:66 master:6 - tmpfs b rw\n";
        assert_eq!(looks(&[before.clone(), table(&[ROOT, same, &on_another])]), None);
        let automatic = "78 282 0:60 / /mnt/b rw shared:66 master:6 - autofs systemd-1 rw\n";
        let before = table(&[ROOT, automatic, &MOUNTED.replace("310 282", "310 78")]);
        assert_eq!(looks(&[before, table(&[ROOT, automatic, &on_another])]), None);
    }

    #[test]
    fn what_should_be_mounted_and_is_not_is_found_with_the_command_for_it() {
        let fstab = "# <file system> <mount point>\nUUID=1 / ext4 defaults 0 1\n\tnas:/b\t/mnt/b  nfs rw 0 0\nUUID=2 none swap sw\n\
                     //nas/c /mnt/with\\040blank cifs x\nproc\n";
        let mut planned = Planned::of_fstab(fstab.as_bytes());
        let points: Vec<_> = planned.iter().map(|planned| planned.point.clone()).collect();
        assert_eq!(points, ["/", "/mnt/b", "/mnt/with blank"].map(PathBuf::from));
        let units = [r"mnt-b.mount", r"srv-etcd\x2dbackups.mount", "-.mount", "mnt.automount"];
        planned.extend(units.iter().filter_map(|name| Planned::of_unit(name)));
        let mounts = table(&[ROOT]);
        let told = |mounts: &Mounts, path: &str| {
            let missing = Planned::missing_above(&planned, mounts, Path::new(path));
            missing.map(|missing| format!("{missing}: {}", missing.command()))
        };
        assert_eq!(told(&mounts, STORE).unwrap(), "/etc/fstab: mount /mnt/b");
        assert_eq!(
            told(&mounts, "/mnt/with blank/x").unwrap(),
            "/etc/fstab: mount '/mnt/with blank'"
        );
        assert_eq!(
            told(&mounts, "/srv/etcd-backups").unwrap(),
            r"srv-etcd\x2dbackups.mount: systemctl start 'srv-etcd\x2dbackups.mount'"
        );
        assert_eq!(told(&mounts, "/var/backups/lifeboat"), None);
        assert_eq!(told(&table(&[ROOT, MOUNTED]), STORE), None, "it is mounted");
    }

    #[test]
    fn what_lies_elsewhere_is_of_no_concern() {
        let mut pinned = Pinned::default();
        let elsewhere = [Path::new("/var/backups/lifeboat")];
        assert_eq!(pinned.look(&table(&[ROOT, MOUNTED]), elsewhere), None);
        assert_eq!(pinned.look(&table(&[ROOT, GIVEN_UP]), elsewhere), None);
    }
}
