//! `[node]`, `[dns]`, `[spool]`, `[log]`, `[control]`, `[admin]`, and listening addresses across sections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use tracing::Level as LogLevel;

use super::Lab;
use super::values::Check;
use crate::config::checked::{Control, Log, LogAddresses, LogFormat, Node};
use crate::config::file;
use crate::config::limits::Limits;
use crate::discovery::nta_record::{Publish, PublishError, YearMonth};
use crate::discovery::{Anchors, CacheSettings, DiscoverySettings, DnsSettings, OwnerName, Trust};
use crate::model::{Address, DomainName};
use crate::spool::{self, KeySource};

const DAY_SECONDS: u64 = 24 * 60 * 60;
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
        let state_dir = match &written.state_dir {
            Some(text) => self.path(text),
            None => PathBuf::from(STATE_DIR),
        };
        Some(Node { name: name?, provider: provider?, domains: domains?, postmaster: postmaster?, state_dir })
    }

    fn provider(&mut self, text: &Spanned<String>) -> Option<String> {
        let provider = text.get_ref();
        let fits = !provider.is_empty() && provider.trim() == provider;
        if fits && provider.bytes().all(|octet| (b' '..=b'~').contains(&octet) && octet != b';') {
            return Some(provider.clone());
        }
        self.wrong(
            text,
            "node.provider",
            "cannot stand in an NTA record",
            "use printable ASCII characters without `;`, and no blank at either end",
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

    /// The NTA record to publish (DISC-014).
    pub(super) fn record(
        &mut self,
        written: &file::Node,
        ntamx: Option<Vec<(u16, DomainName)>>,
    ) -> Option<Publish> {
        let advice = "write YYYY-MM; `sluis dns` puts it into the record to publish";
        let start = self
            .need(&written.startdate, "node.startdate", advice)
            .and_then(|text| self.month(text, "node.startdate"));
        let end = self
            .need(&written.enddate, "node.enddate", advice)
            .and_then(|text| self.month(text, "node.enddate"));
        let provider = written.provider.as_ref().filter(|_| !self.problems.mentions("node.provider"))?;
        let record =
            Publish { start: start?, end: end?, provider: provider.get_ref().clone(), ntamx: ntamx? };
        let Err(error) = record.text() else { return Some(record) };
        let (place, key, advice) = match error {
            PublishError::ReversedMonths(..) => {
                (written.enddate.as_ref(), "node.enddate", "exchange or correct the two months")
            }
            PublishError::Provider => {
                let advice = "use printable characters without `;`, and no blank at either end";
                (Some(provider), "node.provider", advice)
            }
            PublishError::Host(_) => (None, "federation.ntamx", "write full host names"),
            PublishError::TooLong(_) => {
                (None, "federation.ntamx", "name fewer hosts, or shorten node.provider")
            }
        };
        self.problems.add(
            place.map(Spanned::span),
            key,
            format!("the NTA record can't be published: {error}"),
            advice,
        );
        None
    }

    fn month(&mut self, text: &Spanned<String>, key: &str) -> Option<YearMonth> {
        let month = text.get_ref().parse().ok();
        if month.is_none() {
            self.wrong(
                text,
                key,
                format!("`{}` is no month", text.get_ref()),
                "write YYYY-MM, such as 2026-01",
            );
        }
        month
    }

    pub(super) fn discovery(
        &mut self,
        file: &file::File,
        limits: &Limits,
        lab: Option<Lab>,
    ) -> Option<DiscoverySettings> {
        let written = &file.dns;
        let resolver = match &written.resolver {
            Some(text) => self.socket(text, "dns.resolver"),
            None => RESOLVER.parse().ok(),
        };
        let modes = [("validate", Mode::Validate), ("ad-bit", Mode::AdBit)];
        let trust = match self.word(&written.mode, "dns.mode", &modes, Mode::Validate)? {
            Mode::Validate => self.anchors(written).map(Trust::Validate),
            Mode::AdBit => self.ad_bit(written, resolver),
        };
        let (trust, lab) = (trust?, lab?);
        self.lab_has_its_own_root(file, &trust, lab)?;
        let mut dns = DnsSettings::new(resolver?, trust);
        dns.try_timeout = Duration::from_secs(limits.dns_try_seconds);
        dns.question_timeout = Duration::from_secs(limits.dns_question_seconds);
        let cache = CacheSettings {
            ttl_floor: Duration::from_secs(limits.dns_cache_floor_seconds),
            ttl_ceiling: Duration::from_secs(limits.dns_cache_ceiling_seconds),
            absence_ceiling: Duration::from_secs(limits.dns_absence_seconds),
            trouble: Duration::from_secs(limits.dns_temporary_seconds),
            entries_max: limits.dns_cache_entries,
        };
        Some(DiscoverySettings { dns, cache, addresses: lab.addresses })
    }

    /// OPS-002: what weakens protection works in a lab only, and a lab has its own DNS root. Writing IANA's keys into a
    /// file does not make them another root.
    fn lab_has_its_own_root(&mut self, file: &file::File, trust: &Trust, lab: Lab) -> Option<()> {
        let real = match trust {
            Trust::Validate(anchors) => anchors.include_iana(),
            Trust::AdBit { .. } => true,
        };
        if !(lab.weakens() && real) {
            return Some(());
        }
        self.problems.add(
            file.lab.as_ref().map(Spanned::span),
            "lab",
            "lab settings weaken protection and are refused together with the trust anchors of the real root",
            "remove [lab]; or, in a test network with a signed root of its own, set dns.trust_anchor_file to its keys",
        );
        None
    }

    fn anchors(&mut self, written: &file::Dns) -> Option<Anchors> {
        let Some(text) = &written.trust_anchor_file else { return Some(Anchors::iana()) };
        let key = "dns.trust_anchor_file";
        let advice = "write the DS or DNSKEY records of the root into it, or leave the key out for IANA's";
        let (path, octets) = self.read(text, key, advice)?;
        match Anchors::from_text(&String::from_utf8_lossy(&octets)) {
            Ok(anchors) => Some(anchors),
            Err(error) => {
                self.wrong(text, key, format!("{}: {error}", path.display()), advice);
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
        let known_bogus = self.self_test(&written.self_test.bogus, "dns.self_test.bogus");
        let known_good = self.self_test(&written.self_test.signed, "dns.self_test.signed");
        Some(Trust::AdBit { known_good: known_good?, known_bogus: known_bogus? })
    }

    fn self_test(&mut self, text: &file::Text, key: &str) -> Option<OwnerName> {
        let advice =
            "name one, such as example.nl; the node refuses to start when the resolver is wrong about it";
        let text = self.need(text, key, advice)?;
        match text.get_ref().parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.wrong(text, key, format!("`{}`: {error}", text.get_ref()), advice);
                None
            }
        }
    }

    pub(super) fn spool(&mut self, file: &file::File, limits: &Limits) -> spool::Settings {
        let dir = match (&file.spool.dir, &file.node.state_dir) {
            (Some(dir), _) => self.path(dir),
            (None, Some(state)) => self.path(state).join("spool"),
            (None, None) => PathBuf::from(STATE_DIR).join("spool"),
        };
        if limits.warning_seconds >= limits.return_seconds {
            self.warnings.push(format!(
                "limits.warning_seconds ({}) is not below limits.return_seconds ({}): mail is returned before its sender is told that it is late",
                limits.warning_seconds, limits.return_seconds
            ));
        }
        let octets = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        spool::Settings {
            key: self.spool_key(&file.spool, &dir),
            dir,
            cache_bytes: octets(limits.spool_cache_octets),
            inline_body_max: octets(limits.inline_octets),
            reserve_octets: limits.spool_reserve_octets,
            content_octets_max: Some(limits.spool_octets),
            retry: spool::Retry {
                first: Duration::from_secs(limits.retry_first_seconds),
                longest: Duration::from_secs(limits.retry_longest_seconds),
                expiry: Duration::from_secs(limits.return_seconds),
                warning: Duration::from_secs(limits.warning_seconds),
            },
            record_retention: Some(Duration::from_secs(limits.record_days * DAY_SECONDS)),
            repeat_window: Duration::from_secs(limits.repeat_window_seconds),
        }
    }

    /// Where the keys of the spool come from (SPOOL-020). A file that is not there is made at the first start.
    fn spool_key(&mut self, written: &file::Spool, dir: &Path) -> KeySource {
        let default = spool::Settings::at(dir).key;
        match (&written.key_file, &written.key_command) {
            (None, None) => default,
            (Some(text), Some(_)) => {
                let advice = "keep one: the file, or the command that prints the keys";
                self.wrong(text, "spool.key_file", "stands beside spool.key_command", advice);
                default
            }
            (Some(text), None) => {
                let path = self.path(text);
                if path.starts_with(dir) {
                    let advice = "put it elsewhere: whoever has a copy of the spool must not have its key";
                    self.wrong(text, "spool.key_file", "lies in the spool itself", advice);
                }
                KeySource::File(path)
            }
            (None, Some(words)) => {
                if words.get_ref().is_empty() {
                    let advice =
                        "write the program and its arguments, as [\"/usr/bin/program\", \"argument\"]";
                    self.wrong(words, "spool.key_command", "is empty", advice);
                }
                KeySource::Command(words.get_ref().iter().map(|word| word.get_ref().clone()).collect())
            }
        }
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
