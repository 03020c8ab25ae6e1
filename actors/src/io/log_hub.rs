//! The SLS client: [`LogHub`] over HTTP. This is the only file that knows awc.
//!
//! A request is signed as it is sent, never repeated here, and has one deadline that covers waiting for a connection,
//! connecting, sending, and the answer with its body. What awc calls success is not believed: a body that ends early
//! is `Ok` to it, so lengths are compared.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::{HeaderMap, HeaderName, HeaderValue};
use awc::http::{Method as HttpMethod, Uri};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use super::http_tls;
use crate::config::{ConfigError, Credentials, Endpoint, PullCompression, Signature, SourceConfig};
use crate::model::cursor::{Cursor, StartPosition};
use crate::model::ids::ShardId;
use crate::ports::{LogHub, PullBody, PullReply};
use crate::wire::sls::error::{MAX_ERROR_BODY, SlsError};
use crate::wire::sls::reply::{
    Checkpoint, Compression, ConsumerGroup, LogStoreInfo, MAX_JSON, MAX_JSON_LIST, ShardInfo, parse_checkpoint,
    parse_consumer_groups, parse_cursor, parse_cursor_time, parse_heartbeat, parse_logstore, parse_pull_head,
    parse_shards,
};
use crate::wire::sls::request::{self, Method, SlsRequest};
use crate::wire::sls::sign::{TOKEN_HEADER, http_date, sign_request};
use crate::wire::text::escape_foreign;

/// Idle connections are kept this much longer than the longest pause between two requests.
const KEEP_ALIVE_RESERVE: Duration = Duration::from_secs(10);
/// Idle connections are kept at least this long; SLS closes them after about a minute.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(55);
/// A connection is not used longer than this, so that a change in the name service is followed.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);

/// All that the clients of one source have in common, checked; crosses threads.
pub struct SlsSetup {
    /// Scheme and authority of every URI: whom to connect to and whose certificate to expect.
    base: String,
    /// The name that the certificate is for.
    name: String,
    /// What the `host` header says; the project is its first label.
    host: String,
    /// Where to connect to, if not where `base` resolves to.
    address: Option<SocketAddr>,
    tls: Option<Arc<ClientConfig>>,
    credentials: Credentials,
    signature: Signature,
    logstore: String,
    compression: Compression,
    consumer_group: String,
    consumer_name: String,
    request_timeout: Duration,
    keep_alive: Duration,
}

impl std::fmt::Debug for SlsSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlsSetup({} as {}, logstore {})", self.base, self.host, self.logstore)
    }
}

impl SlsSetup {
    /// Checks what can be checked without asking SLS, and reads the certificate authorities for https.
    ///
    /// # Errors
    /// The setting that makes no usable client, without any secret.
    pub fn new(source: &SourceConfig) -> Result<Self, ConfigError> {
        let Address { base, name, host, ip } = Address::of(&source.endpoint, &source.project);
        let no_url = |why: String| ConfigError::new("source.endpoint", format!("gives no URL ({base}): {why}"));
        Uri::try_from(format!("{base}/")).map_err(|error| no_url(error.to_string()))?;
        HeaderValue::from_str(&host).map_err(|error| no_url(error.to_string()))?;
        let tls = if source.endpoint.https {
            ServerName::try_from(name.as_str())
                .map_err(|_| ConfigError::new("source.endpoint", format!("no certificate can be for {name}")))?;
            let config = http_tls::client_config(source.ca_path.as_deref());
            Some(config.map_err(|why| ConfigError::new("source.ca_path", why))?)
        } else {
            None
        };
        check_credentials(&source.credentials)?;
        let longest_pause = source.data_fetch_interval.max(source.heartbeat_interval).max(source.commit_interval);
        Ok(Self {
            base,
            host,
            name,
            address: source.connect.or(ip),
            tls,
            credentials: source.credentials.clone(),
            signature: source.signature.clone(),
            logstore: source.logstore.clone(),
            compression: match source.compression {
                PullCompression::Lz4 => Compression::Lz4,
                PullCompression::Zstd => Compression::Zstd,
            },
            consumer_group: source.consumer_group.clone(),
            consumer_name: source.consumer_name.clone(),
            request_timeout: source.request_timeout,
            keep_alive: longest_pause.saturating_add(KEEP_ALIVE_RESERVE).max(MIN_KEEP_ALIVE),
        })
    }
}

impl SlsSetup {
    /// Scheme, host and port of every request's URL.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Where connections go, if not where the host of [`SlsSetup::url`] resolves to.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

/// Where requests go, and under which name.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    /// Scheme and authority.
    base: String,
    /// The host in `base`: the name in the certificate.
    name: String,
    /// The `host` header.
    host: String,
    /// The address itself, where the endpoint is one.
    ip: Option<SocketAddr>,
}

impl Address {
    /// SLS is asked by `project.host`. In front of an IP address or `localhost` a project gives no name that anybody
    /// could resolve or certify: there the connection goes to the endpoint itself, and only the header names the
    /// project.
    fn of(endpoint: &Endpoint, project: &str) -> Self {
        let (scheme, own_port) = if endpoint.https { ("https", 443) } else { ("http", 80) };
        let port = endpoint.port.map(|port| format!(":{port}")).unwrap_or_default();
        let plain = endpoint.host.trim_start_matches('[').trim_end_matches(']');
        let ip = plain.parse::<IpAddr>().ok();
        let written = match ip {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => plain.to_owned(),
        };
        let virtual_host = format!("{project}.{written}");
        let host = format!("{virtual_host}{port}");
        let reached_directly = ip.is_some() || plain.eq_ignore_ascii_case("localhost");
        let name = if reached_directly { written } else { virtual_host };
        let ip = ip.map(|ip| SocketAddr::new(ip, endpoint.port.unwrap_or(own_port)));
        Self { base: format!("{scheme}://{name}{port}"), name, host, ip }
    }
}

/// Refuses what no header can carry, by name and never by value.
fn check_credentials(credentials: &Credentials) -> Result<(), ConfigError> {
    let carried = |key, value: &str| match HeaderValue::from_str(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(ConfigError::new(key, "holds a character that no request can carry; a line break?")),
    };
    carried("source.access_key_id", &credentials.access_key_id)?;
    match &credentials.security_token {
        Some(token) => carried("source.security_token", token.expose_secret()),
        None => Ok(()),
    }
}

/// One HTTP client of one arbiter, asking about one logstore as one consumer of one group.
///
/// Clones share connections. It has to be made and used inside an actix or tokio `LocalSet`.
#[derive(Clone)]
pub struct SlsClient {
    inner: Rc<Inner>,
}

struct Inner {
    setup: Arc<SlsSetup>,
    http: awc::Client,
    clock: Box<dyn Fn() -> DateTime<Utc>>,
    /// What has to be added to the clock so that SLS takes our requests; learned from a refusal.
    correction_s: Cell<i64>,
    /// SLS's clock minus ours at the last answer that told.
    offset_s: Cell<Option<i64>>,
}

/// An answer with status 200 whose body has not been read.
struct Answer {
    headers: HeaderMap,
    body: Body,
}

/// A body on its way.
struct Body {
    stream: LocalBoxStream<'static, Result<Bytes, PayloadError>>,
    /// Content-Length.
    declared: Option<u64>,
    deadline: Instant,
    /// What the deadline was when it began.
    timeout: Duration,
}

impl SlsClient {
    /// Makes a client with connections of its own; `clock` tells the wall-clock time.
    pub fn new(setup: Arc<SlsSetup>, clock: impl Fn() -> DateTime<Utc> + 'static) -> Self {
        // The deadline of the whole request covers connect and handshake: awc's own limits only must not be shorter.
        // `max_http_version` must not be called: it would replace the TLS configuration.
        // Pulls in flight are bounded by their credits, so connections need no limit, and none that hangs stops others.
        let connector = awc::Connector::new()
            .limit(0)
            .timeout(setup.request_timeout)
            .handshake_timeout(setup.request_timeout)
            .conn_keep_alive(setup.keep_alive)
            .conn_lifetime(CONNECTION_LIFE.max(setup.keep_alive));
        let connector = match &setup.tls {
            Some(tls) => connector.rustls_0_23(Arc::clone(tls)),
            None => connector,
        };
        let http = awc::Client::builder()
            .connector(connector)
            .disable_timeout()
            .disable_redirects()
            .no_default_headers()
            .finish();
        Self {
            inner: Rc::new(Inner {
                setup,
                http,
                clock: Box::new(clock),
                correction_s: Cell::new(0),
                offset_s: Cell::new(None),
            }),
        }
    }

    /// The clock of SLS minus ours, in whole seconds, at the last answer that told; `None` before one did.
    pub fn clock_offset_s(&self) -> Option<i64> {
        self.inner.offset_s.get()
    }

    /// PutLogs of one encoded `LogGroup`, to the shard that `hash_key` falls into, or to any.
    ///
    /// # Errors
    /// What SLS refused, or what kept the request from it.
    pub fn put_logs(
        &self,
        hash_key: Option<&str>,
        log_group: &[u8],
        compression: Compression,
    ) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        let request = request::put_logs(&self.inner.setup.logstore, hash_key, log_group, compression);
        self.command("PutLogs", request)
    }

    /// Sends a request whose answer is JSON of at most `limit` bytes.
    fn query<T: 'static>(
        &self,
        operation: &'static str,
        request: SlsRequest,
        limit: usize,
        parse: impl FnOnce(&[u8]) -> Result<T, SlsError> + 'static,
    ) -> LocalBoxFuture<'static, Result<T, SlsError>> {
        let inner = Rc::clone(&self.inner);
        Box::pin(async move {
            let answer = inner.send(operation, request).await?;
            parse(&answer.body.read(operation, limit).await?)
        })
    }

    /// Sends a request whose answer is empty.
    fn command(&self, operation: &'static str, request: SlsRequest) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        let inner = Rc::clone(&self.inner);
        Box::pin(async move {
            let answer = inner.send(operation, request).await?;
            let from_sls = text(&answer.headers, "x-log-requestid").is_some();
            let body = answer.body.read(operation, MAX_JSON).await?;
            if from_sls || body.is_empty() {
                return Ok(());
            }
            // The page of some proxy must not count as a commit.
            Err(SlsError::transport(format!("{operation} was answered by something that is not SLS")))
        })
    }
}

impl Inner {
    fn now(&self) -> DateTime<Utc> {
        let now = (self.clock)();
        now.checked_add_signed(TimeDelta::seconds(self.correction_s.get())).unwrap_or(now)
    }

    /// Sends a request and waits for the head of an answer with status 200.
    async fn send(&self, operation: &'static str, request: SlsRequest) -> Result<Answer, SlsError> {
        let timeout = self.setup.request_timeout;
        let deadline = Instant::now() + timeout;
        let sending = self.prepare(operation, request)?;
        let response = match timeout_at(deadline, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(SlsError::transport(format!("{operation} failed: {}", self.explain(&error)))),
            Err(_) => return Err(timed_out(operation, timeout)),
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let declared = text(&headers, "content-length").and_then(|length| length.parse().ok());
        let body = Body { stream: response.boxed_local(), declared, deadline, timeout };
        let offset = text(&headers, "date").and_then(|date| self.clock_offset_s(date));
        self.offset_s.set(offset.or(self.offset_s.get()));
        if status == 200 {
            return Ok(Answer { headers, body });
        }
        let excerpt = body.read_beginning(MAX_ERROR_BODY).await;
        let error = SlsError::refused(status, &excerpt, text(&headers, "x-log-requestid"), offset);
        if let (true, Some(offset)) = (error.is_clock(), offset) {
            self.correction_s.set(offset);
        }
        Err(error)
    }

    fn clock_offset_s(&self, date: &str) -> Option<i64> {
        let theirs = DateTime::parse_from_rfc2822(date).ok()?.to_utc();
        Some((theirs - (self.clock)()).num_seconds())
    }

    /// Signs a request and hands it to awc exactly as signed.
    fn prepare(&self, operation: &'static str, mut request: SlsRequest) -> Result<awc::SendClientRequest, SlsError> {
        let setup = &*self.setup;
        let now = self.now();
        sign_request(&mut request, &setup.credentials, &setup.signature, &setup.host, now);
        if request.header_value("date").is_none() {
            // V4 does not sign it, but awc adds its own, from another clock, where there is none.
            request.headers.push(("date", http_date(now)));
        }
        let method = match request.method {
            Method::Get => HttpMethod::GET,
            Method::Post => HttpMethod::POST,
            Method::Put => HttpMethod::PUT,
        };
        let mut http = self.http.request(method, format!("{}{}", setup.base, request.target())).no_decompress();
        if let Some(address) = setup.address {
            http = http.address(address);
        }
        for (name, value) in request.headers {
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                SlsError::transport(format!("{operation} was not sent: header {name} cannot carry its value"))
            })?;
            value.set_sensitive(name == "authorization" || name == TOKEN_HEADER);
            http = http.insert_header((HeaderName::from_static(name), value));
        }
        Ok(match request.body.is_empty() {
            true => http.send_body(awc::body::None::new()),
            false => http.send_body(request.body),
        })
    }

    /// Says why no answer came.
    fn explain(&self, error: &SendRequestError) -> String {
        let base = &self.setup.base;
        let peer = match self.setup.address {
            Some(address) => format!("{base} at {address}"),
            None => base.clone(),
        };
        match error {
            SendRequestError::Connect(ConnectError::Resolver(why)) => format!(
                "the host of {base} has no address ({}): check source.endpoint and source.project",
                escape_foreign(&why.to_string(), 200)
            ),
            SendRequestError::Connect(ConnectError::NoRecords) => {
                format!("the host of {base} has no address: check source.endpoint and source.project")
            }
            SendRequestError::Connect(ConnectError::Io(error)) => {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(error) => http_tls::explain(error, &self.setup.name),
                    None => format!("cannot connect to {peer}: {}", escape_foreign(&error.to_string(), 200)),
                }
            }
            SendRequestError::Connect(ConnectError::Timeout) => format!("{peer} takes too long to connect"),
            SendRequestError::Connect(ConnectError::Disconnected) => {
                format!("{peer} closed the connection before it answered")
            }
            SendRequestError::Send(error) => format!("the connection to {peer} broke while sending: {error}"),
            SendRequestError::Response(error) => {
                format!("no usable answer from {peer}: {}", escape_foreign(&error.to_string(), 200))
            }
            other => escape_foreign(&other.to_string(), 300),
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn timed_out(operation: &str, timeout: Duration) -> SlsError {
    SlsError::transport(format!("{operation} failed: no complete answer within {timeout:?}"))
}

impl Body {
    /// Reads all of it, as far as it is as long as declared and at most `limit` bytes. One chunk is passed on as it
    /// is, more go into one buffer of the declared size.
    async fn read(mut self, operation: &str, limit: usize) -> Result<Bytes, SlsError> {
        let failed = |why: String| SlsError::transport(format!("the answer of {operation} {why}"));
        if self.declared.is_some_and(|declared| declared > limit as u64) {
            return Err(failed(format!("is longer than {limit} bytes")));
        }
        let mut first = Bytes::new();
        let mut buffer = Vec::new();
        let mut length = 0;
        loop {
            let next = timeout_at(self.deadline, self.stream.next()).await;
            let chunk = match next.map_err(|_| timed_out(operation, self.timeout))? {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => {
                    let why = escape_foreign(&error.to_string(), 200);
                    return Err(failed(format!("broke off after {length} bytes: {why}")));
                }
                None => break,
            };
            length += chunk.len();
            if length > limit {
                return Err(failed(format!("is longer than {limit} bytes")));
            }
            if length == chunk.len() {
                first = chunk;
                continue;
            }
            if buffer.is_empty() {
                let expected = self.declared.map_or(length, |declared| declared as usize);
                buffer.reserve_exact(expected.max(length));
                buffer.extend_from_slice(&std::mem::take(&mut first));
            }
            buffer.extend_from_slice(&chunk);
        }
        // awc ends a body without error when the peer closes in the middle of it.
        match self.declared {
            Some(declared) if declared != length as u64 => {
                Err(failed(format!("was cut off: {length} of {declared} bytes came")))
            }
            _ if buffer.is_empty() => Ok(first),
            _ => Ok(buffer.into()),
        }
    }

    /// Reads what comes of it, up to `max` bytes; for error pages, of which the beginning is enough.
    async fn read_beginning(mut self, max: usize) -> Vec<u8> {
        let mut beginning = Vec::new();
        while beginning.len() < max
            && let Ok(Some(Ok(chunk))) = timeout_at(self.deadline, self.stream.next()).await
        {
            beginning.extend_from_slice(&chunk[..chunk.len().min(max - beginning.len())]);
        }
        beginning
    }
}

/// A pull's body.
struct PulledStream {
    body: Body,
    raw_size: u64,
    compression: Compression,
}

impl PullBody for PulledStream {
    fn read(self: Box<Self>, limit: usize) -> LocalBoxFuture<'static, Result<Bytes, SlsError>> {
        Box::pin(async move {
            let Self { body, raw_size, compression } = *self;
            let bytes = body.read("PullLogs", limit).await?;
            // The only check that is left when the length was not declared: what follows looks at the bytes themselves.
            let length = bytes.len() as u64;
            let whole = match compression {
                Compression::None => length == raw_size,
                Compression::Lz4 | Compression::Zstd | Compression::Deflate => length > 0,
            };
            if whole {
                return Ok(bytes);
            }
            Err(SlsError::transport(format!(
                "the answer of PullLogs has a body of {length} bytes, but declares {raw_size} once decompressed"
            )))
        })
    }
}

impl LogHub for SlsClient {
    fn get_logstore(&self) -> LocalBoxFuture<'static, Result<LogStoreInfo, SlsError>> {
        self.query("GetLogStore", request::get_logstore(&self.inner.setup.logstore), MAX_JSON, parse_logstore)
    }

    fn list_shards(&self) -> LocalBoxFuture<'static, Result<Vec<ShardInfo>, SlsError>> {
        self.query("ListShards", request::list_shards(&self.inner.setup.logstore), MAX_JSON_LIST, parse_shards)
    }

    fn get_cursor(&self, shard: ShardId, from: StartPosition) -> LocalBoxFuture<'static, Result<Cursor, SlsError>> {
        self.query("GetCursor", request::get_cursor(&self.inner.setup.logstore, shard, from), MAX_JSON, parse_cursor)
    }

    fn get_cursor_time(&self, shard: ShardId, cursor: &Cursor) -> LocalBoxFuture<'static, Result<i64, SlsError>> {
        let request = request::get_cursor_time(&self.inner.setup.logstore, shard, cursor);
        self.query("GetCursorTime", request, MAX_JSON, parse_cursor_time)
    }

    fn pull_logs(
        &self,
        shard: ShardId,
        cursor: &Cursor,
        count: u32,
    ) -> LocalBoxFuture<'static, Result<PullReply, SlsError>> {
        let inner = Rc::clone(&self.inner);
        let request = request::pull_logs(&inner.setup.logstore, shard, cursor, count, inner.setup.compression);
        Box::pin(async move {
            let Answer { headers, body } = inner.send("PullLogs", request).await?;
            let head = parse_pull_head(|name| text(&headers, name))?;
            let body = Box::new(PulledStream { body, raw_size: head.raw_size, compression: head.compression });
            Ok(PullReply { head, body })
        })
    }

    fn create_consumer_group(&self, group: &ConsumerGroup) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        self.command("CreateConsumerGroup", request::create_consumer_group(&self.inner.setup.logstore, group))
    }

    fn list_consumer_groups(&self) -> LocalBoxFuture<'static, Result<Vec<ConsumerGroup>, SlsError>> {
        let request = request::list_consumer_groups(&self.inner.setup.logstore);
        self.query("ListConsumerGroup", request, MAX_JSON, parse_consumer_groups)
    }

    fn update_consumer_group(&self, group: &ConsumerGroup) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        self.command("UpdateConsumerGroup", request::update_consumer_group(&self.inner.setup.logstore, group))
    }

    fn heartbeat(&self, held: &[ShardId]) -> LocalBoxFuture<'static, Result<Vec<ShardId>, SlsError>> {
        let setup = &self.inner.setup;
        let request = request::heartbeat(&setup.logstore, &setup.consumer_group, &setup.consumer_name, held);
        self.query("HeartBeat", request, MAX_JSON, parse_heartbeat)
    }

    fn get_checkpoint(&self, shard: ShardId) -> LocalBoxFuture<'static, Result<Checkpoint, SlsError>> {
        let setup = &self.inner.setup;
        let request = request::get_checkpoint(&setup.logstore, &setup.consumer_group, shard);
        self.query("GetCheckPoint", request, MAX_JSON_LIST, move |body| parse_checkpoint(body, shard))
    }

    fn update_checkpoint(
        &self,
        shard: ShardId,
        cursor: &Cursor,
        force: bool,
    ) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        let setup = &self.inner.setup;
        let (group, consumer) = (&setup.consumer_group, &setup.consumer_name);
        let request = request::update_checkpoint(&setup.logstore, group, consumer, shard, cursor, force);
        self.command("UpdateCheckPoint", request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(https: bool, host: &str, port: Option<u16>) -> Address {
        Address::of(&Endpoint { https, host: host.to_owned(), port }, "proj1")
    }

    fn expected(base: &str, name: &str, host: &str, ip: Option<&str>) -> Address {
        Address {
            base: base.to_owned(),
            name: name.to_owned(),
            host: host.to_owned(),
            ip: ip.map(|ip| ip.parse().unwrap()),
        }
    }

    #[test]
    fn requests_go_to_the_virtual_host_unless_nobody_could_resolve_it() {
        let virtual_host = "proj1.cn-hangzhou.log.aliyuncs.com";
        assert_eq!(
            address(true, "cn-hangzhou.log.aliyuncs.com", None),
            expected("https://proj1.cn-hangzhou.log.aliyuncs.com", virtual_host, virtual_host, None)
        );
        assert_eq!(
            address(false, "sls.test", Some(9000)),
            expected("http://proj1.sls.test:9000", "proj1.sls.test", "proj1.sls.test:9000", None)
        );
        assert_eq!(
            address(false, "127.0.0.1", Some(9000)),
            expected("http://127.0.0.1:9000", "127.0.0.1", "proj1.127.0.0.1:9000", Some("127.0.0.1:9000"))
        );
        assert_eq!(
            address(true, "localhost", None),
            expected("https://localhost", "localhost", "proj1.localhost", None)
        );
        for spelling in ["::1", "[::1]"] {
            assert_eq!(
                address(false, spelling, None),
                expected("http://[::1]", "[::1]", "proj1.[::1]", Some("[::1]:80"))
            );
        }
    }
}
