//! The long forms of tests, for `cargo xtask proofs`: how often, and a section of the page of proofs for what came out.

use std::fs::OpenOptions;
use std::io::Write as _;

use pulsewire_loadtest::report::{Figure, Outcome};

/// Where sections are appended: set by `cargo xtask proofs`.
const PAGE: &str = "PULSEWIRE_PROOFS_PAGE";

/// How often something is repeated, if the environment does not say otherwise.
pub(crate) fn rounds(variable: &str, usual: u64) -> u64 {
    let said = std::env::var(variable).ok();
    said.map_or(usual, |text| text.parse().expect("a number of rounds"))
}

/// Whether this is the long form.
pub(crate) fn wanted() -> bool {
    std::env::var_os(PAGE).is_some()
}

/// What came out of a row of the fault catalogue.
pub(crate) struct Proof {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) figures: Vec<Figure>,
}

impl Proof {
    /// Prints the figures, and appends them to the page if one is wanted.
    pub(crate) fn write(self) {
        let scenario = self.name.to_owned();
        let command = format!("cargo xtask proofs {scenario}");
        let outcome = Outcome { scenario, about: self.about.to_owned(), command, figures: self.figures };
        let section = outcome.section();
        eprintln!("{section}");
        if let Some(page) = std::env::var_os(PAGE) {
            let mut file = OpenOptions::new().create(true).append(true).open(page).unwrap();
            file.write_all(section.as_bytes()).unwrap();
        }
    }
}
