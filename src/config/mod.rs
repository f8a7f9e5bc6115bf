//! The configuration: file as written → checked.
//!
//! # Guarantees
//! - A [`Config`] exists only when every key is known, every name resolves, every file named in it was read, and every
//!   limit lies between its floor and its ceiling. There is no default for something that was written wrongly (OPS-001).
//! - No setting admits less than the two levels of `model::Level` (IDEN-001). What weakens protection stands in `[lab]`,
//!   is refused with the trust anchors of the real root, and is named by [`Config::weakened`] (OPS-002, REC-005).
//! - All that is wrong is reported at once.
//!
//! # Errors
//! [`ConfigError`]: the operator acts. Each problem has a place, a key, what is wrong and what to do.
//!
//! # Standards
//! TOML 1.1. Our text: `spec/09-operations.md` and `spec/08-limits.md`; `docs/sluis.example.toml` for operators.

mod check;
mod checked;
mod error;
pub mod file;
mod limits;
mod read;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub use checked::{
    Binding, Client, Config, ContentHook, Control, DkimKey, Endpoint, EndpointTls, Federation, HandOff,
    Identity, KeyFiles, Location, Log, LogAddresses, LogFormat, Network, Node, NtaHeader, NtaInbound,
    OwnDomainRule, Peer, Recipients, RemoteAddress, SMTP_PORT, Scope, Smime, SmimeKey, Submission, Temporary,
};
pub use error::{ConfigError, Position, Problem};
pub use limits::{Limit, Limits, TABLE, Unit, markdown};

/// Reads and checks a file. `now` decides what is about to expire.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path, now: Timestamp) -> Result<Config, ConfigError> {
    parse(&read_text(path)?, path, now)
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError {
        file: path.to_owned(),
        problems: vec![Problem {
            at: None,
            key: String::new(),
            what: format!("cannot read the configuration: {error}"),
            advice:
                "name it with --config FILE or SLUIS_CONFIG; docs/sluis.example.toml is one to start from"
                    .to_owned(),
        }],
    })
}

/// Checks a text as if it stood in the file `path`; relative paths in it count from that file's directory.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, path: &Path, now: Timestamp) -> Result<Config, ConfigError> {
    let mut problems = error::Problems::new(text);
    let base = path.parent().unwrap_or(Path::new("."));
    let checked =
        read::read(text, &mut problems).and_then(|file| check::check(&file, path, base, now, &mut problems));
    checked.ok_or_else(|| ConfigError { file: path.to_owned(), problems: problems.into_sorted() })
}

/// Only where the control socket of a file's node is, for clients that may not read its keys.
///
/// # Errors
/// The file can't be read, or the keys this takes are wrong.
pub fn control_socket(path: &Path) -> Result<PathBuf, ConfigError> {
    let text = read_text(path)?;
    let mut problems = error::Problems::new(&text);
    let base = path.parent().unwrap_or(Path::new("."));
    let socket = read::read(&text, &mut problems).and_then(|file| check::control(&file, base, &mut problems));
    socket
        .map(|control| control.socket)
        .ok_or_else(|| ConfigError { file: path.to_owned(), problems: problems.into_sorted() })
}

#[cfg(test)]
pub(crate) mod tests;
