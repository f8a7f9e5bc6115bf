//! The DKIM signatures of a message, with their keys from DNS.

use jiff::Timestamp;

use super::super::dkim::{Evidence, Key, SIGNATURES_MAX, no};
use super::super::results::{DkimResult, DkimWord};
use super::names::{Found, Mark, Names};

/// Judges the first [`SIGNATURES_MAX`] signatures of the message (JUDGE-006), in the order of the fields; one result more says that there are
/// others.
pub(super) async fn verify(names: &mut dyn Names, evidence: &Evidence, now: Timestamp) -> Vec<DkimResult> {
    let mut results = Vec::new();
    for at in 0..evidence.signatures.len().min(SIGNATURES_MAX) {
        results.push(judge(names, evidence, at, now).await);
    }
    if evidence.beyond > 0 || evidence.signatures.len() > SIGNATURES_MAX {
        let detail = format!("signatures beyond the first {SIGNATURES_MAX} were not judged");
        results.push(no(DkimWord::Policy, None, &detail));
    }
    results
}

async fn judge(names: &mut dyn Names, evidence: &Evidence, at: usize, now: Timestamp) -> DkimResult {
    let found = &evidence.signatures[at];
    let signature = match &found.signature {
        Ok(signature) => signature,
        Err(result) => return result.clone(),
    };
    let result = |word, detail: &str| no(word, Some(signature.domain.clone()), detail);
    if let Err((word, detail)) = signature.check_time(now) {
        return result(word, detail);
    }
    if !evidence.body_is_that_of(signature) {
        return result(DkimWord::Fail, "the body is not what was signed");
    }
    let name = &signature.key_name;
    let (records, mark) = match names.txt(name).await {
        Found::Some(records, mark) => (records, mark),
        Found::None(_) => return result(DkimWord::Permerror, &format!("no key at {name}")),
        Found::Trouble(detail) => return result(DkimWord::Temperror, &detail),
    };
    let [record] = records.as_slice() else {
        return result(DkimWord::Permerror, &format!("more than one record at {name}"));
    };
    let key = match Key::read(record, signature) {
        Ok(key) => key,
        Err((word, detail)) => return result(word, &format!("key at {name}: {detail}")),
    };
    if !key.verifies(&evidence.signed(found, signature), &signature.signature) {
        return result(DkimWord::Fail, "the signature does not verify");
    }
    if mark == Mark::Unproven {
        return result(DkimWord::Policy, &format!("the key at {name} is not signed with DNSSEC"));
    }
    result(DkimWord::Pass, "pass")
}
