//! TLS as a client: to peers, authenticated by DANE; to our own environment, by a pinned key or a configured authority.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::authority::{Authorities, Pins};
use super::certificate::Certificate;
use super::chain::{ChainFault, Usage};
use super::dane::{Side, match_chain};
use super::error::{DaneMismatch, HandshakeError};
use super::facts::{HandshakeFacts, OwnCertificate};
use super::keys::KeyRing;
use super::signature;
use super::suites::{VERSIONS, provider};
use super::unix_time;
use crate::discovery::Tlsa;
use crate::model::{Digest, DomainName, IdentityRule};
use crate::transport::VerifiedPeer;
use crate::world::{Link, Stream};

/// How a server has to prove itself. System roots are no way (attack class T9).
#[derive(Clone, Debug)]
pub enum ServerProof {
    /// By its TLSA records.
    Dane {
        /// Usable records only.
        records: Vec<Tlsa>,
        /// Reference names of usage 2: the TLSA base domain, the host, the next-hop domain (DANE-007).
        names: Vec<DomainName>,
    },
    /// By a key that our configuration holds.
    Pinned(Pins),
    /// By a chain to an authority of our configuration, for the name we connect to, valid now.
    Authority(Authorities),
}

/// The client side of TLS: which keys we show when asked.
#[derive(Clone)]
pub struct ClientTls {
    keys: Option<Arc<KeyRing>>,
}

impl ClientTls {
    /// A client that shows the keys of `keys`, as they are at each handshake.
    #[must_use]
    pub const fn new(keys: Arc<KeyRing>) -> Self {
        Self { keys: Some(keys) }
    }

    /// A client without a certificate, for links inside our own environment.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self { keys: None }
    }

    /// The names that our certificates can prove.
    #[must_use]
    pub fn identities(&self) -> Vec<DomainName> {
        self.keys.as_ref().map(|keys| keys.current().identities()).unwrap_or_default()
    }

    /// The digests of the public keys we would show now: a link that was opened with others is not the same link.
    #[must_use]
    pub fn key_digests(&self) -> Vec<Digest> {
        let Some(keys) = &self.keys else { return Vec::new() };
        keys.current().keys().iter().map(|key| key.certificate().key_digest()).collect()
    }

    /// Does the handshake with `host`, whose name also goes out as server name indication (DANE-010), and checks the
    /// server by `proof` at the time `now`. The caller limits its time.
    ///
    /// # Errors
    /// See [`HandshakeError`]. The alert that names the reason has been sent.
    pub async fn connect<S>(
        &self,
        stream: S,
        host: &DomainName,
        proof: &ServerProof,
        now: Timestamp,
    ) -> Result<Secured, HandshakeError>
    where
        S: Stream + 'static,
    {
        let judge = Arc::new(Judge {
            host: host.clone(),
            proof: proof.clone(),
            now: unix_time(now),
            verdict: OnceLock::new(),
        });
        #[cfg(test)]
        if let Some(keys) = self.keys.as_ref().filter(|keys| keys.is_simulated()) {
            return simulate(stream, keys, &judge).await;
        }
        let offer = Arc::new(Offer { keys: self.keys.clone(), outcome: OnceLock::new() });
        let name = ServerName::try_from(host.as_str().to_owned()).map_err(|_| {
            HandshakeError::Tls(rustls::Error::General("the host's name is no SNI".to_owned()))
        })?;
        let connector = TlsConnector::from(Arc::new(config(Arc::clone(&judge), Arc::clone(&offer))));
        let outcome = connector.connect(name, stream).await;
        let verdict = judge.verdict.get().cloned();
        let stream = match (outcome, &verdict) {
            (Ok(stream), _) => stream,
            (Err(_), Some(Err(fault))) => return Err(fault.clone().into()),
            (Err(error), _) => return Err(error.into()),
        };
        // No verdict means that the library did not ask: no link without one, whatever it says.
        let Some(Ok(peer)) = verdict else {
            return Err(HandshakeError::Dane(DaneMismatch::NoCertificate));
        };
        let own = offer.outcome.get().cloned().unwrap_or(OwnCertificate::NotRequested);
        let facts = HandshakeFacts::of(stream.get_ref().1, own);
        Ok(Secured { stream: Box::new(stream), facts, peer })
    }
}

#[cfg(test)]
async fn simulate<S: Stream + 'static>(
    mut stream: S,
    keys: &KeyRing,
    judge: &Judge,
) -> Result<Secured, HandshakeError> {
    let facts = super::simulated::connect(&mut stream, keys).await?;
    let peer = judge.judge(facts.chain())?;
    Ok(Secured { stream: Box::new(stream), facts, peer })
}

/// A link whose server is authenticated.
pub struct Secured {
    /// The link.
    pub stream: Link,
    /// What was agreed on.
    pub facts: HandshakeFacts,
    /// Who is there.
    pub peer: VerifiedPeer,
}

fn config(judge: Arc<Judge>, offer: Arc<Offer>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .expect("the provider has suites for both versions")
        .dangerous() // The word for a verifier of one's own. Ours asks more than the default, not less.
        .with_custom_certificate_verifier(judge)
        .with_client_cert_resolver(offer);
    config.require_ems = true;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

#[derive(Clone, Debug, thiserror::Error)]
enum Fault {
    #[error("DANE: {0}")]
    Dane(DaneMismatch),
    #[error("key {0} is not pinned")]
    Pin(String),
    #[error("{0}")]
    Authority(ChainFault),
}

impl From<Fault> for HandshakeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Dane(mismatch) => Self::Dane(mismatch),
            Fault::Pin(key) => Self::Pin(key),
            Fault::Authority(fault) => Self::Authority(fault),
        }
    }
}

impl Fault {
    /// The error whose alert tells the server what we found (attack class T15).
    fn to_tls(&self) -> rustls::Error {
        match self {
            Self::Dane(DaneMismatch::NoCertificate) => CertificateError::BadEncoding,
            Self::Dane(DaneMismatch::NoRecord) | Self::Pin(_) => {
                CertificateError::Other(OtherError(Arc::new(self.clone())))
            }
            Self::Dane(DaneMismatch::Chain(fault)) | Self::Authority(fault) => match fault {
                ChainFault::Broken(_) => CertificateError::UnknownIssuer,
                ChainFault::Dates => CertificateError::Expired,
                ChainFault::Purpose => CertificateError::InvalidPurpose,
                ChainFault::Name => CertificateError::NotValidForName,
            },
        }
        .into()
    }
}

/// Judges one server in one handshake, and keeps the verdict in our own words.
#[derive(Debug)]
struct Judge {
    host: DomainName,
    proof: ServerProof,
    now: UnixTime,
    verdict: OnceLock<Result<VerifiedPeer, Fault>>,
}

impl Judge {
    fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<VerifiedPeer, Fault> {
        let unreadable = Fault::Dane(DaneMismatch::NoCertificate);
        let leaf = chain.first().and_then(|der| Certificate::parse(der).ok()).ok_or(unreadable)?;
        let key = leaf.key_digest();
        let (rule, evidence) = match &self.proof {
            ServerProof::Dane { records, names } => {
                let matched =
                    match_chain(chain, records, Side::Server, names, self.now).map_err(Fault::Dane)?;
                (IdentityRule::Dane, format!("dane {matched}"))
            }
            ServerProof::Pinned(pins) if pins.contains(&key) => (IdentityRule::Pinned, "pinned".to_owned()),
            ServerProof::Pinned(_) => return Err(Fault::Pin(key.to_string())),
            ServerProof::Authority(authorities) => {
                let names = std::slice::from_ref(&self.host);
                authorities.verify(chain, Usage::Server, names, self.now).map_err(Fault::Authority)?;
                (IdentityRule::FederationCa, "federation_ca".to_owned())
            }
        };
        Ok(VerifiedPeer::new(vec![self.host.clone()], rule, key, evidence))
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(end_entity.clone());
        chain.extend_from_slice(intermediates);
        match self.verdict.get_or_init(|| self.judge(&chain)) {
            Ok(_) => Ok(ServerCertVerified::assertion()),
            Err(fault) => Err(fault.to_tls()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature::verify_tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature::verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signature::schemes()
    }
}

/// Offers our key in one handshake, and remembers whether it was wanted.
#[derive(Debug)]
struct Offer {
    keys: Option<Arc<KeyRing>>,
    outcome: OnceLock<OwnCertificate>,
}

impl ResolvesClientCert for Offer {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.keys.as_ref().and_then(|keys| keys.choose(schemes));
        let outcome = match &key {
            Some(key) => OwnCertificate::Sent(key.certificate().identities()),
            None => OwnCertificate::NoneSuitable,
        };
        let _first_request_counts = self.outcome.set(outcome);
        key.map(|key| key.certified())
    }

    fn has_certs(&self) -> bool {
        self.keys.is_some()
    }
}
