//! Clock, randomness, connections and threads as arguments.
//!
//! # Guarantees
//! Nothing else in this crate asks the system for the time of day or for random octets, connects to a peer, or moves work to
//! another thread, so a test or a simulation decides all of it. (Keys and nonces are the libraries' own; the disk is an
//! argument of the spool.)

mod network;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;
use tokio::task::JoinHandle;

pub use network::{Link, Network, Stream, SystemNetwork};

use crate::model::{AttemptId, MessageId};

/// The time of day.
pub trait Clock: Send + Sync + 'static {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// Random numbers. None of them is a secret: keys and nonces come from the TLS library.
pub trait Random: Send + Sync + 'static {
    /// 64 random bits.
    fn next(&self) -> u64;
}

/// Where work runs that would block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// On threads of their own.
    Apart,
    /// On the one thread there is, in turn: in a simulation the order of everything follows from the seed.
    One,
}

impl Threads {
    /// Does `work`, which may block.
    pub fn run<T, F>(self, work: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Apart => tokio::task::spawn_blocking(work),
            Self::One => tokio::spawn(async move { work() }),
        }
    }
}

/// Where time, chance, connections and threads come from.
#[derive(Clone)]
pub struct World {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Connections.
    pub network: Arc<dyn Network>,
    /// Threads.
    pub threads: Threads,
}

impl World {
    /// The real world.
    #[must_use]
    pub fn system() -> Self {
        Self::with(Arc::new(SystemClock), Arc::new(SystemRandom))
    }

    /// The real world with another time and another chance.
    #[must_use]
    pub fn with(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random, network: Arc::new(SystemNetwork), threads: Threads::Apart }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A fresh message identifier.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        MessageId::from_parts(self.milliseconds(), self.wide())
    }

    /// A fresh attempt identifier.
    #[must_use]
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId::from_parts(self.milliseconds(), self.wide())
    }

    /// A number below `bound`, which must not be zero.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.now().as_millisecond()).unwrap_or(0)
    }

    fn wide(&self) -> u128 {
        (u128::from(self.random.next()) << 64) | u128::from(self.random.next())
    }
}

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The system's randomness.
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        rand::random()
    }
}

/// A clock that stands still until it is moved.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock at `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(start.as_millisecond())))
    }

    /// Moves the clock by `milliseconds`, which may be negative.
    pub fn advance(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// A reproducible sequence (SplitMix64).
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(seed)))
    }
}

impl Random for SeededRandom {
    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(GAMMA, Ordering::SeqCst).wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
