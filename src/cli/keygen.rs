//! `lifeboat keygen`: a new age identity, or a new key that signs.

use std::path::{Path, PathBuf};

use super::{Context, Exit, Failure};
use crate::jobs::keygen::{ListAsked, identity, list_of_signers, signing_key};
use crate::json::keygen::{IdentityDocument, KeyDocument, ListDocument};
use crate::model::ClusterName;
use crate::signing::{KeyError, Role, Signer, SignerKey};
use crate::terminal::{Format, Output};
use crate::text::count;

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

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let output = &context.output;
    if let (Some(file), Some(root), Some(cluster), Some(number)) =
        (&args.sign_signers, &args.root_key, &args.cluster, args.number)
    {
        let asked = ListAsked {
            root,
            cluster,
            number,
            signers: args.signer,
        };
        new_list(output, file, asked)?;
        return Ok(Exit::Done);
    }
    match (args.identity, args.signing, args.root) {
        (Some(file), _, _) => new_identity(output, &file)?,
        (None, Some(file), _) => new_key(output, &file, Role::Signer)?,
        (None, None, Some(file)) => new_key(output, &file, Role::Root)?,
        (None, None, None) => return Err(Failure::new(Exit::Usage, "name the file of the key")),
    }
    Ok(Exit::Done)
}

fn new_list(output: &Output, file: &Path, asked: ListAsked<'_>) -> Result<(), Failure> {
    let cluster = asked.cluster;
    let (list, root) = list_of_signers(file, asked)?;
    match output.format {
        Format::Json => output.json(&ListDocument::of(file, &list, &root)),
        Format::Text => output.line(format!(
            "list {} of {cluster}: {}, signed by root {}",
            list.number,
            count(list.keys().count() as u64, "signer"),
            root.fingerprint()
        )),
    }
    Ok(())
}

fn new_identity(output: &Output, file: &Path) -> Result<(), Failure> {
    let recipient = identity(file)?;
    match output.format {
        Format::Json => output.json(&IdentityDocument::of(file, &recipient)),
        Format::Text => {
            output.line(recipient);
            output.detail(
                "This recipient goes into [encryption] recipients on every host. The identity is in the file: keep it \
                 away from those hosts, in two places that do not burn down together. `lifeboat recovery-sheet` prints a page to \
                 keep beside it.",
            );
        }
    }
    Ok(())
}

fn new_key(output: &Output, file: &Path, role: Role) -> Result<(), Failure> {
    let key = signing_key(file, role)?;
    match output.format {
        Format::Json => output.json(&KeyDocument::of(file, &key)),
        Format::Text => {
            output.line(key.to_string());
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
            output.detail(format!("fingerprint {}", key.fingerprint()));
            output.detail(what_to_do);
        }
    }
    Ok(())
}
