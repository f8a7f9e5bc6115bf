//! What SPF, DKIM and DMARC said, in the words of RFC 8601 section 2.7.

use std::fmt;

use crate::model::{Address, DomainName, TrustFacts};

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

words! {
    /// Result of S/MIME (RFC 7281 section 3.1).
    SmimeWord {
        /// The signature holds and is the sender's, by the word of an authority that counts.
        Pass = "pass",
        /// Content or signature were changed, or are of somebody else.
        Fail = "fail",
        /// The signature may hold, but a rule of ours does not let it count.
        Policy = "policy",
        /// It can't be read, or was not judged.
        Neutral = "neutral",
        /// Something is missing that nobody can bring.
        Permerror = "permerror",
    }
}

/// What S/MIME said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmimeResult {
    /// The result.
    pub word: SmimeWord,
    /// Why it is not `pass`, in words of ours.
    pub reason: Option<&'static str>,
    /// Who signed; only with `pass`, since without it the names are those that a stranger chose.
    pub identity: Option<SmimeIdentity>,
}

impl SmimeResult {
    /// The words of its clause in `Authentication-Results:` (RFC 7281 section 3.2). An address that needs quoting, which
    /// nobody has, is left out.
    pub(super) fn clause(&self) -> Vec<String> {
        let mut clause = vec![format!("smime={}", self.word)];
        clause.extend(self.reason.map(|reason| format!("reason=\"{reason}\"")));
        if let Some(SmimeIdentity { address, serial, issuer }) = &self.identity {
            let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
            if address.local().chars().all(plain) {
                clause.push(format!("body.smime-identifier={address}"));
            }
            clause.push(format!("body.smime-serial={serial}"));
            clause.push(format!("body.smime-issuer=\"{issuer}\""));
        }
        clause
    }
}

/// Who signed, in forms that fit a header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmimeIdentity {
    /// The sender's address that the certificate is for.
    pub address: Address,
    /// Hexadecimal digits.
    pub serial: String,
    /// Letters, digits and a few signs that need no quoting inside quotes.
    pub issuer: String,
}

impl SmimeIdentity {
    /// `serial` in hexadecimal digits; of `issuer` what a quoted string can't hold becomes `?`.
    #[must_use]
    pub fn new(address: Address, serial: String, issuer: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || " =,.:+-_'/@".contains(c) { c } else { '?' };
        Self { address, serial, issuer: issuer.chars().map(plain).collect() }
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
            smime: None,
            arc: None,
            nta_headers: Vec::new(),
        }
    }
}
