//! S/MIME and CAdES: judging what others signed, and signing what leaves (`spec/12-smime.md`).
//!
//! # Guarantees
//! - A verdict never decides what becomes of a message (SMIME-001).
//! - [`SmimeWatch`] holds no more of a message than a signature's worth of octets; what is signed is hashed as it passes
//!   (SMIME-002). What strangers wrote is read with bounded depth and counts, and never in two ways.
//! - `pass` means all of it: content and attributes are those that were signed, with the key of a certificate that is for mail,
//!   is for the sender's address, is bound by the signature where it says so, and leads to an authority the operator named
//!   (SMIME-003).
//! - [`SmimeWrap`] changes no octet of a body, and signs what is sent (SMIME-010).
//!
//! # Errors
//! [`SmimeKeyError`] and [`MailAnchorError`] for files the operator named; [`NotSigned`] for messages that pass as they are.
//! For messages of others there are verdicts only.
//!
//! # Standards
//! RFC 8551, 8550, 5652, 5035, 1847, 7281; ETSI EN 319 122-1.

mod ber;
mod certificate;
mod cms;
mod entity;
mod lines;
mod oid;
mod signer;
mod verify;
mod watch;
mod wrap;

#[cfg(test)]
pub(crate) mod tests;

pub use certificate::{MailAnchorError, MailAnchors};
pub use signer::{SmimeKeyError, SmimeSigner};
pub use verify::{SmimeCase, SmimeVerdict};
pub use watch::{SmimeEvidence, SmimeWatch};
pub use wrap::{NotSigned, SmimeWrap};

/// For fuzzing: a message is judged without a panic, in whatever pieces it comes, always the same, and holds no more than it
/// may; and so is the input as a CMS object.
///
/// # Panics
/// When one of these does not hold.
pub fn fuzz(input: &[u8]) {
    use base64::Engine as _;
    const LIMIT: usize = 16 << 10;
    let judge = |content: &[u8], step: usize| {
        let mut watch = SmimeWatch::new(LIMIT);
        for piece in content.chunks(step.max(1)) {
            watch.push(piece);
            assert!(watch.held() <= 2 * LIMIT + (8 << 10), "{} octets are held", watch.held());
        }
        let case = SmimeCase { from: &[], sender: None, anchors: None, now: jiff::Timestamp::UNIX_EPOCH };
        watch.finish().judge(&case)
    };
    let text = base64::engine::general_purpose::STANDARD.encode(input);
    let head = "Content-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    let opaque = format!("{head}{text}").into_bytes();
    for content in [input, &opaque] {
        let whole = judge(content, content.len());
        assert_eq!(whole, judge(content, 1));
        assert_eq!(whole, judge(content, 7));
        assert!(whole.is_none_or(|verdict| verdict.result.identity.is_none()), "nobody's signature passes");
    }
}
