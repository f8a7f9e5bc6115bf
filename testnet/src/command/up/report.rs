//! What a run comes to: for programs, and as a table.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;
use testnet::net::once::Line;
use testnet::net::verdicts::Verdicts;
use testnet::net::{Net, Part, Provider};

use super::super::table;

/// `{"ok", "providers", "messages"}`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether everything is as expected.
    pub ok: bool,
    /// The providers, in the order of the topology.
    providers: Vec<ProviderFacts>,
    /// What became of each message; none if none was sent.
    messages: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct ProviderFacts {
    id: String,
    name: String,
    domains: Vec<String>,
    hosts: Vec<HostFacts>,
    played_by: &'static str,
    /// Where and with what, if a node plays it.
    #[serde(flatten)]
    node: Option<NodeFacts>,
}

#[derive(Debug, Serialize)]
struct HostFacts {
    name: String,
    address: IpAddr,
    port: u16,
}

#[derive(Debug, Serialize)]
struct NodeFacts {
    submission: String,
    config: PathBuf,
    log: PathBuf,
    process: Option<u32>,
    resolver: String,
    trust_anchor: PathBuf,
}

const HEAD: [&str; 10] =
    ["about", "from", "to", "assurance", "confirmed", "by", "DKIM/SPF/DMARC", "outcome", "latency", ""];

impl Report {
    /// The report of a network and its messages.
    pub fn new(net: &Net, messages: Vec<Line>) -> Self {
        let providers = net.providers.iter().map(|provider| facts(net, provider)).collect();
        Self { ok: messages.iter().all(|line| line.ok), providers, messages }
    }

    /// The messages for people, and what is wrong with them.
    pub fn table(&self) -> String {
        let rows: Vec<_> = self.messages.iter().map(row).collect();
        let mut text = table(&HEAD, &rows);
        for line in self.messages.iter().filter(|line| !line.ok) {
            text.push_str(&format!("\n{} (<{}> to <{}>)\n", line.about, line.from, line.to));
            for problem in &line.problems {
                text.push_str(&format!("  {problem}\n"));
            }
        }
        let good = self.messages.iter().filter(|line| line.ok).count();
        text.push_str(&format!("\n{good} of {} as expected\n", self.messages.len()));
        text
    }
}

fn facts(net: &Net, provider: &Provider) -> ProviderFacts {
    let placed = &provider.placed;
    let (played_by, node) = match &provider.part {
        Part::Node { node, .. } => {
            let facts = NodeFacts {
                submission: node.submission().to_string(),
                config: node.config().to_owned(),
                log: node.log().to_owned(),
                process: node.id(),
                resolver: net.dns.addr().to_string(),
                trust_anchor: net.anchor.ds.clone(),
            };
            ("node", Some(facts))
        }
        Part::Fake(_) => ("testnet", None),
        Part::Nobody(_) => ("nobody", None),
    };
    let port = net.plan.topology.smtp_port;
    let host = |(name, address): &(String, IpAddr)| HostFacts { name: name.clone(), address: *address, port };
    ProviderFacts {
        id: placed.provider.id.clone(),
        name: placed.provider.name.clone(),
        domains: placed.provider.domains.clone(),
        hosts: placed.hosts.iter().map(host).collect(),
        played_by,
        node,
    }
}

fn row(line: &Line) -> Vec<String> {
    let word = |yes: bool| if yes { "yes" } else { "-" }.to_owned();
    let none = || ("-".to_owned(), "-".to_owned());
    let told = |verdicts: &Verdicts| (verdicts.rule.clone(), verdicts.text());
    let (identity, proofs) = line.verdicts.as_ref().map_or_else(none, told);
    vec![
        line.about.clone(),
        format!("<{}>", line.from),
        format!("<{}>", line.to),
        line.assurance.clone().unwrap_or_else(|| "-".to_owned()),
        word(line.peer_confirmed),
        identity,
        proofs,
        outcome(line),
        line.latency_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
        if line.ok { "ok" } else { "FAIL" }.to_owned(),
    ]
}

/// What became of a message, in a few words.
fn outcome(line: &Line) -> String {
    let reason = line.reason.as_deref().unwrap_or("unknown");
    // A reply that is not one of the protocol's stands among the problems in full.
    let reason: String = reason.chars().take(40).collect();
    match (line.delivered, line.code) {
        (true, _) => "delivered".to_owned(),
        (false, Some(code)) => format!("{code} {reason}"),
        (false, None) => format!("not sent: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(about: &str) -> Line {
        Line {
            about: about.into(),
            from: "alice@a.nl".into(),
            to: "bob@b.nl".into(),
            transport: "smtp",
            assurance: None,
            peer_confirmed: false,
            delivered: false,
            verdicts: None,
            latency_ms: None,
            code: None,
            reason: None,
            ok: true,
            problems: Vec::new(),
            record: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_table_shows_each_message_and_then_what_is_wrong() {
        let delivered = Line {
            assurance: Some("mutual".into()),
            peer_confirmed: true,
            delivered: true,
            verdicts: Some(Verdicts {
                rule: "dane".into(),
                dkim: "pass".into(),
                spf: "fail".into(),
                dmarc: "pass".into(),
                ..Verdicts::default()
            }),
            latency_ms: Some(17),
            ..line("a to b")
        };
        let refused = Line { code: Some(550), reason: Some("zone_insecure".into()), ..line("unsigned") };
        let wrong = Line {
            reason: Some("tlsa_absent".into()),
            ok: false,
            problems: vec!["the record says \"later\"".into()],
            ..line("no TLSA")
        };
        let report = Report { ok: false, providers: Vec::new(), messages: vec![delivered, refused, wrong] };
        let text = report.table();
        let expected = "\
about     from          to          assurance  confirmed  by    DKIM/SPF/DMARC  outcome                latency
a to b    <alice@a.nl>  <bob@b.nl>  mutual     yes        dane  pass/fail/pass  delivered              17 ms    ok
unsigned  <alice@a.nl>  <bob@b.nl>  -          -          -     -               550 zone_insecure      -        ok
no TLSA   <alice@a.nl>  <bob@b.nl>  -          -          -     -               not sent: tlsa_absent  -        FAIL

no TLSA (<alice@a.nl> to <bob@b.nl>)
  the record says \"later\"

2 of 3 as expected
";
        assert_eq!(text, expected);
    }

    #[test]
    fn programs_find_the_keys_they_were_promised() -> Result<(), serde_json::Error> {
        let report = Report { ok: true, providers: Vec::new(), messages: vec![line("a to b")] };
        let json = serde_json::to_value(&report)?;
        let keys: Vec<_> = json.as_object().map(|object| object.keys().collect()).unwrap_or_default();
        assert_eq!(keys, ["ok", "providers", "messages"]);
        for key in [
            "from",
            "to",
            "transport",
            "assurance",
            "delivered",
            "verdicts",
            "latency_ms",
            "peer_confirmed",
            "ok",
            "reason",
            "code",
            "problems",
        ] {
            assert!(json["messages"][0].get(key).is_some(), "{key}");
        }
        Ok(())
    }
}
