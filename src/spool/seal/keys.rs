//! The operator's keys: where they come from, and who may read them.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::KEY_OCTETS;
use crate::model::Digest;
use crate::spool::SpoolError;

/// More than any list of keys needs; less than a file named by mistake may hold.
const KEY_TEXT_MAX: u64 = 64 << 10;
/// The mode bits of everybody who is neither owner nor group.
const OTHERS: u32 = 0o007;

/// Where the spool's keys come from: a text with a key on each line, 32 octets in Base64. The first one seals; the others
/// only open what was sealed before (SPOOL-021). Empty lines, and lines that begin with `#`, are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file. It is made, with one new key, when there is no spool yet.
    File(PathBuf),
    /// A program and its arguments; the text is what it prints. For keys in a vault or a hardware module.
    Command(Vec<String>),
}

/// What to do when there is no key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spool) enum Absent {
    /// There is no spool yet: make a key.
    Make,
    /// There is a spool that nobody could read with a new key.
    Refuse,
}

impl KeySource {
    /// The file beside `dir` with `.key` behind its name.
    pub(in crate::spool) fn beside(dir: &Path) -> Self {
        let mut name = dir.as_os_str().to_owned();
        name.push(".key");
        Self::File(name.into())
    }

    /// Reads the keys.
    pub(in crate::spool) fn load(&self, absent: Absent) -> Result<MasterKeys, SpoolError> {
        let wrong = |detail: String| SpoolError::Key(format!("{self}: {detail}"));
        let text = match self {
            Self::File(path) => match read_file(path) {
                Err(Unreadable::NotThere) if absent == Absent::Make => {
                    make_file(path).map_err(|error| wrong(format!("cannot be made: {error}")))?
                }
                Err(Unreadable::NotThere) => {
                    return Err(wrong(
                        "is not there, and without it the spool cannot be read; bring it back from where you keep the copy"
                            .to_owned(),
                    ));
                }
                Err(Unreadable::Why(why)) => return Err(wrong(why)),
                Ok(text) => text,
            },
            Self::Command(words) => run(words).map_err(wrong)?,
        };
        MasterKeys::parse(&text).map_err(wrong)
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Command(words) => write!(f, "the command `{}`", words.join(" ")),
        }
    }
}

enum Unreadable {
    NotThere,
    Why(String),
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, Unreadable> {
    let why = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::NotThere,
        _ => Unreadable::Why(error.to_string()),
    };
    let file = std::fs::File::open(path).map_err(why)?;
    if file.metadata().map_err(why)?.mode() & OTHERS != 0 {
        let advice = format!("everybody can read it; `chmod 600 {}`", path.display());
        return Err(Unreadable::Why(advice));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_TEXT_MAX).read_to_string(&mut text).map_err(why)?;
    Ok(text)
}

/// Makes a key file and flushes it: what is sealed from now on can be opened with this file only.
fn make_file(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut octets = Zeroizing::new([0; KEY_OCTETS]);
    super::random(octets.as_mut())?;
    let mut text =
        Zeroizing::new(String::from("# Key of a sluis spool. Without a copy of it the spool is lost.\n"));
    STANDARD.encode_string(octets.as_ref(), &mut text);
    text.push('\n');
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::File::open(parent)?.sync_all()?;
    }
    tracing::warn!(file = %path.display(), "made a key for the spool; keep a copy of it elsewhere: without it the spool cannot be read");
    Ok(text)
}

fn run(words: &[String]) -> Result<Zeroizing<String>, String> {
    let (program, arguments) = words.split_first().ok_or("names no program")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(format!("ended with {}", output.status));
    }
    let text = std::str::from_utf8(&printed).map_err(|_| "printed something that is no text".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Names a key without telling anything of it: the first 8 octets of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spool) struct KeyId(pub(super) [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// One key of the operator. It seals the spool's own keys, and nothing else.
pub(super) struct MasterKey {
    pub(super) id: KeyId,
    pub(super) key: LessSafeKey,
}

impl MasterKey {
    fn new(octets: &[u8; KEY_OCTETS]) -> Result<Self, String> {
        let named = Zeroizing::new([&b"sluis spool key\0"[..], octets].concat());
        let mut id = [0; 8];
        id.copy_from_slice(&Digest::of(&named).as_bytes()[..8]);
        let key = UnboundKey::new(&AES_256_GCM_SIV, octets).map_err(|_| "a key does not work".to_owned())?;
        Ok(Self { id: KeyId(id), key: LessSafeKey::new(key) })
    }
}

/// The operator's keys; the first one seals.
pub struct MasterKeys {
    keys: Vec<MasterKey>,
}

impl MasterKeys {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let octets = STANDARD.decode(line).ok().map(Zeroizing::new);
            let octets =
                octets.as_deref().and_then(|octets| <&[u8; KEY_OCTETS]>::try_from(octets.as_slice()).ok());
            let octets = octets.ok_or_else(|| {
                format!("line {number} is no key; a key is 32 octets in Base64, as `openssl rand -base64 32` prints them")
            })?;
            keys.push(MasterKey::new(octets).map_err(|why| format!("line {number}: {why}"))?);
        }
        if keys.is_empty() {
            return Err("holds no key; `openssl rand -base64 32` prints one".to_owned());
        }
        Ok(Self { keys })
    }

    /// The key that seals.
    pub(super) fn current(&self) -> &MasterKey {
        &self.keys[0]
    }

    /// The key with this name.
    pub(super) fn find(&self, id: KeyId) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The names of all, for a message.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.keys.iter().map(|key| key.id.to_string()).collect();
        names.join(", ")
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeys({})", self.names())
    }
}
