//! What stands where, and what to try: for somebody who sees a federation for the first time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use testnet::net::{Net, NodeProcess, Part, Provider};
use testnet::sink::Stored;
use testnet::topology::Message;

/// What is there, and lines to copy.
pub fn text(net: &Net) -> String {
    let mut out = format!("{}\n\n", net.plan.topology.about);
    let dns = net.dns.addr();
    line(
        &mut out,
        0,
        "DNS",
        &format!("{dns}, the resolver of every node: a signed root, nl, and the zones below"),
    );
    line(&mut out, 0, "anchor", &net.anchor.ds.display());
    line(&mut out, 0, "files", &net.directory().display());
    for provider in &net.providers {
        provider_block(&mut out, net, provider);
    }
    things_to_try(&mut out, net);
    out.push_str("\nWhat arrives is shown here. Ctrl-C ends everything.\n");
    out
}

fn line(out: &mut String, indent: usize, name: &str, value: &dyn std::fmt::Display) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{:indent$}{name:<12}{value}", "");
}

fn provider_block(out: &mut String, net: &Net, provider: &Provider) {
    let placed = &provider.placed;
    let domains = placed.provider.domains.join(", ");
    let _ = writeln!(out, "\n{} ({domains})", placed.provider.name);
    for (name, address) in &placed.hosts {
        line(out, 2, "host", &format!("{name}, {address}:{}", net.plan.topology.smtp_port));
    }
    match &provider.part {
        Part::Node { node, sink } => {
            line(out, 2, "submission", &node.submission());
            line(out, 2, "config", &node.config().display());
            line(out, 2, "log", &node.log().display());
            line(out, 2, "mail", &sink.directory().display());
        }
        Part::Fake(_) => line(out, 2, "played by", &"the testnet, which does what the topology says"),
        Part::Nobody(_) => line(out, 2, "played by", &"nobody: no message may get as far as a connection"),
    }
}

fn things_to_try(out: &mut String, net: &Net) {
    let messages = net.plan.topology.expected();
    let first = messages.iter().find_map(|message| Some((message, sender(net, message)?)));
    let Some((message, node)) = first else { return };
    let Message { from, to, .. } = message;
    let (ip, port) = (node.submission().ip(), node.submission().port());
    let (sluis, config) = (quoted(node.program()), quoted(node.config()));
    out.push_str("\nSend a message by hand:\n");
    let _ = writeln!(
        out,
        "  swaks --server {ip} --port {port} --tls --from {from} --to {to} --header 'Subject: hello'"
    );
    out.push_str("\nAsk what would happen, and why; nothing is sent:\n");
    for (to, about) in recipients_of(net, node, &messages) {
        let _ = writeln!(out, "  {sluis} explain {to} --config {config}{about}");
    }
    out.push_str("\nLook at the records, as the node does:\n");
    let dns = net.dns.addr();
    let domain = to.rsplit_once('@').map_or("", |(_, domain)| domain);
    let _ = writeln!(out, "  dig @{} -p {} +dnssec {domain} TXT", dns.ip(), dns.port());
    let anchor = quoted(&net.anchor.bind);
    let _ = writeln!(out, "  delv @{} -p {} -a {anchor} +root=. {domain} TXT", dns.ip(), dns.port());
    out.push_str("\nLook at a node:\n");
    for command in ["status", "spool list", "dns --verify", "check"] {
        let _ = writeln!(out, "  {sluis} {command} --config {config}");
    }
}

/// The node that sends a message, if one does.
fn sender<'a>(net: &'a Net, message: &Message) -> Option<&'a NodeProcess> {
    net.node(&net.plan.topology.sender_of(message)?.id)
}

/// To whom `node` sends messages, each with what it shows.
fn recipients_of<'a>(net: &Net, node: &NodeProcess, messages: &'a [Message]) -> Vec<(&'a str, String)> {
    let own =
        messages.iter().filter(|message| sender(net, message).is_some_and(|other| std::ptr::eq(other, node)));
    let about = |message: &Message| {
        if message.about.is_empty() { String::new() } else { format!("  # {}", message.about) }
    };
    own.map(|message| (message.to.as_str(), about(message))).collect()
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What arrived, told once.
#[derive(Debug, Default)]
pub struct Arrivals {
    told: BTreeMap<String, usize>,
}

impl Arrivals {
    /// A line for each message that arrived since the last call.
    pub fn news(&mut self, net: &Net) -> Vec<String> {
        let mut lines = Vec::new();
        for provider in &net.providers {
            let Some(sink) = provider.sink() else { continue };
            let messages = sink.messages();
            let told = self.told.entry(provider.placed.provider.id.clone()).or_default();
            lines.extend(messages.iter().skip(*told).map(|stored| arrival(provider, stored)));
            *told = messages.len();
        }
        lines
    }
}

fn arrival(provider: &Provider, stored: &Stored) -> String {
    let Stored { arrived, sender, recipients, octets, .. } = stored;
    let time = arrived.strftime("%H:%M:%S");
    let recipients = recipients.join(", ");
    let name = &provider.placed.provider.name;
    let file = stored.file();
    format!("{time} {name}: <{sender}> to {recipients}, {octets} octets: {}\n", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_copied_into_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/testnet-Ab1/a/sluis.toml")), "/tmp/testnet-Ab1/a/sluis.toml");
        assert_eq!(quoted(Path::new("/tmp/it's here")), r"'/tmp/it'\''s here'");
        assert_eq!(quoted(Path::new("/tmp/$x")), "'/tmp/$x'");
    }
}
