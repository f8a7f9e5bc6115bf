//! A network in memory: listeners, wires with delays, and what goes wrong on wires.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::transport::smtp::server::Accept;
use crate::world::{Link, Network, Random, SeededRandom};

/// What one side can send before the other one reads.
const WINDOW: usize = 64 * 1024;

/// The network. Clones are handles to the same one.
#[derive(Clone)]
pub(super) struct Net(Arc<Mutex<State>>);

struct State {
    listeners: BTreeMap<SocketAddr, mpsc::UnboundedSender<(DuplexStream, SocketAddr)>>,
    wires: Vec<Wire>,
    apart: Vec<(IpAddr, IpAddr)>,
    random: Arc<SeededRandom>,
    stormy: bool,
    next_port: u16,
    /// Wires on which something went wrong.
    broken: u64,
}

struct Wire {
    ends: (IpAddr, IpAddr),
    gone: CancellationToken,
}

/// What happens to a wire.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing.
    Sound,
    /// It breaks after so many octets in one direction.
    Cut { after: u64, forth: bool },
    /// From then on nothing passes in that direction, and nobody is told.
    Stall { after: u64, forth: bool },
}

impl Fate {
    /// One wire in four. How far it carries is spread over the steps of a session: few octets, or into the content.
    fn pick(random: &SeededRandom) -> Self {
        let forth = random.next().is_multiple_of(2);
        let after = match random.next() % 3 {
            0 => random.next() % 900,
            1 => 400 + random.next() % 1_200,
            _ => random.next() % 30_000,
        };
        match random.next() % 12 {
            0 => Self::Stall { after, forth },
            1 | 2 => Self::Cut { after, forth },
            _ => Self::Sound,
        }
    }

    /// How many octets pass in a direction; `None`: all.
    const fn limit(self, direction: bool) -> Option<u64> {
        match self {
            Self::Cut { after, forth } | Self::Stall { after, forth } if forth == direction => Some(after),
            _ => None,
        }
    }
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            listeners: BTreeMap::new(),
            wires: Vec::new(),
            apart: Vec::new(),
            random: SeededRandom::new(seed),
            stormy: false,
            next_port: 1024,
            broken: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while it is held")
    }

    /// Listens; in place of who listened there before.
    pub(super) fn listen(&self, at: SocketAddr) -> Listener {
        let (sender, incoming) = mpsc::unbounded_channel();
        self.state().listeners.insert(at, sender);
        Listener { at, incoming }
    }

    /// A machine is gone: its listeners, and every wire to it.
    pub(super) fn unplug(&self, machine: IpAddr) {
        let mut state = self.state();
        state.listeners.retain(|at, _| at.ip() != machine);
        state.wires.retain(|wire| {
            let gone = wire.ends.0 == machine || wire.ends.1 == machine;
            if gone {
                wire.gone.cancel();
            }
            !gone
        });
    }

    /// Nothing passes between two machines any more; new connections get no answer.
    pub(super) fn part(&self, one: IpAddr, other: IpAddr) {
        let mut state = self.state();
        state.apart.push((one, other));
        let cut: Vec<_> = state
            .wires
            .iter()
            .filter(|wire| wire.ends == (one, other) || wire.ends == (other, one))
            .map(|wire| wire.gone.clone())
            .collect();
        state.broken += cut.len() as u64;
        drop(state);
        cut.iter().for_each(CancellationToken::cancel);
    }

    /// All machines reach one another.
    pub(super) fn rejoin(&self) {
        self.state().apart.clear();
    }

    /// Whether wires go wrong from now on.
    pub(super) fn set_stormy(&self, stormy: bool) {
        self.state().stormy = stormy;
    }

    /// Wires on which something went wrong so far.
    pub(super) fn broken(&self) -> u64 {
        self.state().broken
    }

    /// The network as one machine sees it.
    pub(super) fn of(&self, machine: IpAddr) -> Arc<dyn Network> {
        Arc::new(Machine { net: self.clone(), machine })
    }

    /// A wire between two ends, or why there is none.
    fn plug(&self, from: IpAddr, target: SocketAddr) -> io::Result<DuplexStream> {
        let mut state = self.state();
        let fate = if state.stormy { Fate::pick(&state.random) } else { Fate::Sound };
        let seeds = (state.random.next(), state.random.next());
        state.next_port = state.next_port.checked_add(1).unwrap_or(1024);
        let source = SocketAddr::new(from, state.next_port);
        let (near, near_inside) = duplex(WINDOW);
        let (far, far_inside) = duplex(WINDOW);
        let listener = state.listeners.get(&target).ok_or(io::ErrorKind::ConnectionRefused)?;
        listener.send((far, source)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        let gone = CancellationToken::new();
        state.wires.retain(|wire| !wire.gone.is_cancelled());
        state.wires.push(Wire { ends: (from, target.ip()), gone: gone.clone() });
        drop(state);
        let (near_read, near_write) = split(near_inside);
        let (far_read, far_write) = split(far_inside);
        let pump = |from, to, direction, seed| Pump {
            from,
            to,
            left: fate.limit(direction),
            cuts: matches!(fate, Fate::Cut { .. }),
            gone: gone.clone(),
            delays: SeededRandom::new(seed),
            net: self.clone(),
        };
        tokio::spawn(pump(near_read, far_write, true, seeds.0).run());
        tokio::spawn(pump(far_read, near_write, false, seeds.1).run());
        Ok(near)
    }

    fn are_apart(&self, one: IpAddr, other: IpAddr) -> bool {
        self.state().apart.iter().any(|pair| *pair == (one, other) || *pair == (other, one))
    }
}

/// One direction of a wire.
struct Pump {
    from: ReadHalf<DuplexStream>,
    to: WriteHalf<DuplexStream>,
    left: Option<u64>,
    cuts: bool,
    gone: CancellationToken,
    delays: Arc<SeededRandom>,
    net: Net,
}

impl Pump {
    async fn run(mut self) {
        let gone = self.gone.clone();
        tokio::select! {
            biased;
            () = gone.cancelled() => {}
            () = self.carry() => {}
        }
    }

    async fn carry(&mut self) {
        let mut buffer = vec![0; WINDOW];
        loop {
            let count = match self.from.read(&mut buffer).await {
                Ok(0) | Err(_) => {
                    // The other end may have gone for good; this is the end of this direction only.
                    let _gone_as_well = self.to.shutdown().await;
                    return;
                }
                Ok(count) => count,
            };
            sleep(Duration::from_micros(200 + self.delays.next() % 20_000)).await;
            let passing =
                self.left.map_or(count, |left| usize::try_from(left).map_or(count, |left| left.min(count)));
            if self.to.write_all(&buffer[..passing]).await.is_err() {
                return;
            }
            if let Some(left) = &mut self.left {
                *left -= passing as u64;
                if *left == 0 {
                    self.net.state().broken += 1;
                    if self.cuts {
                        self.gone.cancel();
                    }
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

struct Machine {
    net: Net,
    machine: IpAddr,
}

#[async_trait]
impl Network for Machine {
    async fn connect(&self, target: SocketAddr, _source: Option<IpAddr>) -> io::Result<Link> {
        let delay = self.net.state().random.next() % 40;
        sleep(Duration::from_millis(1 + delay)).await;
        if self.net.are_apart(self.machine, target.ip()) {
            std::future::pending::<()>().await;
        }
        Ok(Box::new(self.net.plug(self.machine, target)?))
    }
}

/// Connections that come in.
pub(super) struct Listener {
    at: SocketAddr,
    incoming: mpsc::UnboundedReceiver<(DuplexStream, SocketAddr)>,
}

impl Accept for Listener {
    type Stream = DuplexStream;

    async fn next(&mut self) -> io::Result<(DuplexStream, SocketAddr, SocketAddr)> {
        match self.incoming.recv().await {
            Some((stream, remote)) => Ok((stream, remote, self.at)),
            // Unplugged: nothing ever comes again.
            None => std::future::pending().await,
        }
    }
}
