//! What the server itself says. The same text for everybody: no reply repeats what the client sent.

use super::settings::Settings;
use crate::transport::smtp::reply::Reply;

macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident = $code:literal $enhanced:tt $text:literal;)+) => {
        $($(#[$doc])*
        pub(super) fn $name() -> Reply {
            Reply::sanitised($code, $enhanced, $text)
        })+
    };
}

replies! {
    done = 250 (2, 0, 0) "done";
    quit = 221 (2, 0, 0) "closing";
    sender_ok = 250 (2, 1, 0) "sender ok";
    recipient_ok = 250 (2, 1, 5) "recipient ok";
    ready_for_tls = 220 (2, 0, 0) "ready for TLS";
    cannot_verify = 252 (2, 5, 0) "not verified here, try to send";
    help = 214 (2, 0, 0) "RFC 5321, and the specification of this node";
    not_offered = 502 (5, 5, 1) "not offered";
    starttls_first = 530 (5, 7, 0) "SMTP-001 starttls_required: STARTTLS first";
    sent_ahead = 503 (5, 5, 1) "SMTP-002 octets sent ahead of the handshake";
    tls_already = 503 (5, 5, 1) "SMTP-005 TLS is on already";
    ehlo_first = 503 (5, 5, 1) "SMTP-012 EHLO first";
    mail_first = 503 (5, 5, 1) "SMTP-012 MAIL first";
    rcpt_first = 503 (5, 5, 1) "SMTP-012 no recipient was accepted";
    mail_twice = 503 (5, 5, 1) "SMTP-012 a transaction is open";
    in_chunks = 503 (5, 5, 1) "SMTP-013 content has begun with BDAT";
    was_reset = 451 (4, 5, 0) "SMTP-012 the transaction was reset";
    foreign = 421 (4, 7, 0) "SMTP-025 this is SMTP";
    line_malformed = 500 (5, 5, 2) "SMTP-009 the line has a bare CR, a bare LF or a NUL";
    line_too_long = 500 (5, 5, 6) "SMTP-009 the line is too long";
    too_many_recipients = 452 (4, 5, 3) "LIM-002 too many recipients";
    too_many_chunks = 552 (5, 3, 4) "LIM-006 too_many_chunks: send it in fewer";
    too_many_errors = 421 (4, 7, 0) "LIM-004 too many errors";
    too_many_idle = 421 (4, 7, 0) "LIM-004 too many commands without a message";
    enough_transactions = 421 (4, 7, 0) "enough for one session, connect again";
    too_many_sessions = 421 (4, 3, 2) "LIM-004 too many sessions, try again later";
    late = 421 (4, 4, 2) "LIM-005 the time for this step is over";
    lost = 421 (4, 4, 2) "the connection was lost";
    stopping = 421 (4, 3, 2) "going down, try again later";
    gate_fault = 451 (4, 3, 0) "local fault, try again later";
}

pub(super) fn go_ahead() -> Reply {
    Reply::new(354, None, "end with CRLF . CRLF").expect("a constant of printable ASCII")
}

pub(super) fn greeting(settings: &Settings) -> Reply {
    Reply::new(220, None, &format!("{} ESMTP", settings.hostname)).expect("a name is printable ASCII")
}

pub(super) fn too_large(settings: &Settings) -> Reply {
    let text = format!("SMTP-014 message_too_large: more than {} octets", settings.message_octets);
    Reply::sanitised(552, (5, 3, 4), &text)
}

/// The reply to EHLO: our name, then one keyword a line. No enhanced code, because the lines are data.
pub(super) fn capabilities(settings: &Settings, keywords: impl IntoIterator<Item = String>) -> Reply {
    let mut lines = vec![settings.hostname.to_string()];
    lines.extend(keywords.into_iter().map(|keyword| crate::transport::smtp::printable(&keyword)));
    Reply::with_lines(250, None, lines).expect("the lines are printable")
}

/// The reply to HELO.
pub(super) fn hello(settings: &Settings) -> Reply {
    capabilities(settings, [])
}
