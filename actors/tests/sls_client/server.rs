//! A server that reads requests and says what it was told to say.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What happens to the connection after a reply's bytes.
pub enum Then {
    KeepAlive,
    Fin,
    /// Reset once the test says so: a reset overtakes what was sent before it.
    Reset(Rc<Notify>),
    Stall,
}

pub struct Reply {
    pub bytes: Vec<u8>,
    pub then: Then,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub connection: usize,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
pub struct Seen {
    pub requests: Vec<Request>,
    pub connections: usize,
    /// Connections that the client has closed.
    pub closed: Vec<usize>,
}

pub struct Server {
    pub address: SocketAddr,
    pub seen: Rc<RefCell<Seen>>,
}

impl Server {
    pub async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::new(RefCell::new(Seen::default()));
        let replies = Rc::new(RefCell::new(VecDeque::from(replies)));
        let server = Self { address, seen: Rc::clone(&seen) };
        actix_rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = seen.borrow().connections;
                seen.borrow_mut().connections += 1;
                actix_rt::spawn(converse(stream, connection, Rc::clone(&seen), Rc::clone(&replies)));
            }
        });
        server
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.borrow().requests.clone()
    }
}

async fn converse(
    mut stream: TcpStream,
    connection: usize,
    seen: Rc<RefCell<Seen>>,
    replies: Rc<RefCell<VecDeque<Reply>>>,
) {
    while let Some(request) = read_request(&mut stream, connection).await {
        seen.borrow_mut().requests.push(request);
        let reply = replies.borrow_mut().pop_front().expect("one reply per request");
        if stream.write_all(&reply.bytes).await.is_err() {
            break;
        }
        match reply.then {
            Then::KeepAlive => {}
            Then::Fin => stream.shutdown().await.unwrap(),
            Then::Reset(now) => {
                now.notified().await;
                stream.set_zero_linger().unwrap();
                return;
            }
            Then::Stall => {}
        }
    }
    seen.borrow_mut().closed.push(connection);
}

pub async fn read_request(stream: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request { connection, method, target, headers, body: bytes[head_end + 4..].to_vec() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(request)
}

/// A reply with a right Content-Length, as SLS sends them.
pub fn whole(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    Reply { bytes: framed(status, headers, body.as_ref(), body.as_ref().len()), then: Then::KeepAlive }
}

pub fn framed(status: &str, headers: &[(&str, &str)], body: &[u8], declared: usize) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\ncontent-length: {declared}\r\nx-log-requestid: 5F0A\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

pub fn ok(body: impl AsRef<[u8]>) -> Reply {
    whole("200 OK", &[], body)
}

/// The head of a pull answer, followed by whatever the test wants.
pub fn pull(declared: usize, raw_size: usize, compression: Option<&str>, body: &[u8], then: Then) -> Reply {
    let raw_size = raw_size.to_string();
    let mut headers = vec![("x-log-count", "3"), ("x-log-bodyrawsize", raw_size.as_str()), ("x-log-cursor", "Mg==")];
    headers.extend(compression.map(|name| ("x-log-compresstype", name)));
    Reply { bytes: framed("200 OK", &headers, body, declared), then }
}
