//! The line to an object store: every request passes here, is counted, slowed down where that is wanted, and watched.
//!
//! There is no limit on how long a request may take, for the line may be slow and the object large. What ends a request
//! is that nothing moves: no byte was taken from its body or added to its answer for [`LineOptions::stall`].
//!
//! An answer that is an error becomes a [`Trouble`] here, so that nobody above has to read one.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, HttpResponse, HttpService,
};
use tokio::time::{Sleep, sleep_until, timeout};

use crate::storage::s3::counts::{Counters, RequestKind};
use crate::storage::s3::throttle::Throttle;
use crate::storage::s3::trouble::{Refusal, Trouble};

/// No object is larger than this, parity included; a store that sends more is not believed.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// More of an error is not read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(50);

/// How a line behaves.
#[derive(Debug, Clone)]
pub(super) struct LineOptions {
    /// Bytes that may leave in a second.
    pub upload: Option<u64>,
    /// Bytes that may arrive in a second.
    pub download: Option<u64>,
    /// A request in which nothing moves for so long has failed.
    pub stall: Duration,
    /// Certificates in PEM to trust instead of those of the system.
    pub ca_bundle: Option<Vec<u8>>,
}

/// See the module. Cloned lines are one line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    client: reqwest::Client,
    upload: Arc<Throttle>,
    download: Arc<Throttle>,
    counters: Arc<Counters>,
    stall: Duration,
}

impl Line {
    /// A line without a connection yet.
    pub(super) fn new(options: &LineOptions, counters: Arc<Counters>) -> Result<Self, reqwest::Error> {
        // Somebody else in this process may have chosen a provider; then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("kluis/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .tcp_nodelay(true)
            // A signature holds for one address only, and retries are decided above.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if let Some(pem) = &options.ca_bundle {
            builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        Ok(Self {
            client: builder.build()?,
            upload: Arc::new(Throttle::new(options.upload)),
            download: Arc::new(Throttle::new(options.download)),
            counters,
            stall: options.stall,
        })
    }

    async fn exchange(&self, request: reqwest::Request, moved: &Moved) -> Result<HttpResponse, Trouble> {
        let response = self.client.execute(request).await.map_err(Trouble::of_transport)?;
        moved.note(None);
        if response.status().is_success() {
            return self.answer(response, moved).await;
        }
        let status = response.status().as_u16();
        let region = response.headers().get("x-amz-bucket-region");
        let region = region.and_then(|region| region.to_str().ok()).map(str::to_owned);
        // The answer counts, also if the rest of it does not arrive.
        let body = read_body(response, REFUSAL_BYTES_MAX, |_| None).await.unwrap_or_default();
        Err(Trouble::Refused(Refusal::new(status, region, &body)))
    }

    async fn answer(&self, response: reqwest::Response, moved: &Moved) -> Result<HttpResponse, Trouble> {
        let mut answer = HttpResponse::new(Bytes::new().into());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        let note = |bytes: usize| {
            self.counters.received(bytes);
            let until = self.download.take(bytes);
            moved.note(until);
            until
        };
        *answer.body_mut() = read_body(response, ANSWER_BYTES_MAX, note).await?.into();
        Ok(answer)
    }
}

#[async_trait]
impl HttpService for Line {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let address = parts.uri.to_string();
        self.counters.begin(kind_of(&parts.method, &address));
        let url = address
            .parse::<reqwest::Url>()
            .map_err(|_| Trouble::Nonsense(format!("{address:?} is no address")).into_http_error())?;
        let mut outgoing = reqwest::Request::new(parts.method, url);
        *outgoing.headers_mut() = parts.headers;
        let moved = Arc::new(Moved::new());
        if body.content_length() > 0 {
            let upload = Upload {
                rest: body,
                piece: Bytes::new(),
                throttle: Arc::clone(&self.upload),
                counters: Arc::clone(&self.counters),
                moved: Arc::clone(&moved),
                pause: None,
            };
            *outgoing.body_mut() = Some(reqwest::Body::wrap(upload));
        }
        let outcome = watched(self.exchange(outgoing, &moved), &moved, self.stall).await;
        outcome.map_err(Trouble::into_http_error)
    }
}

/// Makes `object_store` use our line.
#[derive(Debug)]
pub(super) struct Connector(pub(super) Line);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

fn kind_of(method: &reqwest::Method, address: &str) -> RequestKind {
    match method.as_str() {
        "GET" if address.contains("list-type=2") => RequestKind::List,
        "GET" => RequestKind::Get,
        "PUT" => RequestKind::Put,
        "HEAD" => RequestKind::Head,
        "DELETE" => RequestKind::Delete,
        _ => RequestKind::Other,
    }
}

/// Reads a body into one piece of memory. `note` hears of what arrived, and may demand a pause.
async fn read_body(
    mut response: reqwest::Response,
    bytes_max: usize,
    note: impl Fn(usize) -> Option<Instant>,
) -> Result<Vec<u8>, Trouble> {
    // Of the body that is to come: the answer to a HEAD names a length and has none.
    let announced = response.content_length().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    let mut body = Vec::with_capacity(announced.min(bytes_max));
    while let Some(piece) = response.chunk().await.map_err(Trouble::of_transport)? {
        if body.len() + piece.len() > bytes_max {
            return Err(Trouble::Nonsense(format!("it is longer than {bytes_max} bytes")));
        }
        body.extend_from_slice(&piece);
        if let Some(until) = note(piece.len()) {
            sleep_until(until.into()).await;
        }
    }
    Ok(body)
}

/// When something last moved, or will.
#[derive(Debug)]
struct Moved(Mutex<Instant>);

impl Moved {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Something moved; or it is held up until then, by us.
    fn note(&self, until: Option<Instant>) {
        let moment = until.unwrap_or_else(Instant::now);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = moment.max(*last);
    }

    fn idle(&self) -> Duration {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Instant::now().saturating_duration_since(last)
    }
}

/// What `work` comes to, unless nothing moves for too long.
async fn watched<T>(
    work: impl Future<Output = Result<T, Trouble>>,
    moved: &Moved,
    stall: Duration,
) -> Result<T, Trouble> {
    let mut work = std::pin::pin!(work);
    loop {
        let rest = stall.saturating_sub(moved.idle()).max(Duration::from_millis(10));
        match timeout(rest, work.as_mut()).await {
            Ok(outcome) => return outcome,
            Err(_) if moved.idle() >= stall => return Err(Trouble::Stalled(stall)),
            Err(_) => {}
        }
    }
}

/// The body of a request: handed out in small pieces, so that it can be slowed down, and so that a line on which
/// nothing moves is noticed.
struct Upload {
    rest: HttpRequestBody,
    piece: Bytes,
    throttle: Arc<Throttle>,
    counters: Arc<Counters>,
    moved: Arc<Moved>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        }
        while this.piece.is_empty() {
            match Pin::new(&mut this.rest).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => this.piece = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        let piece = this.piece.split_to(this.piece.len().min(this.throttle.piece_len()));
        this.counters.sent(piece.len());
        let until = this.throttle.take(piece.len());
        this.pause = until.map(|until| Box::pin(sleep_until(until.into())));
        this.moved.note(until);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint().exact().unwrap_or(0);
        SizeHint::with_exact(self.piece.len() as u64 + rest)
    }
}
