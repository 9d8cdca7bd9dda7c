//! Where the cluster of the harness stands: in namespaces of its own, in which packets can be lost
//! for real, or, where nobody may make any, on the loopback, where only proxies break something.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::peer::Fault;
use crate::process::wait_until;

/// Where the harness itself is reached by the nodes.
pub(super) const HARNESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 254));

/// Set for the process inside of the namespaces.
const INSIDE: &str = "SOCKHOP_FAULTS_INSIDE";

/// Namespaces in which everything ends with the first process, with and without being root.
const FLAGS: [&str; 7] = [
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// What must be possible inside: interfaces, and packets lost at random.
const PROBE: &str = "ip link set lo up && ip link add br0 type bridge && \
    ip link add probe0 type veth peer name probe1 && \
    iptables -w -A INPUT -p tcp -m multiport --ports 1,2 \
    -m statistic --mode random --probability 0.5 -j DROP";

/// Waits in its own network until it has an interface, and becomes the node.
const BECOME_NODE: &str = "read -r go; ip link set lo up; \
    ip link set eth0 address \"$2\"; ip addr add \"$1/24\" dev eth0; ip link set eth0 up; \
    shift 2; exec \"$@\"";

/// Where the cluster stands.
#[derive(Clone, Debug)]
pub(super) enum Ground {
    /// In a network of the harness, in which each node has one too.
    Namespaces,
    /// On the loopback, because of this.
    Loopback(String),
}

impl std::fmt::Display for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Namespaces => f.write_str("in network namespaces"),
            Self::Loopback(why) => write!(f, "on the loopback, because of `{why}`"),
        }
    }
}

/// How a test goes on.
pub(super) enum Entered {
    /// It runs on this ground.
    Here(Ground),
    /// It has run, inside of the namespaces.
    There(bool),
}

/// Runs `test` anew within namespaces, if there may be any.
pub(super) fn enter(test: &str) -> Entered {
    if std::env::var_os(INSIDE).is_some() {
        build_network().expect("the probe could build one");
        return Entered::Here(Ground::Namespaces);
    }
    let mut why = String::new();
    // Root needs no namespace of users.
    for flags in [&FLAGS[2..], &FLAGS[..]] {
        let mut probe = Command::new("unshare");
        let output = probe.args(flags).args(["sh", "-c", PROBE]).output();
        match output {
            Ok(output) if output.status.success() => {
                return Entered::There(run_inside(flags, test));
            }
            Ok(output) => why = first_line(&output),
            Err(error) => why = format!("unshare: {error}"),
        }
    }
    Entered::Here(Ground::Loopback(why))
}

fn first_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().next().unwrap_or("no reason given").to_owned()
}

fn run_inside(flags: &[&str], test: &str) -> bool {
    let binary = std::env::current_exe().expect("a process has a binary");
    // Inside, process ids begin anew, so names made of them collide with those of other harnesses.
    let folder = std::env::temp_dir().join(format!("sockhop-faults-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    let mut child = Command::new("unshare")
        .args(flags)
        .arg(binary)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .env("TMPDIR", &folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the probe started, too");
    let stderr = child.stderr.take().expect("it is a pipe");
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        eprintln!("{line}");
    }
    let succeeded = child.wait().is_ok_and(|status| status.success());
    let _ = fs::remove_dir_all(&folder);
    succeeded
}

/// Runs a program that must succeed.
pub(super) fn run(program: &str, words: &[&str]) -> Result<String, Fault> {
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} {words:?}: {}", first_line(&output)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn build_network() -> Result<(), Fault> {
    let address = format!("{HARNESS}/24");
    run("ip", &["link", "set", "lo", "up"])?;
    run("ip", &["link", "add", "br0", "type", "bridge"])?;
    run("ip", &["addr", "add", &address, "dev", "br0"])?;
    run("ip", &["link", "set", "br0", "up"])?;
    Ok(())
}

/// The address of a node.
pub(super) fn address(node: usize) -> IpAddr {
    let last = u8::try_from(node + 1).expect("nodes are few");
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, last))
}

/// The command that runs `binary` in a network of its own.
pub(super) fn command(node: usize, binary: &Path) -> Command {
    // The same address of the card, so that nobody remembers that of a dead node.
    let card = format!("02:00:00:00:00:{:02x}", node + 1);
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sh", "-c", BECOME_NODE, "sh"])
        .args([&address(node).to_string(), &card])
        .arg(binary)
        .stdin(Stdio::piped());
    command
}

/// Connects the network of a process that was started with [`command`], in the place of the one with
/// the cable `before`; with which cable.
///
/// *Shape:* the network of a killed process lives on until the last of its connections has given up.
/// As long as it is connected it speaks with the new one's address, and takes packets away from it.
pub(super) fn connect(process: &mut Child, before: Option<&str>) -> Result<String, Fault> {
    if let Some(before) = before {
        // It may have ended by itself.
        let _ = run("ip", &["link", "del", before]);
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let pid = process.id().to_string();
    let own = fs::read_link("/proc/self/ns/net").map_err(|error| error.to_string())?;
    wait_until(Duration::from_secs(20), || {
        match fs::read_link(PathBuf::from("/proc").join(&pid).join("ns/net")) {
            Ok(network) if network != own => Ok(()),
            Ok(_) => Err("a node has no network of its own".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })?;
    let cable = format!("node{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let there = ["type", "veth", "peer", "name", "eth0", "netns", &pid];
    run("ip", &[&["link", "add", &cable][..], &there].concat())?;
    run("ip", &["link", "set", &cable, "master", "br0", "up"])?;
    let mut stdin = process.stdin.take().ok_or("its input is a pipe")?;
    stdin
        .write_all(b"go\n")
        .map_err(|error| error.to_string())?;
    Ok(cable)
}

/// Rules about the packets of one node.
#[derive(Clone, Copy)]
pub(super) enum Packets<'a> {
    /// Those from and to these addresses are lost.
    Of(&'a [IpAddr]),
    /// Those from and to this port, of whichever side.
    OfPort(u16),
    /// So many of a hundred, of all.
    Percent(u8),
}

/// From now on these packets of the node's network are lost, in both directions.
pub(super) fn lose(pid: u32, packets: Packets<'_>) -> Result<(), Fault> {
    let chance = |percent: u8| format!("0.{percent:02}");
    for (chain, side) in [("INPUT", "-s"), ("OUTPUT", "-d")] {
        match packets {
            Packets::Of(addresses) => {
                for address in addresses {
                    rule(
                        pid,
                        &["-A", chain, side, &address.to_string(), "-j", "DROP"],
                    )?;
                }
            }
            Packets::OfPort(port) => {
                let ports = ["-p", "tcp", "-m", "multiport", "--ports", &port.to_string()];
                rule(pid, &[&["-A", chain][..], &ports, &["-j", "DROP"]].concat())?;
            }
            Packets::Percent(percent) => {
                let percent = chance(percent);
                let random = ["-m", "statistic", "--mode", "random", "--probability"];
                let rest = [percent.as_str(), "-j", "DROP"];
                rule(pid, &[&["-A", chain][..], &random, &rest].concat())?;
            }
        }
    }
    Ok(())
}

/// From now on no packet of the node's network is lost any more; how many were.
pub(super) fn lose_no_more(pid: u32) -> Result<u64, Fault> {
    let mut lost = 0;
    for chain in ["INPUT", "OUTPUT"] {
        let listing = rule(pid, &["-L", chain, "-v", "-n", "-x"])?;
        let drops = listing.lines().filter(|line| line.contains("DROP"));
        let counts = drops.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        lost += counts.sum::<u64>();
    }
    rule(pid, &["-F"])?;
    Ok(lost)
}

fn rule(pid: u32, words: &[&str]) -> Result<String, Fault> {
    let pid = pid.to_string();
    let there = ["--target", &pid, "--net", "iptables", "-w"];
    run("nsenter", &[&there[..], words].concat())
}
