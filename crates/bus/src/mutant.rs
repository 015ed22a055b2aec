//! Rules that a simulation can switch off, to show that each of them is needed.
//!
//! Compiled only with the feature `simulation`, which only tests enable; without it every question below is
//! answered `false` at compile time.

/// A rule that is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Whatever is heard is passed on as it comes.
    PassOnUnordered,
    /// What is missing before something that was heard is not read from the store.
    NeverFetch,
    /// Nobody asks where channels stand.
    NeverAskHeads,
    /// Where a channel stands is asked before the node listens to it.
    AskBeforeListening,
    /// A store that stands behind what it acknowledged is believed.
    TrustPositions,
    /// A commit whose outcome is not known is tried again under other keys.
    RetryUnderNewKeys,
    /// A position in another history is taken for one in the present.
    IgnoreEpochs,
    /// A hole that later events show is left to the next head check. Only slower: nothing may be lost by it.
    LeaveHolesToHeads,
    /// A channel is opened before its topic is heard.
    OpenBeforeHeard,
    /// Nobody asks where a channel stands when its topic is heard.
    LeaveHeardAlone,
    /// In the hub: a page that reaches the end it was read with is the last, whatever was passed on meanwhile.
    EndWithThePage,
    /// In the hub: what the store no longer has is stepped over, and nobody is told.
    TrimSilently,
}

impl crate::Bus {
    /// Switches a rule off.
    #[cfg(feature = "simulation")]
    pub fn mutate(&self, mutant: Mutant) {
        self.mutants.fetch_or(1 << mutant as u32, std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether a rule is switched off.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutants.load(std::sync::atomic::Ordering::Relaxed) & (1 << mutant as u32) != 0
    }

    /// Whether a rule is switched off: never.
    #[cfg(not(feature = "simulation"))]
    #[must_use]
    pub const fn is(&self, _: Mutant) -> bool {
        false
    }
}
