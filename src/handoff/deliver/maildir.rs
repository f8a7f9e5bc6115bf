//! Maildir: the final delivery, into files that a mail store reads.
//!
//! # Guarantees
//! - A recipient counts as delivered after the file is flushed under `tmp`, moved to `new` and the directory flushed
//!   (HAND-007).
//! - A recipient's address cannot lead out of the template's directory (attack class T35).
//! - An attempt that is repeated after a crash replaces its own file as long as nobody has read it; it makes no second.
//!
//! Content is kept with its CRLF line ends: what was signed stays as it was signed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::model::{Address, ContentLeft, Digest, Envelope, Reason};

use super::headers::append_field;
use super::{Handover, Outgoing, RecipientAnswer, RecipientKnown, Reports, Verdict};

const PIECE_OCTETS: usize = 64 << 10;
const LOCAL: &str = "{local}";
const DOMAIN: &str = "{domain}";

/// Settings of a Maildir hand-off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaildirSettings {
    /// The directory of a recipient's Maildir: an absolute path in which `{local}` and `{domain}` stand for the parts of
    /// the address, in lower case. A Maildir must exist (with `tmp` and `new`): a recipient without one is unknown.
    pub template: String,
}

impl MaildirSettings {
    /// A tree of Maildirs, `ROOT/DOMAIN/LOCAL`.
    #[must_use]
    pub fn tree(root: &Path) -> Self {
        Self { template: format!("{}/{DOMAIN}/{LOCAL}", root.display()) }
    }
}

/// Why a Maildir hand-off cannot be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MaildirSettingsError {
    /// A relative path depends on where the node was started.
    #[error("the Maildir template must be an absolute path")]
    Relative,
    /// Without `{local}` everybody's mail goes to one place.
    #[error("the Maildir template must contain {{local}}")]
    NoLocal,
    /// `..`, or a brace that belongs to neither placeholder.
    #[error("the Maildir template holds `..`, or a placeholder other than {{local}} and {{domain}}")]
    Placeholder,
}

/// A Maildir hand-off.
#[derive(Clone, Debug)]
pub struct Maildir {
    template: String,
}

impl Maildir {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`MaildirSettingsError`].
    pub fn new(settings: &MaildirSettings) -> Result<Self, MaildirSettingsError> {
        let template = &settings.template;
        if !template.starts_with('/') {
            return Err(MaildirSettingsError::Relative);
        }
        if !template.contains(LOCAL) {
            return Err(MaildirSettingsError::NoLocal);
        }
        let rest = template.replace(LOCAL, "").replace(DOMAIN, "");
        if rest.contains(['{', '}', '\0']) || template.split('/').any(|part| part == "..") {
            return Err(MaildirSettingsError::Placeholder);
        }
        Ok(Self { template: template.clone() })
    }

    /// The directory of a recipient, unless the address cannot be a directory's name.
    fn directory(&self, address: &Address) -> Option<PathBuf> {
        let local = safe_part(address.local())?;
        let domain = address.domain().as_str();
        Some(PathBuf::from(self.template.replace(LOCAL, &local).replace(DOMAIN, domain)))
    }

    /// Whether the recipient has a Maildir.
    pub async fn recipient_known(&self, address: &Address) -> RecipientKnown {
        let Some(directory) = self.directory(address) else { return RecipientKnown::Unknown };
        blocking(move || Ok(mailbox(&directory))).await.unwrap_or(RecipientKnown::CannotTell)
    }

    /// Delivers to every recipient that has a Maildir.
    ///
    /// # Errors
    /// When the content cannot be read; nobody has the message then.
    pub async fn deliver<R>(&self, outgoing: Outgoing<'_, R>) -> io::Result<Handover>
    where
        R: AsyncRead + Unpin + Send,
    {
        let Outgoing { envelope, mut content, unique, .. } = outgoing;
        let mut writers: Vec<Writer> = Vec::new();
        for recipient in &envelope.recipients {
            let writer = self.begin(envelope, &recipient.address, unique).await;
            writers.push(Writer { address: recipient.address.clone(), state: writer });
        }
        let mut piece = vec![0; PIECE_OCTETS];
        while writers.iter().any(|writer| writer.state.is_ok()) {
            let count = content.read(&mut piece).await?;
            if count == 0 {
                break;
            }
            let octets = piece[..count].to_vec();
            writers = blocking(move || {
                writers.iter_mut().for_each(|writer| writer.write(&octets));
                Ok(writers)
            })
            .await?;
        }
        let recipients =
            blocking(move || Ok(writers.into_iter().map(Writer::finish).collect::<Vec<_>>())).await?;
        let delivered = recipients.iter().any(|answer| answer.verdict == Verdict::Delivered);
        Ok(Handover {
            recipients,
            content_left: if delivered { ContentLeft::Yes } else { ContentLeft::Never },
            step: None,
            detail: None,
            reports: Reports::Ours,
        })
    }

    async fn begin(&self, envelope: &Envelope, address: &Address, unique: &str) -> Result<Entry, Refusal> {
        let Some(directory) = self.directory(address) else { return Err(Refusal::Unknown) };
        let mut head = Vec::new();
        for (name, value) in
            [("Return-Path", format!("<{}>", envelope.sender)), ("Delivered-To", address.to_string())]
        {
            append_field(&mut head, name, &value).map_err(|error| Refusal::Fault(error.to_string()))?;
        }
        let name = file_name(unique, address);
        let made = blocking(move || {
            Ok(match mailbox(&directory) {
                RecipientKnown::Known => Entry::create(&directory, &name, &head).map_err(Refusal::Io),
                RecipientKnown::Unknown => Err(Refusal::Unknown),
                RecipientKnown::CannotTell => Err(Refusal::Fault("the mailbox cannot be read".to_owned())),
            })
        });
        made.await.unwrap_or_else(|error| Err(Refusal::Io(error)))
    }
}

/// The local part as one component of a path, in lower case; `None` for what no mailbox of ours is called.
fn safe_part(local: &str) -> Option<String> {
    let safe = |c: char| c.is_alphanumeric() || "._-+=~&'!#$%^`{|}".contains(c);
    (!local.starts_with('.') && local.chars().all(safe)).then(|| local.to_lowercase())
}

/// Unique among all messages and recipients, and the same for each attempt.
fn file_name(unique: &str, address: &Address) -> String {
    let digest = Digest::of(address.to_string().as_bytes());
    let recipient: String = digest.as_bytes()[..6].iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{unique}.{recipient}.sluis")
}

fn mailbox(directory: &Path) -> RecipientKnown {
    let is_there = |name: &str| match fs::metadata(directory.join(name)) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    match (is_there("tmp"), is_there("new")) {
        (Ok(true), Ok(true)) => RecipientKnown::Known,
        (Ok(_), Ok(_)) => RecipientKnown::Unknown,
        _ => RecipientKnown::CannotTell,
    }
}

/// Why a recipient does not get the message now.
#[derive(Debug)]
enum Refusal {
    Unknown,
    Fault(String),
    Io(io::Error),
}

/// A file on its way into a Maildir. Dropped before it is finished, it is removed.
#[derive(Debug)]
struct Entry {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    moved: bool,
}

impl Entry {
    fn create(directory: &Path, name: &str, head: &[u8]) -> io::Result<Self> {
        let temporary = directory.join("tmp").join(name);
        // What an earlier attempt left there is ours. Anything else with this name, a link for instance, is not followed.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let mut entry = Self { file, temporary, target: directory.join("new").join(name), moved: false };
        entry.file.write_all(head)?;
        Ok(entry)
    }

    fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.target)?;
        self.moved = true;
        let directory = self.target.parent().ok_or(io::ErrorKind::NotFound)?;
        File::open(directory)?.sync_all()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.moved {
            // What stays in `tmp` is removed by the next attempt, or by whoever cleans the Maildir.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

struct Writer {
    address: Address,
    state: Result<Entry, Refusal>,
}

impl Writer {
    fn write(&mut self, octets: &[u8]) {
        if let Ok(entry) = &mut self.state
            && let Err(error) = entry.file.write_all(octets)
        {
            self.state = Err(Refusal::Io(error));
        }
    }

    fn finish(self) -> RecipientAnswer {
        let end = self.state.and_then(|entry| entry.finish().map_err(Refusal::Io));
        let (verdict, code, text, reason) = match end {
            Ok(()) => (Verdict::Delivered, "250 2.1.5", "delivered to the mailbox", None),
            Err(Refusal::Unknown) => {
                (Verdict::Failed, "550 5.1.1", "there is no such mailbox", Some(Reason::RecipientUnknown))
            }
            Err(Refusal::Io(error))
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                (Verdict::Later, "452 4.2.2", "the mailbox is full", Some(Reason::EnvironmentTemporary))
            }
            Err(Refusal::Io(error)) => {
                tracing::warn!(%error, "delivery into a Maildir failed");
                (
                    Verdict::Later,
                    "451 4.3.0",
                    "the mailbox cannot be written",
                    Some(Reason::EnvironmentTemporary),
                )
            }
            Err(Refusal::Fault(detail)) => {
                tracing::warn!(detail, "delivery into a Maildir failed");
                (
                    Verdict::Later,
                    "451 4.3.0",
                    "the mailbox cannot be used",
                    Some(Reason::EnvironmentTemporary),
                )
            }
        };
        RecipientAnswer {
            address: self.address,
            verdict,
            code: code.to_owned(),
            text: text.to_owned(),
            reason,
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{BodyType, Recipient, ReversePath};

    struct Home {
        root: tempfile::TempDir,
        maildir: Maildir,
    }

    impl Home {
        fn with(mailboxes: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            for name in mailboxes {
                for part in ["tmp", "new", "cur"] {
                    fs::create_dir_all(root.path().join("b.nl").join(name).join(part)).unwrap();
                }
            }
            let template = format!("{}/{{domain}}/{{local}}", root.path().display());
            Self { root, maildir: Maildir::new(&MaildirSettings { template }).unwrap() }
        }

        fn files(&self, mailbox: &str, part: &str) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.root.path().join("b.nl").join(mailbox).join(part)).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        }

        async fn deliver(&self, recipients: &[&str], content: &[u8]) -> Handover {
            let envelope = envelope(recipients);
            let outgoing =
                Outgoing { envelope: &envelope, content, size: content.len() as u64, unique: "01M.0" };
            self.maildir.deliver(outgoing).await.unwrap()
        }
    }

    fn envelope(recipients: &[&str]) -> Envelope {
        Envelope {
            sender: ReversePath::Address("jan@a.nl".parse().unwrap()),
            recipients: recipients.iter().map(|address| Recipient::plain(address.parse().unwrap())).collect(),
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        }
    }

    fn verdicts(handover: &Handover) -> Vec<Verdict> {
        handover.recipients.iter().map(|answer| answer.verdict).collect()
    }

    /// Proves: +HAND-006 +HAND-007
    #[tokio::test]
    async fn each_recipient_gets_one_file_with_the_content_as_it_was() {
        let home = Home::with(&["piet", "kees"]);
        let content: Vec<u8> = b"Subject: x\r\n\r\n.\r\n \xff\t \r\n".repeat(9000);
        let handover = home.deliver(&["Piet@b.nl", "kees@b.nl"], &content).await;
        assert_eq!(verdicts(&handover), [Verdict::Delivered; 2]);
        assert_eq!(handover.content_left, ContentLeft::Yes);
        for (mailbox, address) in [("piet", "Piet@b.nl"), ("kees", "kees@b.nl")] {
            assert!(home.files(mailbox, "tmp").is_empty());
            let files = home.files(mailbox, "new");
            let stored = fs::read(&files[0]).unwrap();
            let head = format!("Return-Path: <jan@a.nl>\r\nDelivered-To: {address}\r\n");
            assert_eq!(stored, [head.as_bytes(), &content].concat());
            assert_eq!(files.len(), 1);
        }
    }

    /// Proves: +HAND-007
    #[tokio::test]
    async fn a_repeated_attempt_makes_no_second_file() {
        let home = Home::with(&["piet"]);
        home.deliver(&["piet@b.nl"], b"one").await;
        fs::write(
            home.root.path().join("b.nl/piet/tmp/").join(file_name("01M.0", &"piet@b.nl".parse().unwrap())),
            b"half",
        )
        .unwrap();
        home.deliver(&["piet@b.nl"], b"one").await;
        let files = home.files("piet", "new");
        assert_eq!(files.len(), 1);
        assert!(fs::read(&files[0]).unwrap().ends_with(b"\r\none"));
    }

    /// Proves: -HAND-007
    #[tokio::test]
    async fn content_that_breaks_off_is_delivered_to_nobody() {
        let home = Home::with(&["piet"]);
        let envelope = envelope(&["piet@b.nl"]);
        let broken = b"Subject: x\r\n".chain(Broken);
        let outgoing = Outgoing { envelope: &envelope, content: broken, size: 100, unique: "01M.0" };
        assert!(home.maildir.deliver(outgoing).await.is_err());
        assert!(home.files("piet", "new").is_empty() && home.files("piet", "tmp").is_empty());
    }

    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
        }
    }

    /// Proves: +HAND-001 -HAND-007
    #[tokio::test]
    async fn who_has_no_mailbox_is_unknown_and_who_cannot_be_written_waits() {
        let home = Home::with(&["piet", "vol"]);
        // A file where a directory should be: whoever runs this test, nothing can be created below it.
        fs::remove_dir(home.root.path().join("b.nl/vol/new")).unwrap();
        fs::create_dir_all(home.root.path().join("elders")).unwrap();
        std::os::unix::fs::symlink(home.root.path().join("elders"), home.root.path().join("b.nl/vol/new"))
            .unwrap();
        fs::create_dir(
            home.root.path().join("elders").join(file_name("01M.0", &"vol@b.nl".parse().unwrap())),
        )
        .unwrap();
        let handover = home.deliver(&["piet@b.nl", "niemand@b.nl", "vol@b.nl"], b"x").await;
        assert_eq!(verdicts(&handover), [Verdict::Delivered, Verdict::Failed, Verdict::Later]);
        let codes: Vec<_> = handover.recipients.iter().map(|answer| answer.code.as_str()).collect();
        assert_eq!(codes, ["250 2.1.5", "550 5.1.1", "451 4.3.0"]);
        assert_eq!(handover.recipients[1].reason, Some(Reason::RecipientUnknown));
        assert!(home.files("vol", "tmp").is_empty());
    }

    #[tokio::test]
    async fn t35_an_address_leads_to_its_own_directory_and_nowhere_else() {
        let home = Home::with(&["piet"]);
        for part in ["tmp", "new"] {
            fs::create_dir_all(home.root.path().join("secret").join(part)).unwrap();
            fs::create_dir_all(home.root.path().join("b.nl").join(part)).unwrap();
        }
        for local in [
            "\"../secret\"",
            "\"../b.nl/piet\"",
            "\"piet/\"",
            "\".\"",
            "\"..\"",
            "a/../piet",
            "..%2fsecret",
            "\"\"",
        ] {
            let Ok(address) = format!("{local}@b.nl").parse::<Address>() else { continue };
            assert_eq!(home.maildir.recipient_known(&address).await, RecipientKnown::Unknown, "{local}");
            let handover = home.deliver(&[&address.to_string()], b"x").await;
            assert_eq!(verdicts(&handover), [Verdict::Failed], "{local}");
        }
        assert_eq!(home.maildir.recipient_known(&"PIET@b.nl".parse().unwrap()).await, RecipientKnown::Known);
        assert_eq!(
            home.maildir.recipient_known(&"piet@c.nl".parse().unwrap()).await,
            RecipientKnown::Unknown
        );
        assert!(fs::read_dir(home.root.path().join("secret/new")).unwrap().next().is_none());
    }

    #[test]
    fn t35_a_template_that_could_surprise_is_refused() {
        let new = |template: &str| Maildir::new(&MaildirSettings { template: template.to_owned() }).err();
        assert_eq!(new("/mail/{domain}/{local}"), None);
        assert_eq!(new("mail/{local}"), Some(MaildirSettingsError::Relative));
        assert_eq!(new("/mail/{domain}"), Some(MaildirSettingsError::NoLocal));
        assert_eq!(new("/mail/{user}/{local}"), Some(MaildirSettingsError::Placeholder));
        assert_eq!(new("/mail/../{local}"), Some(MaildirSettingsError::Placeholder));
    }
}
