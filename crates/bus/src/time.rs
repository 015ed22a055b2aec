//! A moment, as every deciding function receives it.

/// One reading of both clocks.
///
/// Durations are measured with `mono_ns`, which never goes back; `wall_ms` is for what people and
/// tokens see, and may jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic time in nanoseconds since an arbitrary start, the same for all threads of the process.
    pub mono_ns: u64,
    /// Unix time in milliseconds.
    pub wall_ms: i64,
}

impl Now {
    /// The monotonic time in whole milliseconds.
    #[must_use]
    pub fn mono_ms(self) -> i64 {
        i64::try_from(self.mono_ns / 1_000_000).unwrap_or(i64::MAX)
    }

    /// The monotonic time since `earlier_ns`, in nanoseconds; 0 if that lies in the future.
    #[must_use]
    pub fn since_ns(self, earlier_ns: u64) -> u64 {
        self.mono_ns.saturating_sub(earlier_ns)
    }

    /// This moment, moved forward on both clocks.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self {
            mono_ns: self.mono_ns + ms * 1_000_000,
            wall_ms: self.wall_ms + i64::try_from(ms).unwrap_or(i64::MAX),
        }
    }
}
