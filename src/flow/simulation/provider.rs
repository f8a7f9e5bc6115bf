//! A provider: its machine, the disk in it, and the node that runs there until it does not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::letters::domain;
use super::network::Net;
use super::{SELECTOR, Terms, providers};
use crate::config::{Config, ContentHook, Endpoint};
use crate::discovery::Discovery;
use crate::discovery::Txt;
use crate::discovery::dns::testing::TableDns;
use crate::discovery::dns::{OwnerName, RecordType, Records};
use crate::flow::node::{Ground, Listeners, Node};
use crate::model::DecisionRecord;
use crate::spool::testing::PowerDisk;
use crate::spool::{Filter, MasterKeys, Phase, Settings, Spool};
use crate::transport::smtp::server::{Server, Slots};
use crate::transport::tls::{Certificate, KeyRing};
use crate::world::{Random, SeededRandom, World};

/// The machine of a provider's node.
pub(super) fn machine(provider: usize) -> IpAddr {
    address(0, provider)
}

/// The machine with its mailboxes.
pub(super) fn environment(provider: usize) -> SocketAddr {
    SocketAddr::new(address(1, provider), 24)
}

/// The machine with its filter.
pub(super) fn filter(provider: usize) -> SocketAddr {
    SocketAddr::new(address(3, provider), 80)
}

/// The machine that submits.
pub(super) fn platform(provider: usize) -> IpAddr {
    address(2, provider)
}

fn address(kind: u8, provider: usize) -> IpAddr {
    Ipv4Addr::new(127, 7, kind, u8::try_from(provider + 1).expect("a few")).into()
}

/// A provider.
pub(super) struct Provider {
    index: usize,
    config: Config,
    keys: Arc<KeyRing>,
    world: World,
    net: Net,
    dns: TableDns,
    terms: Terms,
    random: Arc<SeededRandom>,
    disk: PowerDisk,
    running: Option<(Node, JoinHandle<()>)>,
    /// How often its node ended without being told to.
    pub(super) crashes: u64,
}

impl Provider {
    pub(super) fn new(index: usize, world: World, net: &Net, dns: &TableDns, terms: Terms) -> Self {
        let mut config = providers()[index].clone();
        config.spool =
            Settings { cache_bytes: 1 << 20, inline_body_max: 4096, reserve_octets: 0, ..config.spool };
        if terms.filter {
            let endpoint = Endpoint::Loopback(filter(index), None);
            config.content_hook = Some(ContentHook { endpoint, path: "/".to_owned() });
        }
        let random = SeededRandom::new(world.random.next());
        let disk = PowerDisk::default();
        Self {
            index,
            keys: KeyRing::simulated(config.keys.clone()),
            config,
            world: World { network: net.of(machine(index)), ..world },
            net: net.clone(),
            dns: dns.clone(),
            terms,
            random,
            disk,
            running: None,
            crashes: 0,
        }
    }

    fn certificate(&self) -> Certificate {
        self.keys.current().keys()[0].certificate().clone()
    }

    /// What a submitting platform knows of the node.
    pub(super) fn known(&self) -> (SocketAddr, crate::model::DomainName, crate::model::Digest, Arc<KeyRing>) {
        let listens = self.config.submission.as_ref().expect("configured").listen[0];
        (listens, self.config.node.name.clone(), self.certificate().key_digest(), Arc::clone(&self.keys))
    }

    /// Publishes what the provider publishes; with `wrong_key`, TLSA records of a key that nobody has.
    pub(super) fn publish(&self, wrong_key: bool) {
        let host = &self.config.node.name;
        let IpAddr::V4(own) = machine(self.index) else { return };
        let domain = domain(self.index);
        let key = &self.config.dkim[0].key;
        for (name, texts) in [
            (
                domain.clone(),
                vec![
                    format!("v=NTA7516-1;startdate=2026-01;enddate=2028-12;ntamx=10 {host}"),
                    format!("v=spf1 ip4:{own} -all"),
                ],
            ),
            (format!("_dmarc.{domain}"), vec!["v=DMARC1; p=reject".to_owned()]),
            (format!("{SELECTOR}._domainkey.{domain}"), vec![key.record()]),
        ] {
            let records = texts.into_iter().map(|text| Txt::new(vec![text.into_bytes()])).collect();
            self.dns.publish(&name.parse().expect("a name"), RecordType::Txt, Records::Txt(records));
        }
        self.dns.publish(&OwnerName::from(host), RecordType::A, Records::A(vec![own]));
        let mut digest = *self.certificate().key_digest().as_bytes();
        if wrong_key {
            digest[0] ^= 1;
        }
        let record = Records::Tlsa(vec![[&[3, 1, 1], &digest[..]].concat()]);
        for name in [OwnerName::tlsa(25, host), OwnerName::smtp_client(host)] {
            self.dns.publish(&name.expect("short"), RecordType::Tlsa, record.clone());
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the node still works; one whose disk failed must be started again.
    pub(super) fn is_well(&self) -> bool {
        let healthy =
            |(node, task): &(Node, JoinHandle<()>)| node.inner.spool.health().is_ok() && !task.is_finished();
        !self.disk.is_dead() && self.running.as_ref().is_none_or(healthy)
    }

    pub(super) const fn disk(&self) -> &PowerDisk {
        &self.disk
    }

    /// Starts the node on what is on the disk. One start in four, in a storm, ends in another cut.
    pub(super) fn start(&mut self, stormy: bool) -> Result<(), String> {
        loop {
            if let Some(lie) = self.terms.lie {
                self.disk.lie_about(lie);
            }
            let cut_short = stormy && self.random.next().is_multiple_of(4);
            if cut_short {
                self.disk.cut_at(self.disk.operations() + self.random.next() % 12);
            }
            let keys = MasterKeys::parse("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
            let keys = keys.map_err(|error| error.to_string())?;
            let settings = self.config.spool.clone();
            match Spool::open_on(self.disk.disk(), &keys, settings, self.world.clone()) {
                Ok(spool) => return self.run(spool),
                Err(_) if self.disk.has_failed() => self.disk = self.disk.after_cut(self.random.next()),
                Err(error) => return Err(format!("{} does not start: {error}", domain(self.index))),
            }
        }
    }

    fn run(&mut self, spool: Spool) -> Result<(), String> {
        let discovery = Discovery::simulated(
            Box::new(self.dns.clone()),
            self.config.discovery.cache,
            self.config.discovery.addresses,
            self.world.clone(),
        );
        let ground = Ground { spool, discovery, keys: Arc::clone(&self.keys) };
        let node = Node::on(ground, self.config.clone(), self.world.clone())
            .map_err(|error| format!("{} does not start: {error}", domain(self.index)))?;
        let slots = Slots::new();
        let server = |addresses: &[SocketAddr]| {
            let server = |&at| {
                Server::on(self.net.listen(at), Arc::clone(&node.inner.server_settings), Arc::clone(&slots))
            };
            addresses.iter().map(server).collect::<Vec<_>>()
        };
        let listeners = Listeners {
            peers: server(&self.config.federation.listen),
            submission: server(&self.config.submission.as_ref().expect("configured").listen),
        };
        let task = tokio::spawn({
            let node = node.clone();
            async move { node.run(listeners).await }
        });
        self.running = Some((node, task));
        Ok(())
    }

    /// The node ends at once, with whatever the disk then holds.
    pub(super) async fn crash(&mut self) {
        self.disk.power_off();
        self.net.unplug(machine(self.index));
        if let Some((node, task)) = self.running.take() {
            task.abort();
            let _aborted = task.await;
            // Ends what commits. It can write nothing any more.
            node.inner.spool.close().await;
            self.crashes += 1;
        }
        self.disk = self.disk.after_cut(self.random.next());
    }

    /// Lets go on what was set aside because it was under way in two crashes; says how many deliveries are left.
    pub(super) async fn tend(&self) -> Result<usize, String> {
        let Some((node, _)) = &self.running else { return Ok(0) };
        let spool = &node.inner.spool;
        let listed = spool.list(Filter::default()).await.map_err(|error| error.to_string())?;
        for view in listed.iter().filter(|view| view.phase == Phase::Held) {
            spool.release(view.delivery).await.map_err(|error| error.to_string())?;
        }
        Ok(listed.len())
    }

    /// What is in its way, for the report of a fault.
    pub(super) async fn describe(&self) -> String {
        let Some((node, _)) = &self.running else { return format!("{} is down", domain(self.index)) };
        let listed = node.inner.spool.list(Filter::default()).await.unwrap_or_default();
        let each = listed.iter().map(|view| {
            format!(
                "{} {:?} {:?} due {:?} tries {}",
                view.delivery, view.route, view.phase, view.due, view.tries
            )
        });
        format!("{}: {}", domain(self.index), each.collect::<Vec<_>>().join("; "))
    }

    /// All decision records, the newest first.
    pub(super) async fn records(&self) -> Result<Vec<DecisionRecord>, String> {
        let Some((node, _)) = &self.running else { return Ok(Vec::new()) };
        node.inner.spool.recent_records(1_000_000).await.map_err(|error| error.to_string())
    }

    /// Ends the node in good order.
    pub(super) async fn stop(&mut self) {
        if let Some((node, task)) = self.running.take() {
            node.stop();
            let _ended = task.await;
        }
    }
}
