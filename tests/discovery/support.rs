//! A tree, a server, and a node's discovery that trusts its root.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sluis::discovery::{
    AddressRule, Anchors, CacheSettings, Candidate, Discovery, DiscoverySettings, DnsSettings, Federation,
    Finding, Host, HostProblem, Trace, Trust,
};
use sluis::model::{DomainName, Reason};
use sluis::world::{ManualClock, SeededRandom, World};
use testnet::dns::{DnsServer, Tree};

/// One `3 1 1` record.
pub const KEY: [u8; 35] = {
    let mut rdata = [0xAB; 35];
    rdata[0] = 3;
    rdata[1] = 1;
    rdata[2] = 1;
    rdata
};

pub const LOOPBACK: &str = "127.0.0.1:0";

pub struct Lab {
    pub dns: DnsServer,
    pub discovery: Arc<Discovery>,
    pub clock: Arc<ManualClock>,
}

pub fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

pub fn host(text: &str) -> Host {
    Host { name: name(text), preference: 10, mail_domain: None }
}

/// A record that is valid for years, with these `ntamx` tags.
pub fn record(ntamx: &[&str]) -> String {
    let mut text = "v=NTA7516-1;startdate=2020-01;enddate=2099-12;provider=P".to_owned();
    for entry in ntamx {
        text.push_str(&format!(";ntamx={entry}"));
    }
    text
}

/// A zone with a record that names `mx.<zone>`, and that host with an address and a key.
pub fn provider(tree: &mut Tree, zone: &str) {
    let host = format!("mx.{zone}");
    tree.zone(zone).txt(zone, &record(&[&format!("10 {host}")]));
    mail_host(tree, &host);
}

pub fn mail_host(tree: &mut Tree, host: &str) {
    tree.address(host, "127.9.9.9".parse().unwrap()).tlsa(&format!("_25._tcp.{host}"), &KEY);
}

pub fn settings(resolver: SocketAddr, trust: Trust, addresses: AddressRule) -> DiscoverySettings {
    let dns = DnsSettings {
        try_timeout: Duration::from_secs(2),
        retries: 1,
        question_timeout: Duration::from_secs(30),
        ..DnsSettings::new(resolver, trust)
    };
    // Trouble is asked for again at once, so that a test can repair and look.
    DiscoverySettings {
        dns,
        cache: CacheSettings { trouble: Duration::ZERO, ..CacheSettings::default() },
        addresses,
    }
}

pub fn world(clock: Arc<ManualClock>) -> World {
    World::with(clock, SeededRandom::new(1))
}

pub async fn serve(tree: Tree) -> DnsServer {
    DnsServer::start(tree, Timestamp::now(), LOOPBACK.parse().unwrap()).await.unwrap()
}

/// Discovery that trusts the root of `dns` and asks `resolver`.
pub async fn discovery_via(dns: &DnsServer, resolver: SocketAddr, clock: Arc<ManualClock>) -> Discovery {
    let anchors = Anchors::from_text(&dns.anchor_ds()).unwrap();
    let settings = settings(resolver, Trust::Validate(anchors), AddressRule::LabToo);
    Discovery::start(settings, world(clock)).await.unwrap()
}

pub async fn lab(build: impl FnOnce(&mut Tree)) -> Lab {
    let mut tree = Tree::new();
    build(&mut tree);
    let dns = serve(tree).await;
    let clock = ManualClock::at(Timestamp::now());
    let discovery = Arc::new(discovery_via(&dns, dns.addr(), clock.clone()).await);
    Lab { dns, discovery, clock }
}

impl Lab {
    pub async fn find(&self, domain: &str) -> Finding {
        self.discovery.federation(&name(domain), &mut Trace::new()).await
    }

    pub async fn candidate(&self, host_name: &str) -> Result<Candidate, HostProblem> {
        self.discovery.candidate(&host(host_name), 25, &mut Trace::new()).await
    }

    /// Types asked for at `owner`, in order.
    pub fn asked(&self, owner: &str) -> Vec<String> {
        let owner = format!("{owner}.");
        let questions = self.dns.questions().into_iter();
        questions.filter(|question| question.name == owner).map(|question| question.rtype).collect()
    }
}

pub fn federated(finding: Finding) -> Federation {
    match finding {
        Finding::Federated(federation) => federation,
        other => panic!("{other:?}"),
    }
}

/// What a finding comes to: the reason, and whether waiting may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    Good,
    No(Reason),
    Later(Reason),
}

pub fn is(finding: &Finding) -> Is {
    match finding {
        Finding::Federated(_) => Is::Good,
        Finding::NotFederated { reason, .. } => Is::No(*reason),
        Finding::Temporary { reason, .. } => Is::Later(*reason),
    }
}
