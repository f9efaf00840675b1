//! `lifeboat keygen`: a new age identity, or a new key that signs.

use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::{Context, Exit, Failure};
use crate::durable;
use crate::error_chain::with_causes;
use crate::jobs::failed;
use crate::signing::{Role, SigningKey};
use crate::terminal::Format;

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
    /// Make a root key, which signs lists of signers (`lifeboat signers --sign`)
    #[arg(long, value_name = "FILE", group = "kind")]
    root: Option<PathBuf>,
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
    match (args.identity, args.signing, args.root) {
        (Some(file), _, _) => identity(context, &file),
        (None, Some(file), _) => signing(context, &file, Role::Signer),
        (None, None, Some(file)) => signing(context, &file, Role::Root),
        (None, None, None) => Err(Failure::new(Exit::Usage, "name the file of the key")),
    }
}

fn identity(context: &Context, file: &Path) -> Result<Exit, Failure> {
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    // Wiped when it is dropped.
    let content = SecretString::from(format!(
        "# public key: {recipient}\n{}\n",
        key.to_string().expose_secret()
    ));
    write(file, &content)?;
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
    write(file, &key.to_file())?;
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

fn write(file: &Path, content: &SecretString) -> Result<(), Failure> {
    let written = durable::create_new(file, content.expose_secret().as_bytes(), FILE_MODE);
    written.map_err(|error| match error {
        durable::Error::Exists { path } => Failure::new(Exit::Refused, format!("{} exists", path.display()))
            .next("a key that backups may depend on is never overwritten; give another file"),
        durable::Error::Io { .. } => Failure::new(
            Exit::Failed,
            format!("cannot write {}: {}", file.display(), with_causes(&error)),
        ),
    })
}
