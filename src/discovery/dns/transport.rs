//! Questions to the recursive resolver: UDP, and TCP for what was truncated.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use domain::base::iana::OptRcode;
use domain::base::{Message, MessageBuilder, Name, Rtype, ToName};
use domain::net::client::dgram::QueryErrorKind;
use domain::net::client::protocol::{TcpConnect, UdpConnect};
use domain::net::client::request::{ComposeRequest, Error, GetResponse, RequestMessage, SendRequest};
use domain::net::client::{dgram, dgram_stream, multi_stream};

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

/// The way to one resolver.
#[derive(Clone)]
pub(super) struct Transport {
    connection: dgram_stream::Connection<UdpConnect, Request>,
    clock: Arc<dyn Clock>,
    resolver: SocketAddr,
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
    /// Starts the task that keeps the TCP connection. It ends with the last clone of this value.
    pub(super) fn start(settings: &DnsSettings, clock: Arc<dyn Clock>) -> Self {
        let mut udp = dgram::Config::new();
        udp.set_read_timeout(settings.try_timeout);
        udp.set_max_retries(settings.retries);
        let mut tcp = multi_stream::Config::default();
        tcp.set_response_timeout(settings.try_timeout * (u32::from(settings.retries) + 1));
        tcp.stream_mut().set_response_timeout(settings.try_timeout);
        let (connection, stream) = dgram_stream::Connection::with_config(
            UdpConnect::new(settings.resolver),
            TcpConnect::new(settings.resolver),
            dgram_stream::Config::from_parts(udp, tcp),
        );
        tokio::spawn(stream.run());
        Self { connection, clock, resolver: settings.resolver }
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
        let mut response = self.connection.send_request(request);
        let message = response.get_response().await.map_err(|error| self.trouble(&error))?;
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
