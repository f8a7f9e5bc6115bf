//! Which node program is tested.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::NetError;

/// Whether a missing program may be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// With cargo, in this source tree.
    IfNeeded,
    /// No: it must be there.
    Never,
}

/// The program given, else the `sluis` beside this one, else one that cargo builds.
///
/// Run by cargo, the one beside us may be of an older source; then cargo decides whether it is up to date.
///
/// # Errors
/// [`NetError::NoNode`].
pub async fn locate(given: Option<&Path>, build: Build) -> Result<PathBuf, NetError> {
    if let Some(path) = given {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(NetError::NoNode(format!("{} is no file", path.display())))
        };
    }
    let own = std::env::current_exe().map_err(NetError::machine("finding this program"))?;
    // Test programs live in `deps/`, one level down.
    let places = own.ancestors().skip(1).take(2).map(|dir| dir.join("sluis"));
    let beside = places.clone().find(|path| path.is_file());
    let from_cargo = std::env::var_os("CARGO").filter(|_| build == Build::IfNeeded);
    match (beside, from_cargo) {
        (Some(path), None) => Ok(path),
        (None, None) if build == Build::Never => {
            Err(NetError::NoNode("there is no `sluis` beside this program; give one with --node".to_owned()))
        }
        (beside, cargo) => {
            let cargo = cargo.unwrap_or_else(|| "cargo".into());
            build_with(&cargo).await?;
            beside.or_else(|| places.clone().find(|path| path.is_file())).ok_or_else(|| {
                NetError::NoNode(
                    "cargo built `sluis`, but not beside this program; give it with --node".to_owned(),
                )
            })
        }
    }
}

/// Cargo shows its own progress on standard error.
async fn build_with(cargo: &std::ffi::OsStr) -> Result<(), NetError> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let status = Command::new(cargo)
        .args(["build", "--release", "--bin", "sluis", "--manifest-path", manifest])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .map_err(|error| NetError::NoNode(format!("cargo could not be started: {error}")))?;
    if status.success() { Ok(()) } else { Err(NetError::NoNode(format!("cargo build: {status}"))) }
}
