//! `lifeboat keygen`: a new age identity.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use age::secrecy::ExposeSecret;
use serde::Serialize;

use super::output::Format;
use super::{Context, Exit, Failure};

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
    let content = format!("# public key: {recipient}\n{}\n", key.to_string().expose_secret());
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.identity)
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| {
        let failure = Failure::new(
            Exit::Failed,
            format!("cannot write {}: {error}", args.identity.display()),
        );
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::new(Exit::Refused, format!("{} exists", args.identity.display()))
                    .next("a key that backups may depend on is never overwritten; give another file")
            }
            _ => failure,
        }
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
                 away from those hosts, in two places that do not burn down together.",
            );
        }
    }
    Ok(Exit::Done)
}
