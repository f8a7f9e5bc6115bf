//! Connections to others: to peers, and to our own environment on this machine.

use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

/// Octets both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream whose kind no longer matters.
pub type Link = Box<dyn Stream>;

/// Who connects.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Connects to `target`, from `source` if it is of the same family. The caller limits the time.
    ///
    /// # Errors
    /// What the system says.
    async fn connect(&self, target: SocketAddr, source: Option<IpAddr>) -> io::Result<Link>;
}

/// TCP of this machine.
pub struct SystemNetwork;

#[async_trait]
impl Network for SystemNetwork {
    async fn connect(&self, target: SocketAddr, source: Option<IpAddr>) -> io::Result<Link> {
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source.filter(|source| source.is_ipv4() == target.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        // Commands are small and each waits for its answer; content is written in large parts anyway.
        socket.set_nodelay(true)?;
        Ok(Box::new(socket.connect(target).await?))
    }
}
