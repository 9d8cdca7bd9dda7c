//! Room for file descriptors, made before clients come.

use std::io;

use rustix::process::{Resource, getrlimit};

/// Descriptors that a node needs besides one for each client: files, listeners, Redis, other nodes.
pub(crate) const OWN_DESCRIPTORS: u64 = 1_000;

/// Makes room for the descriptors of so many sessions, as far as the limit of open files allows.
///
/// *Shape:* the kernel doubles a process's table of descriptors when it is full, and waits for all
/// processors before it uses the new one: 20 ms, at 256 connections and at each doubling, in which
/// the thread that accepts does nothing else. A descriptor with a high number makes the table as
/// large as it is going to be. That costs the kernel eight bytes for each.
pub(crate) fn make_room(sessions: usize) {
    let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
    let wanted = wanted(sessions, getrlimit(Resource::Nofile).current);
    if let Err(error) = open_and_close(wanted.saturating_sub(1)) {
        tracing::debug!(%error, wanted, "no room for descriptors yet");
    }
}

/// How many there are to be, of those that the limit allows.
fn wanted(sessions: u64, limit: Option<u64>) -> u64 {
    let wanted = sessions.saturating_add(OWN_DESCRIPTORS);
    limit.map_or(wanted, |limit| wanted.min(limit))
}

fn open_and_close(number: u64) -> io::Result<()> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    rustix::io::fcntl_dupfd_cloexec(io::stderr(), number)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_never_exceeded() {
        assert_eq!(wanted(5_000, None), 6_000);
        assert_eq!(wanted(5_000, Some(20_000)), 6_000);
        assert_eq!(wanted(u64::MAX, Some(1_024)), 1_024);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_table_of_descriptors_is_as_large_as_it_is_going_to_be() {
        make_room(4_000);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        let size: u64 = size.unwrap().trim().parse().unwrap();
        assert!(size >= wanted(4_000, getrlimit(Resource::Nofile).current));
    }
}
