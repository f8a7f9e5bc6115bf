//! Which node program is tested.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use tokio::process::Command;

use super::NetError;

/// The source tree this program was built from.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What of it makes the node.
const OF_THE_NODE: [&str; 3] = ["src", "Cargo.toml", "Cargo.lock"];

/// Whether a program that is missing or out of date may be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// With cargo, in this source tree.
    IfNeeded,
    /// No: what is there is taken as it is.
    Never,
}

/// The program given, else the `sluis` beside this one, else one that cargo builds.
///
/// The one beside us is taken as it is unless a source file is newer, which is cargo's own measure. So inside
/// `cargo test --workspace`, which has just built it, and outside of a source tree, cargo is not started.
///
/// # Errors
/// [`NetError::NoNode`].
pub async fn locate(given: Option<&Path>, build: Build) -> Result<PathBuf, NetError> {
    if let Some(path) = given {
        return if path.is_file() {
            // A relative one would be looked for in PATH.
            path.canonicalize().map_err(NetError::machine(path.display().to_string()))
        } else {
            Err(NetError::NoNode(format!("{} is no file", path.display())))
        };
    }
    let own = std::env::current_exe().map_err(NetError::machine("finding this program"))?;
    let beside = places(&own).into_iter().find(|path| path.is_file());
    match (beside, build) {
        (Some(path), Build::Never) => Ok(path),
        (Some(path), Build::IfNeeded) if !is_older_than_sources(&path, Path::new(SOURCES)) => Ok(path),
        (None, Build::Never) => {
            Err(NetError::NoNode("there is no `sluis` beside this program; give one with --node".to_owned()))
        }
        (_, Build::IfNeeded) => build_into(&target_of(&own)?).await,
    }
}

/// Beside this program; test programs live one level down, in `deps/`.
fn places(own: &Path) -> Vec<PathBuf> {
    own.ancestors().skip(1).take(2).map(|directory| directory.join("sluis")).collect()
}

/// The target directory that `own` was built into, so that cargo builds `sluis` there too, whatever its settings are.
fn target_of(own: &Path) -> Result<PathBuf, NetError> {
    // Cargo writes the tag only when it makes the directory itself, the lock always.
    let marks = ["CACHEDIR.TAG", "release/.cargo-lock"];
    let target = own.ancestors().find(|directory| marks.iter().any(|mark| directory.join(mark).is_file()));
    target.map(Path::to_owned).ok_or_else(|| {
        NetError::NoNode(format!(
            "the `sluis` beside {} is missing or older than its sources, and cargo did not build it there; give one with \
             --node",
            own.display()
        ))
    })
}

/// Cargo shows its own progress on standard error.
///
/// `--workspace` makes cargo choose the features of shared dependencies over both packages. Together with `--bin` it still
/// builds nothing but the node.
async fn build_into(target: &Path) -> Result<PathBuf, NetError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .args(["build", "--release", "--workspace", "--bin", "sluis", "--target-dir"])
        .arg(target)
        .current_dir(SOURCES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .map_err(|error| NetError::NoNode(format!("cargo, to build it, does not start: {error}")))?;
    let program = target.join("release").join("sluis");
    if status.success() && program.is_file() {
        Ok(program)
    } else {
        Err(NetError::NoNode(format!("cargo could not build it ({status})")))
    }
}

/// Whether something that makes the node changed after it was built. Sources that can't be read did not change.
fn is_older_than_sources(program: &Path, sources: &Path) -> bool {
    let Some(built) = changed(program) else { return true };
    OF_THE_NODE.iter().any(|name| any_newer(&sources.join(name), built))
}

fn any_newer(path: &Path, built: SystemTime) -> bool {
    match std::fs::read_dir(path) {
        Ok(entries) => entries
            .flatten()
            .filter(|entry| !is_for_tests(&entry.file_name().to_string_lossy()))
            .any(|entry| any_newer(&entry.path(), built)),
        Err(_) => changed(path).is_some_and(|changed| changed > built),
    }
}

/// Cargo does not build the node anew for a test that changed.
fn is_for_tests(name: &str) -> bool {
    ["tests", "testdata", "snapshots", "tests.rs"].contains(&name) || name.ends_with("_tests.rs")
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{File, create_dir_all, write};
    use std::time::Duration;

    fn touch(path: &Path, seconds: u64) {
        if !path.exists() {
            write(path, "").unwrap();
        }
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
    }

    #[test]
    fn a_node_is_out_of_date_when_any_of_its_sources_is_newer() {
        let tree = tempfile::tempdir().unwrap();
        let (program, deep) = (tree.path().join("sluis"), tree.path().join("src/flow"));
        create_dir_all(&deep).unwrap();
        touch(&program, 100);
        assert!(!is_older_than_sources(&program, &tree.path().join("gone")));
        for source in [tree.path().join("Cargo.lock"), tree.path().join("src/main.rs"), deep.join("mod.rs")] {
            touch(&source, 90);
            assert!(!is_older_than_sources(&program, tree.path()), "{}", source.display());
            touch(&source, 110);
            assert!(is_older_than_sources(&program, tree.path()), "{}", source.display());
            touch(&source, 90);
        }
        create_dir_all(deep.join("tests")).unwrap();
        for other in [tree.path().join("README.md"), deep.join("tests/mod.rs"), deep.join("mod_tests.rs")] {
            touch(&other, 110);
            assert!(!is_older_than_sources(&program, tree.path()), "{}", other.display());
        }
    }

    #[tokio::test]
    async fn a_program_that_is_given_must_be_there() {
        let error = locate(Some(Path::new("/nowhere/sluis")), Build::IfNeeded).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/sluis is no file"), "{error}");
        let this = std::env::current_exe().unwrap();
        assert_eq!(locate(Some(&this), Build::Never).await.unwrap(), this.canonicalize().unwrap());
    }

    #[test]
    fn it_is_looked_for_beside_commands_and_beside_tests() {
        assert_eq!(places(Path::new("/t/release/testnet"))[0], Path::new("/t/release/sluis"));
        assert_eq!(places(Path::new("/t/release/deps/once-1a"))[1], Path::new("/t/release/sluis"));
        let target = tempfile::tempdir().unwrap();
        let test = target.path().join("release/deps/once-1a");
        assert!(target_of(&test).is_err());
        for mark in ["CACHEDIR.TAG", "release/.cargo-lock"] {
            create_dir_all(target.path().join("release")).unwrap();
            write(target.path().join(mark), "").unwrap();
            assert_eq!(target_of(&test).unwrap(), target.path());
            std::fs::remove_file(target.path().join(mark)).unwrap();
        }
    }
}
