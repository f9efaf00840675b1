//! A disk that has lost its power: what a recorded run did, up to some call, and of what was not synced any part.
//!
//! What counts is what the manuals promise, and no more: the content of a file is there once it was synced, a name once its folder
//! was. Whatever was not synced may be there, in any order: writes by their blocks, the last of them torn, names each by itself or up to
//! some point, as a journal keeps them. A rename is one step, and survives when both folders were synced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::support::random::Random;

const BLOCK: u64 = 512;

/// What stands for a file or a folder, whatever its names are.
type Id = usize;

/// What a file holds: the bytes that were written, by blocks, and its length. The rest is zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Content {
    blocks: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

impl Content {
    fn of(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        for (block, piece) in bytes.chunks(BLOCK as usize).enumerate() {
            // Logs are long before anything is in them.
            if piece.iter().any(|byte| *byte != 0) {
                content.write(block as u64 * BLOCK, piece);
            }
        }
        content.length = bytes.len() as u64;
        content
    }

    fn write(&mut self, mut at: u64, mut bytes: &[u8]) {
        self.length = self.length.max(at + bytes.len() as u64);
        while !bytes.is_empty() {
            let (block, within) = (at / BLOCK, usize::try_from(at % BLOCK).expect("it is small"));
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK as usize - within));
            let kept = self.blocks.entry(block).or_insert_with(|| vec![0; BLOCK as usize]);
            kept[within..within + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            bytes = rest;
        }
    }

    fn set_length(&mut self, length: u64) {
        if length < self.length {
            self.blocks.retain(|block, _| block * BLOCK < length);
            if let Some(last) = self.blocks.get_mut(&(length / BLOCK)) {
                let within = usize::try_from(length % BLOCK).expect("it is small");
                last[within..].fill(0);
            }
        }
        self.length = length;
    }

    /// The same but for blocks of zeros, which may be there or not.
    fn normal(mut self) -> Content {
        self.blocks.retain(|_, block| block.iter().any(|byte| *byte != 0));
        self
    }

    /// All of it, for what is small.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length).expect("it is small")];
        for (block, content) in &self.blocks {
            let at = usize::try_from(block * BLOCK).expect("it is small");
            let end = bytes.len().min(at + content.len());
            if at < end {
                bytes[at..end].copy_from_slice(&content[..end - at]);
            }
        }
        bytes
    }
}

/// One call that changes something.
#[derive(Debug, Clone)]
enum Call {
    Write { file: Id, at: u64, bytes: Vec<u8> },
    SetLength { file: Id, length: u64 },
    Extend { file: Id, length: u64 },
    Names { folders: Vec<Id>, change: Names },
    Sync { of: Id },
}

/// A change of names.
#[derive(Debug, Clone)]
enum Names {
    Add { name: Name, what: Id },
    Remove { name: Name, what: Id },
    Move { from: Name, to: Name, what: Id },
    Exchange { one: (Name, Id), other: (Name, Id) },
}

/// A folder, and the name in it.
type Name = (Id, String);

/// The root of what is recorded.
const ROOT: Id = 0;

/// Everything that was done below a folder, from what was there before.
#[derive(Debug)]
pub struct Recording {
    root: PathBuf,
    before: Tree,
    calls: Vec<Call>,
    modes: HashMap<Id, u32>,
    folders: BTreeSet<Id>,
}

/// What is there: names, and what files hold.
#[derive(Debug, Clone, Default)]
struct Tree {
    names: BTreeMap<Name, Id>,
    contents: HashMap<Id, Content>,
}

/// What a cut of the power has left: each path below the root, folders without content.
pub type Left = BTreeMap<String, Option<Content>>;

impl Recording {
    /// What there is below `root` before anything is recorded.
    pub fn of(root: &Path) -> (Recording, HashMap<u64, Id>) {
        let mut recording = Recording {
            root: root.to_owned(),
            before: Tree::default(),
            calls: Vec::new(),
            modes: HashMap::new(),
            folders: BTreeSet::from([ROOT]),
        };
        let mut inodes = HashMap::new();
        inodes.insert(fs::metadata(root).expect("it is there").ino(), ROOT);
        let mut open = vec![(ROOT, root.to_owned())];
        let mut next = 1;
        while let Some((folder, path)) = open.pop() {
            for entry in fs::read_dir(path).expect("it is there").flatten() {
                let (metadata, id) = (entry.metadata().expect("it is there"), next);
                next += 1;
                inodes.insert(metadata.ino(), id);
                recording.modes.insert(id, metadata.mode() & 0o7777);
                let name = entry.file_name().into_string().expect("names are plain");
                recording.before.names.insert((folder, name), id);
                if metadata.is_dir() {
                    recording.folders.insert(id);
                    open.push((id, entry.path()));
                } else {
                    let content = Content::of(&fs::read(entry.path()).expect("it is there"));
                    recording.before.contents.insert(id, content);
                }
            }
        }
        (recording, inodes)
    }

    /// Adds what a run has recorded.
    pub fn add(&mut self, log: &[u8], inodes: &mut HashMap<u64, Id>) {
        let mut next = 1 + inodes
            .values()
            .copied()
            .max()
            .unwrap_or(0)
            .max(self.modes.keys().copied().max().unwrap_or(0));
        let mut names = self.names_after(self.calls.len());
        let mut rest = log;
        while !rest.is_empty() {
            let (head, after) = rest.split_at(40);
            let number = |at: usize| u64::from_le_bytes(head[at * 8..][..8].try_into().expect("8 bytes"));
            let length = |at| usize::try_from(number(at)).expect("it is small");
            let (one, after) = after.split_at(length(3));
            let (two, after) = after.split_at(length(4));
            rest = after;
            // What is done beside is of no concern.
            if [one, two].iter().any(|text| self.is_beside(number(0), text)) {
                continue;
            }
            let kind = char::from(u8::try_from(number(0)).expect("a letter"));
            let file = || inodes.get(&number(1)).copied();
            let call = match kind {
                'c' | 'd' => {
                    let id = next;
                    next += 1;
                    inodes.insert(number(1), id);
                    let mode = if kind == 'c' {
                        u32::try_from(number(2)).expect("a mode")
                    } else {
                        0o755
                    };
                    self.modes.insert(id, mode);
                    if kind == 'd' {
                        self.folders.insert(id);
                    }
                    let name = self.name(&names, one);
                    Some(named(Names::Add { name, what: id }))
                }
                'w' => file().map(|file| Call::Write {
                    file,
                    at: number(2),
                    bytes: one.to_vec(),
                }),
                't' => file().map(|file| Call::SetLength {
                    file,
                    length: number(2),
                }),
                'a' => file().map(|file| Call::Extend {
                    file,
                    length: number(2),
                }),
                's' => file().map(|of| Call::Sync { of }),
                'm' => {
                    if let Some(file) = file() {
                        self.modes.insert(file, u32::try_from(number(2)).expect("a mode"));
                    }
                    None
                }
                'u' => {
                    let name = self.name(&names, one);
                    let what = names[&name];
                    Some(named(Names::Remove { name, what }))
                }
                'l' => {
                    let what = names[&self.name(&names, one)];
                    Some(named(Names::Add {
                        name: self.name(&names, two),
                        what,
                    }))
                }
                'r' => {
                    let (from, to) = (self.name(&names, one), self.name(&names, two));
                    let what = names[&from];
                    Some(named(Names::Move { from, to, what }))
                }
                'x' => {
                    let (one, other) = (self.name(&names, one), self.name(&names, two));
                    let (of_one, of_other) = (names[&one], names[&other]);
                    Some(named(Names::Exchange {
                        one: (one, of_one),
                        other: (other, of_other),
                    }))
                }
                other => panic!("a record of kind {other}"),
            };
            if let Some(call) = call {
                if let Call::Names { change, .. } = &call {
                    change.make(&mut names);
                }
                self.calls.push(call);
            }
        }
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// What the same program would have done without a sync.
    pub fn without_syncs(&self) -> Recording {
        let is_sync = |call: &Call| matches!(call, Call::Sync { .. });
        Recording {
            root: self.root.clone(),
            before: self.before.clone(),
            calls: self.calls.iter().filter(|call| !is_sync(call)).cloned().collect(),
            modes: self.modes.clone(),
            folders: self.folders.clone(),
        }
    }

    /// What was there before anything was done.
    pub fn at_first(&self) -> Left {
        self.left(&self.before)
    }

    /// What is there when all is done and kept.
    pub fn at_last(&self) -> Left {
        self.all_kept(self.calls.len())
    }

    /// What is left when the power goes after so many calls: all that was synced, and of the rest what chance keeps.
    pub fn cut(&self, after: usize, random: &mut Random) -> Left {
        match random.below(8) {
            0 => self.kept(after, |_| Keep::Nothing),
            1 => self.kept(after, |_| Keep::All),
            2 => self.kept(after, |call| if call.is_of_names() { Keep::All } else { Keep::Nothing }),
            3 => self.kept(after, |call| if call.is_of_names() { Keep::Nothing } else { Keep::All }),
            4 | 5 => {
                // As a journal keeps names: up to some point.
                let pending = after as u64 + 1;
                let until = random.below(pending);
                let mut seen = 0;
                self.kept(after, |call| {
                    seen += 1;
                    match call.is_of_names() {
                        true if seen <= until => Keep::All,
                        true => Keep::Nothing,
                        false => Keep::by_chance(random),
                    }
                })
            }
            _ => self.kept(after, |_| Keep::by_chance(random)),
        }
    }

    /// What is there after so many calls when all is kept.
    pub fn all_kept(&self, after: usize) -> Left {
        self.kept(after, |_| Keep::All)
    }

    fn kept(&self, after: usize, mut keep: impl FnMut(&Call) -> Keep) -> Left {
        let mut tree = self.before.clone();
        let calls = &self.calls[..after];
        let mut last_sync = HashMap::new();
        for (at, call) in calls.iter().enumerate() {
            if let Call::Sync { of } = call {
                last_sync.insert(*of, at);
            }
        }
        for (at, call) in calls.iter().enumerate() {
            let is_synced = |of: &Id| last_sync.get(of).is_some_and(|sync| *sync > at);
            let kept = match call {
                Call::Sync { .. } => continue,
                Call::Names { folders, .. } if folders.iter().all(is_synced) => Keep::All,
                Call::Write { file, .. } | Call::SetLength { file, .. } | Call::Extend { file, .. }
                    if is_synced(file) =>
                {
                    Keep::All
                }
                _ => keep(call),
            };
            match (call, kept) {
                (_, Keep::Nothing) | (Call::Sync { .. }, _) => {}
                (Call::Names { change, .. }, _) => change.make(&mut tree.names),
                (Call::Write { file, at, bytes }, Keep::All) => {
                    tree.contents.entry(*file).or_default().write(*at, bytes)
                }
                (Call::Write { file, at, bytes }, Keep::Some(mut random)) => {
                    let content = tree.contents.entry(*file).or_default();
                    for (block, piece) in bytes.chunks(BLOCK as usize).enumerate() {
                        if random.once_in(2) {
                            content.write(at + block as u64 * BLOCK, piece);
                        }
                    }
                }
                (Call::SetLength { file, length }, _) => tree.contents.entry(*file).or_default().set_length(*length),
                (Call::Extend { file, length }, _) => {
                    let content = tree.contents.entry(*file).or_default();
                    content.length = content.length.max(*length);
                }
            }
        }
        self.left(&tree)
    }

    fn names_after(&self, calls: usize) -> BTreeMap<Name, Id> {
        let mut names = self.before.names.clone();
        for call in &self.calls[..calls] {
            if let Call::Names { change, .. } = call {
                change.make(&mut names);
            }
        }
        names
    }

    fn left(&self, tree: &Tree) -> Left {
        let mut left = Left::new();
        let mut open = vec![(ROOT, String::new())];
        while let Some((folder, path)) = open.pop() {
            let inside = tree.names.range((folder, String::new())..(folder + 1, String::new()));
            for ((_, name), id) in inside {
                let path = format!("{path}/{name}");
                if self.folders.contains(id) {
                    left.insert(path.clone(), None);
                    open.push((*id, path));
                } else {
                    let content = tree.contents.get(id).cloned().unwrap_or_default();
                    left.insert(path, Some(content.normal()));
                }
            }
        }
        left
    }

    /// Whether what a record names, if it is a name, is not below the root.
    fn is_beside(&self, kind: u64, text: &[u8]) -> bool {
        let root = self.root.as_os_str().as_encoded_bytes();
        let is_name = kind != u64::from(b'w') && !text.is_empty();
        is_name && !text.strip_prefix(root).is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// The folder and the name of a path that was recorded.
    fn name(&self, names: &BTreeMap<Name, Id>, path: &[u8]) -> Name {
        let path = std::str::from_utf8(path).expect("names are plain");
        let below = path
            .strip_prefix(self.root.to_str().expect("names are plain"))
            .expect("it is below");
        let mut parts: Vec<&str> = below
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        let last = parts.pop().expect("the root itself is not named anew").to_owned();
        let folder = parts.iter().fold(ROOT, |folder, part| {
            let found = names.get(&(folder, (*part).to_owned()));
            *found.unwrap_or_else(|| panic!("{path}: {part} was not recorded"))
        });
        (folder, last)
    }

    /// Puts what is left in the place of the root's content.
    pub fn lay_out(&self, left: &Left) {
        for entry in fs::read_dir(&self.root).expect("it is there").flatten() {
            let path = entry.path();
            let gone = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            gone.expect("it is this test's");
        }
        let modes = self.modes_by_path();
        for (path, content) in left {
            let at = self.root.join(&path[1..]);
            match content {
                None => fs::create_dir(&at).expect("it is this test's"),
                Some(content) => {
                    let mut file = fs::File::create(&at).expect("it is this test's");
                    file.set_len(content.length).expect("it can be written");
                    for (block, bytes) in &content.blocks {
                        let bytes = &bytes[..bytes
                            .len()
                            .min(usize::try_from(content.length - block * BLOCK).unwrap_or(usize::MAX))];
                        file.seek(SeekFrom::Start(block * BLOCK)).expect("it can be written");
                        file.write_all(bytes).expect("it can be written");
                    }
                }
            }
            if let Some(mode) = modes.get(path) {
                fs::set_permissions(&at, Permissions::from_mode(*mode)).expect("it is this test's");
            }
        }
    }

    /// By any name that something ever had.
    fn modes_by_path(&self) -> HashMap<String, u32> {
        let mut modes = HashMap::new();
        for after in 0..=self.calls.len() {
            if after > 0 && !matches!(self.calls[after - 1], Call::Names { .. }) {
                continue;
            }
            let names = self.names_after(after);
            let mut open = vec![(ROOT, String::new())];
            while let Some((folder, path)) = open.pop() {
                for ((_, name), id) in names.range((folder, String::new())..(folder + 1, String::new())) {
                    let path = format!("{path}/{name}");
                    modes.extend(self.modes.get(id).map(|mode| (path.clone(), *mode)));
                    open.push((*id, path));
                }
            }
        }
        modes
    }
}

/// What becomes of something that was not synced.
enum Keep {
    All,
    /// Some of its blocks.
    Some(Random),
    Nothing,
}

impl Keep {
    fn by_chance(random: &mut Random) -> Keep {
        match random.below(3) {
            0 => Keep::All,
            1 => Keep::Some(Random::new(random.next())),
            _ => Keep::Nothing,
        }
    }
}

impl Call {
    fn is_of_names(&self) -> bool {
        matches!(self, Call::Names { .. })
    }
}

fn named(change: Names) -> Call {
    let folders = match &change {
        Names::Add { name, .. } | Names::Remove { name, .. } => vec![name.0],
        Names::Move { from, to, .. } => vec![from.0, to.0],
        Names::Exchange { one, other } => vec![one.0.0, other.0.0],
    };
    Call::Names { folders, change }
}

impl Names {
    /// What the change was made to may not be there, where a change before it was lost; what it makes is.
    fn make(&self, names: &mut BTreeMap<Name, Id>) {
        let remove = |names: &mut BTreeMap<Name, Id>, name: &Name, what: Id| {
            if names.get(name) == Some(&what) {
                names.remove(name);
            }
        };
        match self {
            Names::Add { name, what } => drop(names.insert(name.clone(), *what)),
            Names::Remove { name, what } => remove(names, name, *what),
            Names::Move { from, to, what } => {
                remove(names, from, *what);
                names.insert(to.clone(), *what);
            }
            Names::Exchange {
                one: (one, of_one),
                other: (other, of_other),
            } => {
                names.insert(one.clone(), *of_other);
                names.insert(other.clone(), *of_one);
            }
        }
    }
}
