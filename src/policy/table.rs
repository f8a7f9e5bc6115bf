//! The consequences as the table of `spec/05-failures.md`.

use std::fmt::Write as _;

use super::consequence;
use crate::model::{ContentLeft, Reason};

/// The table in Markdown, one row per [`Reason`], in their order.
#[must_use]
pub fn markdown() -> String {
    let mut table = String::from(
        "| reason | requirement | outbound | reply to a client | report status | content may have left | who acts |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for &reason in Reason::ALL {
        let row = consequence(reason);
        let outbound = row.outbound.map_or("", super::Outbound::as_str);
        let reply = row.reply.map_or_else(String::new, |(code, enhanced)| format!("`{code} {enhanced}`"));
        let content = match row.content {
            ContentLeft::Never => "never",
            ContentLeft::Possibly => "from DATA or BDAT on",
            ContentLeft::Yes => "all of it",
        };
        let acts = row.acts.as_str();
        let _ = writeln!(
            table,
            "| `{reason}` | {} | {outbound} | {reply} | `{}` | {content} | {acts} |",
            row.requirement, row.status
        );
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/05-failures.md");
    const BEGIN: &str = "<!-- table:failures begin -->\n";
    const END: &str = "<!-- table:failures end -->";

    #[test]
    fn every_requirement_cited_exists() {
        let list: serde_json::Value =
            serde_json::from_str(include_str!("../../spec/requirements.json")).unwrap();
        let text = list.to_string();
        for &reason in Reason::ALL {
            let id = consequence(reason).requirement;
            assert!(text.contains(&format!("\"{id}\"")), "{reason} cites {id}, which no page defines");
        }
    }

    /// The page carries the code's own table; `SLUIS_BLESS=1` writes it.
    #[test]
    fn the_page_carries_this_table() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (head, rest) = page.split_once(BEGIN).expect("the begin marker stands in the page");
        let (shown, tail) = rest.split_once(END).expect("the end marker stands in the page");
        if std::env::var_os("SLUIS_BLESS").is_some() {
            std::fs::write(PAGE, format!("{head}{BEGIN}{}{END}{tail}", markdown())).unwrap();
        } else {
            assert_eq!(shown, markdown(), "run again with SLUIS_BLESS=1 to write the table into {PAGE}");
        }
    }
}
