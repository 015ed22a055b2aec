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
}

impl crate::Bus {
    /// Switches a rule off.
    #[cfg(feature = "simulation")]
    pub fn mutate(&self, mutant: Mutant) {
        self.mutants.fetch_or(1 << mutant as u32, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutants.load(std::sync::atomic::Ordering::Relaxed) & (1 << mutant as u32) != 0
    }

    #[cfg(not(feature = "simulation"))]
    #[expect(clippy::unused_self, reason = "the same call as with the feature")]
    pub(crate) const fn is(&self, _: Mutant) -> bool {
        false
    }
}
