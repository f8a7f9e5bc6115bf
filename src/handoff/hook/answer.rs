//! What a hook answers: which kind, and is it all there?

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING,
};
use hyper::{Response, StatusCode, Version};

use super::changed::Examined;
use super::{Changed, HookError, HookLimits, Keep, NotKept};
use crate::transport::smtp::printable;
use crate::trust::HeaderFacts;

/// The longest reason of a rejection that is read, in octets.
const WORDS_OCTETS_MAX: usize = 16 << 10;
/// As much of it as a sender is told, in characters.
const WORDS_CHARS_MAX: usize = 300;

/// What was answered, before it is known whether it may be believed.
pub(super) enum Given {
    Passed,
    /// With what the header section of the changed message says.
    Changed(Changed, HeaderFacts),
    Rejected(String),
}

/// Reads an answer to its end (HOOK-003). A changed message goes to `keep` as it comes.
pub(super) async fn read(
    response: Response<Incoming>,
    limits: &HookLimits,
    keep: &mut dyn Keep,
) -> Result<Given, HookError> {
    if response.version() != Version::HTTP_11 {
        return Err(HookError::unusable(format!("it is {:?}, not HTTP/1.1", response.version())));
    }
    match response.status() {
        StatusCode::NO_CONTENT => Ok(Given::Passed),
        StatusCode::OK => changed(response, limits, keep).await,
        StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY => rejected(response).await,
        other => Err(HookError::Status(other.as_u16())),
    }
}

async fn changed(
    response: Response<Incoming>,
    limits: &HookLimits,
    keep: &mut dyn Keep,
) -> Result<Given, HookError> {
    typed(response.headers(), "message/rfc822")?;
    framed(response.headers())?;
    let limit = limits.answer_octets;
    let too_long = || HookError::unusable(format!("the changed message is longer than {limit} octets"));
    let mut body = response.into_body();
    if body.size_hint().lower() > limit {
        return Err(too_long());
    }
    let (mut examined, mut octets) = (Examined::new(limits.header), 0_u64);
    while let Some(frame) = body.frame().await {
        // Trailer fields say nothing about the message.
        let Ok(piece) = frame.map_err(HookError::broken)?.into_data() else { continue };
        octets += piece.len() as u64;
        if octets > limit {
            return Err(too_long());
        }
        let checked = examined.push(&piece)?;
        keep.keep(checked).await.map_err(|NotKept| HookError::NotKept)?;
    }
    let (changed, header) = examined.finish()?;
    Ok(Given::Changed(changed, header))
}

/// A rejection is one only with a reason as plain text: what stands in between, or in front of a hook that is not there, answers
/// `403` too, in HTML or in silence, and must not return anybody's mail (HOOK-009).
async fn rejected(response: Response<Incoming>) -> Result<Given, HookError> {
    let status = response.status().as_u16();
    let unusable = |what: HookError| HookError::unusable(format!("status {status}, but {}", reason_of(what)));
    typed(response.headers(), "text/plain").map_err(unusable)?;
    framed(response.headers()).map_err(unusable)?;
    let body = Limited::new(response.into_body(), WORDS_OCTETS_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            HookError::unusable(format!(
                "status {status}, and a reason of more than {WORDS_OCTETS_MAX} octets"
            ))
        } else {
            HookError::Broken(error.to_string())
        }
    })?;
    words(&body.to_bytes())
        .map(Given::Rejected)
        .ok_or_else(|| HookError::unusable(format!("status {status}, but no reason")))
}

fn reason_of(error: HookError) -> String {
    match error {
        HookError::Unusable(what) => what,
        other => other.to_string(),
    }
}

/// The first line that says something.
fn words(octets: &Bytes) -> Option<String> {
    let text = String::from_utf8_lossy(octets);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(printable(line).chars().take(WORDS_CHARS_MAX).collect())
}

/// Whether the answer is of this media type, and nothing was done to it on the way.
fn typed(headers: &HeaderMap, wanted: &str) -> Result<(), HookError> {
    let mut all = headers.get_all(CONTENT_TYPE).iter();
    let only = all.next().filter(|_| all.next().is_none());
    let essence = only.and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next());
    if !essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(wanted)) {
        return Err(HookError::unusable(format!("its Content-Type is not {wanted}")));
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(HookError::unusable("it has a Content-Encoding, which was not asked for"));
    }
    Ok(())
}

/// Whether the answer says where it ends: a body that ends with the connection may have lost its rest, and one with two framings
/// has two ends (RFC 9112 section 6.3; attack classes T2, T32).
fn framed(headers: &HeaderMap) -> Result<(), HookError> {
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    match (lengths, codings.as_slice()) {
        (1, []) => Ok(()),
        (0, [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        (0, []) => {
            Err(HookError::unusable("it has neither Content-Length nor chunks, so nobody knows its end"))
        }
        _ => Err(HookError::unusable("it has more than one framing")),
    }
}
