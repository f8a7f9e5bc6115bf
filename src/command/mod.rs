//! The `sluis` command: one file per subcommand.
//!
//! # Guarantees
//! - Exit codes are stable: see [`Exit`]. Results go to standard output, errors to standard error.
//! - Every command with a result has `--json`: one JSON object on standard output, errors included.
//! - A command other than `run` prints no more than it was asked for: logging is off.
//!
//! # Errors
//! [`Failure`]: what is wrong, what to do, and the exit code that goes with it.

mod check;
mod dns;
mod explain;
mod run;
mod send;
mod spool;
mod status;

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::{ControlClient, ControlError};
use crate::config::{self, Config, ConfigError};
use crate::discovery::ResolverError;
use crate::flow::ReplyError;
use crate::world::World;

/// Where the configuration is when nobody says otherwise.
const CONFIG_FILE: &str = "/etc/sluis/sluis.toml";

/// Federation node between secure-mail providers (NTA 7516).
#[derive(Debug, Parser)]
#[command(name = "sluis", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    /// Configuration file [default: $SLUIS_CONFIG, else /etc/sluis/sluis.toml].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// One JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node.
    Run,
    /// Check the configuration and say what was understood.
    Check,
    /// Say what would happen to a message for ADDRESS, or to a reply to a message, and why. Sends nothing.
    Explain(explain::Arguments),
    /// Print the DNS records to publish.
    Dns(dns::Arguments),
    /// Submit a message to the running node.
    Send(send::Arguments),
    /// Look at what the running node still has to deliver, and act on it.
    #[command(subcommand)]
    Spool(spool::Spool),
    /// Say how the running node is.
    Status,
    /// Have the running node take new keys and configuration, without dropping sessions.
    Reload,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: yes, in order, done.
    Pass,
    /// 1: no, not in order, refused.
    Fail,
    /// 2: the command line or the configuration is wrong.
    Usage,
    /// 3: something else went wrong, so there is no answer.
    Tool,
    /// 4: part of the answer could not be had.
    Incomplete,
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Usage => 2,
            Self::Tool => 3,
            Self::Incomplete => 4,
        }
    }
}

/// The result of a command, in both forms.
struct Report {
    text: String,
    json: Value,
    exit: Exit,
}

impl Report {
    fn new(text: String, json: &impl Serialize, exit: Exit) -> Result<Self, Failure> {
        let json = serde_json::to_value(json).map_err(|error| Failure::tool(error.to_string()))?;
        Ok(Self { text, json, exit })
    }
}

/// A command without a result.
#[derive(Debug)]
struct Failure {
    what: String,
    exit: Exit,
}

impl Failure {
    fn tool(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: Exit::Tool }
    }

    fn usage(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: Exit::Usage }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<ResolverError> for Failure {
    fn from(error: ResolverError) -> Self {
        Self::tool(format!("the resolver: {error}"))
    }
}

impl From<ReplyError> for Failure {
    fn from(error: ReplyError) -> Self {
        let exit = match &error {
            ReplyError::Resolver(_) => Exit::Tool,
            ReplyError::Message(_) => Exit::Usage,
        };
        Self { what: error.to_string(), exit }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match &error {
            ControlError::NotRunning { .. } | ControlError::Broken(_) => Exit::Tool,
            ControlError::Refused(_) | ControlError::NotReloaded(_) => Exit::Fail,
            ControlError::NotSubmitted(refusal) if refusal.temporary => Exit::Incomplete,
            ControlError::NotSubmitted(_) => Exit::Fail,
        };
        Self { what: error.to_string(), exit }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(json, Err(Failure::tool(format!("no runtime: {error}")))),
    };
    let result = runtime.block_on(dispatch(cli));
    // A reader that was left waiting (standard input) must not keep the process.
    runtime.shutdown_background();
    finish(json, result)
}

async fn dispatch(cli: Cli) -> Result<Report, Failure> {
    let path = &config_path(cli.config, std::env::var_os("SLUIS_CONFIG"));
    match cli.command {
        Command::Run => run::run(path).await,
        Command::Check => check::check(path).await,
        Command::Explain(arguments) => explain::explain(path, World::system(), &arguments).await,
        Command::Dns(arguments) => dns::dns(&load(path)?, World::system(), &arguments).await,
        Command::Send(arguments) => send::send(&client(path)?, &arguments).await,
        Command::Spool(command) => spool::spool(&client(path)?, command).await,
        Command::Status => status::status(&client(path)?).await,
        Command::Reload => status::reload(&client(path)?).await,
    }
}

fn config_path(argument: Option<PathBuf>, variable: Option<OsString>) -> PathBuf {
    let variable = variable.filter(|value| !value.is_empty()).map(PathBuf::from);
    argument.or(variable).unwrap_or_else(|| PathBuf::from(CONFIG_FILE))
}

fn load(path: &Path) -> Result<Config, ConfigError> {
    config::load(path, jiff::Timestamp::now())
}

fn client(path: &Path) -> Result<ControlClient, ConfigError> {
    config::control_socket(path).map(ControlClient::new)
}

fn finish(json: bool, result: Result<Report, Failure>) -> ExitCode {
    let exit = match result {
        Ok(report) => {
            if json {
                print(&format!("{:#}\n", report.json));
            } else {
                print(&report.text);
            }
            report.exit
        }
        Err(failure) => {
            if json {
                print(&format!("{:#}\n", json!({ "ok": false, "error": failure.what })));
            }
            eprintln!("error: {}", failure.what);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

/// A reader that went away (`sluis spool list | head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Rows as a table with aligned columns, two blanks between them.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &dyn Display>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{:<width$}", cell.to_string())).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().map(|cell| cell as &dyn Display));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(|cell| cell as &dyn Display)));
    }
    text
}

/// Somebody else's words for a terminal: nothing in them may move its cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
