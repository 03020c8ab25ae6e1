//! A forwarder inside an actix-web application: the application's own actor hears of events, a page shows the status,
//! and the server's end is the forwarder's end.
//!
//! Takes `SLS_ENDPOINT`, `SLS_PROJECT`, `SLS_LOGSTORE`, `SLS_CG`, `SLS_AK_ID`, `SLS_AK_KEY`, and the receiver as
//! `SYSLOG_HOST` and `SYSLOG_PORT` (TCP). `GET /status` answers JSON, `POST /stop` drains and ends.

use std::env;
use std::error::Error;

use actix::{Actor, Context, Handler};
use actix_web::web::{Data, Json, get, post};
use actix_web::{App, HttpServer};
use serde_json::{Value, json};
use sls_syslog_actors::config::{Credentials, DestinationConfig, ForwarderConfig, Protocol, SourceConfig};
use sls_syslog_actors::event::ForwarderEvent;
use sls_syslog_actors::forwarder::{Forwarder, ForwarderHandle};

/// The application's own actor.
struct Listener;

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<ForwarderEvent> for Listener {
    type Result = ();

    fn handle(&mut self, event: ForwarderEvent, _: &mut Context<Self>) {
        println!("event: {event:?}");
    }
}

async fn status(forwarder: Data<ForwarderHandle>) -> Json<Value> {
    Json(match forwarder.status().await {
        Some(status) => json!({
            "phase": format!("{:?}", status.phase),
            "shards": status.shards,
            "level": status.confirmation.as_str(),
            "logs_delivered": status.counters.logs_delivered,
            "commits": status.counters.commits,
        }),
        None => json!({ "phase": "Ended" }),
    })
}

async fn stop(forwarder: Data<ForwarderHandle>) -> Json<Value> {
    Json(match forwarder.stop().await {
        Ok(totals) => json!({ "logs_delivered": totals.logs_delivered, "commits": totals.commits }),
        Err(error) => json!({ "error": error.to_string() }),
    })
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let credentials = Credentials::new(env::var("SLS_AK_ID")?, env::var("SLS_AK_KEY")?);
    let source = SourceConfig::new(
        &env::var("SLS_ENDPOINT")?,
        env::var("SLS_PROJECT")?,
        env::var("SLS_LOGSTORE")?,
        env::var("SLS_CG")?,
        credentials,
    )?;
    let mut destination = DestinationConfig::new(env::var("SYSLOG_HOST")?, Protocol::Tcp);
    destination.port = env::var("SYSLOG_PORT")?.parse()?;

    let forwarder =
        Forwarder::builder(ForwarderConfig::new(source, destination)).events(Listener.start().recipient()).start()?;

    let shared = Data::new(forwarder.clone());
    let app =
        move || App::new().app_data(shared.clone()).route("/status", get().to(status)).route("/stop", post().to(stop));
    let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0))?;
    println!("listening on {}", server.addrs()[0]);
    let server = server.run();
    let pages = server.handle();
    actix_rt::spawn(server);

    let ended = forwarder.ended().await;
    pages.stop(true).await;
    println!("ended: {:?}", ended.map(|totals| totals.logs_delivered)?);
    Ok(())
}
