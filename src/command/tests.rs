//! The command line itself, and what its results look like.
#![allow(clippy::unwrap_used)]

use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_configuration_is_named_by_argument_then_variable_then_custom() {
    let path = |argument: Option<&str>, variable: Option<&str>| {
        config_path(argument.map(PathBuf::from), variable.map(OsString::from))
    };
    assert_eq!(path(Some("a"), Some("b")), Path::new("a"));
    assert_eq!(path(None, Some("b")), Path::new("b"));
    assert_eq!(path(None, Some("")), Path::new(CONFIG_FILE));
    assert_eq!(path(None, None), Path::new(CONFIG_FILE));
}

#[test]
fn tables_are_aligned_by_character() {
    let rows = vec![vec!["ë".to_owned(), "x".to_owned()], vec!["abc".to_owned(), String::new()]];
    assert_eq!(table(&["a", "b"], &rows), "a    b\në    x\nabc\n");
}
