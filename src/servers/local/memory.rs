//! How much memory the servers get.

use bytesize::ByteSize;

const MIB: u64 = 1 << 20;

/// Heaps of one node and of Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heaps {
    pub cassandra: ByteSize,
    pub kafka: ByteSize,
}

impl Heaps {
    /// The heap of each of several brokers, which share the load of one.
    pub fn kafka_of(&self, brokers: u16) -> ByteSize {
        if brokers > 1 { self.kafka.min(ByteSize::mib(256)) } else { self.kafka }
    }
}

/// A tenth of the machine for the heaps of all nodes, since each takes as much again beside its heap and the rest
/// is the user's: 2 GiB for one node on 24 GiB, 768 MiB for each of three, never less than 384 MiB.
pub fn heaps(total: ByteSize, nodes: u32) -> Heaps {
    let share = total.as_u64() / 10 / u64::from(nodes.max(1)) / MIB;
    let cassandra = (share / 128 * 128).clamp(384, 2048);
    let kafka = if total >= ByteSize::gib(6) { 512 } else { 256 };
    Heaps { cassandra: ByteSize::mib(cassandra), kafka: ByteSize::mib(kafka) }
}

/// The machine's memory, or the container's where that is less. 8 GiB where nobody tells.
pub fn total() -> ByteSize {
    let machine = machine_bytes().unwrap_or(8192 * MIB);
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    ByteSize::b(machine.min(limit))
}

#[cfg(target_os = "linux")]
fn machine_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(not(target_os = "linux"))]
fn machine_bytes() -> Option<u64> {
    let output = std::process::Command::new("sysctl").args(["-n", "hw.memsize"]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heaps_suit_the_machine_and_the_number_of_nodes() {
        let cassandra = |total, nodes| heaps(ByteSize::gib(total), nodes).cassandra;
        assert_eq!(cassandra(24, 1), ByteSize::gib(2));
        assert_eq!(cassandra(24, 3), ByteSize::mib(768));
        assert_eq!(cassandra(8, 1), ByteSize::mib(768));
        assert_eq!(cassandra(8, 3), ByteSize::mib(384));
        assert_eq!(cassandra(256, 1), ByteSize::gib(2));
        assert_eq!(heaps(ByteSize::gib(24), 1).kafka, ByteSize::mib(512));
        assert_eq!(heaps(ByteSize::gib(4), 1).kafka, ByteSize::mib(256));
    }
}
