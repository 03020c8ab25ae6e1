//! The examples of the library run against the embedded LogHub, where `tests/run` has built them.

use std::process::Command;

use crate::harness::{Process, Receiver, SECRET, eventually};
use crate::hub::{GROUP, Hub, KEY_ID, LOGSTORE, PROJECT, http};
use crate::peers::peer;

#[test]
fn the_embedding_example_delivers_and_ends_when_asked() {
    let Some(folder) = peer("SLS_SYSLOG_TEST_EXAMPLES") else { return };
    let hub = Hub::start(2);
    hub.put_numbered(0..500, 50);
    let receiver = Receiver::start(&["--mode", "check"]);
    let mut command = Command::new(folder.join("embed"));
    command
        .env_clear()
        .env("SLS_ENDPOINT", format!("http://{}", hub.address))
        .env("SLS_PROJECT", PROJECT)
        .env("SLS_LOGSTORE", LOGSTORE)
        .env("SLS_CG", GROUP)
        .env("SLS_AK_ID", KEY_ID)
        .env("SLS_AK_KEY", SECRET)
        .env("SYSLOG_HOST", receiver.address.ip().to_string())
        .env("SYSLOG_PORT", receiver.address.port().to_string());
    let mut example = Process::start("embed", &mut command);
    let page = eventually("its status page", || {
        let lines = example.stdout();
        let address = lines.iter().find_map(|line| line.strip_prefix("listening on "));
        address.and_then(|address| address.parse().ok()).ok_or_else(|| format!("{lines:?}"))
    });
    hub.wait_until_committed();
    let request = b"POST /stop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert!(http(page, request).starts_with(b"HTTP/1.1 200"));
    assert!(example.wait().success());
    assert!(!example.output().contains(SECRET));
    let summary = receiver.finish();
    assert_eq!((&summary["unique"], &summary["missing"]), (&1000.into(), &0.into()), "{summary}");
}
