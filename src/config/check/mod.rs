//! [`File`] → [`Config`]: one function per section, every problem collected.
//!
//! A section gives `None` only after it has reported why.

mod certificate;
mod content_hook;
mod dkim;
mod federation;
mod handoff;
mod location;
mod node;
mod nta_header;
mod smime;
mod values;

use std::path::Path;

use jiff::Timestamp;

use super::checked::{Config, Control};
use super::error::Problems;
use super::file::File;
use super::limits::{Limits, TABLE};
use crate::discovery::AddressRule;
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
    let limits = check.limits(file);
    let node = check.node(&file.node);
    let lab = check.lab(file);
    let discovery = check.discovery(file, &limits, lab);
    let keys = check.keys(&file.tls, node.as_ref().map(|node| &node.name));
    let ntamx = check.ntamx(&file.federation, node.as_ref());
    let record = check.record(&file.node, ntamx);
    let federation = check.federation(&file.federation, node.as_ref(), file.location.table.is_some());
    let dkim = check.dkim(&file.dkim, node.as_ref());
    let smime = check.smime(&file.smime, node.as_ref());
    let submission = match &file.submission {
        Some(written) => check.submission(written, node.as_ref()).map(Some),
        None => Some(None),
    };
    let environment = check.environment(file.environment.as_ref());
    let fallback = match &file.fallback {
        Some(written) => check.hand_off(written, "fallback").map(Some),
        None => Some(None),
    };
    let content_hook = match &file.content_hook {
        Some(written) => check.content_hook(written, &limits).map(Some),
        None => Some(None),
    };
    let spool = check.spool(file, &limits);
    let nta_header = check.nta_header(&file.nta_header);
    let location = check.location(&file.location, &limits);
    let log = check.log(&file.log);
    let control = check.control(file);
    let admin = check.admin(&file.admin);
    check.listeners(file);
    let warnings = std::mem::take(&mut check.warnings);
    if !problems.is_empty() {
        return None;
    }
    let (keys, key_files) = keys?;
    Some(Config {
        file: path.to_owned(),
        node: node?,
        record: record?,
        discovery: discovery?,
        keys,
        key_files,
        federation: federation?,
        dkim: dkim?,
        smime: smime?,
        submission: submission?,
        environment: environment?,
        fallback: fallback?,
        content_hook: content_hook?,
        spool,
        limits,
        nta_header: nta_header?,
        location: location?,
        log,
        control: control?,
        admin: admin?,
        lab_peer_port: lab?.peer_port,
        warnings,
    })
}

/// Checks only what a client of the control socket needs.
pub(super) fn control(file: &File, base: &Path, problems: &mut Problems<'_>) -> Option<Control> {
    let mut check = Check { problems, warnings: Vec::new(), base, now: Timestamp::UNIX_EPOCH };
    check.control(file)
}

/// `[lab]`, read.
#[derive(Clone, Copy)]
struct Lab {
    peer_port: Option<u16>,
    addresses: AddressRule,
}

impl Lab {
    fn weakens(self) -> bool {
        self.peer_port.is_some() || self.addresses == AddressRule::LabToo
    }
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

    /// `[lab]`. That it does not go together with the real root is checked where the root's keys are read.
    fn lab(&mut self, file: &File) -> Option<Lab> {
        let Some(written) = &file.lab else {
            return Some(Lab { peer_port: None, addresses: AddressRule::PublicOnly });
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
        let addresses = match lab.private_peer_addresses {
            Some(true) => AddressRule::LabToo,
            Some(false) | None => AddressRule::PublicOnly,
        };
        Some(Lab { peer_port, addresses })
    }
}
