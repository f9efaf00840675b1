//! The command line: one file a command. Commands read the configuration, call a use case and print what came out.

mod accept_lineage;
mod agent;
mod arguments;
mod backup;
mod check;
mod compact;
mod copy;
mod exit;
mod export;
mod follow;
mod host;
mod inspect;
mod keygen;
mod list;
mod manual;
mod metrics;
mod notify;
mod pin;
mod prune;
mod rebuild;
mod recovery_sheet;
mod release;
mod restore;
mod rewrap;
mod rollback;
mod show;
mod status;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use arguments::From;
pub use exit::{Exit, Failure};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::Log;
use crate::health::Level;
use crate::process::Interrupt;
use crate::terminal::{
    Color, Format, Given, Output, Paint, Style, Verbosity, answer_plugins, labelled, remember, styled,
};

/// Where the configuration is when `--config` does not say.
const DEFAULT_CONFIG: &str = "/etc/lifeboat/config.toml";

/// The heading in `--help` of what every command takes.
const GLOBAL: &str = "Options of every command";

/// Backup and restore of etcd.
///
/// Takes compressed, encrypted snapshots of a running etcd and lays out new data directories from them, without any
/// etcd tool.
#[derive(Parser)]
#[command(name = "lifeboat", version, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 partly done, 4 not found, 5 verification failed, \
    6 locked, 7 refused, 8 no identity opens it, 78 configuration invalid."
)]
pub struct Cli {
    /// The configuration; X/name.toml takes X/name.d/*.toml along [default: /etc/lifeboat/config.toml]
    // Not a default of the parser's, which would name it in every line of usage as if it had to be given.
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    config: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Say on standard error what is being done
    #[arg(long, short, global = true, conflicts_with = "quiet", help_heading = GLOBAL)]
    verbose: bool,
    /// No warnings and no progress; errors only
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    quiet: bool,
    /// Colours: on a terminal unless NO_COLOR is set, everywhere, or nowhere
    #[arg(long, global = true, value_name = "WHEN", help_heading = GLOBAL, default_value = "auto", hide_default_value = true)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Agent(agent::Args),
    Status(status::Args),
    Backup(backup::Args),
    List(list::Args),
    Show(show::Args),
    Verify(verify::Args),
    Inspect(inspect::Args),
    Export(export::Args),
    Compact(compact::Args),
    Rebuild(rebuild::Args),
    Restore(restore::Args),
    Rollback(rollback::Args),
    Release(release::Args),
    Prune(prune::Args),
    Copy(copy::Args),
    Rewrap(rewrap::Args),
    Pin(pin::PinArgs),
    Unpin(pin::UnpinArgs),
    Check(check::Args),
    AcceptLineage(accept_lineage::Args),
    Metrics(metrics::Args),
    Notify(notify::Args),
    RecoverySheet(recovery_sheet::Args),
    Keygen(keygen::Args),
    #[command(hide = true)]
    Completions(manual::CompletionsArgs),
    #[command(hide = true)]
    Manual(manual::ManualArgs),
}

impl Command {
    /// Whether it goes on when nobody may be there any more to read what it says.
    fn outlives_terminals(&self) -> bool {
        match self {
            Command::Restore(args) => args.changes_something(),
            Command::Rollback(_) | Command::Release(_) => true,
            Command::Agent(_)
            | Command::Status(_)
            | Command::Backup(_)
            | Command::List(_)
            | Command::Show(_)
            | Command::Verify(_)
            | Command::Inspect(_)
            | Command::Export(_)
            | Command::Compact(_)
            | Command::Rebuild(_)
            | Command::Prune(_)
            | Command::Copy(_)
            | Command::Rewrap(_)
            | Command::Pin(_)
            | Command::Unpin(_)
            | Command::Check(_)
            | Command::AcceptLineage(_)
            | Command::Metrics(_)
            | Command::Notify(_)
            | Command::RecoverySheet(_)
            | Command::Keygen(_)
            | Command::Completions(_)
            | Command::Manual(_) => false,
        }
    }

    /// The store that it was told to read.
    fn from(&self) -> Option<&From> {
        match self {
            Command::List(args) => Some(&args.from),
            Command::Show(args) => Some(&args.from),
            Command::Verify(args) => Some(&args.from),
            Command::Inspect(args) => Some(&args.source.from),
            Command::Export(args) => Some(&args.source.from),
            Command::Compact(args) => Some(&args.source.from),
            Command::Rebuild(args) => Some(&args.source.from),
            Command::Restore(args) => Some(&args.from),
            Command::Agent(_)
            | Command::Status(_)
            | Command::Backup(_)
            | Command::Rollback(_)
            | Command::Release(_)
            | Command::Prune(_)
            | Command::Copy(_)
            | Command::Rewrap(_)
            | Command::Pin(_)
            | Command::Unpin(_)
            | Command::Check(_)
            | Command::AcceptLineage(_)
            | Command::Metrics(_)
            | Command::Notify(_)
            | Command::RecoverySheet(_)
            | Command::Keygen(_)
            | Command::Completions(_)
            | Command::Manual(_) => None,
        }
    }
}

/// What every command gets.
struct Context {
    config: PathBuf,
    output: Output,
    runtime: Runtime,
}

/// Says on standard error what an error is, once the command line is used up.
#[derive(Debug, Clone, Copy)]
pub struct Errors {
    is_styled: bool,
}

impl Errors {
    /// Says it. Nobody may be there to read it any more.
    pub fn say(self, error: &str) {
        const LABEL: &str = "error:";
        labelled(&styled(LABEL, Style::Bad, self.is_styled), LABEL.len(), error);
    }
}

impl Cli {
    /// Reads the command line; an answer to `--help` is an error too.
    pub fn read() -> Result<Cli, clap::Error> {
        let mut command = Cli::command();
        command.build();
        // In an error the parser shows as given whatever has a default: each command shows its own usage instead.
        let mut command = command.mut_subcommands(|mut subcommand| {
            let usage = subcommand.render_usage().to_string();
            let usage = usage.trim_start_matches("Usage: ").to_owned();
            subcommand.override_usage(usage)
        });
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        Cli::from_arg_matches(&matches)
    }

    /// All there is to say to who has named no command.
    pub fn help() -> String {
        Cli::command().render_help().to_string()
    }

    /// Whether the command uses stores, any of which may hang.
    pub fn uses_stores(&self) -> bool {
        match self.command {
            Command::Status(_)
            | Command::Metrics(_)
            | Command::Notify(_)
            | Command::Backup(_)
            | Command::List(_)
            | Command::Show(_)
            | Command::Verify(_)
            | Command::Inspect(_)
            | Command::Export(_)
            | Command::Compact(_)
            | Command::Rebuild(_)
            | Command::Prune(_)
            | Command::Copy(_)
            | Command::Rewrap(_)
            | Command::Pin(_)
            | Command::Unpin(_)
            | Command::Check(_)
            | Command::AcceptLineage(_) => true,
            // The agent is told its end by systemd; what changes the data of etcd is watched over by its ledger.
            Command::Agent(_) | Command::Restore(_) | Command::Rollback(_) | Command::Release(_) => false,
            Command::RecoverySheet(_) | Command::Keygen(_) | Command::Completions(_) | Command::Manual(_) => false,
        }
    }

    /// Whether the caller is a program.
    pub fn wants_json(&self) -> bool {
        self.json
    }

    /// Who says on standard error what an error is.
    pub fn errors(&self) -> Errors {
        Errors {
            is_styled: Paint::wanted(self.color).err,
        }
    }

    /// Runs the command to its end. `Ok` may still be [`Exit::Partly`].
    pub fn run(self) -> Result<Exit, Failure> {
        remember(Given {
            config: self.config.as_ref().map(|config| config.display().to_string()),
            from: self.command.from().and_then(From::again),
        });
        let format = if self.json { Format::Json } else { Format::Text };
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        };
        let context = Context {
            config: self.config.unwrap_or_else(|| DEFAULT_CONFIG.into()),
            output: Output {
                format,
                verbosity,
                paint: Paint::wanted(self.color),
                journal: self
                    .command
                    .outlives_terminals()
                    .then(|| Log::beside(host::now))
                    .flatten(),
            },
            runtime: runtime()?,
        };
        if !matches!(self.command, Command::Agent(_)) {
            answer_plugins();
        }
        let done = match self.command {
            // It keeps the context as long as a job may need it.
            Command::Agent(args) => return agent::run(context, args),
            Command::Status(args) => status::run(&context, args),
            Command::Backup(args) => backup::run(&context, args),
            Command::List(args) => list::run(&context, args),
            Command::Show(args) => show::run(&context, args),
            Command::Verify(args) => verify::run(&context, args),
            Command::Inspect(args) => inspect::run(&context, args),
            Command::Export(args) => export::run(&context, args),
            Command::Compact(args) => compact::run(&context, args),
            Command::Rebuild(args) => rebuild::run(&context, args),
            Command::Restore(args) => restore::run(&context, args),
            Command::Rollback(args) => rollback::run(&context, args),
            Command::Release(args) => release::run(&context, args),
            Command::Prune(args) => prune::run(&context, args),
            Command::Copy(args) => copy::run(&context, args),
            Command::Rewrap(args) => rewrap::run(&context, args),
            Command::Pin(args) => pin::pin(&context, args),
            Command::Unpin(args) => pin::unpin(&context, args),
            Command::Check(args) => check::run(&context, args),
            Command::AcceptLineage(args) => accept_lineage::run(&context, args),
            Command::Metrics(args) => metrics::run(&context, args),
            Command::Notify(args) => notify::run(&context, args),
            Command::RecoverySheet(args) => recovery_sheet::run(&context, args),
            Command::Keygen(args) => keygen::run(&context, args),
            Command::Completions(args) => manual::completions(&context, &args),
            Command::Manual(args) => manual::manual(&args),
        };
        if let Err(failure) = &done {
            context.output.copy(Level::Error, &failure.to_string());
        }
        // A thread that hangs in a store's file system must not keep the program.
        context.runtime.shutdown_background();
        done
    }
}

/// Where commands wait. A closed terminal does not end them.
fn runtime() -> Result<Runtime, Failure> {
    let refused = |error| Failure::new(Exit::Failed, format!("cannot start: {error}"));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().map_err(refused)?;
    let _guard = runtime.enter();
    // Listening to it, even without ever asking, takes its power to kill.
    drop(signal(SignalKind::hangup()).map_err(refused)?);
    Ok(runtime)
}

/// Listens from now on for whoever asks the program to stop, whatever it is busy with.
fn listen(context: &Context) -> Interrupt {
    Interrupt::listen(context.runtime.handle(), Exit::Failed as u8)
}

/// The same as a flag, for work that does not wait.
fn interrupted_flag(context: &Context) -> Arc<AtomicBool> {
    listen(context).flag
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::terminal::{CONFIGURED, READING};

    #[test]
    fn what_the_next_command_needs_is_known_of_every_command() {
        let cli = Cli::command();
        // That of `copy` names a destination.
        let takes_from = |command: &&clap::Command| {
            command.get_name() != "copy" && command.get_arguments().any(|arg| arg.get_id() == "from")
        };
        let names = |commands: Vec<&clap::Command>| -> BTreeSet<String> {
            commands.iter().map(|command| command.get_name().to_owned()).collect()
        };
        let listed = |list: &[&str]| -> BTreeSet<String> { list.iter().map(|&name| name.to_owned()).collect() };
        assert_eq!(
            names(cli.get_subcommands().filter(takes_from).collect()),
            listed(&READING)
        );
        let mut known = listed(&CONFIGURED);
        known.extend(listed(&["release", "keygen", "completions", "manual"]));
        assert_eq!(names(cli.get_subcommands().collect()), known);
    }
}
