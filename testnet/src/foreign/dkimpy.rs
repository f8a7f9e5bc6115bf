//! dkimpy: a second opinion on signatures, and a second hand that makes them.

use std::net::IpAddr;

use super::ForeignError;
use super::process::run;
use super::root::{Account, Root};
use crate::dkim::SigningKey;

const KEY: &str = "/etc/dkimpy.key";
/// Messages come as their length, a line end, and their octets.
const VERIFY: &str = r#"
import sys, dkim
while line := sys.stdin.buffer.readline():
    message = sys.stdin.buffer.read(int(line))
    said = []
    for index in range(int(sys.argv[1])):
        try:
            said.append("ok" if dkim.DKIM(message).verify(index) else "does not hold")
        except Exception as error:
            said.append(repr(error))
    print(*said)
"#;

/// dkimpy with a resolver.
#[derive(Debug)]
pub struct Dkimpy {
    root: Root,
}

/// A canonical form of header and body (RFC 6376 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it stands.
    Simple,
    /// Blanks and case of names made alike.
    Relaxed,
}

impl Form {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Relaxed => "relaxed",
        }
    }
}

impl Dkimpy {
    /// Asks `resolver` (port 53).
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn new(resolver: IpAddr) -> Result<Self, ForeignError> {
        let root = Root::new("dkimpy")?;
        root.write("/etc/resolv.conf", format!("nameserver {resolver}\n"))?;
        Ok(Self { root })
    }

    /// Judges the first `signatures` signatures of each message, in one process: Python takes long to start. One line of words
    /// for each message; `ok` for each signature that holds, or why it does not.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn verify(&self, messages: &[Vec<u8>], signatures: usize) -> Result<Vec<String>, ForeignError> {
        self.root.write("/verify.py", VERIFY)?;
        let mut command = self.root.command("/usr/bin/python3");
        command.args(["/verify.py", &signatures.to_string()]);
        let mut input = Vec::new();
        for message in messages {
            input.extend_from_slice(format!("{}\n", message.len()).as_bytes());
            input.extend_from_slice(message);
        }
        Ok(run("dkimpy", command, &input)?.out.lines().map(str::to_owned).collect())
    }

    /// A message with a signature of this key on top.
    ///
    /// # Errors
    /// [`ForeignError`]
    pub fn sign(
        &self,
        key: &SigningKey,
        domain: &str,
        form: Form,
        message: &[u8],
    ) -> Result<Vec<u8>, ForeignError> {
        let algorithm = if key.is_rsa() { "rsa-sha256" } else { "ed25519-sha256" };
        self.root.write_secret(KEY, key.for_dkimpy(), Account::Root)?;
        let mut command = self.root.command("/usr/bin/dkimsign");
        command.args(["--hcanon", form.as_str(), "--bcanon", form.as_str(), "--signalg", algorithm]);
        command.args([key.selector, domain, KEY]);
        Ok(run("dkimsign", command, message)?.out.into_bytes())
    }
}
