//! What the kernel and a FUSE file system say to each other, as far as a file system with one file needs it.
//!
//! # Standards
//! `include/uapi/linux/fuse.h` of Linux, version 7.31. Numbers are in the order of the machine.

/// Name of the one file.
pub const FILE: &str = "disk";
/// Largest write; the kernel cuts larger ones.
const WRITE_MAX: u32 = 128 << 10;
/// Room for the largest request.
pub const REQUEST_MAX: usize = (WRITE_MAX as usize) + 8_192;

/// ENOENT.
pub const NOT_THERE: i32 = 2;
/// EIO.
pub const INPUT_OUTPUT: i32 = 5;
/// ENOSYS: the kernel does not ask again.
pub const NO_SUCH_CALL: i32 = 38;

const ROOT_INODE: u64 = 1;
const FILE_INODE: u64 = 2;
/// Seconds for which the kernel may believe an answer: nobody else changes anything.
const VALID: u64 = 86_400;
/// FUSE_ASYNC_READ, FUSE_BIG_WRITES, FUSE_MAX_PAGES.
const FLAGS: u32 = 1 | (1 << 5) | (1 << 22);
/// Octets of the header of a request, and of that of a reply.
const REQUEST_HEADER: usize = 40;
const REPLY_HEADER: usize = 16;
/// Octets before the data of a write.
const WRITE_HEADER: usize = 40;

/// What the kernel wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// It introduces itself.
    Hello,
    /// What is known of an inode.
    Attributes(u64),
    /// The file of this name.
    Find(&'a [u8]),
    /// To open the file.
    Open,
    /// To close it; no flush.
    Close,
    /// Octets.
    Read {
        /// From where.
        offset: u64,
        /// How many.
        octets: usize,
    },
    /// To write.
    Write {
        /// Where to.
        offset: u64,
        /// What.
        data: &'a [u8],
    },
    /// Everything written is to be on the platter when this is answered.
    Flush,
    /// Something that has no answer.
    Unanswered,
    /// Something that we do not do.
    Unknown,
}

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    unique: u64,
    /// What for.
    pub operation: Operation<'a>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Operation::Hello`].
    Hello,
    /// To [`Operation::Attributes`].
    Attributes {
        /// Of which inode.
        inode: u64,
        /// Octets of the file.
        size: u64,
    },
    /// To [`Operation::Find`].
    Found {
        /// Octets of the file.
        size: u64,
    },
    /// To [`Operation::Open`].
    Opened,
    /// To [`Operation::Read`].
    Octets(Vec<u8>),
    /// To [`Operation::Write`]: how many.
    Written(usize),
    /// It is done.
    Done,
    /// It is not, for this reason.
    Error(i32),
}

impl<'a> Request<'a> {
    /// Reads what came from the kernel; `None` if it is no request.
    #[must_use]
    pub fn read(octets: &'a [u8]) -> Option<Self> {
        let body = octets.get(REQUEST_HEADER..)?;
        let operation = match number32(octets, 4)? {
            1 => Operation::Find(body.split(|octet| *octet == 0).next()?),
            // FORGET, INTERRUPT, BATCH_FORGET
            2 | 36 | 42 => Operation::Unanswered,
            // GETATTR, SETATTR
            3 | 4 => Operation::Attributes(number64(octets, 16)?),
            14 => Operation::Open,
            15 => Operation::Read {
                offset: number64(body, 8)?,
                octets: usize::try_from(number32(body, 16)?).ok()?,
            },
            16 => Operation::Write { offset: number64(body, 8)?, data: body.get(WRITE_HEADER..)? },
            // RELEASE, FLUSH (of a descriptor that is closed), DESTROY
            18 | 25 | 38 => Operation::Close,
            20 => Operation::Flush,
            26 => Operation::Hello,
            _ => Operation::Unknown,
        };
        Some(Self { unique: number64(octets, 8)?, operation })
    }

    /// The answer as the kernel wants it.
    #[must_use]
    pub fn reply(&self, reply: &Reply) -> Vec<u8> {
        let mut body = Octets::default();
        let mut error = 0;
        match reply {
            Reply::Hello => {
                // major, minor, max_readahead, flags
                body.add32(&[7, 31, WRITE_MAX, FLAGS]);
                // max_background and congestion_threshold, two octets each; max_write; time_gran; max_pages and padding
                body.add32(&[0, WRITE_MAX, 1, WRITE_MAX / 4_096]);
                body.add32(&[0; 8]);
            }
            Reply::Attributes { inode, size } => {
                body.add64(&[VALID, 0]);
                body.attributes(*inode, *size);
            }
            Reply::Found { size } => {
                // inode, generation, entry and attributes valid for; fractions of them
                body.add64(&[FILE_INODE, 0, VALID, VALID, 0]);
                body.attributes(FILE_INODE, *size);
            }
            Reply::Opened => body.add64(&[0, 0]),
            Reply::Octets(octets) => body.0.extend_from_slice(octets),
            Reply::Written(octets) => body.add32(&[u32::try_from(*octets).unwrap_or(u32::MAX), 0]),
            Reply::Done => {}
            Reply::Error(number) => error = -number,
        }
        let length = u32::try_from(REPLY_HEADER + body.0.len()).unwrap_or(u32::MAX);
        let mut whole = Octets::default();
        whole.add32(&[length]);
        whole.0.extend_from_slice(&error.to_ne_bytes());
        whole.add64(&[self.unique]);
        whole.0.extend_from_slice(&body.0);
        whole.0
    }
}

#[derive(Default)]
struct Octets(Vec<u8>);

impl Octets {
    fn add32(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|number| self.0.extend_from_slice(&number.to_ne_bytes()));
    }

    fn add64(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.0.extend_from_slice(&number.to_ne_bytes()));
    }

    fn attributes(&mut self, inode: u64, size: u64) {
        let directory = inode == ROOT_INODE;
        let size = if directory { 0 } else { size };
        let mode = if directory { 0o040_700 } else { 0o100_600 };
        // ino, size, blocks, atime, mtime, ctime
        self.add64(&[inode, size, size / 512, 0, 0, 0]);
        // fractions of the times, mode, nlink, uid, gid, rdev, blksize, flags
        self.add32(&[0, 0, 0, mode, 1, 0, 0, 0, 4_096, 0]);
    }
}

fn number32(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn number64(octets: &[u8], at: usize) -> Option<u64> {
    octets.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(operation: u32, body: &[u8]) -> Vec<u8> {
        let mut octets = Octets::default();
        octets.add32(&[u32::try_from(REQUEST_HEADER + body.len()).unwrap(), operation]);
        octets.add64(&[77, FILE_INODE]);
        octets.add32(&[0; 4]);
        octets.0.extend_from_slice(body);
        octets.0
    }

    #[test]
    fn a_write_is_read_with_its_place_and_data() {
        let mut body = Octets::default();
        body.add64(&[0, 4_096]);
        body.add32(&[3, 0]);
        body.add64(&[0, 0]);
        body.0.extend_from_slice(b"abc");
        let octets = request(16, &body.0);
        let read = Request::read(&octets).unwrap();
        assert_eq!(read.operation, Operation::Write { offset: 4_096, data: b"abc" });
        assert_eq!(Request::read(&octets[..39]), None);
    }

    #[test]
    fn answers_have_the_sizes_that_the_kernel_checks() {
        let octets = request(1, b"disk\0");
        let request = Request::read(&octets).unwrap();
        assert_eq!(request.operation, Operation::Find(b"disk"));
        for (reply, length) in [
            (Reply::Hello, 64),
            (Reply::Attributes { inode: 1, size: 0 }, 104),
            (Reply::Found { size: 9 }, 128),
            (Reply::Opened, 16),
            (Reply::Written(3), 8),
            (Reply::Done, 0),
            (Reply::Error(NOT_THERE), 0),
        ] {
            let octets = request.reply(&reply);
            assert_eq!(octets.len(), REPLY_HEADER + length, "{reply:?}");
            assert_eq!(number32(&octets, 0), Some(u32::try_from(octets.len()).unwrap()));
            assert_eq!(number64(&octets, 8), Some(77));
        }
        assert_eq!(number32(&request.reply(&Reply::Error(INPUT_OUTPUT)), 4), Some(0_u32.wrapping_sub(5)));
    }
}
