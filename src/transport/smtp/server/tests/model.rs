//! Random sessions beside a reference model (attack class T4).
//!
//! The model is what RFC 5321 and 3030 say, in the plainest form: one struct, no types that forbid anything. It predicts
//! the code of each reply and the messages that are accepted; the server has to agree, whether the octets come in one
//! piece or one by one.

use proptest::prelude::*;

use super::harness::{Asked, Message, holds, pipelined, settings, verdict};

#[derive(Clone, Debug)]
enum Step {
    Ehlo,
    Mail(&'static str),
    Rcpt(&'static str),
    Data(Vec<&'static str>),
    Bdat(Vec<&'static str>, bool),
    Rset,
    Noop,
    Vrfy,
    StartTls,
    Garbage,
}

#[derive(Clone, Debug, Default)]
struct Envelope {
    sender: String,
    recipients: Vec<String>,
}

#[derive(Debug, Default)]
struct Model {
    greeted: bool,
    open: Option<Envelope>,
    chunked: Option<(Envelope, Vec<u8>)>,
    accepted: Vec<Message>,
}

/// The first octet that no content may hold, if there is one. A CR at the very end is judged only when nothing follows.
fn fault(content: &[u8], complete: bool) -> Option<usize> {
    (0..content.len()).find(|&at| match content[at] {
        b'\r' => content.get(at + 1).map_or(complete, |next| *next != b'\n'),
        b'\n' => at == 0 || content[at - 1] != b'\r',
        octet => octet == 0,
    })
}

impl Model {
    /// What the end of content, or of a chunk, leads to. `None`: more may follow.
    fn judge(content: &[u8], complete: bool) -> Option<u16> {
        let bad = fault(content, complete);
        if holds(&content[..bad.unwrap_or(content.len())], "WRITE-NO") {
            Some(554)
        } else if bad.is_some() {
            Some(550)
        } else if !complete {
            None
        } else if holds(content, "FINISH-NO") {
            Some(452)
        } else {
            Some(250)
        }
    }

    fn conclude(&mut self, envelope: Envelope, mut content: Vec<u8>, code: u16) {
        if code == 250 {
            if !content.is_empty() && !content.ends_with(b"\r\n") {
                content.extend_from_slice(b"\r\n");
            }
            let Envelope { sender, recipients } = envelope;
            self.accepted.push(Message { sender, recipients, content });
        }
    }

    /// The octets of this step, and the codes they must be answered with.
    fn step(&mut self, step: &Step) -> (Vec<u8>, Vec<u16>) {
        match step {
            Step::Ehlo => {
                (self.greeted, self.open, self.chunked) = (true, None, None);
                (b"EHLO a.nl\r\n".to_vec(), vec![250])
            }
            Step::Mail(sender) => {
                let allowed = self.greeted && self.open.is_none() && self.chunked.is_none();
                let code = match verdict(sender) {
                    _ if !allowed => 503,
                    Err(reply) => reply.code(),
                    Ok(()) => {
                        self.open = Some(Envelope { sender: (*sender).to_owned(), recipients: Vec::new() });
                        250
                    }
                };
                (format!("MAIL FROM:<{sender}>\r\n").into_bytes(), vec![code])
            }
            Step::Rcpt(recipient) => {
                let code = match (&mut self.open, verdict(recipient)) {
                    (None, _) => 503,
                    (Some(_), Err(reply)) => reply.code(),
                    (Some(open), Ok(())) => {
                        open.recipients.push((*recipient).to_owned());
                        250
                    }
                };
                (format!("RCPT TO:<{recipient}>\r\n").into_bytes(), vec![code])
            }
            Step::Data(pieces) => self.data(pieces),
            Step::Bdat(pieces, last) => self.bdat(&pieces.concat().into_bytes(), *last),
            Step::Rset => {
                (self.open, self.chunked) = (None, None);
                (b"RSET\r\n".to_vec(), vec![250])
            }
            Step::Noop => (b"NOOP\r\n".to_vec(), vec![250]),
            Step::Vrfy => (b"VRFY j\xc3\xb6rg\r\n".to_vec(), vec![252]),
            Step::StartTls => (b"STARTTLS\r\n".to_vec(), vec![503]),
            Step::Garbage => (b"RCPT TO:<\n>\r\n".to_vec(), vec![500]),
        }
    }

    fn takes_content(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.recipients.is_empty())
    }

    fn data(&mut self, pieces: &[&str]) -> (Vec<u8>, Vec<u16>) {
        let command = b"DATA\r\n".to_vec();
        if !self.takes_content() {
            return (command, vec![503]);
        }
        let envelope = self.open.take().unwrap();
        if envelope.recipients.iter().any(|recipient| recipient.starts_with("nodata@")) {
            return (command, vec![452]);
        }
        let mut content = pieces.concat().into_bytes();
        if !content.is_empty() && !content.ends_with(b"\r\n") {
            content.extend_from_slice(b"\r\n");
        }
        let mut wire = command;
        for (at, octet) in content.iter().enumerate() {
            if *octet == b'.' && (at == 0 || content[..at].ends_with(b"\r\n")) {
                wire.push(b'.');
            }
            wire.push(*octet);
        }
        wire.extend_from_slice(b".\r\n");
        let code = Self::judge(&content, true).unwrap();
        self.conclude(envelope, content, code);
        (wire, vec![354, code])
    }

    fn bdat(&mut self, chunk: &[u8], last: bool) -> (Vec<u8>, Vec<u16>) {
        let place = if last { " LAST" } else { "" };
        let wire = [format!("BDAT {}{place}\r\n", chunk.len()).as_bytes(), chunk].concat();
        let (envelope, mut content) = if let Some(chunked) = self.chunked.take() {
            chunked
        } else if !self.takes_content() {
            self.open = None;
            return (wire, vec![503]);
        } else {
            let envelope = self.open.take().unwrap();
            if envelope.recipients.iter().any(|recipient| recipient.starts_with("nodata@")) {
                return (wire, vec![452]);
            }
            (envelope, Vec::new())
        };
        content.extend_from_slice(chunk);
        let code = match Self::judge(&content, last) {
            None => {
                self.chunked = Some((envelope, content));
                250
            }
            Some(code) => {
                self.conclude(envelope, content, code);
                code
            }
        };
        (wire, vec![code])
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let piece = || {
        prop_oneof![
            4 => Just("a\r\n"),
            2 => Just("b"),
            2 => Just(".\r\n"),
            2 => Just("\r\n"),
            1 => Just("c\r"),
            1 => Just("\n"),
            1 => Just("d\0"),
            1 => Just("WRITE-NO"),
            1 => Just("FINISH-NO"),
            2 => Just("RSET\r\nQUIT\r\n"),
        ]
    };
    let pieces = move || prop::collection::vec(piece(), 0..4);
    let step = prop_oneof![
        2 => Just(Step::Ehlo),
        6 => prop::sample::select(vec!["a@a.nl", "", "no@a.nl", "later@a.nl"]).prop_map(Step::Mail),
        8 => prop::sample::select(vec!["b@b.nl", "c@b.nl", "no@b.nl", "later@b.nl", "nodata@b.nl", "b@b.nl"])
            .prop_map(Step::Rcpt),
        4 => pieces().prop_map(Step::Data),
        6 => (pieces(), any::<bool>()).prop_map(|(pieces, last)| Step::Bdat(pieces, last)),
        1 => Just(Step::Rset),
        1 => Just(Step::Noop),
        1 => Just(Step::Vrfy),
        1 => Just(Step::StartTls),
        1 => Just(Step::Garbage),
    ];
    prop::collection::vec(step, 1..40).prop_map(|steps| [vec![Step::Ehlo], steps].concat())
}

/// What must hold whatever the client does: each message has one MAIL and at least one RCPT that were accepted before it
/// and after the message before, and its content was asked for with exactly these.
fn check_the_gate_was_asked_everything(asked: &[Asked], accepted: &[Message]) {
    let (mut sender, mut recipients, mut content): (Option<&String>, Vec<&String>, _) =
        (None, Vec::new(), false);
    let mut finished = 0;
    for event in asked {
        match event {
            Asked::Mail(address) => {
                (sender, recipients) = (verdict(address).is_ok().then_some(address), Vec::new());
            }
            Asked::Rcpt(address) => {
                assert!(sender.is_some(), "RCPT without MAIL");
                recipients.extend(verdict(address).is_ok().then_some(address));
            }
            Asked::Content { sender: given, recipients: all } => {
                assert!(sender.take() == Some(given) && !all.is_empty());
                assert!(all.iter().eq(recipients.drain(..)));
                content = true;
            }
            Asked::Finished => {
                assert!(std::mem::take(&mut content), "content that was not asked for");
                finished += 1;
            }
            Asked::Abandoned(_) => assert!(std::mem::take(&mut content)),
            Asked::Admit | Asked::InClear { .. } | Asked::Secured { .. } => {}
        }
    }
    assert!(finished >= accepted.len());
}

fn run(script: &[u8]) -> (Vec<u16>, Vec<Asked>, Vec<Message>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut endless = settings();
    (endless.errors, endless.refusals, endless.idle_commands) = (u64::MAX, u64::MAX, u64::MAX);
    let (codes, _, gate) = runtime.block_on(pipelined(endless, script));
    (codes, gate.asked(), gate.accepted())
}

proptest! {
    /// Proves: +SMTP-012 -SMTP-012 +SMTP-013 -SMTP-013
    #[test]
    fn t04_random_sessions_agree_with_the_model(steps in steps()) {
        let mut model = Model::default();
        let (mut script, mut expected) = (Vec::new(), Vec::new());
        for step in &steps {
            let (octets, codes) = model.step(step);
            script.extend_from_slice(&octets);
            expected.extend_from_slice(&codes);
        }
        script.extend_from_slice(b"QUIT\r\n");
        expected.push(221);
        let (codes, asked, accepted) = run(&script);
        prop_assert_eq!(codes, expected);
        check_the_gate_was_asked_everything(&asked, &accepted);
        prop_assert_eq!(accepted, model.accepted);
    }

    /// No prediction here: whatever is sent, nothing is accepted that the gate was not asked for.
    #[test]
    fn t04_arbitrary_octets_accept_nothing_unasked(
        pieces in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                &b"EHLO a\r\n"[..], b"MAIL FROM:<a@a.nl>\r\n", b"RCPT TO:<b@b.nl>\r\n", b"DATA\r\n", b"BDAT 4\r\n",
                b"BDAT 9 LAST\r\n", b"RSET\r\n", b".\r\n", b"\r\n.\r\n", b"\n.\n", b"\r", b"\n", b"\0",
            ]).prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..8),
        ], 0..40)
    ) {
        let (_, asked, accepted) = run(&pieces.concat());
        check_the_gate_was_asked_everything(&asked, &accepted);
    }
}
