//! Postfix as a subject: one between a platform, an environment and another provider's Postfix, which is never harmed.
//!
//! Needs the private network of [`crate::foreign::enter`] or [`crate::foreign::isolated`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::block_in_place;

use super::machine;
use super::subject::{About, Door, Queued, Setting, Subject, Way};
use crate::foreign::{ForeignError, Next, Relay, RelayConfig};
use crate::net::NetError;
use crate::pki::{CertSpec, Identity};
use crate::sink::{Listen, Sink};

const TESTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 7, 1, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 7, 2, 1));
const TESTED_HOST: &str = "nta.a.nl";
const OTHER_HOST: &str = "nta.b.nl";
/// The environments of the two.
const ENVIRONMENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 7, 1, 2)), 24);
const OTHER_ENVIRONMENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 7, 2, 2)), 24);

/// Two Postfixes and their environments.
pub struct PostfixSubject {
    tested: Relay,
    /// Never harmed.
    _other: Relay,
    about: About,
    /// The other provider's, for when it is a client.
    identity: Identity,
    sink: Sink,
    other_sink: Sink,
    _directory: TempDir,
}

impl PostfixSubject {
    /// Starts them.
    ///
    /// # Errors
    /// Something on this machine is in the way, or Postfix does not start.
    pub async fn launch() -> Result<Self, NetError> {
        let directory = tempfile::tempdir().map_err(machine("a temporary directory"))?;
        let sink = async |address, name: &str| {
            let place = directory.path().join(name);
            let started = Sink::start(Listen::Tcp(address), &place, crate::clock::system()).await;
            started.map_err(machine("the LMTP sink"))
        };
        let (sink, other_sink) =
            (sink(ENVIRONMENT, "mail").await?, sink(OTHER_ENVIRONMENT, "other-mail").await?);
        let identity =
            |host: &str| CertSpec::new(host).self_signed(Timestamp::now()).map_err(machine("a key"));
        let other_identity = identity(OTHER_HOST)?;
        let to_other = ("b.nl".to_owned(), Next::Provider(OTHER));
        let tested = RelayConfig {
            host: TESTED_HOST.to_owned(),
            address: TESTED,
            identity: identity(TESTED_HOST)?,
            domains: vec![("a.nl".to_owned(), Next::Environment(ENVIRONMENT)), to_other],
        };
        let other = RelayConfig {
            host: OTHER_HOST.to_owned(),
            address: OTHER,
            identity: other_identity.clone(),
            domains: vec![("b.nl".to_owned(), Next::Environment(OTHER_ENVIRONMENT))],
        };
        block_in_place(|| {
            let mut other = Relay::install(&other).map_err(foreign)?;
            other.start().map_err(foreign)?;
            let mut tested = Relay::install(&tested).map_err(foreign)?;
            tested.start().map_err(foreign)?;
            let settings = tested.settings().iter();
            let settings = settings
                .map(|(setting, why)| Setting { setting: setting.clone(), why: (*why).to_owned() })
                .collect();
            let about = About { product: tested.version().map_err(foreign)?, settings };
            Ok(Self {
                tested,
                _other: other,
                about,
                identity: other_identity,
                sink,
                other_sink,
                _directory: directory,
            })
        })
    }
}

#[async_trait]
impl Subject for PostfixSubject {
    fn about(&self) -> About {
        self.about.clone()
    }

    fn doors(&self) -> Vec<Door> {
        let platform = |way, to_domain: &str| Door {
            way,
            address: SocketAddr::new(TESTED, 25),
            server: TESTED_HOST.to_owned(),
            helo: "platform.invalid".to_owned(),
            identity: None,
            signer: None,
            from_domain: "a.nl".to_owned(),
            to_domain: to_domain.to_owned(),
        };
        let peer = Door {
            helo: OTHER_HOST.to_owned(),
            identity: Some(self.identity.clone()),
            from_domain: "b.nl".to_owned(),
            ..platform(Way::Inbound, "a.nl")
        };
        vec![platform(Way::Home, "a.nl"), peer, platform(Way::Outbound, "b.nl")]
    }

    fn sink(&self, way: Way) -> &Sink {
        match way {
            Way::Home | Way::Inbound => &self.sink,
            Way::Outbound => &self.other_sink,
        }
    }

    async fn kill(&mut self) {
        block_in_place(|| self.tested.kill());
    }

    fn has_ended(&mut self) -> bool {
        self.tested.has_ended()
    }

    async fn start(&mut self) -> Result<(), NetError> {
        let started = block_in_place(|| self.tested.start());
        started.map_err(|error| NetError::Node {
            provider: "a".to_owned(),
            why: error.to_string(),
            printed: String::new(),
        })
    }

    fn state_directory(&self) -> PathBuf {
        self.tested.queue_directory()
    }

    fn furnish(&self) -> Result<(), NetError> {
        self.tested.furnish_queue().map_err(foreign)
    }

    async fn queue(&self) -> Result<Vec<Queued>, NetError> {
        let waiting = block_in_place(|| self.tested.queue()).map_err(foreign)?;
        let queued = waiting.into_iter().map(|waiting| Queued {
            message: waiting.id.clone(),
            delivery: waiting.id,
            held: waiting.queue == "hold",
        });
        Ok(queued.collect())
    }

    async fn release(&self, delivery: &str) -> Result<(), NetError> {
        block_in_place(|| self.tested.release(delivery)).map_err(foreign)
    }

    async fn hurry(&self, delivery: &str) -> Result<(), NetError> {
        block_in_place(|| self.tested.retry(delivery)).map_err(foreign)
    }

    /// Postfix keeps no record of an attempt that it did not see the end of.
    async fn unknown_attempts(&self, _message: &str) -> Result<Option<usize>, NetError> {
        Ok(None)
    }

    /// It marks each recipient in the queue file when the reply for it has come, and sorts recipients.
    fn settles_recipients_apart(&self) -> bool {
        true
    }

    /// Its daemons start when there is something for them to do, so a life begins slowly.
    fn longest_life(&self) -> Duration {
        Duration::from_millis(1_200)
    }

    fn said_of(&self, message: &str) -> Vec<String> {
        self.tested.said_of(message)
    }

    async fn stop(mut self: Box<Self>) {
        // The next one listens at the same addresses.
        self.sink.down().await;
        self.other_sink.down().await;
        block_in_place(|| drop(self));
    }
}

fn foreign(error: ForeignError) -> NetError {
    NetError::Machine { what: "Postfix".to_owned(), why: error.to_string() }
}
