//! A network of its own between the forwarders and a receiver: a namespace and a pair of virtual cables, so that packets
//! are lost where networks lose them, below TCP. Made and removed by the test, where the machine permits it.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// What happens to the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// They are lost both ways.
    Both,
    /// Those to the receiver are lost.
    ToReceiver,
    /// Those from the receiver are lost, acknowledgements among them.
    FromReceiver,
    /// The receiver's end of the cable is unplugged.
    Unplugged,
}

/// A namespace with one host in it; removed by drop.
pub struct Network {
    namespace: String,
    ours: End,
    theirs: End,
}

/// One end of the cable.
struct End {
    device: String,
    address: Ipv4Addr,
    hardware: String,
}

/// Nobody has it: whoever is told to send there, sends into the void.
const NOWHERE: &str = "02:00:00:00:00:01";

impl Network {
    /// Makes it; the reason where this machine does not let us.
    pub fn start() -> Result<Self, String> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let (process, index) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Of the block that is set apart for benches of networks; four addresses each.
        let third = (process % 256) as u8;
        let end = |name: &str, last: u8| End {
            device: format!("sls{}{name}{index}", process % 1_000_000),
            address: Ipv4Addr::new(198, 18, third, index * 4 + last),
            hardware: String::new(),
        };
        let namespace = format!("sls-syslog-{process}-{index}");
        let mut network = Self { namespace, ours: end("a", 1), theirs: end("b", 2) };
        network.build()?;
        Ok(network)
    }

    fn build(&mut self) -> Result<(), String> {
        ip(&["netns", "add", &self.namespace])?;
        let (ours, theirs) = (&self.ours, &self.theirs);
        ip(&["link", "add", &ours.device, "type", "veth", "peer", "name", &theirs.device, "netns", &self.namespace])?;
        ip(&["address", "add", &format!("{}/30", ours.address), "dev", &ours.device])?;
        ip(&["link", "set", &ours.device, "up"])?;
        self.inside(&["link", "set", "lo", "up"])?;
        self.inside(&["address", "add", &format!("{}/30", theirs.address), "dev", &theirs.device])?;
        self.inside(&["link", "set", &theirs.device, "up"])?;
        self.ours.hardware = hardware(&ip(&["-o", "link", "show", &self.ours.device])?)?;
        self.theirs.hardware = hardware(&self.inside(&["-o", "link", "show", &self.theirs.device])?)?;
        Ok(())
    }

    /// Where a receiver in it listens.
    pub fn address(&self) -> IpAddr {
        self.theirs.address.into()
    }

    /// A program in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// From now on packets are lost so.
    pub fn lose(&self, loss: Loss) {
        let done = match loss {
            Loss::Both => self.send_to(NOWHERE).and_then(|()| self.answer_to(NOWHERE)),
            Loss::ToReceiver => self.send_to(NOWHERE),
            Loss::FromReceiver => self.answer_to(NOWHERE),
            Loss::Unplugged => self.inside(&["link", "set", &self.theirs.device, "down"]).map(drop),
        };
        done.unwrap();
    }

    /// From now on none is.
    pub fn heal(&self) {
        self.inside(&["link", "set", &self.theirs.device, "up"]).unwrap();
        self.send_to(&self.theirs.hardware).unwrap();
        self.answer_to(&self.ours.hardware).unwrap();
    }

    fn send_to(&self, hardware: &str) -> Result<(), String> {
        ip(&neighbour(&self.theirs.address.to_string(), hardware, &self.ours.device)).map(drop)
    }

    fn answer_to(&self, hardware: &str) -> Result<(), String> {
        self.inside(&neighbour(&self.ours.address.to_string(), hardware, &self.theirs.device)).map(drop)
    }

    fn inside(&self, arguments: &[&str]) -> Result<String, String> {
        ip(&[&["-n", &self.namespace], arguments].concat())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The cable goes with the namespace, at once only if it is asked to.
        let _ = ip(&["link", "delete", &self.ours.device]);
        let _ = ip(&["netns", "delete", &self.namespace]);
    }
}

fn neighbour<'a>(address: &'a str, hardware: &'a str, device: &'a str) -> [&'a str; 9] {
    ["neighbour", "replace", address, "lladdr", hardware, "dev", device, "nud", "permanent"]
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(arguments).output().map_err(|e| format!("cannot run ip: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// The hardware address in what `ip -o link show` says.
fn hardware(said: &str) -> Result<String, String> {
    let (_, behind) = said.split_once("link/ether ").ok_or_else(|| format!("no hardware address in {said:?}"))?;
    Ok(behind.split_whitespace().next().unwrap_or_default().to_owned())
}
