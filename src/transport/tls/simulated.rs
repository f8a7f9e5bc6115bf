//! The channel of a simulation, in place of TLS: both sides show their certificates, and nobody proves to hold the key.
//!
//! Only tests have it. What is judged is judged as always: certificates against TLSA records and pins.

use std::io;

use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::facts::{HandshakeFacts, OwnCertificate};
use super::keys::KeyRing;
use crate::world::Stream;

/// The largest certificate that is read.
const CERTIFICATE_MAX: u32 = 16 * 1024;

/// Shows our certificate, then reads that of the server.
pub(super) async fn connect<S: Stream>(stream: &mut S, keys: &KeyRing) -> io::Result<HandshakeFacts> {
    show(stream, keys).await?;
    let chain = vec![read(stream).await?];
    Ok(HandshakeFacts::simulated(chain, OwnCertificate::Sent(keys.current().identities())))
}

/// Reads the certificate of the client, then shows ours: nothing may follow the reply to STARTTLS unasked (SMTP-003).
pub(super) async fn accept<S: Stream>(stream: &mut S, keys: &KeyRing) -> io::Result<HandshakeFacts> {
    let chain = vec![read(stream).await?];
    show(stream, keys).await?;
    Ok(HandshakeFacts::simulated(chain, OwnCertificate::Served))
}

async fn show<S: Stream>(stream: &mut S, keys: &KeyRing) -> io::Result<()> {
    let material = keys.current();
    let shown = material.keys()[0].certificate().der();
    let length = u32::try_from(shown.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], shown].concat()).await?;
    stream.flush().await
}

async fn read<S: Stream>(stream: &mut S) -> io::Result<CertificateDer<'static>> {
    let length = stream.read_u32().await?;
    if length > CERTIFICATE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut certificate = vec![0; length as usize];
    stream.read_exact(&mut certificate).await?;
    Ok(CertificateDer::from(certificate))
}
