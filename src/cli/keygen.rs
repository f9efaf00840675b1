//! `lifeboat keygen`: a new age identity.

use std::path::PathBuf;

use age::secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::{Context, Exit, Failure};
use crate::durable;
use crate::error_chain::with_causes;
use crate::terminal::Format;

/// Who may read an identity.
const FILE_MODE: u32 = 0o600;

/// Make a key pair: the identity goes into a file, the recipient is printed
///
/// The recipient goes into the configuration of every host. The identity opens the backups: keep it away from the hosts
/// that make them, in two places that do not burn down together.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat keygen --identity backup-key.txt")]
pub struct Args {
    /// The file to write the identity to; it must not exist
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    identity: PathBuf,
    recipient: String,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    // Wiped when it is dropped.
    let content = SecretString::from(format!(
        "# public key: {recipient}\n{}\n",
        key.to_string().expose_secret()
    ));
    let written = durable::create_new(&args.identity, content.expose_secret().as_bytes(), FILE_MODE);
    written.map_err(|error| match error {
        durable::Error::Exists { path } => Failure::new(Exit::Refused, format!("{} exists", path.display()))
            .next("a key that backups may depend on is never overwritten; give another file"),
        durable::Error::Io { .. } => Failure::new(
            Exit::Failed,
            format!("cannot write {}: {}", args.identity.display(), with_causes(&error)),
        ),
    })?;
    match context.output.format {
        Format::Json => context.output.json(&Document {
            schema: 1,
            identity: args.identity,
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
