//! `lifeboat show`: one backup in full.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::host::{From, Places};
use super::list::{BackupDocument, faults};
use super::output::{Format, Output, clean};
use super::source::not_found;
use super::{Context, Exit, Failure};
use crate::catalog::Backup;
use crate::model::ByteSize;

/// Show one backup in full: its manifest, where it lies, how far it is proven
#[derive(clap::Args)]
#[command(after_help = "Example:\n  lifeboat show 20261120T101530Z")]
pub struct Args {
    /// The backup's ID, or a unique beginning of it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    from: From,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    backup: BackupDocument,
    /// To the byte as it is stored.
    manifest: &'a RawValue,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let places = Places::read(context, &args.from)?;
    let backup = places.catalog.find(&args.id);
    let backup = backup.map_err(|error| places.blame(not_found(&error)))?;
    match context.output.format {
        Format::Json => {
            let manifest = serde_json::from_slice(&backup.stored.bytes).expect("it has been parsed before");
            let backup = BackupDocument::new(backup);
            context.output.json(&Document {
                schema: 1,
                backup,
                manifest,
            });
        }
        Format::Text => print(&context.output, backup, &places),
    }
    Ok(Exit::Done)
}

fn print(output: &Output, backup: &Backup, places: &Places) {
    let field = |name: &str, value: String| output.line(format!("{name:<18} {value}"));
    let manifest = backup.manifest();
    for copy in &backup.copies {
        let store = places.stores.get(&copy.destination);
        let path = store.map(|store| store.path_of(&manifest.object_name()).display().to_string());
        field(
            "stored in",
            format!("{}: {}", copy.destination, path.unwrap_or_default()),
        );
    }
    field("proof", backup.proof().to_string());
    faults(backup).into_iter().for_each(|fault| field("fault", fault));
    field("pinned", if backup.is_pinned() { "yes" } else { "no" }.to_owned());
    field(
        "size",
        format!(
            "{}, stored as {}",
            ByteSize(manifest.plain.bytes),
            ByteSize(manifest.stored.bytes)
        ),
    );
    // The rest as it stands in the manifest, whatever a later version may have added.
    let content: Value = serde_json::from_slice(&backup.stored.bytes).expect("it has been parsed before");
    let Value::Object(content) = content else { return };
    for (key, value) in content {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => clean(&text),
            Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
            Value::Object(fields) => {
                let fields = fields.iter().filter(|(_, value)| !value.is_null());
                fields
                    .map(|(key, value)| format!("{key} {}", plain(value)))
                    .collect::<Vec<_>>()
                    .join(", ")
            }
            other @ (Value::Bool(_) | Value::Number(_)) => other.to_string(),
        };
        field(&clean(&key), value);
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        other => other.to_string(),
    }
}
