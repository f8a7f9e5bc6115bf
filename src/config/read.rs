//! Text → [`File`], with every unknown key and every value of a wrong type reported at once.
//!
//! serde stops at the first error. So the offending entry is reported, taken out, and the rest read again, until nothing
//! offends any more.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::error::{Problems, nearest};
use super::file::File;

const EXAMPLE: &str = "docs/sluis.example.toml shows every key with its form";

/// Reads what can be read; the rest is in `problems`. `None` when so little could be read that checking it would only
/// hide the cause.
pub(super) fn read(text: &str, problems: &mut Problems<'_>) -> Option<File> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            problems.add(
                error.span(),
                "",
                format!("this is not TOML: {}", error.message()),
                "repair this line; nothing after it could be read",
            );
            return None;
        }
    };
    let span = table.span();
    let mut table = table.into_inner();
    loop {
        let whole = Spanned::new(span.clone(), DeValue::Table(table.clone()));
        match File::deserialize(ValueDeserializer::from(whole)) {
            Ok(file) => return Some(file),
            Err(error) => {
                let removed = error.span().and_then(|span| remove(&mut table, &span, ""));
                let (what, advice) = explain(error.message(), removed.as_deref());
                problems.add(error.span(), removed.clone().unwrap_or_default(), what, advice);
                removed?;
            }
        }
    }
}

/// Takes the entry at `span` out and returns its key: the entry whose key stands there, else the innermost one whose
/// value holds it.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>, above: &str) -> Option<String> {
    let path = |key: &str| if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
    let mut found = None;
    for (key, value) in table.iter_mut() {
        if key.span() == *span {
            found = Some(key.clone());
            break;
        }
        let name = path(key.get_ref());
        if let Some(inner) = remove_inside(value, span, &name) {
            return Some(inner);
        }
        let holds = value.span().start <= span.start && span.end <= value.span().end;
        if holds {
            found = Some(key.clone());
            break;
        }
    }
    let key = found?;
    table.remove(&key);
    Some(path(key.get_ref()))
}

fn remove_inside(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>, path: &str) -> Option<String> {
    match value.get_mut() {
        DeValue::Table(inner) => remove(inner, span, path),
        DeValue::Array(items) => items.iter_mut().find_map(|item| match item.get_mut() {
            DeValue::Table(inner) => remove(inner, span, path),
            _ => None,
        }),
        _ => None,
    }
}

/// serde's words in ours.
fn explain(message: &str, path: Option<&str>) -> (String, String) {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        let advice = if message.contains("expected a string") {
            "put the value in quotation marks".to_owned()
        } else if message.contains("expected a sequence") {
            "write a list: [\"first\", \"second\"]".to_owned()
        } else {
            EXAMPLE.to_owned()
        };
        return (message.to_owned(), advice);
    };
    let (key, rest) = rest.split_once('`').unwrap_or((rest, ""));
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let place = match path.and_then(|path| path.rsplit_once('.')) {
        Some((section, _)) => format!("[{section}] has no such key"),
        None => "there is no such section".to_owned(),
    };
    let advice = match nearest(key, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    (place, advice)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn problems_of(text: &str) -> Vec<(String, String, String)> {
        let mut problems = Problems::new(text);
        read(text, &mut problems);
        problems
            .into_sorted()
            .into_iter()
            .map(|problem| (problem.key, problem.what, problem.advice))
            .collect()
    }

    /// Proves: -OPS-001
    #[test]
    fn all_unknown_keys_are_found_in_one_reading() {
        let found = problems_of(
            "[nod]\nname = \"a\"\n[dns]\nresolvr = 1\nmode = 2\n[[federation.peer]]\nflor = \"x\"\n[[federation.peer]]\npins = \"p\"\n",
        );
        let keys: Vec<&str> = found.iter().map(|(key, ..)| key.as_str()).collect();
        assert_eq!(keys, ["nod", "dns.resolvr", "dns.mode", "federation.peer.flor", "federation.peer.pins"]);
        assert_eq!(found[0].2, "did you mean `node`?");
        assert_eq!(found[1].2, "did you mean `resolver`?");
        assert_eq!(found[2].2, "put the value in quotation marks");
        assert_eq!(found[3].2, "did you mean `floor`?");
        assert!(found[4].2.starts_with("write a list"));
    }

    /// Proves: -OPS-001
    #[test]
    fn a_broken_text_says_where() {
        let text = "[node]\nname = \"a\n";
        let mut problems = Problems::new(text);
        read(text, &mut problems);
        let found = problems.into_sorted();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at.unwrap().line, 2);
    }
}
