//! ARC sets (RFC 8617): what intermediaries say they saw. Recorded, and deciding nothing (JUDGE-008): who believes a
//! seal believes whoever set it, and between providers nobody stands in the middle.

use super::super::header::Field;
use super::tags::Tags;
use crate::model::{ArcFacts, DomainName};

/// Sets of one chain (RFC 8617 section 4.2.1).
const SETS_MAX: usize = 50;

/// The chain, as its `ARC-Seal:` fields tell it; `None` where there is none. No seal is verified.
pub(in crate::trust) fn chain(fields: &[Field<'_>]) -> Option<ArcFacts> {
    let mut seals: Vec<(usize, String, Option<DomainName>)> = Vec::new();
    let mut malformed = false;
    for field in fields.iter().filter(|field| field.is("arc-seal")).take(SETS_MAX) {
        let Ok(tags) = Tags::read(field.value) else {
            malformed = true;
            continue;
        };
        let instance =
            tags.get("i").and_then(|text| text.parse().ok()).filter(|i| (1..=SETS_MAX).contains(i));
        let claim = tags.get("cv").map(str::to_ascii_lowercase);
        let claim = claim.filter(|word| ["none", "pass", "fail"].contains(&word.as_str()));
        match (instance, claim) {
            (Some(instance), Some(claim)) => {
                seals.push((instance, claim, tags.get("d").and_then(|text| text.parse().ok())));
            }
            _ => malformed = true,
        }
    }
    if seals.is_empty() && !malformed {
        return None;
    }
    seals.sort_by_key(|(instance, ..)| *instance);
    let complete = seals.iter().enumerate().all(|(at, (instance, ..))| *instance == at + 1);
    let claim = seals.last().map(|(_, claim, _)| claim.clone());
    Some(ArcFacts {
        length: seals.len(),
        cv: claim.filter(|_| complete && !malformed).unwrap_or_else(|| "malformed".to_owned()),
        domains: seals
            .into_iter()
            .map(|(_, _, domain)| domain.map_or_else(String::new, |domain| domain.to_string()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::header::fields;
    use super::*;

    fn read(section: &str) -> Option<ArcFacts> {
        chain(&fields(section.as_bytes(), 100).unwrap())
    }

    /// Proves: +JUDGE-008
    #[test]
    fn a_chain_is_told_in_the_order_of_its_sets() {
        assert_eq!(read("From: a@a.nl\r\n"), None);
        let chain = read(
            "ARC-Seal: i=2; a=rsa-sha256; cv=pass; d=list.nl; s=s; b=AA==\r\nX: y\r\n\
             arc-seal : i=1;\r\n a=rsa-sha256; cv=None; d=a.nl; s=s; b=AA==\r\n",
        );
        let domains = vec!["a.nl".to_owned(), "list.nl".to_owned()];
        assert_eq!(chain, Some(ArcFacts { length: 2, cv: "pass".into(), domains }));
    }

    #[test]
    fn a_chain_with_a_gap_or_nonsense_in_it_says_so() {
        for section in [
            "ARC-Seal: i=2; cv=pass; d=a.nl\r\n",
            "ARC-Seal: i=1; cv=none; d=a.nl\r\nARC-Seal: i=1; cv=none; d=a.nl\r\n",
            "ARC-Seal: i=1; cv=none; d=a.nl\r\nARC-Seal: nonsense\r\n",
            "ARC-Seal: i=1; cv=perhaps; d=a.nl\r\n",
            "ARC-Seal: i=0; cv=none; d=a.nl\r\n",
        ] {
            assert_eq!(read(section).unwrap().cv, "malformed", "{section}");
        }
    }
}
