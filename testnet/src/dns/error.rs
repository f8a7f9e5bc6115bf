//! What can be wrong with a description of a tree. Whoever wrote the topology or the test has to act.

/// A tree that can't be served as described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Not a domain name.
    #[error("`{0}` is not a domain name")]
    Name(String),
    /// A character-string of a TXT record is longer than 255 octets: split it.
    #[error("{name}: a TXT character-string has {octets} octets, more than 255")]
    LongString {
        /// Owner of the record.
        name: String,
        /// Its length.
        octets: usize,
    },
    /// A CNAME and other data at one name.
    #[error("{0}: a CNAME can't stand beside other data")]
    CnameAndOther(String),
    /// A fault names a zone, name or record that isn't there, or a trouble that can't be had in that scope.
    #[error("fault `{fault}`: {why}")]
    Fault {
        /// The fault as written.
        fault: String,
        /// What does not fit.
        why: String,
    },
    /// Keys or signatures could not be made: a bug here or in the library, not in the tree.
    #[error("signing {what}: {why}")]
    Signing {
        /// Zone or record set.
        what: String,
        /// The library's words.
        why: String,
    },
}
