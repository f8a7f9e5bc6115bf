//! Identifiers. They sort by time and say nothing about content or people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A text is not one of our identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of this node (26 characters, as `sluis spool list` prints them)")]
pub struct IdError;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Ulid);

        impl $name {
            /// An identifier from its time (milliseconds since 1970) and 80 random bits; see `world::World`.
            #[must_use]
            pub const fn from_parts(milliseconds: u64, random: u128) -> Self {
                Self(Ulid::from_parts(milliseconds, random))
            }

            /// The 16 octets, big-endian: their order is the order of time.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            /// The inverse of [`Self::to_bytes`].
            #[must_use]
            pub fn from_bytes(octets: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(octets))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ulid::from_string(text).map(Self).map_err(|_| IdError)
            }
        }
    };
}

identifier! {
    /// A message this node answers for.
    MessageId
}

identifier! {
    /// One attempt: to pass a message on, or of a peer to hand one to us.
    AttemptId
}

/// One message on one route: the unit that is retried, held, returned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryId {
    /// The message.
    pub message: MessageId,
    /// Which of the message's routes, counted from 0.
    pub route: u16,
}

impl fmt::Display for DeliveryId {
    /// `MESSAGE.ROUTE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.message, self.route)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeliveryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (message, route) = text.split_once('.').ok_or(IdError)?;
        Ok(Self { message: message.parse()?, route: route.parse().map_err(|_| IdError)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sorted_by_time_and_round_trips() {
        let (early, late) = (MessageId::from_parts(1, u128::MAX >> 48), MessageId::from_parts(2, 0));
        assert!(early < late && early.to_bytes() < late.to_bytes());
        let delivery = DeliveryId { message: early, route: 3 };
        assert_eq!(delivery.to_string().parse::<DeliveryId>().unwrap(), delivery);
        assert!("nonsense".parse::<DeliveryId>().is_err());
    }
}
