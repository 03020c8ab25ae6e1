//! `sls-syslog run` as a process, with the quick settings that tests want.

use std::net::SocketAddr;
use std::process::Command;

use crate::harness::{Process, SECRET};
use crate::hub::{ENDPOINT, GROUP, Hub, KEY_ID, LOGSTORE, PROJECT};

/// Settings that make a group move within seconds instead of minutes.
const QUICK: &[(&str, &str)] = &[
    ("source.heartbeat_interval", "500ms"),
    ("source.group_timeout", "2s"),
    ("source.commit_interval", "300ms"),
    ("source.data_fetch_interval", "200ms"),
    ("source.signature", "v1"),
    ("destination.confirm_after_connect", "300ms"),
    ("destination.reconnect_min", "100ms"),
    ("destination.reconnect_max", "500ms"),
    ("destination.hostname", "forwarder-1"),
    ("destination.tag", "sls"),
    ("log.level", "debug"),
    ("log.summary_interval", "1s"),
];

/// A forwarder.
pub struct Forwarder {
    /// The process.
    pub process: Process,
    /// Its consumer name.
    pub consumer: String,
}

impl Forwarder {
    /// Starts one between this hub and this receiver; `settings` go above the quick ones.
    pub fn start(hub: &Hub, to: SocketAddr, protocol: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_named("forwarder", hub, to, protocol, settings)
    }

    /// The same with a consumer name.
    pub fn start_named(consumer: &str, hub: &Hub, to: SocketAddr, protocol: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_with_key(consumer, hub, to, protocol, settings, SECRET)
    }

    /// The same with an access key secret of the caller's choice.
    pub fn start_with_key(
        consumer: &str,
        hub: &Hub,
        to: SocketAddr,
        protocol: &str,
        settings: &[(&str, &str)],
        secret: &str,
    ) -> Self {
        let process = Process::start(consumer, &mut Self::command(consumer, hub, to, protocol, settings, secret));
        Self { process, consumer: consumer.to_owned() }
    }

    /// Starts one whose standard error nobody reads.
    pub fn start_unheard(hub: &Hub, to: SocketAddr, protocol: &str, settings: &[(&str, &str)]) -> Self {
        let command = Self::command("forwarder", hub, to, protocol, settings, SECRET);
        Self { process: Process::start_unheard("forwarder", command), consumer: "forwarder".to_owned() }
    }

    /// The command that starts one.
    pub fn command(
        consumer: &str,
        hub: &Hub,
        to: SocketAddr,
        protocol: &str,
        settings: &[(&str, &str)],
        secret: &str,
    ) -> Command {
        let mut command = Process::sls_syslog(&["run"]);
        command
            .env("SLS_ENDPOINT", format!("http://{ENDPOINT}"))
            .env("SLS_CONNECT", hub.address.to_string())
            .env("SLS_PROJECT", PROJECT)
            .env("SLS_LOGSTORE", LOGSTORE)
            .env("SLS_CG", GROUP)
            .env("SLS_AK_ID", KEY_ID)
            .env("SLS_AK_KEY", secret);
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let given = [
            ("source.consumer_name", consumer),
            ("destination.host", host.as_str()),
            ("destination.port", port.as_str()),
            ("destination.protocol", protocol),
        ];
        let mut all: Vec<(&str, &str)> = QUICK.to_vec();
        for (key, value) in given.iter().chain(settings) {
            all.retain(|(known, _)| known != key);
            all.push((key, value));
        }
        for (key, value) in all {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }

    /// Asks it to end; it has to end well, and to have kept its secret.
    #[track_caller]
    pub fn stop(mut self) -> String {
        let status = self.process.stop();
        assert!(status.success(), "{} ended with {status}", self.consumer);
        self.output()
    }

    /// All that it printed, which never holds the secret.
    #[track_caller]
    pub fn output(&self) -> String {
        let output = self.process.output();
        assert!(!output.contains(SECRET), "{} printed the access key secret", self.consumer);
        output
    }
}
