//! The HTTP server: one thread that takes requests, believes those that are signed, and carries them out.
//!
//! Everything a client can make it hold is bounded: connections, bytes of a body, bytes of all bodies being read, the
//! time for a head and for a body. The machine itself is reachable in-process, for the demo and for tests.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::Method;
use actix_web::http::header::{DATE, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use rustls::ServerConfig;
use serde_json::json;
use sls_syslog_actors::loghub::{At, Hub, Limits, Refusal, UnixMicros};
use sls_syslog_actors::wire::sls::sign::{KnownKey, Received, http_date, verify};

use super::fault::{FaultArg, FaultKind, Faults};
use super::feed::{Feed, Feeder};
use super::request::{Request, too_large};
use super::{answer, routes};

/// Id of the pair of keys that everybody knows; for loopback only.
pub const DEFAULT_KEY_ID: &str = "demo-key-id";
/// Its secret.
pub const DEFAULT_KEY_SECRET: &str = "demo-key-secret";

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 1024;
/// Bytes of all bodies being read.
const BODY_BYTES: usize = 256 << 20;
/// Time for one body.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long an idle connection is kept; clients keep theirs for up to 60 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(90);
/// How long a request that is never answered is held.
const HANG: Duration = Duration::from_secs(300);

/// The key that requests have to be signed with.
#[derive(Clone)]
pub struct AccessKey {
    /// AccessKey id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// What to serve.
pub struct Options {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Serves https.
    pub tls: Option<ServerConfig>,
    /// Project that exists from the start.
    pub project: String,
    /// Its logstore.
    pub logstore: String,
    /// The logstore's shards.
    pub shards: u32,
    /// The key that requests have to be signed with.
    pub key: AccessKey,
    /// Seconds by which its clock is ahead of this machine's.
    pub clock_offset_s: i64,
    /// What the service limits.
    pub limits: Limits,
    /// Answers to spoil.
    pub faults: Vec<FaultArg>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            project: "demo-project".into(),
            logstore: "demo-logstore".into(),
            shards: 2,
            key: AccessKey { id: DEFAULT_KEY_ID.into(), secret: DEFAULT_KEY_SECRET.into() },
            clock_offset_s: 0,
            limits: Limits::default(),
            faults: Vec::new(),
        }
    }
}

/// The service behind the server.
pub struct Service {
    hub: Mutex<Hub>,
    project: String,
    logstore: String,
    key: AccessKey,
    faults: Faults,
    started: Instant,
    unix: UnixMicros,
    put_bytes: usize,
    requests: AtomicU64,
    reading: AtomicUsize,
}

impl Service {
    fn new(options: &mut Options) -> Result<Self, Refusal> {
        let limits = std::mem::take(&mut options.limits);
        let put_bytes = limits.put_bytes;
        let unix = UnixMicros(Utc::now().timestamp_micros() + options.clock_offset_s.saturating_mul(1_000_000));
        let mut hub = Hub::new(limits);
        hub.create_project(&options.project);
        let at = At { project: &options.project, logstore: &options.logstore };
        hub.create_logstore(at, options.shards, unix)?;
        Ok(Self {
            hub: Mutex::new(hub),
            project: options.project.clone(),
            logstore: options.logstore.clone(),
            key: options.key.clone(),
            faults: Faults::new(std::mem::take(&mut options.faults)),
            started: Instant::now(),
            unix,
            put_bytes,
            requests: AtomicU64::new(0),
            reading: AtomicUsize::new(0),
        })
    }

    /// Works on the machine, with the time.
    pub fn with<R>(&self, work: impl FnOnce(&mut Hub, UnixMicros) -> R) -> R {
        // A panic in there leaves the machine as far as it came; the next request must not die of it.
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut hub, self.now())
    }

    /// Works on the machine and the logstore that existed from the start.
    pub fn with_logstore<R>(&self, work: impl FnOnce(&mut Hub, At<'_>, UnixMicros) -> R) -> R {
        self.with(|hub, now| work(hub, At { project: &self.project, logstore: &self.logstore }, now))
    }

    /// Its clock: never backwards, and ahead or behind as told.
    pub fn now(&self) -> UnixMicros {
        UnixMicros(self.unix.0 + i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX / 2))
    }

    /// Its clock in seconds, as logs carry it.
    pub fn unix_s(&self) -> u32 {
        u32::try_from(self.now().seconds()).unwrap_or(0)
    }

    /// Longest log group.
    pub fn put_bytes(&self) -> usize {
        self.put_bytes
    }

    /// Answers to spoil.
    #[allow(dead_code, reason = "for those who run the server in-process")]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:016X}{:08X}", self.unix.0, number & 0xffff_ffff)
    }
}

/// A server that runs until it is stopped or dropped.
pub struct Running {
    address: SocketAddr,
    service: Arc<Service>,
    handle: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
    feeders: Vec<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The service behind it.
    #[allow(dead_code, reason = "for those who run the server in-process")]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Makes logs: returns when the backlog is there, and serves the rate from then on.
    pub fn feed(&mut self, feed: Feed) -> Result<(), Refusal> {
        let mut feeder = Feeder::new(self.service.clone(), feed);
        feeder.backlog()?;
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("loghub-feed".into()).spawn(move || feeder.run(&stopped));
        let failed = |e: io::Error| Refusal::new(500, "InternalServerError", format!("cannot start a thread: {e}"));
        self.feeders.push((stop, thread.map_err(failed)?));
        Ok(())
    }

    /// Stops making logs.
    pub fn stop_feeding(&mut self) {
        for (stop, thread) in self.feeders.drain(..) {
            drop(stop);
            // A feeder that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }

    /// Stops it, cutting open connections.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop_feeding();
        // The command is sent by the call; the future only waits for what `join` waits for.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a server on a thread of its own; it listens when this returns.
pub fn serve(mut options: Options) -> Result<Running, String> {
    let service = Arc::new(Service::new(&mut options).map_err(|e| format!("cannot serve: {}", e.message))?);
    let (started, start) = mpsc::channel();
    let shared = service.clone();
    let (listen, tls) = (options.listen, options.tls);
    let thread = std::thread::Builder::new()
        .name("loghub".into())
        .spawn(move || {
            actix_rt::System::new().block_on(async move {
                let server = match bind(listen, tls, shared) {
                    Ok(server) => server,
                    Err(e) => {
                        let _ = started.send(Err(e));
                        return Ok(());
                    }
                };
                let (address, server) = server;
                // The receiver waits for this.
                let _ = started.send(Ok((address, server.handle())));
                server.await
            })
        })
        .map_err(|e| format!("cannot start a thread: {e}"))?;
    match start.recv() {
        Ok(Ok((address, handle))) => {
            Ok(Running { address, service, handle, thread: Some(thread), feeders: Vec::new() })
        }
        Ok(Err(e)) => Err(format!("cannot listen on {listen}: {e}")),
        Err(_) => Err("the server ended before it listened".to_owned()),
    }
}

fn bind(
    listen: SocketAddr,
    tls: Option<ServerConfig>,
    service: Arc<Service>,
) -> io::Result<(SocketAddr, actix_web::dev::Server)> {
    let server =
        HttpServer::new(move || App::new().app_data(web::Data::from(service.clone())).default_service(web::to(handle)))
            .workers(1)
            .disable_signals()
            .max_connections(CONNECTIONS)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(Duration::from_secs(20))
            .client_disconnect_timeout(Duration::from_secs(2));
    let server = match tls {
        Some(tls) => server.bind_rustls_0_23(listen, tls)?,
        None => server.bind(listen)?,
    };
    let address = server.addrs().first().copied().unwrap_or(listen);
    Ok((address, server.run()))
}

async fn handle(http: HttpRequest, payload: web::Payload, service: web::Data<Service>) -> HttpResponse {
    let mut response = respond(http, payload, &service).await;
    // Clients set their clocks by it: it is that of this service, not of this machine.
    let date = DateTime::from_timestamp_micros(service.now().0).map(http_date);
    if let Some(Ok(date)) = date.map(HeaderValue::try_from) {
        response.headers_mut().insert(DATE, date);
    }
    response
}

async fn respond(http: HttpRequest, payload: web::Payload, service: &web::Data<Service>) -> HttpResponse {
    let id = service.request_id();
    if http.uri().path().starts_with("/_loghub/") {
        return observe(&http, service, id);
    }
    let body = match read_body(payload, service).await {
        Ok(body) => body,
        Err(refusal) => return answer::refusal(&refusal, id),
    };
    // A header that is no text cannot be signed; without it the signature does not match.
    let headers = http.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let mut headers: Vec<_> = headers.collect();
    if let Some(authority) = http.uri().authority()
        && !headers.iter().any(|(name, _)| *name == "host")
    {
        headers.push(("host", authority.as_str()));
    }
    let raw_query = http.uri().query().unwrap_or_default();
    let received =
        Received { method: http.method().as_str(), path: http.uri().path(), raw_query, headers: &headers, body: &body };
    let known = |key_id: &str| {
        (key_id == service.key.id).then_some(KnownKey { secret: service.key.secret.as_str(), token: None })
    };
    if let Err(error) = verify(received, known, DateTime::from_timestamp_micros(service.now().0)) {
        let (status, code, message) = error.answer();
        return answer::refusal(&Refusal::new(status, code, message), id);
    }
    let request = Request::new(&http, &headers, raw_query, body);
    if let Some(fault) = service.faults.before(request.target()) {
        return struck(fault, id).await;
    }
    match routes::dispatch(service, &request) {
        Ok(success) => answer::success(success, id, || service.faults.pulled()),
        Err(refusal) => answer::refusal(&refusal, id),
    }
}

/// A request that a fault meets instead of the service.
async fn struck(fault: FaultKind, id: String) -> HttpResponse {
    let refusal = match fault {
        FaultKind::HtmlError => return answer::html(),
        FaultKind::Hang | FaultKind::HeartbeatHang | FaultKind::CommitHang => {
            actix_rt::time::sleep(HANG).await;
            Refusal::new(503, "ServerBusy", "the server is busy, please try again later".into())
        }
        FaultKind::Unauthorized => Refusal::new(401, "Unauthorized", "denied by sts or ram".into()),
        FaultKind::PullQuota => Refusal::new(403, "ShardReadQuotaExceed", "Outflow quota exceed".into()),
        FaultKind::InvalidCursor => Refusal::new(400, "InvalidCursor", "Invalid cursor".into()),
        FaultKind::InternalError => Refusal::new(500, "InternalServerError", "internal server error".into()),
        _ => Refusal::new(503, "ServerBusy", "the server is busy, please try again later".into()),
    };
    answer::refusal(&refusal, id)
}

/// What the service holds, for proofs; and faults on demand. For this machine only, because it is not signed.
fn observe(http: &HttpRequest, service: &Service, id: String) -> HttpResponse {
    if !http.peer_addr().is_some_and(|peer| peer.ip().is_loopback()) {
        return answer::refusal(&Refusal::new(403, "ProjectForbidden", "for this machine only".into()), id);
    }
    match (http.method(), http.uri().path()) {
        (&Method::GET, "/_loghub/state") => match serde_json::to_string(&service.with(|hub, _| hub.state())) {
            Ok(state) => HttpResponse::Ok().content_type("application/json").body(state),
            Err(e) => answer::refusal(&Refusal::new(500, "InternalServerError", e.to_string()), id),
        },
        (&Method::POST, "/_loghub/fault") => {
            let fault = http.uri().query().and_then(|query| query.strip_prefix("fault=")).unwrap_or_default();
            match fault.parse::<FaultArg>() {
                Ok(fault) => {
                    service.faults.add(fault);
                    HttpResponse::Ok().finish()
                }
                Err(e) => answer::refusal(&Refusal::parameter(e), id),
            }
        }
        (&Method::DELETE, "/_loghub/fault") => {
            service.faults.clear();
            HttpResponse::Ok().json(json!({}))
        }
        _ => answer::refusal(&Refusal::new(404, "InvalidMethod", "nothing is there".into()), id),
    }
}

/// Bytes of a body being read, returned when it has been.
struct Reading<'a> {
    service: &'a Service,
    bytes: usize,
}

impl Reading<'_> {
    fn more(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        if self.service.reading.fetch_add(bytes, Ordering::Relaxed) + bytes > BODY_BYTES {
            return Err(Refusal::new(503, "ServerBusy", "too many bodies at once".into()));
        }
        Ok(())
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.service.reading.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

async fn read_body(mut payload: web::Payload, service: &Service) -> Result<Bytes, Refusal> {
    // A body of incompressible logs is a little longer than the logs.
    let most = service.put_bytes + service.put_bytes / 128 + 1024;
    let mut reading = Reading { service, bytes: 0 };
    let mut body = BytesMut::new();
    let read = async {
        while let Some(chunk) = payload.next().await {
            let chunk =
                chunk.map_err(|e| Refusal::new(400, "PostBodyInvalid", format!("cannot read the body: {e}")))?;
            if body.len() + chunk.len() > most {
                return Err(too_large(service.put_bytes));
            }
            reading.more(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    let late = || Refusal::new(400, "RequestTimeout", "the body did not arrive in time".into());
    actix_rt::time::timeout(BODY_TIME, read).await.map_err(|_| late())?
}
