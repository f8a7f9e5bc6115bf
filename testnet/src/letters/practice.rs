//! Letters as the programs of care, justice and government write them: old character sets, national encodings, calendars,
//! structured messages, and what mail programs add around them.

use super::{Case, Desk, Letter};

const fn case(name: &'static str, about: &'static str, how: fn(&Desk<'_>) -> Letter) -> Case {
    Case { name, about, how }
}

/// One attachment beside a short text.
fn attached(desk: &Desk<'_>, kind: &str, encoding: &str, data: &[u8]) -> Letter {
    let head = format!(
        "Subject: {}\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"----=_Part_1\"\n\n------=_Part_1\n\
         Content-Type: text/plain; charset=us-ascii\n\nSee the attachment.\n\n------=_Part_1\nContent-Type: {kind}\n\
         Content-Transfer-Encoding: {encoding}\nContent-Disposition: attachment\n\n",
        desk.name
    );
    desk.letter([head.as_bytes(), data, b"\n------=_Part_1--\n"].concat())
}

fn text(desk: &Desk<'_>, charset: &str, encoding: &str, body: &[u8]) -> Letter {
    let head = format!(
        "Subject: {}\nMIME-Version: 1.0\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n",
        desk.name
    );
    desk.letter([head.as_bytes(), body, b"\n"].concat())
}

fn subject(desk: &Desk<'_>, value: &str) -> Letter {
    desk.letter(format!("Subject: {value}\nMIME-Version: 1.0\nContent-Type: text/plain\n\nsee above\n"))
}

fn event(desk: &Desk<'_>, method: &str, lines: &str) -> Letter {
    let head = format!(
        "Subject: {}\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=cal\n\n--cal\n\
         Content-Type: text/plain; charset=utf-8\n\nAfspraak\n--cal\n\
         Content-Type: text/calendar; charset=utf-8; method={method}\nContent-Transfer-Encoding: 8bit\n\n",
        desk.name
    );
    desk.letter(format!(
        "{head}BEGIN:VCALENDAR\nVERSION:2.0\nMETHOD:{method}\n{lines}END:VCALENDAR\n--cal--\n"
    ))
}

pub(super) const CASES: &[Case] = &[
    case("latin-9", "the euro sign in ISO-8859-15", |desk| {
        text(desk, "iso-8859-15", "8bit", b"Dat kost \xa4 10, zei Zo\xeb")
    }),
    case("windows-1252", "curly quotes of Windows", |desk| {
        text(desk, "windows-1252", "8bit", b"\x93pati\xebnt\x94 \x96 \x80 10\x85")
    }),
    case("latin-2", "a Polish name in ISO-8859-2", |desk| {
        text(desk, "iso-8859-2", "8bit", b"pan \xa3ukasz Wa\xb3\xeasa")
    }),
    case("latin-5", "a Turkish name in ISO-8859-9", |desk| {
        text(desk, "iso-8859-9", "8bit", b"bay \xddlker \xde\xfekr\xfc")
    }),
    case("koi8-r", "Cyrillic in KOI8-R", |desk| text(desk, "koi8-r", "8bit", b"\xf0\xd2\xc9\xd7\xc5\xd4")),
    case("arabic", "Arabic in Windows-1256", |desk| {
        text(desk, "windows-1256", "8bit", b"\xe3\xd1\xcd\xc8\xc7")
    }),
    case("iso-2022-jp", "Japanese with escape sequences", |desk| {
        text(desk, "iso-2022-jp", "7bit", b"\x1b$B4|BT\x1b(B ok")
    }),
    case("gb18030", "Chinese with octets below 0x40 inside characters", |desk| {
        text(desk, "gb18030", "8bit", b"\xc4\xe3\xba\xc3 \x81\x30\x81\x30")
    }),
    case("big5", "Chinese whose second octet is a backslash", |desk| {
        text(desk, "big5", "8bit", b"\xb3\x5c\xa5\x5c\xbb\x5c")
    }),
    case("euc-kr", "Korean", |desk| text(desk, "euc-kr", "8bit", b"\xbe\xc8\xb3\xe7")),
    case("utf-7", "UTF-7, which nobody should use", |desk| {
        text(desk, "utf-7", "7bit", b"pati+AOs-nt +IKw- 10")
    }),
    case("utf-16", "UTF-16 in base64", |desk| text(desk, "utf-16le", "base64", b"cABhAHQAaQDrAG4AdAA=")),
    case("no-charset", "8-bit octets of which nobody says what they are", |desk| {
        desk.letter(b"Subject: no-charset\n\n\xc0\xc1\xfe\xff caf\xe9\n")
    }),
    case("combining", "letters with combining marks, not composed", |desk| {
        text(desk, "utf-8", "8bit", "patie\u{308}nt \u{1f3e5} \u{200f}\u{202e}".as_bytes())
    }),
    case("byte-order-mark", "a byte order mark before the text", |desk| {
        text(desk, "utf-8", "8bit", "\u{feff}hallo".as_bytes())
    }),
    case("subject-q-many", "a subject of encoded words in several character sets", |desk| {
        subject(desk, "=?iso-8859-1?q?pati=EBnt?= =?utf-8?b?4oKsIDEw?=\n =?windows-1252?Q?=93ja=94?= en meer")
    }),
    case("subject-cut-character", "an encoded word that ends inside a character", |desk| {
        subject(desk, "=?utf-8?q?pati=C3?=\n =?utf-8?q?=ABnt?=")
    }),
    case("subject-broken-word", "an encoded word without its end, and one of an unknown kind", |desk| {
        subject(desk, "=?utf-8?q?pati =?utf-8?x?abc?= =?=")
    }),
    case("subject-of-900", "a subject on one line of 900 characters", |desk| {
        subject(desk, &"uitslag ".repeat(112))
    }),
    case("subject-folded-at-each-word", "a fold at every blank, tabs among them", |desk| {
        subject(desk, &["uitslag"; 40].join("\n\t "))
    }),
    case("calendar-request", "an invitation with a time zone, an alarm and folded lines", |desk| {
        event(
            desk,
            "REQUEST",
            "BEGIN:VTIMEZONE\nTZID:Europe/Amsterdam\nEND:VTIMEZONE\nBEGIN:VEVENT\nUID:1@a.nl\nSUMMARY:Consult pati\u{eb}nt met een lange\n  omschrijving die verder gaat\nBEGIN:VALARM\nTRIGGER:-PT15M\nEND:VALARM\nEND:VEVENT\n",
        )
    }),
    case("calendar-reply", "an answer to an invitation", |desk| {
        event(
            desk,
            "REPLY",
            "BEGIN:VEVENT\nUID:1@a.nl\nATTENDEE;PARTSTAT=ACCEPTED:mailto:b@b.nl\nEND:VEVENT\n",
        )
    }),
    case("calendar-cancel", "a cancellation", |desk| {
        event(desk, "CANCEL", "BEGIN:VEVENT\nUID:1@a.nl\nSTATUS:CANCELLED\nEND:VEVENT\n")
    }),
    case("winmail-dat-alone", "a message that is nothing but winmail.dat", |desk| {
        desk.letter(
            "MIME-Version: 1.0\nContent-Type: application/ms-tnef; name=\"winmail.dat\"\nContent-Transfer-Encoding: base64\nContent-Class: urn:content-classes:message\nThread-Index: AdXyz==\nX-MS-TNEF-Correlator: <1@a.nl>\n\neJ8+IgEGkAgABAAAAAAAAQABAAEHkAYACAAAAOQEAAAAAAAA6AABCIAHABgAAABJUE0uTWlj\n",
        )
    }),
    case("winmail-dat-8bit", "winmail.dat whose octets are not encoded", |desk| {
        attached(
            desk,
            "application/ms-tnef; name=winmail.dat",
            "8bit",
            b"\x78\x9f\x3e\x22\x01\x06\x90\x08\x01\x7f\xff",
        )
    }),
    case("edifact", "a laboratory result as EDIFACT, with its own terminators", |desk| {
        attached(
            desk,
            "application/edifact",
            "7bit",
            b"UNA:+.? 'UNB+UNOA:1+500000001+500000002+261126:0130+1'UNH+1+MEDLAB:1'\n.UNT+2+1'UNZ+1+1'",
        )
    }),
    case("hl7", "an HL7 message in base64, as its lines end with CR", |desk| {
        attached(desk, "application/hl7-v2", "base64", b"TVNIfF5+XCZ8SEFQSXxBfEJ8Qi18MjAyNjExMjYwMTMwDQ==")
    }),
    case("fhir", "a FHIR bundle, one line of 990 octets", |desk| {
        let bundle = format!("{{\"resourceType\":\"Bundle\",\"x\":\"{}\"}}", "y".repeat(950));
        attached(desk, "application/fhir+json; charset=utf-8", "7bit", bundle.as_bytes())
    }),
    case("dicom", "an image with a name of many parts", |desk| {
        attached(
            desk,
            "application/dicom;\n name*0*=utf-8'nl'foto%20van%20;\n name*1*=de%20pati%C3%ABnt;\n name*2=\".dcm\"",
            "base64",
            b"RElDTQ==",
        )
    }),
    case("vcard", "a business card with a photograph", |desk| {
        attached(
            desk,
            "text/vcard; charset=utf-8",
            "quoted-printable",
            b"BEGIN:VCARD=0D=0AVERSION:3.0=0D=0AFN:Zo=C3=AB=0D=0AEND:VCARD=",
        )
    }),
    case("office-document", "a document with a type of three words", |desk| {
        attached(
            desk,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document;\n\tname=\"=?utf-8?B?YnJpZWYuZG9jeA==?=\"",
            "base64",
            b"UEsDBBQABgAIAAAAIQA=",
        )
    }),
    case("zip-in-lines-of-60", "an archive in base64 of short lines, blanks at their ends", |desk| {
        attached(
            desk,
            "application/zip",
            "base64",
            "UEsDBAoAAAAAAIdPbVkAAAAAAAAAAAAAAAAFAAAAbGVlZy9QSwECHgMK \n".repeat(30).as_bytes(),
        )
    }),
    case("empty-attachment", "an attachment of no octets", |desk| {
        attached(desk, "application/pdf; name=leeg.pdf", "base64", b"")
    }),
    case("outlook-headers", "the fields that Exchange writes, long and unfolded", |desk| {
        let antispam = "BCL:0;ARA:13230040|366016|".repeat(30);
        desk.letter(format!(
            "Subject: outlook\nThread-Topic: uitslag\nThread-Index: AQHb{}\nX-MS-Exchange-Organization-AuthAs: Internal\nX-Microsoft-Antispam: {antispam}\nX-MS-Has-Attach: \nAccept-Language: nl-NL, en-US\nx-originating-ip: [192.0.2.1]\nMIME-Version: 1.0\nContent-Type: text/html; charset=\"us-ascii\"\n\n<html xmlns:o=\"urn:schemas-microsoft-com:office:office\">\n</html>\n",
            "A".repeat(400)
        ))
    }),
    case(
        "disclaimer",
        "a message to which a gateway has put a disclaimer behind the last boundary",
        |desk| {
            desk.letter("Subject: disclaimer\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=d\n\n--d\n\ntekst\n--d--\n\nDit bericht is vertrouwelijk.\n-- \nPraktijk\n")
        },
    ),
    case("content-md5", "fields that speak of the content", |desk| {
        desk.letter("Subject: md5\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\nContent-Language: nl, fy\nContent-Location: http://a.nl/x\nContent-Description: de uitslag\nContent-Duration: 0\n\ntekst\n")
    }),
];
