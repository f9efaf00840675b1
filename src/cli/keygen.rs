//! `lifeboat keygen`: a new age identity, or a new key that signs.

use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::{Context, Exit, Failure, host};
use crate::durable;
use crate::error_chain::with_causes;
use crate::jobs::failed;
use crate::model::ClusterName;
use crate::secret::Secret;
use crate::signing::{KeyError, Role, Roll, Signer, SignerKey, SigningKey};
use crate::terminal::Format;
use crate::text::count;

/// Who may read a secret key.
const FILE_MODE: u32 = 0o600;

/// Make a key pair: the secret key goes into a file, the public one is printed
///
/// An identity opens the backups, and its recipient goes into the configuration of every host: keep the identity away from the
/// hosts that make backups, in two places that do not burn down together. A signing key is what a host signs its backups
/// by; each makes one for itself unless the configuration names another. A root key signs lists of signers, and is kept
/// offline.
#[derive(clap::Args)]
#[command(
    group = clap::ArgGroup::new("kind").required(true),
    after_help = "Examples:\n  lifeboat keygen --identity backup-key.txt\n  lifeboat keygen --root root-key.txt"
)]
pub struct Args {
    /// Make an age identity in this file, which must not exist
    #[arg(long, value_name = "FILE", group = "kind")]
    identity: Option<PathBuf>,
    /// Make a key by which a host signs
    #[arg(long, value_name = "FILE", group = "kind")]
    signing: Option<PathBuf>,
    /// Make a root key, which signs lists of signers
    #[arg(long, value_name = "FILE", group = "kind")]
    root: Option<PathBuf>,
    /// Make a list of signers in this file, signed by a root key: for `lifeboat check --publish-signers`
    #[arg(long, value_name = "FILE", group = "kind", requires_all = ["root_key", "cluster", "number", "signer"])]
    sign_signers: Option<PathBuf>,
    /// The file of the root key that signs the list
    #[arg(long, value_name = "FILE", requires = "sign_signers")]
    root_key: Option<PathBuf>,
    /// The name of the cluster whose signers they are
    #[arg(long, value_name = "NAME", requires = "sign_signers")]
    cluster: Option<ClusterName>,
    /// The number of the list, higher than that of the one before
    #[arg(long, value_name = "N", requires = "sign_signers")]
    number: Option<u64>,
    /// The key of one who may sign, perhaps with a name (`KEY=etcd-1`); several times
    #[arg(long, value_name = "KEY", requires = "sign_signers", value_parser = signer)]
    signer: Vec<Signer>,
}

fn signer(text: &str) -> Result<Signer, String> {
    let (key, name) = match text.split_once('=') {
        Some((key, name)) => (key, Some(name.to_owned())),
        None => (text, None),
    };
    let key: SignerKey = key.parse().map_err(|error: KeyError| error.to_string())?;
    match key.role() {
        Role::Signer => Ok(Signer { key, name }),
        Role::Root => Err("this is the key of a root, which signs no backups".to_owned()),
    }
}

#[derive(Serialize)]
struct ListDocument<'a> {
    schema: u32,
    file: &'a Path,
    number: u64,
    root: String,
    signers: Vec<String>,
}

#[derive(Serialize)]
struct IdentityDocument<'a> {
    schema: u32,
    identity: &'a Path,
    recipient: String,
}

#[derive(Serialize)]
struct KeyDocument<'a> {
    schema: u32,
    file: &'a Path,
    key: String,
    fingerprint: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    if let (Some(file), Some(root), Some(cluster), Some(number)) =
        (&args.sign_signers, &args.root_key, &args.cluster, args.number)
    {
        return sign_signers(context, file, root, cluster, number, args.signer);
    }
    match (args.identity, args.signing, args.root) {
        (Some(file), _, _) => identity(context, &file),
        (None, Some(file), _) => signing(context, &file, Role::Signer),
        (None, None, Some(file)) => signing(context, &file, Role::Root),
        (None, None, None) => Err(Failure::new(Exit::Usage, "name the file of the key")),
    }
}

fn sign_signers(
    context: &Context,
    file: &Path,
    root: &Path,
    cluster: &ClusterName,
    number: u64,
    signers: Vec<Signer>,
) -> Result<Exit, Failure> {
    let name = root.display().to_string();
    let secret = Secret::read_given(root).map_err(failed)?;
    let root = SigningKey::parse(Role::Root, secret.expose_secret(), &name).map_err(|error| {
        Failure::new(Exit::WrongKey, error).next("give the file that `lifeboat keygen --root` wrote")
    })?;
    let list = Roll::new(number, host::now(), signers);
    let document = SecretString::from(String::from_utf8_lossy(&list.sign(cluster, &root)).into_owned());
    write(
        file,
        &document,
        "give another file: a list that is out there is not changed",
    )?;
    match context.output.format {
        Format::Json => context.output.json(&ListDocument {
            schema: 1,
            file,
            number,
            root: root.public().to_string(),
            signers: list.keys().map(|key| key.to_string()).collect(),
        }),
        Format::Text => context.output.line(format!(
            "list {number} of {cluster}: {}, signed by root {}",
            count(list.keys().count() as u64, "signer"),
            root.public().fingerprint()
        )),
    }
    Ok(Exit::Done)
}

fn identity(context: &Context, file: &Path) -> Result<Exit, Failure> {
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    // Wiped when it is dropped.
    let content = SecretString::from(format!(
        "# public key: {recipient}\n{}\n",
        key.to_string().expose_secret()
    ));
    write(file, &content, KEYS_STAY)?;
    match context.output.format {
        Format::Json => context.output.json(&IdentityDocument {
            schema: 1,
            identity: file,
            recipient,
        }),
        Format::Text => {
            context.output.line(recipient);
            context.output.detail(
                "This recipient goes into [encryption] recipients on every host. The identity is in the file: keep it \
                 away from those hosts, in two places that do not burn down together. `lifeboat recovery-sheet` prints a page to \
                 keep beside it.",
            );
        }
    }
    Ok(Exit::Done)
}

fn signing(context: &Context, file: &Path, role: Role) -> Result<Exit, Failure> {
    let key = SigningKey::of_seed(role, durable::random().map_err(failed)?);
    write(file, &key.to_file(), KEYS_STAY)?;
    let public = key.public();
    match context.output.format {
        Format::Json => context.output.json(&KeyDocument {
            schema: 1,
            file,
            key: public.to_string(),
            fingerprint: public.fingerprint().to_string(),
        }),
        Format::Text => {
            context.output.line(public.to_string());
            let what_to_do = match role {
                Role::Signer => {
                    "This key goes into [signing] trusted on every host, or into a list of signers. The file is for [signing] \
                     key of the one host that signs by it."
                }
                Role::Root => {
                    "This key goes into [signing] trusted on every host. The file is kept offline: who has it says who may \
                     sign."
                }
            };
            context.output.detail(format!("fingerprint {}", public.fingerprint()));
            context.output.detail(what_to_do);
        }
    }
    Ok(Exit::Done)
}

/// What to do where a file with a key is there.
const KEYS_STAY: &str = "a key that backups may depend on is never overwritten; give another file";

fn write(file: &Path, content: &SecretString, where_it_exists: &str) -> Result<(), Failure> {
    let written = durable::create_new(file, content.expose_secret().as_bytes(), FILE_MODE);
    written.map_err(|error| match error {
        durable::Error::Exists { path } => {
            Failure::new(Exit::Refused, format!("{} exists", path.display())).next(where_it_exists)
        }
        durable::Error::Io { .. } => Failure::new(
            Exit::Failed,
            format!("cannot write {}: {}", file.display(), with_causes(&error)),
        ),
    })
}
