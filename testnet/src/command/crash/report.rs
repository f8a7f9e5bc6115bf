//! What a run comes to: for programs, for people, and for `docs/durability.md`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use testnet::crash::Tally;
use testnet::crash::faults::Line;
use testnet::crash::flips::Flips;
use testnet::crash::points::Coverage;
use testnet::crash::subject::{About, Setting};

use super::super::table;

/// Between two lines with this name a report file is written by the harness: for our node, and for another product.
const OURS: &str = "table:runs";
const POSTFIX: &str = "table:postfix";

/// Points that were not visited, if they are to be named for people.
const NAMED: usize = 30;

/// `{"ok", "seed", "parts"}`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// What decided everything random.
    seed: u64,
    /// What was tested.
    pub about: About,
    /// Whether it is not our node: it keeps no records of attempts, so copies are explained by less.
    #[serde(skip)]
    foreign: bool,
    /// When it was.
    date: String,
    parts: Vec<Part>,
    /// Parts that could not be run here, and why.
    not_run: Vec<String>,
    /// Parts that can't be run on this subject anywhere, and why.
    does_not_apply: Vec<String>,
    /// Of the kills at system calls.
    coverage: Option<Coverage>,
    /// What came of each disk fault.
    pub faults: Vec<Line>,
    /// What came of flipped octets, by file.
    pub flips: Vec<Flips>,
}

#[derive(Debug, Serialize)]
struct Part {
    what: String,
    #[serde(flatten)]
    tally: Tally,
}

impl Report {
    /// An empty one.
    pub fn new(seed: u64, foreign: bool) -> Self {
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        Self {
            ok: true,
            seed,
            about: About::default(),
            foreign,
            date,
            parts: Vec::new(),
            not_run: Vec::new(),
            does_not_apply: Vec::new(),
            coverage: None,
            faults: Vec::new(),
            flips: Vec::new(),
        }
    }

    /// Adds what came of a part.
    pub fn add(&mut self, what: impl Into<String>, tally: Tally) {
        self.ok &= tally.ok();
        self.parts.push(Part { what: what.into(), tally });
    }

    /// Adds that a part could not be run on this machine.
    pub fn not_run(&mut self, what: &str, why: &str) {
        self.not_run.push(format!("{what}: not run: {why}"));
    }

    /// Adds that a part makes no sense for this subject.
    pub fn does_not_apply(&mut self, what: &str, why: &str) {
        self.does_not_apply.push(format!("{what}: not run: {why}"));
    }

    /// 0: nothing is wrong; 1: something is; 4: nothing is, of what could be run.
    pub fn exit_code(&self) -> ExitCode {
        match (self.ok, self.not_run.is_empty() && !self.parts.is_empty()) {
            (false, _) => ExitCode::from(1),
            (true, true) => ExitCode::SUCCESS,
            (true, false) => ExitCode::from(4),
        }
    }

    /// Adds how many points were visited; whether it is a fault that some were not.
    pub fn cover(&mut self, coverage: Coverage, all: bool) {
        self.ok &= !all || coverage.unvisited.is_empty();
        self.coverage = Some(coverage);
    }

    fn coverage_text(&self) -> String {
        let Some(Coverage { listed, visited, beside, unvisited }) = &self.coverage else {
            return String::new();
        };
        let mut text = format!(
            "Points (system call, object, stage): {listed} listed, {visited} visited, {beside} beside the lists.\n"
        );
        match unvisited.as_slice() {
            [] => {}
            few if few.len() <= NAMED => text.push_str(&format!("Not visited: {}.\n", few.join("; "))),
            many => text.push_str(&format!("{} not visited (--json names them).\n", many.len())),
        }
        text
    }

    fn fault_rows(&self) -> Vec<Vec<String>> {
        let row = |line: &Line| {
            let numbers = [line.injected, line.acknowledged, line.refused].map(|number| number.to_string());
            [vec![line.fault.clone()], numbers.to_vec(), vec![line.said.clone()]].concat()
        };
        self.faults.iter().map(row).collect()
    }

    fn flip_rows(&self) -> Vec<Vec<String>> {
        let row = |flips: &Flips| {
            let numbers = [flips.flipped, flips.refused, flips.set_aside, flips.harmless];
            [vec![flips.file.clone()], numbers.map(|number| number.to_string()).to_vec()].concat()
        };
        self.flips.iter().map(row).collect()
    }

    fn head(&self) -> &'static [&'static str] {
        if self.foreign { &FOREIGN_HEAD } else { &HEAD }
    }

    /// For people.
    pub fn text(&self) -> String {
        let rows: Vec<_> = self.parts.iter().map(Part::cells).collect();
        let mut text = table(self.head(), &rows);
        if self.coverage.is_some() {
            text.push_str(&format!("\n{}", self.coverage_text()));
        }
        if !self.faults.is_empty() {
            text.push_str(&format!("\n{}", table(&FAULT_HEAD, &self.fault_rows())));
        }
        if !self.flips.is_empty() {
            text.push_str(&format!("\n{}", table(&FLIP_HEAD, &self.flip_rows())));
        }
        for line in self.not_run.iter().chain(&self.does_not_apply) {
            text.push_str(&format!("\n{line}\n"));
        }
        for part in &self.parts {
            for problem in &part.tally.problems {
                text.push_str(&format!("\n{}: {problem}\n", part.what));
            }
        }
        let verdict = match self.ok {
            true if self.parts.is_empty() => "nothing was run",
            true => "nothing acknowledged was lost",
            false => "FAILED",
        };
        text.push_str(&format!("\nseed {}: {verdict}\n", self.seed));
        text
    }

    /// Writes the table into `file`, between its markers.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let text = std::fs::read_to_string(file)?;
        let name = if self.foreign { POSTFIX } else { OURS };
        let [begin, end] = ["begin", "end"].map(|what| format!("<!-- {name} {what} -->"));
        let markers = || io::Error::other(format!("no lines `{begin}` and `{end}`"));
        let (before, rest) = text.split_once(&begin).ok_or_else(markers)?;
        let (_, after) = rest.split_once(&end).ok_or_else(markers)?;
        std::fs::write(file, format!("{before}{begin}\n{}{end}{after}", self.markdown()))
    }

    fn markdown(&self) -> String {
        let rows: Vec<_> = self.parts.iter().map(Part::cells).collect();
        let what = if self.foreign { format!("{}: run", self.about.product) } else { "Run".to_owned() };
        let mut text =
            format!("{what} on {} with seed {}.\n\n{}", self.date, self.seed, grid(self.head(), &rows));
        for line in self.not_run.iter().chain(&self.does_not_apply) {
            text.push_str(&format!("\n{line}.\n"));
        }
        if !self.about.settings.is_empty() {
            let row = |setting: &Setting| vec![format!("`{}`", setting.setting), setting.why.clone()];
            let rows: Vec<_> = self.about.settings.iter().map(row).collect();
            text.push_str(&format!("\n{}", grid(&SETTING_HEAD, &rows)));
        }
        let problems: usize = self.parts.iter().map(|part| part.tally.problems.len()).sum();
        if problems > 0 {
            text.push_str(&format!("\nFAILED: {problems} problems, which the same seed shows again.\n"));
        }
        if self.coverage.is_some() {
            text.push_str(&format!("\n{}", self.coverage_text()));
        }
        if !self.faults.is_empty() {
            text.push_str(&format!("\n{}", grid(&FAULT_HEAD, &self.fault_rows())));
        }
        if !self.flips.is_empty() {
            text.push_str(&format!("\n{}", grid(&FLIP_HEAD, &self.flip_rows())));
        }
        text
    }
}

/// A table in Markdown.
fn grid(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ").replace('\n', " ")));
    }
    text
}

const FAULT_HEAD: [&str; 5] =
    ["fault (at which calls)", "befell", "acknowledged", "refused", "the log says first"];
const FLIP_HEAD: [&str; 5] = ["file", "flipped", "refused to start", "set aside", "harmless"];
const SETTING_HEAD: [&str; 2] = ["not as it comes", "why"];
/// Without records nobody can tell a reply that was lost from one whose record was lost.
const FOREIGN_HEAD: [&str; 9] = [
    "what",
    "times",
    "acknowledged",
    "unanswered",
    "delivered",
    "lost",
    "sent again by the client",
    "again to the other provider",
    "again by LMTP",
];
const HEAD: [&str; 9] = [
    "what",
    "times",
    "acknowledged",
    "unanswered",
    "delivered",
    "lost",
    "sent again",
    "peer reply lost",
    "LMTP reply lost",
];

impl Part {
    fn cells(&self) -> Vec<String> {
        let Tally { kills, acknowledged, unanswered, delivered, lost, duplicates, .. } = &self.tally;
        let numbers = [
            *kills,
            *acknowledged,
            *unanswered,
            *delivered,
            *lost,
            duplicates.submitted_again,
            duplicates.peer_reply_lost,
            duplicates.lmtp_reply_lost,
        ];
        std::iter::once(self.what.clone()).chain(numbers.iter().map(ToString::to_string)).collect()
    }
}
