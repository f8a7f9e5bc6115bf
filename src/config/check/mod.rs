//! [`File`] → [`Config`]: one function per section, every problem collected.
//!
//! A section gives `None` only after it has reported why.

mod certificate;
mod federation;
mod handoff;
mod node;
mod values;

use std::path::Path;

use jiff::Timestamp;

use super::checked::{Config, Lab, PrivatePeers};
use super::error::Problems;
use super::file::File;
use super::limits::{Limits, TABLE};
use values::Check;

/// Checks a file that was read; relative paths count from `base`.
pub(super) fn check(
    file: &File,
    path: &Path,
    base: &Path,
    now: Timestamp,
    problems: &mut Problems<'_>,
) -> Option<Config> {
    let mut check = Check { problems, warnings: Vec::new(), base, now };
    let node = check.node(&file.node);
    let limits = check.limits(file);
    let dns = check.dns(&file.dns);
    let certificates = check.certificates(&file.tls, node.as_ref().map(|node| &node.name));
    let federation = check.federation(&file.federation, node.as_ref());
    let submission = match &file.submission {
        Some(written) => check.submission(written, node.as_ref()).map(Some),
        None => Some(None),
    };
    let environment = check.environment(file.environment.as_ref());
    let fallback = match &file.fallback {
        Some(written) => check.hand_off(written, "fallback").map(Some),
        None => Some(None),
    };
    let spool_dir = check.spool_dir(file);
    let log = check.log(&file.log);
    let control = check.control(file);
    let admin = check.admin(&file.admin);
    let lab = check.lab(file);
    check.listeners(file);
    let warnings = std::mem::take(&mut check.warnings);
    if !problems.is_empty() {
        return None;
    }
    Some(Config {
        file: path.to_owned(),
        node: node?,
        dns: dns?,
        certificates: certificates?,
        federation: federation?,
        submission: submission?,
        environment: environment?,
        fallback: fallback?,
        spool_dir: spool_dir?,
        limits,
        log,
        control: control?,
        admin: admin?,
        lab: lab?,
        warnings,
    })
}

impl Check<'_, '_> {
    /// LIM-001: each configured limit lies between its floor and its ceiling.
    fn limits(&mut self, file: &File) -> Limits {
        let mut limits = Limits::default();
        for (key, value) in &file.limits {
            let name = format!("limits.{}", key.get_ref());
            let Some(limit) = TABLE.iter().find(|limit| limit.key == key.get_ref()) else {
                let advice = match super::error::nearest(key.get_ref(), TABLE.iter().map(|limit| limit.key)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "spec/08-limits.md lists every limit".to_owned(),
                };
                self.problems.add(Some(key.span()), name, "there is no such limit", advice);
                continue;
            };
            match u64::try_from(*value.get_ref()) {
                Ok(number) if limit.admits(number) => limits.set(limit.key, number),
                _ => self.problems.add(
                    Some(value.span()),
                    name,
                    format!(
                        "{} is outside {} to {} ({})",
                        value.get_ref(),
                        limit.floor,
                        limit.ceiling,
                        limit.unit
                    ),
                    format!("take a value in between, or leave it out for {}: {}", limit.default, limit.why),
                ),
            }
        }
        limits
    }

    /// OPS-002: what weakens protection works in a lab only, and a lab has its own DNS root.
    fn lab(&mut self, file: &File) -> Option<Lab> {
        let Some(written) = &file.lab else {
            return Some(Lab { peer_port: None, private_peers: PrivatePeers::Refuse });
        };
        let lab = written.get_ref();
        let peer_port = match &lab.peer_port {
            None => None,
            Some(port) => match u16::try_from(*port.get_ref()) {
                Ok(number) if number > 0 => Some(number),
                _ => {
                    let what = format!("{} is no port", port.get_ref());
                    self.problems.add(
                        Some(port.span()),
                        "lab.peer_port",
                        what,
                        "write a number from 1 to 65535",
                    );
                    return None;
                }
            },
        };
        let private_peers = match lab.private_peer_addresses {
            Some(true) => PrivatePeers::Admit,
            Some(false) | None => PrivatePeers::Refuse,
        };
        let checked = Lab { peer_port, private_peers };
        let weakens = peer_port.is_some() || private_peers == PrivatePeers::Admit;
        if weakens && file.dns.trust_anchor_file.is_none() {
            self.problems.add(
                Some(written.span()),
                "lab",
                "lab settings weaken protection and are refused together with the trust anchors of the real root",
                "remove [lab]; or, in a test network with a signed root of its own, set dns.trust_anchor_file",
            );
            return None;
        }
        Some(checked)
    }
}
