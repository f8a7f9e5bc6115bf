//! `[federation]`, `[[federation.peer]]`, `[submission]`, `[[submission.client]]`.

use std::collections::BTreeMap;
use std::ops::Range;

use rustls_pki_types::CertificateDer;
use toml::Spanned;

use super::values::Check;
use crate::config::checked::{
    Client, Federation, Identity, Network, Node, OwnDomainRule, Peer, Scope, Submission, Temporary,
};
use crate::config::file;
use crate::model::{Digest, DomainName, IdentityRule, Level};

const NTAMX_DEFAULT: u16 = 10;
const LISTEN: &str = "list the addresses to listen on, such as [\"0.0.0.0:25\", \"[::]:25\"]";

impl Check<'_, '_> {
    pub(super) fn federation(
        &mut self,
        written: &file::Federation,
        node: Option<&Node>,
        has_table: bool,
    ) -> Option<Federation> {
        let listen = self.sockets(&written.listen, "federation.listen", LISTEN);
        let floor = self.floor(&written.floor, "federation.floor", Level::Mutual);
        // An error in the general floor must not hide the errors of the peers.
        let peers = self.peers(&written.peer, floor.unwrap_or(Level::Mutual), node, has_table);
        Some(Federation { listen: listen?, floor: floor?, peers: peers? })
    }

    pub(super) fn ntamx(
        &mut self,
        written: &file::Federation,
        node: Option<&Node>,
    ) -> Option<Vec<(u16, DomainName)>> {
        let Some(texts) = &written.ntamx else { return Some(vec![(NTAMX_DEFAULT, node?.name.clone())]) };
        let key = "federation.ntamx";
        let hosts = self.list(texts, key, Self::preference_and_host)?;
        if let Some(node) = node
            && !hosts.iter().any(|(_, host)| *host == node.name)
        {
            self.wrong(
                texts,
                key,
                format!("{} (node.name) is not in the list", node.name),
                "add it: peers accept mail of our domains from the listed hosts only, this node's included",
            );
            return None;
        }
        Some(hosts)
    }

    fn preference_and_host(&mut self, text: &Spanned<String>, key: &str) -> Option<(u16, DomainName)> {
        let parsed = text
            .get_ref()
            .split_once(' ')
            .and_then(|(preference, host)| Some((preference.parse().ok()?, host.trim().parse().ok()?)));
        if parsed.is_none() {
            let what = format!("`{}` is no preference with a host", text.get_ref());
            self.wrong(text, key, what, "write it as \"10 nta-a.example.nl\"");
        }
        parsed
    }

    fn peers(
        &mut self,
        written: &[Spanned<file::Peer>],
        floor: Level,
        node: Option<&Node>,
        has_table: bool,
    ) -> Option<Vec<Peer>> {
        let read: Vec<Option<Peer>> =
            written.iter().map(|entry| self.peer(entry, floor, node, has_table)).collect();
        let mut names = BTreeMap::new();
        let mut places = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for (entry, peer) in written.iter().zip(&read) {
            let Some(peer) = peer else { continue };
            self.unique(
                entry.span(),
                &mut names,
                peer.name.clone(),
                &peer.name,
                "federation.peer.name",
                "name",
            );
            for (place, key) in places_of(&peer.scope) {
                self.unique(entry.span(), &mut places, place.clone(), &peer.name, key, &place);
            }
            for (octets, shown, key) in keys_of(&peer.identity) {
                self.unique(entry.span(), &mut keys, octets, &peer.name, key, &shown);
            }
        }
        read.into_iter().collect()
    }

    /// IDEN-018 for keys and authorities; the same rule keeps names and hosts unambiguous.
    fn unique<K: Ord>(
        &mut self,
        span: Range<usize>,
        seen: &mut BTreeMap<K, String>,
        value: K,
        peer: &str,
        key: &str,
        shown: &str,
    ) {
        if let Some(other) = seen.insert(value, peer.to_owned()) {
            self.problems.add(
                Some(span),
                key,
                format!("{shown} of peer `{peer}` is configured for peer `{other}` too"),
                "give it to one peer only: two peers with one key, host or name could not be told apart",
            );
        }
    }

    fn peer(
        &mut self,
        entry: &Spanned<file::Peer>,
        floor: Level,
        node: Option<&Node>,
        has_table: bool,
    ) -> Option<Peer> {
        let (written, span) = (entry.get_ref(), entry.span());
        let advice = "give this peer a name of your own; logs and records use it";
        let name = self.need_in(span.clone(), &written.name, "federation.peer.name", advice);
        let scope = self.scope(entry, node);
        let floor = self.floor(&written.floor, "federation.peer.floor", floor);
        let identity = self.identity(entry);
        let location = self.peer_location(&written.location, has_table);
        let name = name?.get_ref().clone();
        Some(Peer { name, scope: scope?, floor: floor?, identity: identity?, location: location? })
    }

    fn scope(&mut self, entry: &Spanned<file::Peer>, node: Option<&Node>) -> Option<Scope> {
        let written = entry.get_ref();
        let section = "federation.peer";
        match (&written.domain, &written.hosts) {
            (Some(text), None) => {
                let domain = self.domain(text, "federation.peer.domain")?;
                if node.is_some_and(|node| node.domains.contains(&domain)) {
                    let what = format!("{domain} is one of our own node.domains");
                    self.wrong(
                        text,
                        "federation.peer.domain",
                        what,
                        "a peer is another provider; remove this entry",
                    );
                    return None;
                }
                Some(Scope::Domain(domain))
            }
            (None, Some(texts)) => {
                let hosts = self.domains(texts, "federation.peer.hosts")?;
                if hosts.is_empty() {
                    self.wrong(
                        texts,
                        "federation.peer.hosts",
                        "is empty",
                        "list the peer's hosts, or use `domain`",
                    );
                    return None;
                }
                Some(Scope::Hosts(hosts))
            }
            (Some(text), Some(_)) => {
                let what = "has both `domain` and `hosts`";
                self.wrong(
                    text,
                    section,
                    what,
                    "keep one: `domain` follows the peer's NTA record, `hosts` is a fixed list",
                );
                None
            }
            (None, None) => {
                if !self.problems.mentions("federation.peer.domain")
                    && !self.problems.mentions("federation.peer.hosts")
                {
                    let advice = "add `domain` (the hosts of its NTA record) or `hosts` (a fixed list)";
                    self.problems.add(
                        Some(entry.span()),
                        section,
                        "does not say which hosts are meant",
                        advice,
                    );
                }
                None
            }
        }
    }

    fn identity(&mut self, entry: &Spanned<file::Peer>) -> Option<Identity> {
        let written = entry.get_ref();
        let rules = [
            ("dane", IdentityRule::Dane),
            ("pinned", IdentityRule::Pinned),
            ("federation_ca", IdentityRule::FederationCa),
        ];
        let rule = self.word(&written.identity, "federation.peer.identity", &rules, IdentityRule::Dane)?;
        if let Some(pins) = written.pins.as_ref().filter(|_| rule != IdentityRule::Pinned) {
            let what = format!("has no effect with identity = \"{rule}\"");
            self.wrong(pins, "federation.peer.pins", what, "set identity = \"pinned\", or remove the pins");
            return None;
        }
        if let Some(ca) = written.ca.as_ref().filter(|_| rule != IdentityRule::FederationCa) {
            let what = format!("has no effect with identity = \"{rule}\"");
            self.wrong(
                ca,
                "federation.peer.ca",
                what,
                "set identity = \"federation_ca\", or remove the authority",
            );
            return None;
        }
        match rule {
            IdentityRule::Dane => Some(Identity::Dane),
            IdentityRule::Pinned => {
                let advice = "identity = \"pinned\" needs the SHA-256 of at least one of the peer's keys";
                let pins = self.need_in(entry.span(), &written.pins, "federation.peer.pins", advice)?;
                self.pins(pins, "federation.peer.pins").map(Identity::Pinned)
            }
            IdentityRule::FederationCa => {
                let advice = "identity = \"federation_ca\" needs the PEM file of this peer's authority";
                let ca = self.need_in(entry.span(), &written.ca, "federation.peer.ca", advice)?;
                let (_, roots) = self.authorities(ca, "federation.peer.ca", advice)?;
                Some(Identity::FederationCa(roots))
            }
        }
    }

    pub(super) fn submission(
        &mut self,
        written: &file::Submission,
        node: Option<&Node>,
    ) -> Option<Submission> {
        let listen = self.sockets(
            &written.listen,
            "submission.listen",
            "list the addresses your platform connects to",
        );
        let words = [("refuse", Temporary::Refuse), ("queue", Temporary::Queue)];
        let temporary = self.word(&written.temporary, "submission.temporary", &words, Temporary::Refuse);
        let words = [("warn", OwnDomainRule::Warn), ("refuse", OwnDomainRule::Refuse)];
        let own_domain =
            self.word(&written.own_domain, "submission.own_domain", &words, OwnDomainRule::Refuse);
        if written.client.is_empty() && !self.problems.mentions("submission.client") {
            let advice =
                "add [[submission.client]]; without one nobody may submit, and open relays do not exist here";
            self.problems.add(None, "submission.client", "is missing", advice);
        }
        let clients: Vec<Option<Client>> =
            written.client.iter().map(|entry| self.client(entry, node)).collect();
        let mut names = BTreeMap::new();
        for (entry, client) in written.client.iter().zip(&clients) {
            let Some(client) = client else { continue };
            if names.insert(client.name.clone(), ()).is_some() {
                let what = format!("two clients are called `{}`", client.name);
                self.problems.add(Some(entry.span()), "submission.client.name", what, "rename one");
            }
        }
        Some(Submission {
            listen: listen?,
            temporary: temporary?,
            own_domain: own_domain?,
            clients: clients.into_iter().collect::<Option<_>>()?,
        })
    }

    fn client(&mut self, entry: &Spanned<file::Client>, node: Option<&Node>) -> Option<Client> {
        let (written, span) = (entry.get_ref(), entry.span());
        let advice = "give this client a name of your own; logs and records use it";
        let name = self.need_in(span.clone(), &written.name, "submission.client.name", advice);
        let addresses = match &written.addresses {
            Some(texts) => self.list(texts, "submission.client.addresses", Self::network),
            None => Some(Vec::new()),
        };
        let pins = match &written.pins {
            Some(texts) => self.pins(texts, "submission.client.pins"),
            None => Some(Vec::new()),
        };
        let domains = match &written.domains {
            Some(texts) => self.sender_domains(texts, node),
            None => node.map(|node| node.domains.clone()),
        };
        let (addresses, pins) = (addresses?, pins?);
        if addresses.is_empty() && pins.is_empty() {
            let advice = "add `addresses` (networks it connects from) or `pins` (keys of its certificates)";
            self.problems.add(Some(span), "submission.client", "does not say who this is", advice);
            return None;
        }
        Some(Client { name: name?.get_ref().clone(), addresses, pins, domains: domains? })
    }

    fn network(&mut self, text: &Spanned<String>, key: &str) -> Option<Network> {
        let network: Option<Network> = text.get_ref().parse().ok();
        if network.is_none() {
            let what = format!("`{}` is no network", text.get_ref());
            self.wrong(
                text,
                key,
                what,
                "write it as 192.0.2.0/24 or 2001:db8::/32, without bits beyond the prefix",
            );
        }
        network
    }

    fn sender_domains(
        &mut self,
        texts: &Spanned<Vec<Spanned<String>>>,
        node: Option<&Node>,
    ) -> Option<Vec<DomainName>> {
        let key = "submission.client.domains";
        let domains = self.domains(texts, key)?;
        let ours = &node?.domains;
        if let Some(foreign) = domains.iter().find(|domain| !ours.contains(domain)) {
            let what = format!("{foreign} is not one of node.domains");
            self.wrong(texts, key, what, "add it to node.domains, or remove it here");
            return None;
        }
        Some(domains)
    }
}

fn places_of(scope: &Scope) -> Vec<(String, &'static str)> {
    match scope {
        Scope::Domain(domain) => vec![(format!("the domain {domain}"), "federation.peer.domain")],
        Scope::Hosts(hosts) => {
            hosts.iter().map(|host| (format!("the host {host}"), "federation.peer.hosts")).collect()
        }
    }
}

fn keys_of(identity: &Identity) -> Vec<(Digest, String, &'static str)> {
    let key_of_authority = |der: &CertificateDer<'static>| {
        // `pem_certificates` has parsed it already.
        x509_parser::parse_x509_certificate(der).ok().map(|(_, parsed)| Digest::of(parsed.public_key().raw))
    };
    match identity {
        Identity::Dane => Vec::new(),
        Identity::Pinned(pins) => {
            pins.iter().map(|pin| (*pin, format!("the key {pin}"), "federation.peer.pins")).collect()
        }
        Identity::FederationCa(roots) => roots
            .iter()
            .filter_map(key_of_authority)
            .map(|key| (key, format!("the authority with key {key}"), "federation.peer.ca"))
            .collect(),
    }
}
