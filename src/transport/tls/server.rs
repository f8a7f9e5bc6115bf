//! TLS as a server: to peers on port 25, and to our own environment's platform.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::error::HandshakeError;
use super::facts::{HandshakeFacts, OwnCertificate};
use super::keys::KeyRing;
use super::signature;
use super::suites::{VERSIONS, provider};
use crate::world::{Link, Stream};

/// The server side of TLS for one listener.
///
/// # Defaults
/// - TLS 1.3 and 1.2 with extended master secret; our order of suites (TLS-001, TLS-002)
/// - a client certificate is requested and never required; which one is shown decides nothing here (TLS-008)
/// - no tickets, no session store, no early data: every link authenticates both sides afresh (TLS-004, TLS-005)
/// - a client without server name indication is served
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    #[cfg(test)]
    keys: Arc<KeyRing>,
}

impl ServerTls {
    /// A listener that shows the keys of `keys`, as they are at each handshake.
    #[must_use]
    pub fn new(keys: Arc<KeyRing>) -> Self {
        Self {
            #[cfg(test)]
            keys: Arc::clone(&keys),
            acceptor: TlsAcceptor::from(Arc::new(config(keys))),
        }
    }

    /// Does the handshake. The caller limits its time, and judges the client with [`super::judge_client`] before it
    /// answers the first command.
    ///
    /// # Errors
    /// [`HandshakeError::Tls`] when there is nothing both sides speak or the client broke off; [`HandshakeError::Lost`].
    /// The alert that names the reason has been sent.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, HandshakeFacts), HandshakeError>
    where
        S: Stream,
    {
        let stream = self.acceptor.accept(stream).await?;
        let facts = HandshakeFacts::of(stream.get_ref().1, OwnCertificate::Served);
        Ok((stream, facts))
    }

    /// As [`Self::accept`], for whom the kind of stream does not matter.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub async fn secure<S>(&self, stream: S) -> Result<(Link, HandshakeFacts), HandshakeError>
    where
        S: Stream + 'static,
    {
        #[cfg(test)]
        if self.keys.is_simulated() {
            let mut stream = stream;
            let facts = super::simulated::accept(&mut stream, &self.keys).await?;
            return Ok((Box::new(stream), facts));
        }
        let (stream, facts) = self.accept(stream).await?;
        Ok((Box::new(stream), facts))
    }
}

fn config(keys: Arc<KeyRing>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .expect("the provider has suites for both versions")
        .with_client_cert_verifier(Arc::new(AnyClient))
        .with_cert_resolver(keys);
    config.require_ems = true;
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Takes every certificate whose key signed the handshake. What it proves is asked afterwards, where there is time for
/// DNS and where the answer can be an SMTP reply instead of an alert.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None, so that a client does not pick by issuer.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
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
