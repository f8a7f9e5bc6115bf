//! DMARC (RFC 9989), on DKIM alone.
//!
//! A message without a passing aligned DKIM signature is refused whatever SPF says (IDEN-016), so DMARC asks two things
//! here: has the domain a record, and is a signature that passed aligned with it?

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::dmarc::{Alignment, Dmarc, Policy, Psd};

use crate::discovery::OwnerName;
use crate::model::DomainName;

use super::super::results::{DkimResult, DkimWord, DmarcWord};
use super::names::{Found, Mark, Names};

/// A walk over a longer name goes on with its last seven labels (RFC 9989 section 4.10).
const LABELS_MAX: usize = 7;

/// What came out.
pub(super) struct Outcome {
    pub word: DmarcWord,
    pub detail: String,
    /// Whether a signature that passed is aligned.
    pub aligned: Aligned,
}

/// Whether a DKIM signature of the domain's own passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aligned {
    Yes,
    No,
    /// A look-up that could have shown it did not come.
    Unknown,
}

/// A policy record, and where it stands.
type Record = (DomainName, Dmarc);

/// Why a walk gives no records.
pub(super) enum Stop {
    Temporary(String),
    Permanent(String),
}

/// Judges the `From:` domain against the signatures.
pub(super) async fn check(names: &mut dyn Names, from: &DomainName, dkim: &[DkimResult]) -> Outcome {
    let walk = match walk(names, from).await {
        Ok(walk) => walk,
        Err(stop) => {
            let (word, detail) = match stop {
                Stop::Temporary(detail) => (DmarcWord::Temperror, detail),
                Stop::Permanent(detail) => (DmarcWord::Permerror, detail),
            };
            return Outcome { word, detail, aligned: without_record(from, dkim) };
        }
    };
    let org = organizational(&walk, from);
    let Some((_, record)) = policy(&walk, from, &org) else {
        let detail = format!("{from} has no DMARC record");
        return Outcome { word: DmarcWord::None, detail, aligned: without_record(from, dkim) };
    };
    let mut aligned = Aligned::No;
    for signature in dkim {
        let (Some(domain), DkimWord::Pass | DkimWord::Temperror) = (&signature.domain, signature.word) else {
            continue;
        };
        match (is_aligned(names, domain, from, &org, record.adkim).await, signature.word) {
            (Aligned::Yes, DkimWord::Pass) => {
                aligned = Aligned::Yes;
                break;
            }
            (Aligned::No, _) => {}
            _ => aligned = Aligned::Unknown,
        }
    }
    let (word, detail) = match aligned {
        Aligned::Yes => (DmarcWord::Pass, format!("DMARC of {from}: pass")),
        Aligned::No => (DmarcWord::Fail, format!("no DKIM signature that passed is aligned with {from}")),
        Aligned::Unknown => {
            (DmarcWord::Temperror, format!("a signature aligned with {from} could not be judged"))
        }
    };
    Outcome { word, detail, aligned }
}

/// What the record that applies to a domain asks for; `None` without one.
pub(super) async fn policy_of(names: &mut dyn Names, from: &DomainName) -> Result<Option<Policy>, Stop> {
    let walk = walk(names, from).await?;
    let org = organizational(&walk, from);
    let record = policy(&walk, from, &org);
    Ok(record.map(|(name, record)| match record.sp {
        Policy::Unspecified => record.p,
        below if name != from => below,
        _ => record.p,
    }))
}

/// Alignment where no record says how strict it is; only to name the check that failed.
fn without_record(from: &DomainName, dkim: &[DkimResult]) -> Aligned {
    let related = |domain: &DomainName| domain.is_at_or_below(from) || from.is_at_or_below(domain);
    let with = |word| dkim.iter().any(|one| one.word == word && one.domain.as_ref().is_some_and(related));
    if with(DkimWord::Pass) {
        Aligned::Yes
    } else if with(DkimWord::Temperror) {
        Aligned::Unknown
    } else {
        Aligned::No
    }
}

async fn is_aligned(
    names: &mut dyn Names,
    domain: &DomainName,
    from: &DomainName,
    org: &DomainName,
    mode: Alignment,
) -> Aligned {
    if domain == from {
        return Aligned::Yes;
    }
    if mode == Alignment::Strict || !domain.is_at_or_below(org) {
        return Aligned::No;
    }
    match walk(names, domain).await {
        Ok(walk) if organizational(&walk, domain) == *org => Aligned::Yes,
        Ok(_) | Err(Stop::Permanent(_)) => Aligned::No,
        Err(Stop::Temporary(_)) => Aligned::Unknown,
    }
}

/// All policy records from `start` up to its top-level domain (RFC 9989 section 4.10).
async fn walk(names: &mut dyn Names, start: &DomainName) -> Result<Vec<Record>, Stop> {
    let labels: Vec<&str> = start.as_str().split('.').collect();
    let mut found = Vec::new();
    let mut left = labels.len();
    while left > 0 {
        let here: DomainName = labels[labels.len() - left..]
            .join(".")
            .parse()
            .map_err(|_| Stop::Permanent(format!("{start} has a parent that is no domain name")))?;
        if let Some(record) = record_at(names, &here).await? {
            let stop = record.psd != Psd::Default;
            found.push((here, record));
            if stop {
                break;
            }
        }
        left = (left - 1).min(LABELS_MAX);
    }
    Ok(found)
}

async fn record_at(names: &mut dyn Names, domain: &DomainName) -> Result<Option<Dmarc>, Stop> {
    let Ok(name) = format!("_dmarc.{domain}").parse::<OwnerName>() else { return Ok(None) };
    // An unsigned answer could have been stripped or written by anybody on the way, so neither records nor their
    // absence count.
    let unproven = || Err(Stop::Permanent(format!("the answer for {name} is not signed with DNSSEC")));
    let records = match names.txt(&name).await {
        Found::Trouble(detail) => return Err(Stop::Temporary(detail)),
        Found::None(Mark::Proven) => return Ok(None),
        Found::Some(records, Mark::Proven) => records,
        Found::None(Mark::Unproven) | Found::Some(_, Mark::Unproven) => return unproven(),
    };
    let mut ours = records.iter().filter(|record| is_dmarc(record));
    let Some(record) = ours.next() else { return Ok(None) };
    if ours.next().is_some() {
        // Several are none (section 4.10).
        return Ok(None);
    }
    Dmarc::parse(record).map(Some).map_err(|_| Stop::Permanent(format!("the record at {name} is malformed")))
}

/// Whether a TXT record is a DMARC record: `v=DMARC1` first (RFC 9989 section 4.7).
pub(super) fn is_dmarc(record: &[u8]) -> bool {
    let first = record.split(|octet| *octet == b';').next().unwrap_or_default();
    let mut sides = first.splitn(2, |octet| *octet == b'=').map(<[u8]>::trim_ascii);
    sides.next() == Some(b"v") && sides.next() == Some(b"DMARC1")
}

/// The organizational domain (RFC 9989 section 4.10.2).
fn organizational(walk: &[Record], start: &DomainName) -> DomainName {
    for (name, record) in walk {
        match record.psd {
            Psd::No => return name.clone(),
            Psd::Yes if name != start => {
                let below = start.label_count() - name.label_count() - 1;
                let text = start.as_str().splitn(below + 1, '.').last().unwrap_or_default();
                return text.parse().unwrap_or_else(|_| start.clone());
            }
            Psd::Yes | Psd::Default => {}
        }
    }
    walk.last().map_or(start, |(name, _)| name).clone()
}

/// The record that applies: the domain's own, else its organizational domain's, else its public suffix's (RFC 9989
/// section 4.10.1).
fn policy<'w>(walk: &'w [Record], from: &DomainName, org: &DomainName) -> Option<&'w Record> {
    let record = walk
        .iter()
        .find(|(name, _)| name == from)
        .or_else(|| walk.iter().find(|(name, _)| name == org))
        .or(walk.last())?;
    // Without p= it is a record only if it asks for reports.
    (record.1.p != Policy::Unspecified || !record.1.rua.is_empty()).then_some(record)
}
