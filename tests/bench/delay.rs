//! A line to the receiver that delays packets, below TCP: only so are acknowledgements as late as they are over a long way.
//! A proxy between two connections would acknowledge at once what the receiver gets later.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The line; gone when this value is dropped.
pub struct Line {
    process: Child,
    address: Ipv4Addr,
    peer: Ipv4Addr,
}

impl Line {
    /// Makes one with this round trip; the reason where this machine does not let us.
    pub fn start(round_trip: Duration) -> Result<Self, String> {
        // Of the block that is set apart for benches of networks.
        let third = (std::process::id() % 256) as u8;
        let (address, peer) = (Ipv4Addr::new(198, 18, third, 1), Ipv4Addr::new(198, 18, third, 2));
        let one_way_ms = round_trip.as_secs_f64() * 1000.0 / 2.0;
        let mut process = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/delay.py"))
            .args([format!("sls{}", std::process::id() % 1_000_000), address.to_string(), peer.to_string()])
            .arg(one_way_ms.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start python3: {e}"))?;
        let mut said = String::new();
        let stdout = process.stdout.take().expect("piped");
        let ready = BufReader::new(stdout).read_line(&mut said).is_ok() && said == "ready\n";
        if ready {
            return Ok(Self { process, address, peer });
        }
        let output = process.wait_with_output().map_err(|e| e.to_string())?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(errors.lines().last().unwrap_or("no reason given").to_owned())
    }

    /// Where the receiver listens.
    pub fn address(&self) -> IpAddr {
        self.address.into()
    }

    /// Where to connect to for reaching it over this line.
    pub fn to(&self, receiver: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.peer.into(), receiver.port())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
