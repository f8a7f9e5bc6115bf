//! Every limit of the node, once: key, unit, floor, default, ceiling, and why.
//!
//! All of them stand in the section `[limits]` of the configuration file under the key given here, as whole numbers in
//! the unit given here. A value under the floor or over the ceiling refuses to start (LIM-001). The table in
//! `spec/08-limits.md` is written from [`TABLE`]; a test compares them.

use std::fmt;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Octets.
    Octets,
    /// Seconds.
    Seconds,
    /// Things per minute.
    PerMinute,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::Octets => "octets",
            Self::Seconds => "seconds",
            Self::PerMinute => "per minute",
        })
    }
}

/// One limit.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Its key in `[limits]`.
    pub key: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// The least that may be configured.
    pub floor: u64,
    /// What holds when nothing is configured.
    pub default: u64,
    /// The most that may be configured.
    pub ceiling: u64,
    /// Where the numbers come from.
    pub why: &'static str,
}

impl Limit {
    /// Whether `value` lies between floor and ceiling.
    #[must_use]
    pub const fn admits(&self, value: u64) -> bool {
        self.floor <= value && value <= self.ceiling
    }
}

macro_rules! limits {
    ($($key:ident: $unit:ident, $floor:expr, $default:expr, $ceiling:expr, $why:literal;)+) => {
        /// The limits in force.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $why] pub $key: u64,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl Limits {
            /// The value of the limit with this key.
            #[must_use]
            pub fn get(&self, key: &str) -> Option<u64> {
                match key {
                    $(stringify!($key) => Some(self.$key),)+
                    _ => None,
                }
            }

            /// Sets the limit with this key; the caller has compared the value with the table.
            pub(super) fn set(&mut self, key: &str, value: u64) {
                match key {
                    $(stringify!($key) => self.$key = value,)+
                    _ => {}
                }
            }
        }

        /// All limits, in the order of the specification.
        pub const TABLE: &[Limit] = &[$(Limit {
            key: stringify!($key),
            unit: Unit::$unit,
            floor: $floor,
            default: $default,
            ceiling: $ceiling,
            why: $why,
        },)+];
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

limits! {
    message_octets: Octets, 64 * KIB, 64 * MIB, GIB,
        "Largest content taken, and announced as SIZE. Floor: RFC 5321 4.5.3.1.7.";
    recipients: Count, 100, 100, 1000,
        "Recipients per transaction. Floor: RFC 5321 4.5.3.1.8; ceiling: the envelope stays one spool record.";
    command_line_octets: Octets, 1024, 4096, 12288,
        "Longest command line with CRLF. RFC 5321 4.5.3.1.4 asks for 512, the parameters of RFC 3461, 4954 and 6531 for more.";
    content_line_octets: Octets, 998, 998, 998,
        "Longest line of content without CRLF. Fixed by RFC 5322 2.1.1 (SMTP-008).";
    header_octets: Octets, 64 * KIB, 256 * KIB, 4 * MIB,
        "Longest header section; beside a signature (smime_octets) the only part of a message held in memory.";
    smime_octets: Octets, 16 * KIB, 256 * KIB, 4 * MIB,
        "Longest S/MIME signature held to be judged, and longest message that is in one piece with its signature. SMIME-002; attack class T27.";
    header_fields: Count, 100, 1000, 10_000,
        "Fields of a header section. Attack class T27.";
    received_fields: Count, 30, 100, 200,
        "`Received:` fields before a message counts as looping. Default: RFC 5321 6.3.";
    own_received_fields: Count, 2, 8, 50,
        "`Received:` fields of this node's own before a message counts as looping; coming by once leaves two (in, and out).";
    chunks: Count, 1000, 20_000, 200_000,
        "BDAT chunks per transaction. Attack class T4b; a 64 MiB message in chunks of 4 KiB passes by default.";
    transactions_per_session: Count, 1, 1000, 100_000,
        "Messages over one link before it is closed, so that keys and policy are judged afresh.";
    errors_per_session: Count, 3, 20, 100,
        "Commands that break the protocol before the session ends with 421. RFC 5321 7.8.";
    refusals_per_session: Count, 100, 1000, 100_000,
        "Refused senders, recipients and messages before the session ends with 421. Floor: one full set of recipients.";
    idle_commands_per_session: Count, 10, 100, 10_000,
        "NOOP, RSET, EHLO, VRFY and the like in a row before the session ends with 421. Attack class T4b.";

    sessions: Count, 4, 256, 10_000,
        "Inbound sessions at once, all listeners together. Attack class T26.";
    sessions_per_peer: Count, 1, 32, 1000,
        "Inbound sessions at once for one peer, or for one network of unproven clients. Attack class T26.";
    sessions_per_peer_per_minute: PerMinute, 1, 120, 60_000,
        "New inbound sessions of one peer or network per minute. LIM-003.";
    messages_per_peer_per_minute: PerMinute, 1, 1200, 600_000,
        "Inbound messages of one peer per minute. LIM-003.";

    command_seconds: Seconds, 10, 5 * MINUTE, 5 * MINUTE,
        "Server: wait for the next command. RFC 5321 4.5.3.2.7.";
    handshake_seconds: Seconds, 5, 30, 2 * MINUTE,
        "Both roles: TLS handshake and proof of the other side's key.";
    content_idle_seconds: Seconds, 10, 3 * MINUTE, 5 * MINUTE,
        "Server: wait for more content. RFC 5321 4.5.3.2.5.";
    content_total_seconds: Seconds, MINUTE, HOUR, 6 * HOUR,
        "Server: all of one message, however steadily its octets trickle in. Attack class T26.";
    session_seconds: Seconds, 10 * MINUTE, 2 * HOUR, DAY,
        "Server: a whole session, so that nobody keeps a place for good. Attack class T26.";

    connect_seconds: Seconds, 1, 30, 5 * MINUTE,
        "Client: TCP connection to one address of a host.";
    greeting_seconds: Seconds, 5, 5 * MINUTE, 5 * MINUTE,
        "Client: 220. RFC 5321 4.5.3.2.1.";
    ehlo_seconds: Seconds, 5, MINUTE, 5 * MINUTE,
        "Client: reply to EHLO and STARTTLS. Ceiling as for MAIL.";
    mail_seconds: Seconds, 5, 5 * MINUTE, 5 * MINUTE,
        "Client: reply to MAIL. RFC 5321 4.5.3.2.2.";
    rcpt_seconds: Seconds, 5, 5 * MINUTE, 5 * MINUTE,
        "Client: reply to RCPT. RFC 5321 4.5.3.2.3.";
    data_seconds: Seconds, 5, 2 * MINUTE, 2 * MINUTE,
        "Client: 354. RFC 5321 4.5.3.2.4.";
    block_seconds: Seconds, 5, 3 * MINUTE, 3 * MINUTE,
        "Client: each block of content taken by the other side. RFC 5321 4.5.3.2.5.";
    final_dot_seconds: Seconds, MINUTE, 10 * MINUTE, 10 * MINUTE,
        "Client: reply to the end of content; when it runs out the message may arrive twice. RFC 5321 4.5.3.2.6.";
    hook_seconds: Seconds, 1, 2 * MINUTE, 15 * MINUTE,
        "Content hook: from the connection to the end of its answer. HOOK-010.";
    hook_answer_octets: Octets, 64 * KIB, 72 * MIB, GIB + 64 * MIB,
        "Content hook: largest changed message taken. HOOK-010; default: the largest message by default, and room for what is added.";
    link_idle_seconds: Seconds, 1, 30, 4 * MINUTE,
        "Client: how long an unused link stays open for the next message; below the server's command_seconds.";

    hosts_per_attempt: Count, 1, 5, 20,
        "Hosts tried in one attempt before the delivery waits. SMTP-024; RFC 5321 5.1.";
    links: Count, 1, 64, 5000,
        "Outbound links at once, all peers together.";
    links_per_peer: Count, 1, 8, 100,
        "Outbound links at once to one peer, so that a slow one does not take all.";

    messages_to_peer_per_minute: PerMinute, 1, 1200, 600_000,
        "Messages we offer to one peer per minute; what is over waits. LIM-008; the default is what a peer takes by default.";
    attempt_seconds: Seconds, 30 * MINUTE, 2 * HOUR, 6 * HOUR,
        "One attempt in all; beyond it the worker counts as stalled. SPOOL-043; default: an hour of content and every step's limit.";
    host_failures: Count, 2, 5, 100,
        "Failures of a host in a row before it rests. SMTP-027.";
    probe_first_seconds: Seconds, 1, MINUTE, 30 * MINUTE,
        "Rest of a host before its first probe, if that is not longer than retry_first_seconds; it doubles from there. SMTP-027.";
    probe_longest_seconds: Seconds, 1, 5 * MINUTE, HOUR,
        "Longest rest between two probes of a host, if that is not longer than retry_longest_seconds; a probe costs one connection. SMTP-027.";

    retry_first_seconds: Seconds, 1, MINUTE, 30 * MINUTE,
        "Wait before the second attempt; it doubles from there. SPOOL-009.";
    retry_longest_seconds: Seconds, 1, 30 * MINUTE, 4 * HOUR,
        "Longest wait between two attempts. SPOOL-009.";
    warning_seconds: Seconds, 1, 4 * HOUR, 12 * HOUR,
        "Age at which the sender of an undelivered message is told that it is late. NTA 7516 6.1.3 (SPOOL-015).";
    return_seconds: Seconds, 10, DAY, DAY,
        "Age at which an undelivered message is returned. Ceiling: NTA 7516 6.1.3 (SPOOL-010).";
    repeat_window_seconds: Seconds, DAY, 2 * DAY, 7 * DAY,
        "How long a message that a peer sends again is recognised. Floor: as long as peers try (SPOOL-010, SPOOL-042).";
    inline_octets: Octets, 4 * KIB, 256 * KIB, MIB,
        "Content up to this size is stored in the database, larger content in a file of its own (one flush less).";
    spool_cache_octets: Octets, MIB, 32 * MIB, GIB,
        "Memory the database may use as cache.";
    spool_reserve_octets: Octets, MIB, 64 * MIB, 100 * GIB,
        "Space kept aside, so that what was accepted can still be settled when the disk is full (452, SPOOL-004).";
    spool_octets: Octets, 64 * MIB, 1024 * GIB, 1024 * 1024 * GIB,
        "Content of all messages in the spool; beyond it nothing is accepted (452).";
    record_days: Count, 1, 90, 3650,
        "Days for which decision records are kept.";

    location_table_days: Count, 1, 35, 400,
        "Age of the table of [location] beyond which it is warned about. LOCA-008; default: tables of a month, and some days.";

    dns_try_seconds: Seconds, 1, 2, 10,
        "One question over UDP before it is repeated.";
    dns_question_seconds: Seconds, 2, 20, MINUTE,
        "One question in all: repetitions, TCP, aliases and keys included; a cold resolver needs it for a slow zone.";
    dns_cache_floor_seconds: Seconds, 0, 5, 5 * MINUTE,
        "Least time an answer is kept, against zones with TTL 0. Ceiling: a roll-over must not wait for us.";
    dns_cache_ceiling_seconds: Seconds, 0, HOUR, DAY,
        "Most time an answer is kept, whatever its TTL. DNS-008.";
    dns_absence_seconds: Seconds, 0, 15 * MINUTE, 3 * HOUR,
        "Most time that proven absence is kept. Ceiling: RFC 2308 5.";
    dns_temporary_seconds: Seconds, 0, 5, 30,
        "How long a failed look-up is remembered. RFC 9520 3.2 (DNS-010).";
    dns_cache_entries: Count, 100, 20_000, 1_000_000,
        "Answers kept at once; a thousand take about 1 MB.";
    record_octets: Octets, 4096, 4096, 4096,
        "Largest NTA record read. Fixed: 16 character-strings.";
    tlsa_records: Count, 4, 32, 100,
        "Largest TLSA set that counts as usable. DANE-004; attack class T19.";
    client_names: Count, 4, 4, 4,
        "dNSNames in a client certificate. Fixed by IDEN-007.";

    stop_seconds: Seconds, 1, 30, 10 * MINUTE,
        "Time given to sessions and attempts under way when the node is told to stop. OPS-009.";
}

const _: () = {
    let mut at = 0;
    while at < TABLE.len() {
        assert!(TABLE[at].admits(TABLE[at].default), "every default lies between floor and ceiling");
        at += 1;
    }
};
// A link that we keep must not be one that the other side has already given up.
const _: () = assert!(max("link_idle_seconds") < 5 * MINUTE);
// A retry that waited longer than the age of return would never happen.
const _: () = assert!(max("retry_longest_seconds") < default("return_seconds"));
// The sender is to know while there is time to act.
const _: () = assert!(max("warning_seconds") < default("return_seconds"));
// Inline content travels through the cache whole.
const _: () = assert!(max("inline_octets") <= min("spool_cache_octets"));
// Discovery would cut a longer memory of trouble anyway.
const _: () = assert!(max("dns_temporary_seconds") <= crate::discovery::TROUBLE_MAX.as_secs());
// A spool that can't hold the largest message would refuse it for ever with 452.
const _: () = assert!(default("message_octets") <= min("spool_octets"));
// What a hook may answer is no smaller than what it may be asked about.
const _: () = assert!(default("hook_answer_octets") > default("message_octets"));
const _: () = assert!(max("hook_answer_octets") > max("message_octets"));
// A hook that takes all its time leaves an attempt time for the hand-off.
const _: () = assert!(2 * max("hook_seconds") <= min("attempt_seconds"));
// The header section is part of the message.
const _: () = assert!(min("header_octets") <= min("message_octets"));

const fn max(key: &str) -> u64 {
    find(key).ceiling
}

const fn min(key: &str) -> u64 {
    find(key).floor
}

const fn default(key: &str) -> u64 {
    find(key).default
}

const fn find(key: &str) -> &'static Limit {
    let mut at = 0;
    while at < TABLE.len() {
        if same(TABLE[at].key.as_bytes(), key.as_bytes()) {
            return &TABLE[at];
        }
        at += 1;
    }
    panic!("no such limit");
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The table of `spec/08-limits.md`, as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| key | unit | floor | default | ceiling | source and reason |\n|---|---|---|---|---|---|\n",
    );
    for limit in TABLE {
        let Limit { key, unit, floor, default, ceiling, why } = limit;
        text.push_str(&format!("| `{key}` | {unit} | {floor} | {default} | {ceiling} | {why} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Proves: +LIM-001
    #[test]
    fn the_specification_shows_this_table() {
        const BEGIN: &str = "<!-- table:limits begin -->\n";
        const END: &str = "<!-- table:limits end -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/08-limits.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (head, rest) = page.split_once(BEGIN).expect("the page has the begin marker");
        let (shown, tail) = rest.split_once(END).expect("the page has the end marker");
        let wanted = markdown();
        if std::env::var_os("SLUIS_BLESS").is_some() {
            std::fs::write(path, format!("{head}{BEGIN}{wanted}{END}{tail}")).unwrap();
        } else {
            assert_eq!(shown, wanted, "run the test again with SLUIS_BLESS=1 to rewrite the table");
        }
    }

    #[test]
    fn each_key_sets_its_own_field() {
        for limit in TABLE {
            let mut limits = Limits::default();
            limits.set(limit.key, 987_654_321);
            let shown = format!("{limits:?}");
            assert!(shown.contains(&format!(" {}: 987654321", limit.key)), "{} in {shown}", limit.key);
            assert_eq!(limits.get(limit.key), Some(987_654_321));
        }
    }

    #[test]
    fn the_keys_are_unique() {
        let keys: std::collections::BTreeSet<_> = TABLE.iter().map(|limit| limit.key).collect();
        assert_eq!(keys.len(), TABLE.len());
    }
}
