//! From a topology to addresses, keys and records.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::{Association, NtaRecord, Provider, ServerManner, Topology};
use crate::dkim::SigningKey;
use crate::dns::Tree;
use crate::loopback::Prefix;
use crate::pki::{Ca, CertSpec, Identity, Matching, PkiError, Selector, Usage, Validity, tlsa_rdata};

/// Last octet of the address of the DNS server.
const DNS_HOST: u8 = 1;
/// Addresses of each provider: first those of its hosts, last the private one.
const ADDRESSES: u8 = 8;
/// Port of the DNS server: not 53, which needs privileges.
const DNS_PORT: u16 = 5_353;

/// A topology that can't be laid out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A certificate can't be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// A topology with addresses and keys.
#[derive(Debug)]
pub struct Plan {
    /// The topology.
    pub topology: Topology,
    /// Where the DNS server is to listen.
    pub dns: SocketAddr,
    /// The providers, in the order of the file.
    pub providers: Vec<Placed>,
    now: Timestamp,
}

/// A provider with addresses and keys.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The provider.
    pub provider: Provider,
    /// Its hosts with their addresses, in order of preference.
    pub hosts: Vec<(String, IpAddr)>,
    /// An address for what is only its own business: submission, environment.
    pub private: IpAddr,
    /// Its key, with a certificate for all its hosts.
    pub certificate: Identity,
    /// The keys that sign its mail.
    pub signing: Vec<SigningKey>,
}

impl Placed {
    /// Content as this provider sends it to others: signed in the name of the domain of this address, if that is one of
    /// its own; of its first domain for any other address.
    ///
    /// # Errors
    /// It has no key.
    pub fn sign(&self, address: &str, content: &[u8]) -> Result<Vec<u8>, PkiError> {
        let domain = address.rsplit('@').next().unwrap_or_default();
        let own = self.provider.domains.iter().find(|own| own.eq_ignore_ascii_case(domain));
        let domain = own.unwrap_or(&self.provider.domains[0]);
        self.signing.first().ok_or(PkiError::SigningKey)?.sign(domain, content)
    }
}

impl Plan {
    /// Gives every provider eight addresses and a key. The same topology and prefix always give the same addresses.
    ///
    /// # Errors
    /// If a certificate can't be made.
    pub fn new(topology: Topology, prefix: &Prefix, now: Timestamp) -> Result<Self, PlanError> {
        let mut providers = Vec::with_capacity(topology.providers.len());
        for (index, provider) in (1_u8..).zip(&topology.providers) {
            // `PROVIDERS_MAX` and `HOSTS_MAX` keep this below the address of the reservation.
            let base = index * ADDRESSES;
            let hosts =
                (base..).zip(&provider.hosts).map(|(host, name)| (name.clone(), prefix.address(host)));
            let certificate = certificate(provider, now)?;
            providers.push(Placed {
                provider: provider.clone(),
                hosts: hosts.collect(),
                private: prefix.address(base + ADDRESSES - 1),
                certificate,
                signing: SigningKey::both()?,
            });
        }
        Ok(Self { topology, dns: SocketAddr::new(prefix.address(DNS_HOST), DNS_PORT), providers, now })
    }

    /// The ports that are bound on addresses of the prefix, to be checked by [`Prefix::pick`].
    pub fn ports(topology: &Topology) -> [u16; 2] {
        [topology.smtp_port, DNS_PORT]
    }

    /// The DNS tree: a zone per domain with NTA record, MX, addresses, TLSA records, SPF, DKIM and DMARC; and the
    /// faults.
    ///
    /// # Errors
    /// Never for certificates made here.
    pub fn tree(&self) -> Result<Tree, PlanError> {
        let mut tree = Tree::new();
        for placed in &self.providers {
            self.publish(placed, &mut tree)?;
        }
        for fault in &self.topology.faults {
            tree.fault(fault.clone());
        }
        Ok(tree)
    }

    fn publish(&self, placed: &Placed, tree: &mut Tree) -> Result<(), PlanError> {
        let provider = &placed.provider;
        for domain in &provider.domains {
            tree.zone_with(domain, provider.denial);
            for record in self.nta_records(provider) {
                tree.txt(domain, &record);
            }
            let mut spf = "v=spf1".to_owned();
            for (preference, (host, address)) in (1_u16..).map(|n| n * 10).zip(&placed.hosts) {
                tree.mx(domain, preference, host);
                spf.push_str(&format!(" ip4:{address}"));
            }
            // On loopback the system chooses the address that a connection comes from.
            spf.push_str(" ip4:127.0.0.1");
            tree.txt(&format!("_dmarc.{domain}"), "v=DMARC1; p=reject");
            for key in &placed.signing {
                tree.txt(&key.name(domain), &key.record);
            }
            tree.txt(domain, &format!("{spf} -all"));
        }
        for (host, address) in &placed.hosts {
            tree.address(host, *address);
            let server = format!("_{}._tcp.{host}", self.topology.smtp_port);
            let client = format!("_smtp-client.{host}");
            for (owner, association, mut rdata) in [
                (server, provider.server_tlsa, server_tlsa(placed)?),
                (client, provider.client_tlsa, placed.certificate.tlsa_311()?),
            ] {
                match association {
                    Association::Good => {}
                    Association::None => continue,
                    Association::WrongDigest => rdata[3] ^= 0xFF,
                }
                tree.tlsa(&owner, &rdata);
            }
        }
        Ok(())
    }

    /// First and last month of a good record.
    pub fn months(&self) -> (String, String) {
        let year = self.year();
        (format!("{:04}-01", year.saturating_sub(1)), format!("{:04}-12", year.saturating_add(2)))
    }

    fn year(&self) -> i16 {
        self.now.to_zoned(jiff::tz::TimeZone::UTC).date().year()
    }

    /// The NTA records of a provider's domains, with months counted from this year, so that no topology goes stale.
    pub fn nta_records(&self, provider: &Provider) -> Vec<String> {
        let year = self.year();
        let month = |years: i16, month: u8| format!("{:04}-{month:02}", year.saturating_add(years));
        let named = match &provider.record {
            NtaRecord::HostsOf(id) => self.topology.provider(id).unwrap_or(provider),
            _ => provider,
        };
        let hosts: String = (1_u16..)
            .zip(&named.hosts)
            .map(|(number, host)| format!(";ntamx={} {host}", number * 10))
            .collect();
        let record = |from: String, to: String, hosts: &str| {
            format!("v=NTA7516-1;startdate={from};enddate={to};provider={}{hosts}", provider.name)
        };
        let good = || record(month(-1, 1), month(2, 12), &hosts);
        match &provider.record {
            NtaRecord::Good | NtaRecord::HostsOf(_) => vec![good()],
            NtaRecord::NoHosts => vec![record(month(-1, 1), month(2, 12), "")],
            NtaRecord::Expired => vec![record(month(-4, 1), month(-2, 12), &hosts)],
            NtaRecord::NotYetValid => vec![record(month(2, 1), month(4, 12), &hosts)],
            NtaRecord::Reversed => vec![record(month(2, 12), month(-1, 1), &hosts)],
            NtaRecord::Twice => vec![good(), record(month(-1, 2), month(2, 12), &hosts)],
            NtaRecord::Legacy => {
                vec![format!("v=NTA7516;version:1.0;expire:{}-31;ntamx:{}", month(2, 12), provider.hosts[0])]
            }
            NtaRecord::Malformed => vec![record(format!("{year}-13"), month(2, 12), &hosts)],
            NtaRecord::None => Vec::new(),
        }
    }
}

/// A provider's key, with a certificate for all its hosts.
fn certificate(provider: &Provider, now: Timestamp) -> Result<Identity, PkiError> {
    let spec = CertSpec::new(&provider.hosts[0]).names(provider.hosts.clone());
    match provider.server {
        ServerManner::ExpiredCertificate => {
            let name = format!("authority of {}", provider.id);
            Ca::root(&CertSpec::new(name), now)?.issue(&spec.validity(Validity::Expired), now)
        }
        _ => spec.self_signed(now),
    }
}

/// What a provider says of the keys of its servers. Under usage 3 dates would not count, so an expired certificate needs an
/// authority: the last one of its chain.
fn server_tlsa(placed: &Placed) -> Result<Vec<u8>, PkiError> {
    match (placed.provider.server, placed.certificate.chain()) {
        (ServerManner::ExpiredCertificate, [.., authority]) => {
            tlsa_rdata(authority, Usage::DaneTa, Selector::Cert, Matching::Sha256)
        }
        _ => placed.certificate.tlsa_311(),
    }
}
