//! Addresses for one run: a `/24` of the loopback network that no other run uses.
//!
//! ```
//! let mut seed = 0x1234_u16;
//! let prefix = testnet::loopback::Prefix::pick(
//!     || {
//!         seed = seed.wrapping_mul(25_173).wrapping_add(13_849);
//!         seed
//!     },
//!     &[],
//! )?;
//! println!("DNS at {}, first provider at {}", prefix.address(1), prefix.address(10));
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! Providers differ by address and not by port, because NTA and MX records carry no port. On Linux every address of
//! `127.0.0.0/8` can be bound by anybody.
//!
//! # Guarantees
//! Two values of [`Prefix`] that live at the same time, in any processes of this machine and network namespace, have
//! different prefixes: each holds a listening socket on the last address of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Port of the socket that reserves a prefix. Nobody speaks to it.
const RESERVATION_PORT: u16 = 61_999;
/// Last octet of the address that reserves a prefix.
const RESERVATION_HOST: u8 = 254;
/// Prefixes tried before giving up. With 65,000 of them only a machine that is full gets there.
const TRIES: usize = 64;

/// 256 loopback addresses that are ours until this is dropped.
#[derive(Debug)]
pub struct Prefix {
    octets: [u8; 3],
    _reservation: TcpListener,
}

impl Prefix {
    /// Picks a prefix nobody uses, at random.
    ///
    /// `ports` are those that will be bound on its addresses: a prefix on which one can't be is not taken, so a
    /// program that listens on every address at such a port is found here and not later.
    ///
    /// # Errors
    /// The last refusal, if 64 prefixes in a row were refused.
    pub fn pick(mut random: impl FnMut() -> u16, ports: &[u16]) -> io::Result<Self> {
        let mut last = io::Error::other("no prefix was tried");
        for _ in 0..TRIES {
            let [high, low] = random().to_be_bytes();
            // 127.0.0.0/16 is where everybody else's servers are.
            if high == 0 {
                continue;
            }
            match Self::reserve([127, high, low], ports) {
                Ok(prefix) => return Ok(prefix),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn reserve(octets: [u8; 3], ports: &[u16]) -> io::Result<Self> {
        let [a, b, c] = octets;
        let bind = |host: u8, port: u16| {
            let addr = SocketAddr::from((Ipv4Addr::new(a, b, c, host), port));
            TcpListener::bind(addr).map_err(|error| io::Error::new(error.kind(), format!("{addr}: {error}")))
        };
        let reservation = bind(RESERVATION_HOST, RESERVATION_PORT)?;
        for port in ports {
            bind(1, *port)?;
        }
        Ok(Self { octets, _reservation: reservation })
    }

    /// One of its addresses. 254 is taken by the reservation.
    pub fn address(&self, host: u8) -> IpAddr {
        let [a, b, c] = self.octets;
        IpAddr::V4(Ipv4Addr::new(a, b, c, host))
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c] = self.octets;
        write!(f, "{a}.{b}.{c}.0/24")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Always the same sequence: the first value is taken twice in a row, then others come.
    fn chance(start: u16) -> impl FnMut() -> u16 {
        let mut calls = 0;
        move || {
            calls += 1;
            start.wrapping_add(calls / 2)
        }
    }

    #[test]
    fn two_runs_with_the_same_chance_get_different_prefixes() {
        let start = 0x7A01;
        let first = Prefix::pick(chance(start), &[]).unwrap();
        let second = Prefix::pick(chance(start), &[]).unwrap();
        assert_ne!(first.to_string(), second.to_string());
        assert_ne!(first.address(10), second.address(10));
    }

    #[test]
    fn a_prefix_is_free_again_when_dropped() {
        let taken = Prefix::pick(|| 0x7B02, &[]).unwrap();
        assert!(Prefix::pick(|| 0x7B02, &[]).is_err());
        drop(taken);
        assert_eq!(Prefix::pick(|| 0x7B02, &[]).unwrap().to_string(), "127.123.2.0/24");
    }

    #[test]
    fn a_port_that_somebody_has_on_every_address_is_named() {
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let error = Prefix::pick(|| 0x7C03, &[port]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("127.124.3.1:{port}")), "{error}");
    }

    #[test]
    fn the_ordinary_loopback_network_is_left_alone() {
        assert!(Prefix::pick(|| 0x0001, &[]).is_err());
    }
}
