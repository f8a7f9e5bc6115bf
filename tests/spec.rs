//! Keeps `spec/` true: its form, its list for machines, its links, its vectors, and the promise that every MUST has a
//! test that shows the good case (`+`) and one that shows a violation refused (`-`).
//!
//! A test says what it proves in a doc line above its attribute: `Proves: +DISC-004 -DISC-004`. What has no test yet
//! stands in `spec/unproven.toml`; that list is a ratchet and only becomes shorter.
//!
//! `SLUIS_BLESS=1 cargo test --release -p sluis --test spec` rewrites what is derived: `spec/requirements.json`, and
//! `spec/unproven.toml` without the lines that are proven by now. It never adds a line there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One numbered paragraph of the pages, as `requirements.json` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Requirement {
    id: String,
    level: String,
    page: String,
    text: String,
    source: String,
}

/// A `+ID` or `-ID`: the requirement, seen from its good or from its bad side.
type Claim = String;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn blessing() -> bool {
    std::env::var_os("SLUIS_BLESS").is_some_and(|v| v == "1")
}

/// Fails with all problems at once, and with what to do about them.
fn report(problems: &[String], what_to_do: &str) {
    assert!(problems.is_empty(), "\n  {}\n\nWhat to do: {what_to_do}\n", problems.join("\n  "));
}

// ---------------------------------------------------------------------------------------------- the pages

/// All pages, as (name below `spec/`, text), in reading order.
fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<_> = fs::read_dir(root().join("spec"))
        .expect("spec/ is part of the repository")
        .map(|entry| entry.expect("spec/ can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|path| {
            let name = path.file_name().expect("a listed file has a name").to_string_lossy().into_owned();
            (name, read(&path))
        })
        .collect();
    pages.sort();
    pages
}

/// Splits `**ABC-001** (MUST) text *Source: source.*`; the error says which part is wrong.
fn parse_paragraph(page: &str, paragraph: &str) -> Result<Requirement, String> {
    let flat = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let rest = flat.strip_prefix("**").ok_or("does not begin with `**`")?;
    let (id, rest) = rest.split_once("** ").ok_or("no `** ` after the id")?;
    if !is_id(id) {
        return Err(format!("`{id}` is no id (2 to 5 capitals, hyphen, 3 digits)"));
    }
    let (level, rest) = rest
        .strip_prefix('(')
        .and_then(|r| r.split_once(") "))
        .ok_or("no `(MUST)` or `(SHOULD)` after the id")?;
    if level != "MUST" && level != "SHOULD" {
        return Err(format!("`({level})` is neither (MUST) nor (SHOULD)"));
    }
    let (text, source) = rest.split_once(" *Source: ").ok_or("no ` *Source: …*`")?;
    let source = source.strip_suffix(".*").ok_or("does not end with `.*` after the source")?;
    if !text.ends_with('.') {
        return Err("the text does not end with a full stop before the source".to_owned());
    }
    if source.is_empty() || source.contains('*') || text.len() < 20 {
        return Err("empty source, a `*` in it, or no text to speak of".to_owned());
    }
    Ok(Requirement {
        id: id.to_owned(),
        level: level.to_owned(),
        page: page.to_owned(),
        text: text.to_owned(),
        source: source.to_owned(),
    })
}

fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(family, number)| {
        (2..=5).contains(&family.len())
            && family.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 3
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The requirements of one page, and what is wrong with its form.
fn parse_page(page: &str, text: &str) -> (Vec<Requirement>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for paragraph in text.split("\n\n").map(|p| p.trim_matches('\n')) {
        if !paragraph.starts_with("**") || !paragraph[2..].chars().take(2).all(|c| c.is_ascii_uppercase()) {
            continue;
        }
        match parse_paragraph(page, paragraph) {
            Ok(requirement) => found.push(requirement),
            Err(why) => problems.push(format!("{page}: {:.40}…: {why}", paragraph.replace('\n', " "))),
        }
    }
    (found, problems)
}

/// Every requirement in order of the pages; panics with the list of problems when the pages are not in form.
fn requirements() -> Vec<Requirement> {
    let (mut all, mut problems) = (Vec::<Requirement>::new(), Vec::new());
    for (page, text) in pages() {
        let (found, wrong) = parse_page(&page, &text);
        all.extend(found);
        problems.extend(wrong);
    }
    problems.extend(order_problems(&all));
    report(&problems, "bring the paragraph into the form that spec/README.md shows.");
    all
}

/// Ids are unique, rise within their family, and a family lives on one page.
fn order_problems(all: &[Requirement]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut last: BTreeMap<&str, &Requirement> = BTreeMap::new();
    for this in all {
        let family = this.id.split('-').next().unwrap_or_default();
        if let Some(before) = last.insert(family, this) {
            if before.id >= this.id {
                problems.push(format!("{}: {} stands after {}", this.page, this.id, before.id));
            }
            if before.page != this.page {
                problems.push(format!("{}: family {family} already lives in {}", this.page, before.page));
            }
        }
    }
    problems
}

/// Words that look like an id, wherever they stand.
fn mentioned_ids(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .map(|word| word.trim_matches('-'))
        .filter(|word| is_id(word))
        .collect()
}

#[test]
fn requirements_are_in_form_and_references_exist() {
    let known: BTreeSet<String> = requirements().into_iter().map(|r| r.id).collect();
    let mut families: BTreeSet<&str> = known.iter().filter_map(|id| id.split('-').next()).collect();
    families.remove("");
    let mut problems = Vec::new();
    for (page, text) in pages() {
        for id in mentioned_ids(&text) {
            let ours = id.split('-').next().is_some_and(|family| families.contains(family));
            if ours && !known.contains(id) {
                problems.push(format!("{page}: mentions {id}, which no page defines"));
            }
        }
    }
    report(&problems, "correct the id, or define the requirement on the page of its family.");
}

#[test]
fn the_machine_readable_list_is_up_to_date() {
    let path = root().join("spec/requirements.json");
    let mut expected = serde_json::to_string_pretty(&requirements()).expect("strings serialise");
    expected.push('\n');
    if blessing() {
        fs::write(&path, &expected).expect("spec/requirements.json can be written");
    }
    let same = fs::read_to_string(&path).is_ok_and(|found| found == expected);
    assert!(same, "\n  spec/requirements.json differs from the pages\n\nWhat to do: {BLESS}\n");
}

const BLESS: &str = "run `SLUIS_BLESS=1 cargo test --release -p sluis --test spec` and commit what changed.";

// ---------------------------------------------------------------------------------------------- links

/// Targets of inline links outside code blocks.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.starts_with("    ") {
            continue;
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let (target, tail) = after.split_once(')').unwrap_or((after, ""));
            found.push(target);
            rest = tail;
        }
    }
    found
}

/// The fragment under which a heading can be linked.
fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter_map(|c| match c {
                    ' ' => Some('-'),
                    c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                    _ => None,
                })
                .collect()
        })
        .collect()
}

#[test]
fn links_between_pages_resolve() {
    let mut problems = Vec::new();
    for (page, text) in pages() {
        for target in links(&text).into_iter().filter(|t| !t.contains("://")) {
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = root().join("spec").join(if file.is_empty() { page.as_str() } else { file });
            if !path.is_file() {
                problems.push(format!("{page}: link to {target}, but there is no such file"));
            } else if !fragment.is_empty() && !anchors(&read(&path)).contains(fragment) {
                problems.push(format!("{page}: link to {target}, but there is no such heading"));
            }
        }
    }
    report(&problems, "correct the link, or the heading it points to.");
}

// ---------------------------------------------------------------------------------------------- the vectors

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    vector: Vec<Vector>,
}

/// One vector as written; only its form is judged here, the parsers judge its content.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    id: String,
    requirement: String,
    txt: Vec<Vec<String>>,
    at: jiff::Timestamp,
    verdict: String,
    reason: String,
    hosts: Option<Vec<(u16, String)>>,
    provider: Option<String>,
    #[serde(default)]
    dropped: usize,
    note: String,
}

#[test]
fn vectors_are_in_form() {
    let known: BTreeSet<String> = requirements().into_iter().map(|r| r.id).collect();
    let page = read(&root().join("spec/02-discovery.md"));
    let file = read(&root().join("spec/vectors/nta-record.toml"));
    let vectors: Vectors =
        toml::from_str(&file).unwrap_or_else(|e| panic!("spec/vectors/nta-record.toml: {e}"));
    assert!(vectors.vector.len() >= 60, "the record needs at least 60 vectors");
    let mut problems = Vec::new();
    for (number, v) in vectors.vector.iter().enumerate() {
        let mut wrong = |why: String| problems.push(format!("{} ({}): {why}", v.id, v.note));
        if v.id != format!("TXT-{:03}", number + 1) {
            wrong(format!("is number {}", number + 1));
        }
        if !known.contains(&v.requirement) {
            wrong(format!("no requirement {}", v.requirement));
        }
        let row = |line: &&str| {
            line.starts_with(&format!("| `{}` |", v.verdict))
                || line.contains(&format!("`, `{}` |", v.verdict))
        };
        if !page.lines().filter(row).any(|line| line.contains(&format!("`{}`", v.reason))) {
            wrong(format!("02-discovery.md has no reason `{}` for verdict `{}`", v.reason, v.verdict));
        }
        if (v.verdict == "valid") != v.hosts.is_some() {
            wrong("hosts belong to valid records, and to no others".to_owned());
        }
        if v.verdict != "valid" && (v.provider.is_some() || v.dropped != 0) {
            wrong("provider and dropped belong to valid records".to_owned());
        }
        if v.hosts.as_ref().is_some_and(|hosts| !hosts.is_sorted()) {
            wrong("hosts are not in order".to_owned());
        }
        if v.txt.iter().flatten().any(|s| s.len() > 255) {
            wrong("a character-string holds at most 255 octets".to_owned());
        }
        if v.at.subsec_nanosecond() != 0 || v.note.is_empty() {
            wrong("`at` is in whole seconds, `note` says what is special".to_owned());
        }
    }
    report(&problems, "correct the vector, or the table of reason words in 02-discovery.md.");
}

// ---------------------------------------------------------------------------------------------- the proofs

/// All Rust files that may prove something, relative to the repository.
fn rust_files() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for path in entries.map(|entry| entry.expect("a source directory can be listed").path()) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for dir in ["src", "tests", "testnet"] {
        walk(&root().join(dir), &mut found);
    }
    found.sort();
    found
}

/// What the tests of one file claim, as (claim, `file:line`), and claims that do not count.
fn claims_in(file: &str, text: &str) -> (Vec<(Claim, String)>, Vec<String>) {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let (mut claims, mut problems) = (Vec::new(), Vec::new());
    for (at, line) in lines.iter().enumerate() {
        let Some(comment) = line.strip_prefix("//") else { continue };
        let Some(list) = comment.trim_start_matches(['/', '!', ' ']).strip_prefix("Proves:") else {
            continue;
        };
        let place = format!("{file}:{}", at + 1);
        match attributes_below(&lines[at + 1..]) {
            _ if !comment.starts_with("/ ") => {
                problems.push(format!("{place}: write `/// Proves:`, a doc line"))
            }
            attributes if !attributes.iter().any(|a| is_test_attribute(a)) => {
                problems.push(format!("{place}: no test attribute follows, so nothing is proven"));
            }
            attributes if attributes.iter().any(|a| a.starts_with("#[ignore")) => {
                problems.push(format!("{place}: an ignored test proves nothing"));
            }
            _ => {}
        }
        for word in list.split_whitespace() {
            if word.starts_with(['+', '-']) && is_id(&word[1..]) {
                claims.push((word.to_owned(), place.clone()));
            } else {
                problems.push(format!("{place}: `{word}` is not `+ID` or `-ID`"));
            }
        }
        if list.trim().is_empty() {
            problems.push(format!("{place}: names no requirement"));
        }
    }
    (claims, problems)
}

/// The attributes between a doc line and the item it documents; other doc lines may stand among them.
fn attributes_below(lines: &[&str]) -> Vec<String> {
    let mut attributes = Vec::<String>::new();
    let mut open = 0_usize;
    for line in lines {
        if open == 0 && line.starts_with("//") {
            continue;
        }
        if open == 0 && !line.starts_with("#[") {
            break;
        }
        if open == 0 {
            attributes.push(String::new());
        }
        if let Some(attribute) = attributes.last_mut() {
            attribute.push_str(line);
        }
        open = (open + line.matches('[').count()).saturating_sub(line.matches(']').count());
    }
    attributes
}

fn is_test_attribute(attribute: &str) -> bool {
    let path = attribute.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
    path == "test" || path.ends_with("::test") || path == "test_case" || path == "test_log"
}

/// Claims that a MUST of `requirements` needs: one of each sign.
fn needed(requirements: &[Requirement]) -> BTreeSet<Claim> {
    requirements
        .iter()
        .filter(|r| r.level == "MUST")
        .flat_map(|r| [format!("+{}", r.id), format!("-{}", r.id)])
        .collect()
}

/// Compares what is needed, claimed and excused. Every line of the result is one thing to repair.
fn proof_problems(
    requirements: &[Requirement],
    claimed: &[(Claim, String)],
    unproven: &BTreeMap<Claim, String>,
) -> Vec<String> {
    let known: BTreeSet<&str> = requirements.iter().map(|r| r.id.as_str()).collect();
    let needed = needed(requirements);
    let proven: BTreeMap<&str, &str> =
        claimed.iter().map(|(c, place)| (c.as_str(), place.as_str())).collect();
    let mut problems: Vec<String> = claimed
        .iter()
        .filter(|(claim, _)| !known.contains(&claim[1..]))
        .map(|(claim, place)| {
            format!("{place}: {claim}: no page defines it; see spec/README.md for the families")
        })
        .collect();
    for claim in &needed {
        if !proven.contains_key(claim.as_str()) && !unproven.contains_key(claim) {
            let what = if claim.starts_with('+') { "the good case pass" } else { "a violation refused" };
            problems.push(format!(
                "{claim}: no test shows {what}; write one with the line `/// Proves: {claim}`"
            ));
        }
    }
    for (claim, because) in unproven {
        if let Some(place) = proven.get(claim.as_str()) {
            problems.push(format!(
                "{claim}: proven at {place}; remove its line from spec/unproven.toml (or bless)"
            ));
        } else if !needed.contains(claim) {
            problems.push(format!("{claim}: in spec/unproven.toml, but no MUST needs it"));
        } else if because.trim().len() < 8 {
            problems.push(format!("{claim}: spec/unproven.toml gives no reason"));
        }
    }
    problems
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unproven {
    unproven: BTreeMap<Claim, String>,
}

/// `spec/unproven.toml` without the lines of claims that are proven; comments stay.
fn without_proven(file: &str, proven: &BTreeSet<&str>) -> String {
    file.lines().filter(|line| !line.split('"').nth(1).is_some_and(|claim| proven.contains(claim))).fold(
        String::new(),
        |mut kept, line| {
            let _ = writeln!(kept, "{line}");
            kept
        },
    )
}

#[test]
fn every_must_has_a_positive_and_a_negative_test() {
    let requirements = requirements();
    let (mut claimed, mut problems) = (Vec::new(), Vec::new());
    for path in rust_files() {
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let (claims, wrong) = claims_in(&name, &read(&path));
        claimed.extend(claims);
        problems.extend(wrong);
    }
    let path = root().join("spec/unproven.toml");
    let mut file = read(&path);
    if blessing() {
        file = without_proven(&file, &claimed.iter().map(|(claim, _)| claim.as_str()).collect());
        fs::write(&path, &file).expect("spec/unproven.toml can be written");
    }
    let excused: Unproven = toml::from_str(&file).unwrap_or_else(|e| panic!("spec/unproven.toml: {e}"));
    problems.extend(proof_problems(&requirements, &claimed, &excused.unproven));
    let (total, open) = (needed(&requirements).len(), excused.unproven.len());
    println!("{} of {total} claims proven, {open} open in spec/unproven.toml", total.saturating_sub(open));
    report(&problems, "each line says it; for lines that are proven by now, bless.");
}

// ---------------------------------------------------------------------------------------------- the gate itself

fn sample(id: &str, level: &str) -> Requirement {
    let paragraph = format!("**{id}** ({level}) A statement that can be tested.\n*Source: RFC 5321\n4.1.*");
    parse_paragraph("p.md", &paragraph).expect("the sample is in form")
}

#[test]
fn a_paragraph_out_of_form_is_named() {
    assert_eq!(sample("DISC-001", "MUST").source, "RFC 5321 4.1");
    for (paragraph, why) in [
        ("**DISC-1** (MUST) A statement that can be tested. *Source: x.*", "is no id"),
        ("**DISC-001** (MAY) A statement that can be tested. *Source: x.*", "neither"),
        ("**DISC-001** MUST A statement that can be tested. *Source: x.*", "no `(MUST)`"),
        ("**DISC-001** (MUST) A statement that can be tested.", "no ` *Source"),
        ("**DISC-001** (MUST) A statement that can be tested. *Source: x*", "does not end"),
        ("**DISC-001** (MUST) A statement that can be tested *Source: x.*", "full stop"),
    ] {
        let (found, problems) = parse_page("p.md", paragraph);
        assert!(found.is_empty() && problems[0].contains(why), "{paragraph}: {problems:?}");
    }
    let twice = [sample("DISC-002", "MUST"), sample("DISC-002", "MUST"), sample("DISC-001", "MUST")];
    assert_eq!(order_problems(&twice).len(), 2);
}

#[test]
fn a_claim_counts_only_above_a_test() {
    let good = "/// What it shows.\n/// Proves: +DISC-001 -DISC-002\n#[tokio::test(flavor = \"x\",\n worker_threads = 2)]\n#[allow(x)]\nasync fn t() {}";
    let (claims, problems) = claims_in("a.rs", good);
    assert_eq!((claims.len(), problems.len()), (2, 0), "{problems:?}");
    for (text, why) in [
        ("/// Proves: +DISC-001\nfn helper() {}", "no test attribute"),
        ("/// Proves: +DISC-001\n\n#[test]\nfn t() {}", "no test attribute"),
        ("// Proves: +DISC-001\n#[test]\nfn t() {}", "a doc line"),
        ("/// Proves: +DISC-001\n#[test]\n#[ignore]\nfn t() {}", "ignored"),
        ("/// Proves: DISC-001\n#[test]\nfn t() {}", "is not `+ID`"),
        ("/// Proves: +DISC-001, -DISC-002\n#[test]\nfn t() {}", "is not `+ID`"),
        ("/// Proves:\n#[test]\nfn t() {}", "names no requirement"),
    ] {
        let (_, problems) = claims_in("a.rs", text);
        assert!(problems.iter().any(|p| p.contains(why)), "{text}: {problems:?}");
    }
}

#[test]
fn the_ratchet_turns_one_way() {
    let requirements = [sample("DISC-001", "MUST"), sample("DISC-002", "SHOULD")];
    let claims =
        |list: &[&str]| list.iter().map(|c| ((*c).to_owned(), "a.rs:1".to_owned())).collect::<Vec<_>>();
    let excused =
        |list: &[&str]| list.iter().map(|c| ((*c).to_owned(), "not built yet".to_owned())).collect();
    let problems = |c: &[&str], e: &[&str]| proof_problems(&requirements, &claims(c), &excused(e));
    assert!(problems(&["+DISC-001", "-DISC-001"], &[]).is_empty());
    assert!(problems(&["+DISC-001"], &["-DISC-001"]).is_empty());
    assert!(problems(&["+DISC-001"], &[])[0].contains("-DISC-001: no test shows a violation"));
    assert!(problems(&["+DISC-001", "-DISC-001"], &["-DISC-001"])[0].contains("remove its line"));
    assert!(problems(&["+DISC-001", "-DISC-001"], &["-DISC-002"])[0].contains("no MUST needs it"));
    assert!(problems(&["+DISC-001", "-DISC-001", "+DISC-009"], &[])[0].contains("no page defines it"));
    let file = "# why\n[unproven]\n\"+DISC-001\" = \"x\"\n\"-DISC-001\" = \"y\"\n";
    assert_eq!(without_proven(file, &["+DISC-001"].into()), "# why\n[unproven]\n\"-DISC-001\" = \"y\"\n");
}

#[test]
fn links_and_headings_are_read_as_a_page_shows_them() {
    assert_eq!(
        links("see [a](b.md#c) and [d](e.md)\n```\n[no](x.md)\n```\n    [no](y.md)"),
        ["b.md#c", "e.md"]
    );
    assert!(anchors("## The confirmation: `XPEERLEVEL`").contains("the-confirmation-xpeerlevel"));
}
