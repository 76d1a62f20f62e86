//! Time: since the kernel started, and of the day.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

/// Milliseconds since the kernel started.
pub fn uptime_ms() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap_or(TimeSpec::new(0, 0));
    u32::try_from(now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000).unwrap_or(u32::MAX)
}

/// A clock before this day was never set (2025-01-01).
const UNSET_BEFORE: i64 = 1_735_689_600;

/// Takes the host's word for the time of day where the machine has no clock of its own.
pub fn set_if_unset(hint: u64) {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |t| t.tv_sec());
    if let Ok(hint) = i64::try_from(hint)
        && now < UNSET_BEFORE
        && hint > now
    {
        // A clock that cannot be set is no worse than one that was not.
        let _ = clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(hint, 0));
    }
}
