//! What SPF, DKIM and DMARC said, in the words of RFC 8601 section 2.7.

use std::fmt;

use crate::model::{DomainName, TrustFacts};

macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $word_doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $word_doc])+ $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }
    };
}

words! {
    /// Result of SPF (RFC 7208 section 2.6).
    SpfWord {
        /// No record, or no name to ask about.
        None = "none",
        /// The record makes no statement about the client.
        Neutral = "neutral",
        /// The client may use the name.
        Pass = "pass",
        /// It may not.
        Fail = "fail",
        /// It probably may not.
        Softfail = "softfail",
        /// DNS did not answer.
        Temperror = "temperror",
        /// The record can't be evaluated.
        Permerror = "permerror",
    }
}

words! {
    /// Result of one DKIM signature.
    DkimWord {
        /// It verifies, and its key counts.
        Pass = "pass",
        /// It does not verify.
        Fail = "fail",
        /// It verifies, or was not even tried, but a rule of ours does not let it count.
        Policy = "policy",
        /// Its key could not be looked up.
        Temperror = "temperror",
        /// Signature or key are malformed, or there is no key.
        Permerror = "permerror",
    }
}

words! {
    /// Result of DMARC (RFC 9989 section 5.4).
    DmarcWord {
        /// The domain has no record.
        None = "none",
        /// An aligned DKIM signature passed.
        Pass = "pass",
        /// None did.
        Fail = "fail",
        /// DNS did not answer.
        Temperror = "temperror",
        /// The record can't be used.
        Permerror = "permerror",
    }
}

/// Whose name SPF was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpfIdentity {
    /// The domain of MAIL FROM.
    MailFrom(DomainName),
    /// With the null sender: the EHLO name, if it is one (RFC 7208 section 2.4).
    Helo(Option<DomainName>),
}

/// What SPF said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfResult {
    /// The result.
    pub word: SpfWord,
    /// About whom.
    pub identity: SpfIdentity,
}

/// What became of one DKIM signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimResult {
    /// The result.
    pub word: DkimWord,
    /// Its `d=`, if it can be read.
    pub domain: Option<DomainName>,
    /// Why it is not `pass`, for operators.
    pub detail: String,
}

/// What a message proved by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageResults {
    /// SPF.
    pub spf: SpfResult,
    /// One per signature, in the order of the fields.
    pub dkim: Vec<DkimResult>,
    /// DMARC.
    pub dmarc: DmarcWord,
}

impl MessageResults {
    /// As the decision record keeps them.
    #[must_use]
    pub fn facts(&self, from_domain: &DomainName) -> TrustFacts {
        let dkim = |one: &DkimResult| match &one.domain {
            Some(domain) => format!("{} d={domain}", one.word),
            None => one.word.to_string(),
        };
        TrustFacts {
            from_domain: Some(from_domain.clone()),
            from: Vec::new(),
            sender: None,
            spf: Some(self.spf.word.to_string()),
            dkim: self.dkim.iter().map(dkim).collect(),
            dmarc: Some(self.dmarc.to_string()),
            arc: None,
            nta_headers: Vec::new(),
        }
    }
}
