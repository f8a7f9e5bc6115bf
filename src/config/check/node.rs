//! `[node]`, `[dns]`, `[spool]`, `[log]`, `[control]`, `[admin]`, and listening addresses across sections.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;
use tracing::Level as LogLevel;

use super::values::Check;
use crate::config::checked::{Anchors, Control, Dns, Log, LogAddresses, LogFormat, Month, Node, Trust};
use crate::config::file;
use crate::model::{Address, DomainName};

/// The longest character-string of a TXT record (RFC 1035 section 3.3.14); DISC-014 allows one.
const RECORD_OCTETS_MAX: usize = 255;
const STATE_DIR: &str = "/var/lib/sluis";
const RESOLVER: &str = "127.0.0.1:53";

/// `dns.mode`
#[derive(Clone, Copy)]
enum Mode {
    Validate,
    AdBit,
}

impl Check<'_, '_> {
    pub(super) fn node(&mut self, written: &file::Node) -> Option<Node> {
        let name = self
            .need(
                &written.name,
                "node.name",
                "write the host name other providers connect to, as in the certificate",
            )
            .and_then(|text| self.domain(text, "node.name"));
        let provider = self
            .need(&written.provider, "node.provider", "write the provider's name as others should read it")
            .and_then(|text| self.provider(text));
        let domains = self
            .need(&written.domains, "node.domains", "list the mail domains of your customers")
            .and_then(|texts| self.customer_domains(texts));
        let postmaster = self
            .need(&written.postmaster, "node.postmaster", "write the address of the people who run this node")
            .and_then(|text| self.postmaster(text, domains.as_deref()));
        let (startdate, enddate) = self.months(written);
        let state_dir = match &written.state_dir {
            Some(text) => self.path(text),
            None => PathBuf::from(STATE_DIR),
        };
        Some(Node {
            name: name?,
            provider: provider?,
            domains: domains?,
            postmaster: postmaster?,
            state_dir,
            startdate: startdate?,
            enddate: enddate?,
        })
    }

    fn provider(&mut self, text: &Spanned<String>) -> Option<String> {
        let provider = text.get_ref();
        let fits =
            !provider.is_empty() && provider.trim() == provider && provider.len() <= RECORD_OCTETS_MAX / 2;
        if fits && provider.bytes().all(|octet| (b' '..=b'~').contains(&octet) && octet != b';') {
            return Some(provider.clone());
        }
        self.wrong(
            text,
            "node.provider",
            "cannot stand in an NTA record",
            "use 1 to 127 printable ASCII characters without `;`, and no blank at either end",
        );
        None
    }

    fn customer_domains(&mut self, texts: &Spanned<Vec<Spanned<String>>>) -> Option<Vec<DomainName>> {
        let domains = self.domains(texts, "node.domains")?;
        if domains.is_empty() {
            self.wrong(texts, "node.domains", "is empty", "list at least one mail domain");
            return None;
        }
        Some(domains)
    }

    fn postmaster(&mut self, text: &Spanned<String>, domains: Option<&[DomainName]>) -> Option<Address> {
        let address: Address = match text.get_ref().parse() {
            Ok(address) => address,
            Err(error) => {
                let what = format!("`{}` is no mail address: {error}", text.get_ref());
                self.wrong(text, "node.postmaster", what, "write it as postmaster@example.nl");
                return None;
            }
        };
        if domains.is_some_and(|domains| !domains.contains(address.domain())) {
            let what = format!("{} is not one of node.domains", address.domain());
            let advice = "take an address in one of your own domains, so that this node can deliver to it";
            self.wrong(text, "node.postmaster", what, advice);
            return None;
        }
        Some(address)
    }

    fn months(&mut self, written: &file::Node) -> (Option<Month>, Option<Month>) {
        let advice = "write YYYY-MM; `sluis dns` puts it into the record to publish";
        let start = self
            .need(&written.startdate, "node.startdate", advice)
            .and_then(|text| self.month(text, "node.startdate"));
        let end = self
            .need(&written.enddate, "node.enddate", advice)
            .and_then(|text| self.month(text, "node.enddate"));
        if let (Some(first), Some(last), Some(text)) = (start, end, &written.enddate)
            && first > last
        {
            let what = format!("{last} is before node.startdate, {first}");
            self.wrong(text, "node.enddate", what, "exchange or correct the two");
            return (None, None);
        }
        (start, end)
    }

    fn month(&mut self, text: &Spanned<String>, key: &str) -> Option<Month> {
        let written = text.get_ref();
        let digits = written.len() == 7
            && written
                .bytes()
                .enumerate()
                .all(|(at, octet)| if at == 4 { octet == b'-' } else { octet.is_ascii_digit() });
        let parsed = digits
            .then(|| {
                Some(Month { year: written.get(..4)?.parse().ok()?, month: written.get(5..)?.parse().ok()? })
            })
            .flatten()
            .filter(|month| (1..=12).contains(&month.month));
        if parsed.is_none() {
            self.wrong(text, key, format!("`{written}` is no month"), "write YYYY-MM, such as 2026-01");
        }
        parsed
    }

    pub(super) fn dns(&mut self, written: &file::Dns) -> Option<Dns> {
        let resolver = match &written.resolver {
            Some(text) => self.socket(text, "dns.resolver"),
            None => RESOLVER.parse().ok(),
        };
        let modes = [("validate", Mode::Validate), ("ad-bit", Mode::AdBit)];
        let trust = match self.word(&written.mode, "dns.mode", &modes, Mode::Validate)? {
            Mode::Validate => self.anchors(written).map(Trust::Validate),
            Mode::AdBit => self.ad_bit(written, resolver),
        };
        Some(Dns { resolver: resolver?, trust: trust? })
    }

    fn anchors(&mut self, written: &file::Dns) -> Option<Anchors> {
        let Some(text) = &written.trust_anchor_file else { return Some(Anchors::Iana) };
        let key = "dns.trust_anchor_file";
        let advice = "write the DS or DNSKEY records of the root into it, or leave the key out for IANA's";
        let (path, octets) = self.read(text, key, advice)?;
        match String::from_utf8(octets) {
            Ok(content) => Some(Anchors::File { path, text: content }),
            Err(_) => {
                self.wrong(text, key, format!("{} is no text", path.display()), advice);
                None
            }
        }
    }

    /// DNS-007: only this machine's own resolver may be believed.
    fn ad_bit(&mut self, written: &file::Dns, resolver: Option<SocketAddr>) -> Option<Trust> {
        let mode = written.mode.as_ref()?;
        if let Some(address) = resolver
            && !address.ip().is_loopback()
        {
            self.wrong(
                mode,
                "dns.mode",
                format!("the AD bit of {address} can be forged on the way here"),
                "use mode = \"validate\", or a validating resolver on a loopback address",
            );
            return None;
        }
        if let Some(file) = &written.trust_anchor_file {
            let what = "has no effect with mode = \"ad-bit\": the resolver has its own anchors";
            self.wrong(file, "dns.trust_anchor_file", what, "remove it, or use mode = \"validate\"");
            return None;
        }
        let mut name = |text: &file::Text, key: &str| match text {
            Some(text) => self.domain(text, key),
            None => {
                let advice = "name one in the form example.nl; the node refuses to start when the resolver is wrong about it";
                self.need(text, key, advice).and(None)
            }
        };
        let bogus = name(&written.self_test.bogus, "dns.self_test.bogus");
        let signed = name(&written.self_test.signed, "dns.self_test.signed");
        Some(Trust::AdBit { bogus: bogus?, signed: signed? })
    }

    pub(super) fn spool_dir(&mut self, file: &file::File) -> Option<PathBuf> {
        Some(match (&file.spool.dir, &file.node.state_dir) {
            (Some(dir), _) => self.path(dir),
            (None, Some(state)) => self.path(state).join("spool"),
            (None, None) => PathBuf::from(STATE_DIR).join("spool"),
        })
    }

    pub(super) fn log(&mut self, written: &file::Log) -> Log {
        let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
        let levels = [
            ("error", LogLevel::ERROR),
            ("warn", LogLevel::WARN),
            ("info", LogLevel::INFO),
            ("debug", LogLevel::DEBUG),
            ("trace", LogLevel::TRACE),
        ];
        let addresses = [("pseudonymous", LogAddresses::Pseudonymous), ("clear", LogAddresses::Clear)];
        let format = self.word(&written.format, "log.format", &formats, LogFormat::Json);
        let level = self.word(&written.level, "log.level", &levels, LogLevel::INFO);
        let addresses =
            self.word(&written.addresses, "log.addresses", &addresses, LogAddresses::Pseudonymous);
        Log {
            format: format.unwrap_or(LogFormat::Json),
            level: level.unwrap_or(LogLevel::INFO),
            addresses: addresses.unwrap_or(LogAddresses::Pseudonymous),
        }
    }

    /// OPS-004: the socket is open to its owner and group alone.
    pub(super) fn control(&mut self, file: &file::File) -> Option<Control> {
        let socket = match &file.control.socket {
            Some(text) => self.path(text),
            None => match &file.node.state_dir {
                Some(state) => self.path(state).join("control.sock"),
                None => PathBuf::from(STATE_DIR).join("control.sock"),
            },
        };
        let Some(text) = &file.control.mode else { return Some(Control { socket, mode: 0o600 }) };
        let advice = "write \"0600\", or \"0660\" to let a group use it";
        match u32::from_str_radix(text.get_ref(), 8) {
            Ok(mode @ (0o600 | 0o660)) => Some(Control { socket, mode }),
            Ok(mode) if mode & !0o660 != 0 => {
                let what =
                    format!("{} opens the control socket to others than its owner and group", text.get_ref());
                self.wrong(text, "control.mode", what, advice);
                None
            }
            _ => {
                self.wrong(text, "control.mode", format!("`{}` is no usable mode", text.get_ref()), advice);
                None
            }
        }
    }

    /// OPS-007: loopback only.
    pub(super) fn admin(&mut self, written: &file::Admin) -> Option<Option<SocketAddr>> {
        let Some(text) = &written.listen else { return Some(None) };
        let address = self.socket(text, "admin.listen")?;
        if !address.ip().is_loopback() {
            let what =
                format!("{address} is not a loopback address; health and metrics have no access control");
            self.wrong(
                text,
                "admin.listen",
                what,
                "use 127.0.0.1 or [::1], and a proxy of your own for the outside",
            );
            return None;
        }
        Some(Some(address))
    }

    /// Two listeners on one address: the second would not start, or would take the first one's connections.
    pub(super) fn listeners(&mut self, file: &file::File) {
        let mut all: Vec<(&str, &Spanned<String>)> = Vec::new();
        let lists = [
            ("federation.listen", file.federation.listen.as_ref()),
            ("submission.listen", file.submission.as_ref().and_then(|written| written.listen.as_ref())),
        ];
        for (key, list) in lists {
            all.extend(list.into_iter().flat_map(|texts| texts.get_ref()).map(|text| (key, text)));
        }
        all.extend(file.admin.listen.as_ref().map(|text| ("admin.listen", text)));
        let mut seen: Vec<(&str, SocketAddr)> = Vec::new();
        for (key, text) in all {
            let Ok(address) = text.get_ref().parse::<SocketAddr>() else { continue };
            if let Some((other, taken)) = seen.iter().find(|(_, taken)| overlap(*taken, address)) {
                // The same text twice in one list has been reported by the list.
                if !(*other == key && *taken == address) {
                    let what = format!("{address} is taken by {other} ({taken})");
                    self.wrong(text, key, what, "give each listener an address or port of its own");
                }
            }
            seen.push((key, address));
        }
    }
}

/// Whether two listeners would get the same connections. Port 0 is a free port, chosen anew each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    let same_address = a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    same_port && same_address
}
