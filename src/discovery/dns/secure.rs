//! The mark of what DNSSEC has proven.

/// A value that came from DNS and validated as secure up to a configured trust anchor (DNS-001).
///
/// Only the resolvers of this room make one, from an answer with that verdict; nothing outside the room can. There is
/// no `map` and no conversion for others, or anyone could put the mark on a value of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secure<T>(T);

impl<T> Secure<T> {
    /// For a resolver that has just seen the proof.
    pub(super) const fn seal(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub const fn get(&self) -> &T {
        &self.0
    }

    /// A value that is computed from this one and from nothing less proven.
    pub(in crate::discovery) fn derive<U>(self, compute: impl FnOnce(T) -> U) -> Secure<U> {
        Secure(compute(self.0))
    }

    /// As [`Secure::derive`], where the computation can fail.
    pub(in crate::discovery) fn try_derive<U, E>(
        self,
        compute: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<Secure<U>, E> {
        compute(self.0).map(Secure)
    }

    /// A value taken as proven, for unit tests of the rooms that use one.
    #[cfg(test)]
    #[allow(dead_code)]
    pub(crate) const fn assumed(value: T) -> Self {
        Self(value)
    }
}
