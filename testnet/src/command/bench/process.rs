//! A node process seen from outside: its memory in `/proc`, and what its control socket says.

use std::time::Duration;

use serde_json::Value;
use testnet::net::NodeProcess;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::super::Failure;

/// What `/proc` counts processor time in. To programs it is 100 Hz on every Linux.
const TICK_MS: u64 = 10;

/// Sets the high-water mark back to what is resident now.
pub fn forget_peak(node: &NodeProcess) -> Result<(), Failure> {
    let path = format!("/proc/{}/clear_refs", id(node)?);
    std::fs::write(path, "5").map_err(Failure::tool("setting back a process's high-water mark"))
}

/// A line of `/proc/PID/status`, in octets.
pub fn memory(node: &NodeProcess, key: &str) -> Result<u64, Failure> {
    let path = format!("/proc/{}/status", id(node)?);
    let status = std::fs::read_to_string(path).map_err(Failure::tool("reading a process's memory"))?;
    octets_of(&status, key).ok_or_else(|| Failure::Tool {
        what: "reading a process's memory",
        why: format!("there is no {key}"),
    })
}

/// The process of a node.
pub fn id(node: &NodeProcess) -> Result<u32, Failure> {
    node.id().ok_or_else(|| Failure::Tool { what: "the network", why: "a node does not run".to_owned() })
}

/// `VmRSS:  14712 kB`: the unit is fixed, and means KiB.
fn octets_of(status: &str, key: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// Processor time that a process has used, with that of its children that ended.
pub fn processor(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    ticks_of(&stat).map(|ticks| Duration::from_millis(ticks * TICK_MS))
}

/// The same of a node.
pub fn processor_of(node: &NodeProcess) -> Result<Duration, Failure> {
    let unread =
        || Failure::Tool { what: "reading a process's processor time", why: "it has ended".to_owned() };
    processor(id(node)?).ok_or_else(unread)
}

/// The same of all processes that can be seen here, but for this one and the one that is left out.
pub fn processor_of_others(but: u32) -> Result<Duration, Failure> {
    let processes = std::fs::read_dir("/proc").map_err(Failure::tool("listing processes"))?;
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let others = ids.filter(|id| *id != but && *id != std::process::id());
    Ok(others.filter_map(processor).sum())
}

/// The fields `utime`, `stime`, `cutime` and `cstime`. The name before them is in parentheses, and may have anything in it.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split(' ').collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// How many messages a node has in its queue.
pub async fn queued(node: &NodeProcess) -> Result<usize, Failure> {
    let status = status(node).await.map_err(Failure::tool("asking a node for its status"))?;
    let messages = status["spool"]["messages"].as_u64().and_then(|messages| usize::try_from(messages).ok());
    messages.ok_or_else(|| Failure::Tool { what: "asking a node for its status", why: status.to_string() })
}

/// What `sluis status --json` prints, without starting a program for it: it is asked often, while something is measured.
async fn status(node: &NodeProcess) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(node.control()).await?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_in_octets() {
        let status = "Name:\tsluis\nVmHWM:\t   17572 kB\nVmRSS:\t   14712 kB\n";
        assert_eq!(octets_of(status, "VmRSS"), Some(14_712 * 1_024));
        assert_eq!(octets_of(status, "VmHWM"), Some(17_572 * 1_024));
        assert_eq!(octets_of(status, "VmSwap"), None);
    }

    #[test]
    fn processor_time_is_that_of_a_process_and_its_children() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 0";
        assert_eq!(ticks_of(stat), Some(110));
        assert_eq!(ticks_of("7 (a"), None);
        assert!(processor(std::process::id()).is_some());
    }
}
