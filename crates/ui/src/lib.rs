//! The files of the dashboard, embedded in the binary.
//!
//! They are built from `dashboard/` by `cargo xtask dashboard` and committed in `dist/`, so that building the server
//! needs no Node and a missing page is a compile error rather than a blank one. This crate has no dependencies: it is
//! compiled anew only when the dashboard was built anew.

/// A file of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// Its name, which is also its path below `/`.
    pub name: &'static str,
    /// What it holds.
    pub bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(File { name: $name, bytes: include_bytes!(concat!("../dist/", $name)) }),+]
    };
}

/// The page itself, which is served for every page of the dashboard.
pub const INDEX: &str = "index.html";

/// All files.
pub const FILES: &[File] = files!["index.html", "app.js", "app.css", "icon.svg"];

/// The file of this name.
#[must_use]
pub fn file(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the build writes beside the files: the hash of its sources.
    const SOURCE: &str = "SOURCE_SHA256";

    #[test]
    fn every_file_that_was_built_is_served_and_no_other() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
        let names =
            std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry"));
        let built: BTreeSet<String> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let served = FILES.iter().map(|file| file.name.to_owned()).chain([SOURCE.to_owned()]).collect();
        assert_eq!(built, served, "the table FILES is the folder's");
    }

    #[test]
    fn the_page_names_only_files_that_are_here() {
        let page = std::str::from_utf8(file(INDEX).expect("the page").bytes).expect("text");
        let named: Vec<&str> = page
            .split('"')
            .filter_map(|text| text.strip_prefix('/'))
            .filter(|name| !name.is_empty())
            .collect();
        assert!(!named.is_empty(), "the page has its program from somewhere");
        for name in named {
            assert!(file(name).is_some(), "{name}");
        }
    }
}
