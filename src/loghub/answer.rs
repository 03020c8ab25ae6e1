//! Answers as HTTP: lower-case header names, a request id on every one, and what faults make of them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_rt::time::{Sleep, sleep};
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde_json::json;
use sls_syslog_actors::loghub::{PullAnswer, Refusal};
use sls_syslog_actors::wire::sls::body::compress;
use sls_syslog_actors::wire::sls::reply::Compression;

use super::fault::FaultKind;
use super::routes::Success;

/// A success, or a pull that is spoilt.
pub fn success(success: Success, request_id: String, spoil: impl FnOnce() -> Option<FaultKind>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header(("x-log-requestid", request_id));
    match success {
        Success::Empty => response.body(BoxBody::new(Bytes::new())),
        Success::Json(value) => response.content_type("application/json").body(value.to_string()),
        Success::Pull(answer, compression) => {
            let fault = if answer.count > 0 { spoil() } else { None };
            response.content_type("application/x-protobuf");
            pulled(&mut response, answer, compression, fault)
        }
    }
}

fn pulled(
    response: &mut actix_web::HttpResponseBuilder,
    mut answer: PullAnswer,
    compression: Compression,
    fault: Option<FaultKind>,
) -> HttpResponse {
    let last = answer.last_number;
    match fault {
        Some(FaultKind::CorruptLz4) => answer.body = vec![0xff; answer.body.len()].into(),
        Some(FaultKind::NotProtobuf) => {
            answer.body = compress(&vec![0xff; answer.raw_size.min(1 << 26) as usize], compression).into();
        }
        Some(FaultKind::LargerRaw) => answer.raw_size += 1,
        Some(FaultKind::SmallerRaw) => answer.raw_size = answer.raw_size.saturating_sub(1),
        Some(FaultKind::HugeRaw) => answer.raw_size = 1 << 40,
        Some(FaultKind::WrongCount) => answer.count += 1,
        Some(FaultKind::SameCursor) => {
            let groups = u64::from(answer.count);
            let first = last.map(|last| last + 1 - groups).unwrap_or_default();
            answer.next_cursor = sls_syslog_actors::loghub::encode_cursor(first);
        }
        _ => {}
    }
    response.insert_header(("x-log-count", answer.count));
    if fault != Some(FaultKind::NoRaw) {
        response.insert_header(("x-log-bodyrawsize", answer.raw_size));
    }
    if let Some(name) = compression.name() {
        response.insert_header(("x-log-compresstype", name));
    }
    if fault != Some(FaultKind::NoCursor) {
        response.insert_header(("x-log-cursor", answer.next_cursor));
    }
    if let Some(number) = last {
        response.insert_header(("x-log-read-last-cursor", number));
    }
    response.insert_header(("x-log-cursor-time", answer.cursor_time_s));
    response.insert_header(("x-log-end-of-cursor", u32::from(answer.end_of_shard)));
    match fault {
        Some(FaultKind::CutBody) => response.body(Cut::new(&answer.body, answer.body.len() / 2)),
        Some(FaultKind::EmptyBody) => response.body(Cut::new(&answer.body, 0)),
        _ => response.body(answer.body),
    }
}

/// An error as the service answers it.
pub fn refusal(refusal: &Refusal, request_id: String) -> HttpResponse {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({"errorCode": refusal.code, "errorMessage": refusal.message});
    HttpResponse::build(status)
        .insert_header(("x-log-requestid", request_id))
        .content_type("application/json")
        .body(body.to_string())
}

/// An error page that is not the service's.
pub fn html() -> HttpResponse {
    HttpResponse::BadGateway()
        .content_type("text/html")
        .body("<html><head><title>502 Bad Gateway</title></head><body>upstream failed</body></html>")
}

/// A body that declares its whole length, sends a part, and then cuts the connection.
struct Cut {
    declared: u64,
    part: Option<Bytes>,
    /// The part has to reach the wire before the connection goes: an error at once would take it along.
    wait: Pin<Box<Sleep>>,
}

impl Cut {
    fn new(body: &Bytes, at: usize) -> Self {
        let part = Some(body.slice(..at)).filter(|part| !part.is_empty());
        Self { declared: body.len() as u64, part, wait: Box::pin(sleep(Duration::from_millis(20))) }
    }
}

impl MessageBody for Cut {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.declared)
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let Some(part) = self.part.take() {
            return Poll::Ready(Some(Ok(part)));
        }
        std::task::ready!(self.wait.as_mut().poll(cx));
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}
