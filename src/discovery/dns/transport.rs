//! Questions to the recursive resolver: UDP, and TCP for what was truncated.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::base::iana::OptRcode;
use domain::base::{Message, MessageBuilder, Name, Rtype, ToName};
use domain::net::client::dgram::{self, QueryErrorKind};
use domain::net::client::protocol::UdpConnect;
use domain::net::client::request::{ComposeRequest, Error, GetResponse, RequestMessage, SendRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::Clock;

use super::wire::Reply;
use super::{DnsSettings, DnsTrouble, TroubleKind};

type Request = RequestMessage<Vec<u8>>;
type Response = Result<Message<Bytes>, Error>;

/// Who checks signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checking {
    /// This process: the resolver is asked for everything it has, checked or not (DO and CD).
    Here,
    /// The resolver, which says so with AD (DO and AD).
    AtResolver,
}

/// Questions under way at once. Each holds a socket; zones that never answer must not keep the others waiting for one.
const PARALLEL_MAX: usize = 1000;

/// The way to one resolver.
#[derive(Clone)]
pub(super) struct Transport {
    udp: dgram::Connection<UdpConnect>,
    clock: Arc<dyn Clock>,
    resolver: SocketAddr,
    tcp_limit: Duration,
}

tokio::task_local! {
    /// The first trouble that the validator's own questions met. The validator takes "no answer" for "bogus"; both are
    /// temporary, but an operator wants to know which.
    static SEEN: RefCell<Option<DnsTrouble>>;
}

/// Runs `work`, and says what trouble its questions met.
pub(super) async fn noting_trouble<T>(work: impl Future<Output = T>) -> (T, Option<DnsTrouble>) {
    SEEN.scope(RefCell::new(None), async {
        let result = work.await;
        (result, SEEN.with(RefCell::take))
    })
    .await
}

fn note(trouble: DnsTrouble) {
    // Outside of a scope there is nobody to tell.
    let _ = SEEN.try_with(|seen| seen.borrow_mut().get_or_insert(trouble).kind);
}

impl Transport {
    pub(super) fn new(settings: &DnsSettings, clock: Arc<dyn Clock>) -> Self {
        let mut config = dgram::Config::new();
        config.set_read_timeout(settings.try_timeout);
        config.set_max_retries(settings.retries);
        config.set_max_parallel(PARALLEL_MAX);
        let udp = dgram::Connection::with_config(UdpConnect::new(settings.resolver), config);
        let tcp_limit = settings.try_timeout * (u32::from(settings.retries) + 1);
        Self { udp, clock, resolver: settings.resolver, tcp_limit }
    }

    /// The reply to a question. Only NOERROR and NXDOMAIN are replies (DNS-002).
    pub(super) async fn ask(
        &self,
        name: &Name<Bytes>,
        rtype: Rtype,
        checking: Checking,
    ) -> Result<Reply, DnsTrouble> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_rd(true);
        match checking {
            Checking::Here => builder.header_mut().set_cd(true),
            Checking::AtResolver => builder.header_mut().set_ad(true),
        }
        let mut builder = builder.question();
        let impossible =
            |what: &dyn fmt::Display| DnsTrouble::new(TroubleKind::Malformed, format!("question: {what}"));
        builder.push((name, rtype)).map_err(|error| impossible(&error))?;
        let mut request = RequestMessage::new(builder.into_message()).map_err(|error| impossible(&error))?;
        request.set_dnssec_ok(true);
        self.exchange(request).await
    }

    async fn exchange(&self, request: Request) -> Result<Reply, DnsTrouble> {
        let mut message = {
            let mut response = self.udp.send_request(request.clone());
            response.get_response().await.map_err(|error| self.trouble(&error))?
        };
        if message.header().tc() {
            message = self.over_tcp(request).await?;
        }
        let reply = Reply::read(&message, self.clock.now())?;
        let refused = |kind, what: &dyn fmt::Display| {
            Err(DnsTrouble::new(kind, format!("the resolver answered {what}")))
        };
        match reply.rcode {
            OptRcode::NOERROR | OptRcode::NXDOMAIN => Ok(reply),
            OptRcode::SERVFAIL => refused(TroubleKind::Servfail, &"SERVFAIL"),
            other => refused(TroubleKind::Refused, &other),
        }
    }

    /// The same question over a connection of its own (DNS-009; RFC 7766 section 5). Answers that do not fit a datagram
    /// are rare here, and a shared connection would let the end of one question end others.
    async fn over_tcp(&self, mut request: Request) -> Result<Message<Bytes>, DnsTrouble> {
        let malformed = |what: &dyn fmt::Display| {
            DnsTrouble::new(TroubleKind::Malformed, format!("resolver {} over TCP: {what}", self.resolver))
        };
        let lost = |what: &dyn fmt::Display| {
            DnsTrouble::new(TroubleKind::Timeout, format!("resolver {} over TCP: {what}", self.resolver))
        };
        request.header_mut().set_random_id();
        let question = request.to_vec().map_err(|error| malformed(&error))?;
        let length = u16::try_from(question.len()).map_err(|error| malformed(&error))?;
        let exchange = async {
            let mut stream = TcpStream::connect(self.resolver).await?;
            stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
            let mut answer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(self.tcp_limit, exchange)
            .await
            .map_err(|_| lost(&"no answer in time"))?
            .map_err(|error| lost(&error))?;
        let message = Message::from_octets(Bytes::from(answer)).map_err(|error| malformed(&error))?;
        if request.is_answer(message.for_slice()) {
            Ok(message)
        } else {
            Err(malformed(&"the answer is to another question"))
        }
    }

    fn trouble(&self, error: &Error) -> DnsTrouble {
        let kind = match error {
            Error::MessageParseError | Error::ShortMessage | Error::FormError | Error::WrongReplyForQuery => {
                TroubleKind::Malformed
            }
            _ => TroubleKind::Timeout,
        };
        let what = match error {
            Error::Dgram(error) if matches!(error.kind(), QueryErrorKind::Timeout) => {
                "no answer in time".to_owned()
            }
            other => other.to_string(),
        };
        DnsTrouble::new(kind, format!("resolver {}: {what}", self.resolver))
    }
}

/// The validator's own questions, about keys.
impl SendRequest<Request> for Transport {
    fn send_request(&self, request: Request) -> Box<dyn GetResponse + Send + Sync> {
        Box::new(KeyQuestion { transport: self.clone(), request: Some(request) })
    }
}

/// One of them under way.
struct KeyQuestion {
    transport: Transport,
    request: Option<Request>,
}

impl fmt::Debug for KeyQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyQuestion")
    }
}

impl GetResponse for KeyQuestion {
    fn get_response(&mut self) -> Pin<Box<dyn Future<Output = Response> + Send + Sync + '_>> {
        Box::pin(async move {
            let request = self.request.take().ok_or(Error::ConnectionClosed)?;
            let (name, rtype) = {
                let message = request.to_message()?;
                let question = message.first_question().ok_or(Error::FormError)?;
                (question.qname().to_name::<Bytes>(), question.qtype())
            };
            let screened = match self.transport.exchange(request).await {
                Ok(reply) => reply.screened(&name, rtype),
                Err(trouble) => Err(trouble),
            };
            screened.map_err(|trouble| {
                note(DnsTrouble {
                    detail: format!("{} (asking for {rtype} of {name})", trouble.detail),
                    ..trouble
                });
                Error::FormError
            })
        })
    }
}
