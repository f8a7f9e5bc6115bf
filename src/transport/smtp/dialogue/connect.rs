//! Opening a dialogue with our own environment: LMTP or SMTP relay, near or far (HAND-002).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::error::{DialogueError, Fault};
use super::step::{Step, StepLimits};
use super::{Dialect, Dialogue};
use crate::model::DomainName;
use crate::transport::tls::{ClientTls, ServerProof};
use crate::world::{Link, World};

/// Where our environment listens. There is no way to write down a link that leaves this machine without TLS.
#[derive(Clone, Debug)]
pub struct Endpoint(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Unix(PathBuf),
    Loopback(SocketAddr),
    Tls { authority: String, host: DomainName, proof: ServerProof, start: TlsStart },
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsStart {
    /// After STARTTLS; its absence is an error.
    Starttls,
    /// With the first octet.
    Immediate,
}

/// An endpoint that must not be used. The operator has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Clear text would leave the machine (HAND-002).
    #[error("{0} is no loopback address; use TLS with a pinned key or a configured authority")]
    NotLoopback(SocketAddr),
    /// DANE is for peers; here the operator knows the key.
    #[error("our own environment is authenticated by a pinned key or a configured authority")]
    Proof,
}

impl Endpoint {
    /// A UNIX socket.
    #[must_use]
    pub const fn unix(path: PathBuf) -> Self {
        Self(Kind::Unix(path))
    }

    /// Clear text over loopback.
    ///
    /// # Errors
    /// The address is none.
    pub const fn loopback(address: SocketAddr) -> Result<Self, EndpointError> {
        if address.ip().is_loopback() {
            Ok(Self(Kind::Loopback(address)))
        } else {
            Err(EndpointError::NotLoopback(address))
        }
    }

    /// TLS to `host`, reached at `authority` (`name:port` or `address:port`, looked up with the system's resolver: where
    /// the octets go decides nothing, the key does).
    ///
    /// # Errors
    /// The proof is DANE.
    pub fn tls(
        authority: String,
        host: DomainName,
        proof: ServerProof,
        start: TlsStart,
    ) -> Result<Self, EndpointError> {
        match proof {
            ServerProof::Dane { .. } => Err(EndpointError::Proof),
            ServerProof::Pinned(_) | ServerProof::Authority(_) => {
                Ok(Self(Kind::Tls { authority, host, proof, start }))
            }
        }
    }

    /// Opens a link for another protocol than SMTP; with TLS, where the endpoint asks for it, from the first octet on. Of
    /// `limits` those of connection and handshake count.
    ///
    /// # Errors
    /// The link could not be made, or the server is not the one configured.
    pub async fn open(
        &self,
        limits: &StepLimits,
        tls: &ClientTls,
        world: &World,
    ) -> Result<Link, DialogueError> {
        match &self.0 {
            Kind::Unix(path) => Ok(Box::new(reach(limits, UnixStream::connect(path)).await?)),
            Kind::Loopback(address) => reach(limits, world.network.connect(*address, None)).await,
            Kind::Tls { authority, host, proof, .. } => {
                let stream = tcp(limits, TcpStream::connect(authority.as_str())).await?;
                secure(stream, host, proof, limits, tls, world).await
            }
        }
    }

    /// Where this is, for records.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.0 {
            Kind::Unix(path) => format!("unix:{}", path.display()),
            Kind::Loopback(address) => address.to_string(),
            Kind::Tls { authority, .. } => format!("tls:{authority}"),
        }
    }
}

/// Connects and says hello as `name`; where the endpoint asks for TLS, only inside it.
///
/// # Errors
/// The link could not be made, the server is not the one configured, or it refused.
pub async fn connect(
    endpoint: &Endpoint,
    dialect: Dialect,
    name: &DomainName,
    limits: StepLimits,
    tls: &ClientTls,
    world: &World,
) -> Result<Dialogue<Link>, DialogueError> {
    match &endpoint.0 {
        Kind::Tls { authority, host, proof, start: TlsStart::Starttls } => {
            let stream = tcp(&limits, TcpStream::connect(authority.as_str())).await?;
            let stream = Dialogue::open(stream, dialect, name, limits).await?.starttls().await?;
            let stream = secure(stream, host, proof, &limits, tls, world).await?;
            Dialogue::resume(stream, dialect, name, limits).await
        }
        Kind::Unix(_) | Kind::Loopback(_) | Kind::Tls { start: TlsStart::Immediate, .. } => {
            let stream = endpoint.open(&limits, tls, world).await?;
            Dialogue::open(stream, dialect, name, limits).await
        }
    }
}

/// The handshake, with the server that is configured and nobody else.
async fn secure(
    stream: TcpStream,
    host: &DomainName,
    proof: &ServerProof,
    limits: &StepLimits,
    tls: &ClientTls,
    world: &World,
) -> Result<Link, DialogueError> {
    match timeout(limits.handshake, tls.connect(stream, host, proof, world.now())).await {
        Ok(Ok(secured)) => Ok(secured.stream),
        Ok(Err(error)) => Err(DialogueError::new(Step::Handshake, error)),
        Err(_) => Err(DialogueError::new(Step::Handshake, Fault::Timeout)),
    }
}

async fn tcp(
    limits: &StepLimits,
    work: impl Future<Output = io::Result<TcpStream>>,
) -> Result<TcpStream, DialogueError> {
    let stream = reach(limits, work).await?;
    // Commands are small and each waits for its answer; content is written in large parts anyway.
    let _only_slower = stream.set_nodelay(true);
    Ok(stream)
}

/// Waits for a connection within its limit.
pub(in crate::transport::smtp) async fn reach<T>(
    limits: &StepLimits,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, DialogueError> {
    match timeout(limits.connect, work).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(DialogueError::new(Step::Connect, Fault::Lost(error))),
        Err(_) => Err(DialogueError::new(Step::Connect, Fault::Timeout)),
    }
}
