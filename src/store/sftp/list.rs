//! What there is in the folders of a server.

use futures_util::StreamExt as _;
use jiff::Timestamp;
use russh_sftp::protocol::{File, FileAttributes, StatusCode};

use super::connection::{Fault, Session};
use super::files::{is_missing, look};
use super::join;
use crate::durable;
use crate::layout::{Folder as Inside, Listed, ListedObject};

/// How many folders are asked for at once.
const AT_ONCE: usize = 16;

/// More than that no store has, and no server makes this host believe it.
const MOST: usize = 8_000_000;

/// The objects of the store in `root` below `prefix`, and what is none. The depth is bounded by `Inside::at`, which knows no
/// deeper one.
pub(super) async fn all(
    session: &Session,
    root: &str,
    prefix: &str,
    folder: Option<Inside>,
    sign: &dyn Fn(),
) -> Result<Vec<ListedObject>, Fault> {
    let mut objects = Vec::new();
    let mut folders = vec![(prefix.to_owned(), folder)];
    while !folders.is_empty() {
        let asked = std::mem::take(&mut folders).into_iter();
        let asked = asked.map(|(prefix, folder)| one(session, root, prefix, folder, sign));
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some(found) = answers.next().await {
            let (here, inside) = found?;
            objects.extend(here);
            folders.extend(inside);
            if objects.len() > MOST {
                return Err(Fault::Other(format!("there are more than {MOST} files")));
            }
        }
    }
    Ok(objects)
}

type Found = (Vec<ListedObject>, Vec<(String, Option<Inside>)>);

/// What is in one folder, and which of its folders are to be listed.
async fn one(
    session: &Session,
    root: &str,
    prefix: String,
    folder: Option<Inside>,
    sign: &dyn Fn(),
) -> Result<Found, Fault> {
    let path = join(root, &prefix);
    let entries = match entries(session, &path, sign).await {
        Ok(entries) => entries,
        // A folder inside may have been removed since it was seen; the store itself may not.
        Err(fault) if is_missing(&fault) && folder.is_some() => return Ok(Found::default()),
        Err(Fault::Told(code, why)) if folder.is_some() => {
            let why = if why.is_empty() { code.to_string() } else { why };
            return Ok((vec![unreadable(&prefix, why)], Vec::new()));
        }
        Err(fault) => return Err(fault),
    };
    let (mut objects, mut inside) = (Vec::new(), Vec::new());
    let is_empty = entries.is_empty();
    for File { filename, attrs, .. } in entries {
        let name = match prefix.as_str() {
            "" => filename.clone(),
            prefix => format!("{prefix}/{filename}"),
        };
        if attrs.is_dir()
            && let Some(found) = Inside::at(&name)
        {
            inside.push((name, Some(found)));
            continue;
        }
        let target = durable::target_of(&filename).map(|target| match prefix.as_str() {
            "" => target.to_owned(),
            prefix => format!("{prefix}/{target}"),
        });
        let of = target.and_then(|target| target.parse().ok());
        let is_plain = attrs.permissions.is_none() || attrs.is_regular();
        let name = match of {
            _ if !is_plain => Listed::Foreign(name),
            Some(of) => Listed::Partial { path: name, of },
            None => Listed::file(&name),
        };
        objects.push(ListedObject {
            name,
            bytes: attrs.size.unwrap_or_default(),
            modified: modified(&attrs),
        });
    }
    if let Some(folder) = folder.filter(|_| is_empty)
        && let Some(found) = look(session, &path).await?
    {
        objects.push(ListedObject {
            name: Listed::EmptyFolder { path: prefix, folder },
            bytes: 0,
            modified: modified(&found),
        });
    }
    Ok((objects, inside))
}

/// The names in a folder.
pub(super) async fn names(session: &Session, path: &str) -> Result<Vec<String>, Fault> {
    let entries = entries(session, path, &|| {}).await?;
    Ok(entries.into_iter().map(|entry| entry.filename).collect())
}

async fn entries(session: &Session, path: &str, sign: &dyn Fn()) -> Result<Vec<File>, Fault> {
    let handle = session.hear(session.sftp.opendir(path)).await?.handle;
    let mut entries = Vec::new();
    let ended = loop {
        sign();
        match session.hear(session.sftp.readdir(&handle)).await {
            Ok(names) => entries.extend(names.files.into_iter().filter(|file| is_name(&file.filename))),
            Err(Fault::Told(StatusCode::Eof, _)) => break Ok(entries),
            Err(fault) => break Err(fault),
        }
        if entries.len() > MOST {
            break Err(Fault::Other(format!("there are more than {MOST} files")));
        }
    };
    session.hear(session.sftp.close(&handle)).await.ok();
    ended
}

/// Of something in the folder, and of nothing else.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('/')
}

fn unreadable(path: &str, why: String) -> ListedObject {
    ListedObject {
        name: Listed::Unreadable {
            path: path.to_owned(),
            why,
        },
        bytes: 0,
        modified: Timestamp::MAX,
    }
}

/// When it was last written to. A time that cannot be told counts as just now: nothing is swept for it.
pub(super) fn modified(found: &FileAttributes) -> Timestamp {
    let seconds = found.mtime.map(i64::from);
    let told = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    told.unwrap_or(Timestamp::MAX)
}
