//! Letters of sizes at which something changes on the way: buffers of 64 KiB, what a store keeps inline (256 KiB), chunks;
//! and large ones.

use super::{Case, Desk, Letter};

const KIB: usize = 1_024;

pub(super) const CASES: &[Case] = &[
    Case { name: "size-64k-less-1", about: "one octet below 64 KiB", how: |desk| sized(desk, 64 * KIB - 1) },
    Case { name: "size-64k", about: "64 KiB", how: |desk| sized(desk, 64 * KIB) },
    Case { name: "size-64k-and-1", about: "one octet above 64 KiB", how: |desk| sized(desk, 64 * KIB + 1) },
    Case {
        name: "size-256k-less-1",
        about: "one octet below 256 KiB",
        how: |desk| sized(desk, 256 * KIB - 1),
    },
    Case { name: "size-256k", about: "256 KiB", how: |desk| sized(desk, 256 * KIB) },
    Case {
        name: "size-256k-and-1",
        about: "one octet above 256 KiB",
        how: |desk| sized(desk, 256 * KIB + 1),
    },
    // What a node stores has its own trace field on top, so what it counts is a little more than what was sent.
    Case {
        name: "size-256k-less-trace",
        about: "256 KiB with a trace field on top, or nearly",
        how: |desk| sized(desk, 256 * KIB - 140),
    },
    Case {
        name: "size-256k-less-traces",
        about: "256 KiB with two trace fields on top, or nearly",
        how: |desk| sized(desk, 256 * KIB - 300),
    },
    Case {
        name: "chunks-of-one",
        about: "a chunk for each octet, so that every line end is cut apart",
        how: |desk| desk.letter("Subject: chunks\n\n.\n..\nx\n\n.\n").in_chunks_of(1),
    },
    Case {
        name: "chunks-of-two",
        about: "chunks of two octets",
        how: |desk| desk.letter("Subject: chunks of two\n\n.\n..\nxy\n\n.\n").in_chunks_of(2),
    },
    Case {
        name: "chunks-of-64k",
        about: "chunks as large as the buffers",
        how: |desk| sized(desk, 192 * KIB).in_chunks_of(64 * KIB),
    },
    Case {
        name: "chunks-of-64k-and-1",
        about: "chunks one octet larger than the buffers",
        how: |desk| sized(desk, 192 * KIB + 3).in_chunks_of(64 * KIB + 1),
    },
    Case {
        name: "one-large-chunk",
        about: "a megabyte in one chunk",
        how: |desk| sized(desk, 1_024 * KIB + 17).in_chunks_of(usize::MAX),
    },
    Case { name: "lines-of-998", about: "two megabytes of the longest lines", how: long_lines },
    Case {
        name: "lines-of-nothing",
        about: "half a megabyte of line ends",
        how: |desk| desk.letter(format!("Subject: lines\n{}", "\n".repeat(256 * KIB))),
    },
    Case { name: "attachment-of-20mb", about: "an attachment of 20 MB before encoding", how: large },
];

/// A letter of exactly this many octets.
fn sized(desk: &Desk<'_>, octets: usize) -> Letter {
    const LINE: &str = "0123456789 .abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ\n";
    let mut letter = desk.letter("Subject: size\n\n");
    // The last line takes what is left; a line on the wire is an octet longer than here.
    let body = octets - letter.content.len();
    let (whole, mut left) = (body / (LINE.len() + 1), body % (LINE.len() + 1));
    let mut text = LINE.repeat(whole);
    if left == 1 {
        // No line end fits: the line before is made one longer.
        text.insert(text.len() - 1, 'x');
        left = 0;
    }
    if left > 0 {
        text.push_str(&"x".repeat(left - 2));
        text.push('\n');
    }
    letter.content.extend_from_slice(&super::crlf(text.as_bytes()));
    letter
}

fn long_lines(desk: &Desk<'_>) -> Letter {
    let line = format!(".{}\n", "z".repeat(997));
    desk.letter(format!("Subject: long lines\n\n{}", line.repeat(2_000)))
}

/// 20 MB as a mail program sends it: base64 in lines of 76.
fn large(desk: &Desk<'_>) -> Letter {
    let head = "Subject: 20 MB\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n\
                --b\nContent-Type: text/plain\n\nSee attachment.\n\
                --b\nContent-Type: application/dicom; name=\"scan.dcm\"\nContent-Disposition: attachment; filename=\"scan.dcm\"\n\
                Content-Transfer-Encoding: base64\n\n";
    let line = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0\n";
    // 57 octets to a line.
    let lines = 20_000_000_usize.div_ceil(57);
    desk.letter([head, &line.repeat(lines), "--b--\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letters::Parties;

    #[test]
    fn a_size_is_that_size() {
        let parties = Parties { sender: "a.nl".into(), recipient: "b.nl".into() };
        let desk = Desk { name: "x", parties: &parties };
        for octets in 4_000..4_200 {
            let letter = sized(&desk, octets);
            assert_eq!(letter.content.len(), octets);
            assert!(letter.content.ends_with(b"\r\n"));
        }
    }
}
