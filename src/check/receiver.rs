//! The receiver: name, connection, certificates, whether the connection stands, and one test event if asked for.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use slog::{Discard, Logger, o};
use sls_syslog_actors::config::{Confirmation, DestinationConfig, Protocol, render_duration};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::io::certificate::Facts;
use sls_syslog_actors::io::dial::Destination;
use sls_syslog_actors::io::probe::Probe;
use sls_syslog_actors::ports::Transport;
use sls_syslog_actors::wire::format::{Position, RenderSettings, Renderer};
use sls_syslog_actors::wire::sls::proto::{Content, Log, LogGroup, LogGroupList};

use super::Report;
use super::report::Check;
use super::sample::Sample;

/// How long a connection is watched at least, should `confirm_after_connect` be shorter.
const SHORTEST_WATCH: Duration = Duration::from_millis(500);
/// Time between two looks at what is confirmed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a polite close may take.
const CLOSING: Duration = Duration::from_secs(2);

const CONNECTION: &str = "receiver connection";
const EVENT: &str = "test event";

/// Looks at the receiver, and sends it one event if `send`.
pub async fn check(config: &DestinationConfig, send: bool, report: &mut Report) {
    let destination = match Destination::new(config) {
        Ok(destination) => destination,
        Err(error) => return report.add(Check::failed("receiver", error.to_string())),
    };
    let counters = Arc::new(Counters::default());
    let probe = destination.probe(Arc::clone(&counters), Logger::root(Discard, o!())).await;
    let Probe { addresses, connected, chain, tls, outcome, .. } = probe;
    let place = format!("{} port {}", config.host, config.port);
    if !addresses.is_empty() && config.host.parse::<std::net::IpAddr>().is_err() {
        let mut shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
        shown.dedup();
        report.add(Check::ok("receiver address", format!("{} is {}", config.host, shown.join(", "))));
    }
    let refused = tls.is_none();
    certificates(&chain, refused, report);
    let mut transport = match outcome {
        Ok(transport) => transport,
        Err(error) => {
            let check = Check::failed(CONNECTION, error.to_string());
            report.add(match chain.first().filter(|_| refused) {
                Some(facts) => check.settings(settings_to_add(config, facts)),
                None if tls.is_some() && config.tls.client.is_none() => check.remedy(Some(
                    "if it asks for a client certificate, set destination.tls.client_cert and \
                     destination.tls.client_key",
                )),
                None => check,
            });
            return if send {
                report.add(Check::untried(EVENT, "needs the connection"))
            };
        }
    };
    let address = connected.map(|address| format!(" ({address})")).unwrap_or_default();
    let inside = tls.map(|tls| format!(", {tls}")).unwrap_or_default();
    if config.protocol == Protocol::Udp {
        report.add(
            Check::warn(CONNECTION, format!("{place}{address}: UDP has none, so nothing is known of the receiver"))
                .remedy(Some("send a test event with --send and look for it in the SIEM")),
        );
    } else {
        report.add(Check::ok(CONNECTION, format!("{place}{address} over {}{inside}", config.protocol)));
        let watch = config.confirm_after_connect.max(SHORTEST_WATCH).min(config.timeout);
        match stays_open(&mut *transport, watch).await {
            Ok(()) => report.add(Check::ok("receiver stays connected", format!("for {}", render_duration(watch)))),
            Err(why) => {
                report.add(why);
                return if send {
                    report.add(Check::untried(EVENT, "needs a connection that stands open"))
                };
            }
        }
    }
    report.add(level(config, destination.level()));
    if send {
        test_event(config, &mut *transport, &counters, report).await;
    }
    close(&mut *transport).await;
}

/// The chain as it was shown, each certificate a check of its own.
fn certificates(chain: &[Facts], refused: bool, report: &mut Report) {
    for (index, facts) in chain.iter().enumerate() {
        let what =
            if index == 0 { "receiver certificate".to_owned() } else { format!("receiver certificate {}", index + 1) };
        let names = if facts.names.is_empty() { "no name".to_owned() } else { facts.names.join(", ") };
        let names = if index == 0 { format!("for {names}, ") } else { String::new() };
        let signed = if facts.self_signed { "itself".to_owned() } else { facts.issuer.clone() };
        let detail = format!(
            "{names}subject {}, signed by {signed}, valid from {} to {}, SHA-256 {}",
            facts.subject, facts.not_before, facts.not_after, facts.sha256
        );
        // What is wrong with it is said once, by the connection.
        report.add(if refused { Check::warn(what, detail) } else { Check::ok(what, detail) });
    }
}

/// What accepts this certificate, for who is sure that it is the receiver's.
fn settings_to_add(config: &DestinationConfig, facts: &Facts) -> Vec<String> {
    let wanted = config.tls.server_name.as_ref().unwrap_or(&config.host);
    let other = facts.names.iter().find(|name| !name.starts_with("*."));
    let (comment, line) = match other.filter(|_| !facts.names.contains(wanted)) {
        Some(name) => ("# Only if this is the receiver's name.", format!("server_name = \"{name}\"")),
        None => (
            "# Only if this is the receiver's certificate: replaces the check of the chain.",
            format!("pin_sha256 = \"{}\"", facts.sha256),
        ),
    };
    vec![comment.to_owned(), "[destination.tls]".to_owned(), line]
}

fn level(config: &DestinationConfig, level: Confirmation) -> Check {
    let means = match level {
        Confirmation::Sent => "sent: a log counts as delivered once it is handed to the kernel",
        Confirmation::Written => "written: a log counts as delivered once the socket has taken it",
        Confirmation::TcpAcked => "tcp_acked: a log counts as delivered once the receiver's TCP has acknowledged it",
        Confirmation::AppAcked => "app_acked: a log counts as delivered once the receiver has answered it",
    };
    if level < config.confirmation {
        return Check::warn("confirmation", format!("{means}; this system cannot tell {}", config.confirmation));
    }
    Check::ok("confirmation", means)
}

/// Watches a connection for so long: some receivers refuse only after the handshake (rule C2).
async fn stays_open(transport: &mut dyn Transport, watch: Duration) -> Result<(), Check> {
    let closed = match tokio::time::timeout(watch, poll_fn(|cx| transport.poll_closed(cx))).await {
        Err(_) => return Ok(()),
        Ok(closed) => closed,
    };
    const WHAT: &str = "receiver stays connected";
    Err(match closed {
        Err(error) => Check::failed(WHAT, error.to_string()),
        Ok(()) => Check::failed(
            WHAT,
            format!("it closed the connection before it had stood open for {}", render_duration(watch)),
        )
        .remedy(Some(
            "look at the receiver's log: a client certificate that it wants or refuses, a limit of connections, or \
             another protocol on this port (destination.protocol)",
        )),
    })
}

async fn test_event(
    config: &DestinationConfig,
    transport: &mut dyn Transport,
    counters: &Counters,
    report: &mut Report,
) {
    let mark = format!("{:08x}", fastrand::u32(..));
    let frame = match frame(config, &mark) {
        Ok(frame) => frame,
        Err(why) => return report.add(Check::failed(EVENT, why)),
    };
    let sent = tokio::time::timeout(config.timeout, deliver(transport, &frame)).await;
    report.add(match sent {
        Ok(Ok(())) if config.protocol == Protocol::Udp => udp_outcome(transport, counters, &mark).await,
        Ok(Ok(())) => {
            Check::ok(EVENT, format!("{mark} sent and confirmed; look for it in the SIEM"))
                .remedy(config.protocol.has_framing().then_some(
                "if a number stands in front of <, set destination.framing = \"lf\"; if it never comes, try the other \
                 framing",
            ))
        }
        Ok(Err(why)) => Check::failed(EVENT, format!("{mark} was not confirmed: {why}")),
        Err(_) => Check::failed(EVENT, format!("{mark} was not confirmed within {}", render_duration(config.timeout))),
    });
    report.sample(Sample::new(EVENT, config, &frame));
}

/// The event as any log of this destination would be rendered.
fn frame(config: &DestinationConfig, mark: &str) -> Result<Vec<u8>, String> {
    let content =
        |key: &'static str, value: String| Content { key: Bytes::from_static(key.as_bytes()), value: value.into() };
    let log = Log {
        time: u32::try_from(chrono::Utc::now().timestamp()).unwrap_or(u32::MAX),
        contents: vec![
            content("sls_syslog_check", mark.to_owned()),
            content("message", "test event of sls-syslog check, to be ignored".to_owned()),
        ],
        time_ns: None,
    };
    let group = LogGroup { logs: vec![log], ..LogGroup::default() };
    let raw = LogGroupList { log_groups: vec![group] }.encode_to_vec();
    let mut out = Vec::new();
    let rendered =
        Renderer::new(RenderSettings::from(config)).render(&raw, &mut Position::default(), &mut out, 1 << 20);
    rendered.map(|_| out).map_err(|error| format!("cannot be rendered: {error}"))
}

/// Hands the frame over and waits until it is confirmed.
async fn deliver(transport: &mut dyn Transport, frame: &[u8]) -> Result<(), String> {
    let mut written = 0;
    let mut pause = tokio::time::interval(LOOK_EVERY);
    loop {
        let step = poll_fn(|cx| {
            while written < frame.len() {
                match transport.poll_write(cx, &frame[written..]) {
                    Poll::Ready(Ok(n)) => written += n,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
                    Poll::Pending => break,
                }
            }
            if let Poll::Ready(Err(error)) = transport.poll_flush(cx) {
                return Poll::Ready(Err(error.to_string()));
            }
            match transport.poll_closed(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Err("the receiver closed the connection".to_owned())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
                Poll::Pending => {}
            }
            match transport.look() {
                Ok(look) if written == frame.len() && look.confirmed >= frame.len() as u64 && look.open => {
                    Poll::Ready(Ok(true))
                }
                Ok(_) => pause.poll_tick(cx).map(|_| Ok(false)),
                Err(error) => Poll::Ready(Err(error.to_string())),
            }
        });
        if step.await? {
            return Ok(());
        }
    }
}

/// A refusal of the receiver's machine comes a moment later, if at all.
async fn udp_outcome(transport: &mut dyn Transport, counters: &Counters, mark: &str) -> Check {
    tokio::time::sleep(SHORTEST_WATCH).await;
    poll_fn(|cx| {
        let _ = transport.poll_closed(cx);
        Poll::Ready(())
    })
    .await;
    match counters.datagrams_refused.get() {
        0 => Check::warn(EVENT, format!("{mark} sent; UDP does not tell whether it came"))
            .remedy(Some("look for it in the SIEM")),
        _ => Check::failed(EVENT, format!("{mark}: the receiver's machine refuses datagrams on this port"))
            .remedy(Some("check destination.port; nothing listens there, or a firewall says so")),
    }
}

/// A polite end; nothing depends on it.
async fn close(transport: &mut dyn Transport) {
    let _ = tokio::time::timeout(CLOSING, poll_fn(|cx| transport.poll_shutdown(cx))).await;
    let _ = tokio::time::timeout(CLOSING, poll_fn(|cx| transport.poll_closed(cx))).await;
}
