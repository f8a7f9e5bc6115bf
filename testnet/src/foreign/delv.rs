//! delv and dig: BIND's validator as a command, and what a validating resolver lets through.

use std::net::SocketAddr;

use super::ForeignError;
use super::process::run;
use super::root::Root;

/// What a foreign validator makes of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// Data, or proof that there is none, with an unbroken chain from the anchor.
    Secure,
    /// An answer, proven to be outside any chain.
    Insecure,
    /// An answer that does not hold.
    Bogus,
    /// No answer to judge: SERVFAIL, REFUSED, silence.
    NoAnswer,
}

/// BIND's validator, started anew for each question, so that nothing is cached.
#[derive(Debug)]
pub struct Delv {
    root: Root,
    server: SocketAddr,
}

impl Delv {
    /// Will ask `server`, which must answer recursively, and validate by itself from `anchor`, in BIND's syntax
    /// (`trust-anchors { … };`).
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn new(server: SocketAddr, anchor: &str) -> Result<Self, ForeignError> {
        let root = Root::new("delv")?;
        root.write("/etc/anchor", anchor)?;
        Ok(Self { root, server })
    }

    /// Its opinion, and all that it printed, which says why.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn opinion(&self, name: &str, rtype: &str) -> Result<(Opinion, String), ForeignError> {
        let mut command = self.root.command("/usr/bin/delv");
        command
            // With CD the server passes on what it would hold back as bogus, so that delv is the judge.
            .args(["-4", "-a", "/etc/anchor", "+root=.", "+cdflag"])
            .args([format!("@{}", self.server.ip()), "-p".into(), self.server.port().to_string()])
            .args([name, rtype]);
        let printed = run("delv", command, b"")?;
        // The reason of a failure goes to the one, answers and their verdicts to the other.
        let printed = printed.err + &printed.out;
        Ok((read_delv(&printed), printed))
    }
}

/// A resolver that validates, seen from outside with dig.
#[derive(Debug)]
pub struct Dig {
    root: Root,
    server: SocketAddr,
}

impl Dig {
    /// Will ask `server`, which must answer recursively and validate.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn new(server: SocketAddr) -> Result<Self, ForeignError> {
        Ok(Self { root: Root::new("delv")?, server })
    }

    /// What the resolver makes of a question, judged by what it lets through: data with AD, data without, or SERVFAIL
    /// that goes away when checking is disabled.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn opinion(&self, name: &str, rtype: &str) -> Result<Opinion, ForeignError> {
        let printed = self.ask("+nocdflag", name, rtype)?;
        Ok(match status(&printed) {
            "NOERROR" | "NXDOMAIN" if has_ad(&printed) => Opinion::Secure,
            "NOERROR" | "NXDOMAIN" => Opinion::Insecure,
            "SERVFAIL" if ["NOERROR", "NXDOMAIN"].contains(&status(&self.ask("+cdflag", name, rtype)?)) => {
                Opinion::Bogus
            }
            _ => Opinion::NoAnswer,
        })
    }

    fn ask(&self, checking: &str, name: &str, rtype: &str) -> Result<String, ForeignError> {
        let mut command = self.root.command("/usr/bin/dig");
        command
            .args([format!("@{}", self.server.ip()), "-p".into(), self.server.port().to_string()])
            .args(["+dnssec", "+tries=1", "+time=3", checking, name, rtype]);
        match run("dig", command, b"") {
            Ok(printed) => Ok(printed.out),
            Err(ForeignError::Unexpected { reply, .. }) if reply.contains("no servers could be reached") => {
                Ok(String::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// `;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1`
fn status(printed: &str) -> &str {
    printed.split_once("status: ").and_then(|(_, rest)| rest.split_once(',')).map_or("", |(status, _)| status)
}

/// `;; flags: qr rd ra ad; QUERY: 1, …`
fn has_ad(printed: &str) -> bool {
    printed
        .split_once(";; flags: ")
        .and_then(|(_, rest)| rest.split_once(';'))
        .is_some_and(|(flags, _)| flags.split(' ').any(|flag| flag == "ad"))
}

/// delv prints a verdict above each record set it shows; a chain of aliases is worth as much as its worst link.
fn read_delv(printed: &str) -> Opinion {
    // "failure" is what it calls an upstream's SERVFAIL.
    const UNANSWERED: [&str; 7] =
        ["failure", "SERVFAIL", "REFUSED", "NOTIMP", "FORMERR", "timed out", "unreachable"];
    let says = |what: &str| printed.lines().any(|line| line.starts_with(';') && line.contains(what));
    // "resolution failed: ncache nxdomain" is how a proven denial begins.
    let failed = printed
        .lines()
        .find_map(|line| line.strip_prefix(";; resolution failed: "))
        .filter(|reason| !reason.starts_with("ncache"));
    match failed {
        Some(reason) if UNANSWERED.iter().any(|known| reason.contains(known)) => Opinion::NoAnswer,
        Some(_) => Opinion::Bogus,
        None if says("unsigned answer") => Opinion::Insecure,
        None if says("fully validated") => Opinion::Secure,
        None => Opinion::NoAnswer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delv_is_read_by_its_worst_line() {
        for (printed, opinion) in [
            ("; fully validated\na.nl. 300 IN TXT \"x\"", Opinion::Secure),
            (";; resolution failed: ncache nxdomain\n; negative response, fully validated", Opinion::Secure),
            ("; fully validated\na. CNAME b.\n; unsigned answer\nb. A 127.0.0.1", Opinion::Insecure),
            (";; RRSIG has expired\n;; resolution failed: RRSIG has expired", Opinion::Bogus),
            (";; resolution failed: failure", Opinion::NoAnswer),
            ("", Opinion::NoAnswer),
        ] {
            assert_eq!(read_delv(printed), opinion, "{printed}");
        }
    }

    #[test]
    fn dig_is_read_by_status_and_flags() {
        let printed = ";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1\n;; flags: qr rd ra ad; QUERY: 1, ANSWER: 1";
        assert_eq!((status(printed), has_ad(printed)), ("NOERROR", true));
        assert!(!has_ad(";; flags: qr rd ra; QUERY: 1 ad"));
    }
}
