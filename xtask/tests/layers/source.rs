//! What source files name, read as Rust tokens: comments, strings and test modules do not count.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use xtask::workspace::Workspace;

/// Paths that no file in a folder may name outside tests.
pub(crate) struct Ban {
    pub(crate) folder: &'static str,
    /// A folder in it that may name them.
    pub(crate) except: Option<&'static str>,
    pub(crate) paths: &'static [&'static str],
}

impl Ban {
    /// One line per place that names a banned path.
    pub(crate) fn faults(&self, workspace: &Workspace) -> Vec<String> {
        let mut faults = Vec::new();
        for file in rust_files(&workspace.path(self.folder)) {
            let excepted = self.except.is_some_and(|folder| file.starts_with(workspace.path(folder)));
            if excepted || is_test_file(&file) {
                continue;
            }
            for named in named_paths(&read(&file)) {
                let banned = self.paths.iter().find(|path| is_within(&named.path, path));
                if let Some(path) = banned {
                    let file = file.strip_prefix(workspace.root()).unwrap_or(&file).display();
                    faults.push(format!("{file}:{}: names {path}", named.line));
                }
            }
        }
        faults
    }
}

/// One line per use of `unsafe` outside the allowed files.
pub(crate) fn unsafe_faults(workspace: &Workspace, allowed: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for folder in ["crates", "xtask"] {
        for file in rust_files(&workspace.path(folder)) {
            let name = file.strip_prefix(workspace.root()).unwrap_or(&file);
            if allowed.iter().any(|allowed| name == Path::new(allowed)) {
                continue;
            }
            for line in unsafe_lines(read(&file)) {
                faults.push(format!("{}:{line}: unsafe", name.display()));
            }
        }
    }
    faults
}

/// A path as written, with `use` groups spelled out, and its line.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    path: String,
    line: usize,
}

fn is_within(path: &str, banned: &str) -> bool {
    path.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn read(file: &Path) -> TokenStream {
    let text = std::fs::read_to_string(file).expect("the file was just listed");
    text.parse().unwrap_or_else(|error| panic!("{} is not Rust: {error}", file.display()))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// `tests.rs`, `*_tests.rs` and everything below `tests/` are modules under `#[cfg(test)]` by our habit.
fn is_test_file(file: &Path) -> bool {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem == "tests" || stem.ends_with("_tests") || file.components().any(|part| part.as_os_str() == "tests")
}

fn named_paths(tokens: &TokenStream) -> Vec<Named> {
    let mut named = Vec::new();
    collect_paths(tokens.clone(), "", &mut named);
    named
}

/// Walks the tokens and joins `a`, `::`, `b` to `a::b`; a group behind `::` continues the path for each of its parts.
fn collect_paths(tokens: TokenStream, prefix: &str, named: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    let mut path = prefix.to_owned();
    while at < tokens.len() {
        if let Some(behind) = test_item_end(&tokens, at) {
            at = behind;
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(ident) => {
                path.push_str(&ident.to_string());
                if path_continues(&tokens, at) {
                    path.push_str("::");
                    at += 3;
                    continue;
                }
                named.push(Named { path: path.clone(), line: ident.span().start().line });
            }
            TokenTree::Group(group) => {
                let continues = path.ends_with("::") && group.delimiter() == Delimiter::Brace;
                collect_paths(group.stream(), if continues { &path } else { "" }, named);
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' && path.ends_with("::") => {
                let whole = path.trim_end_matches(':').to_owned();
                named.push(Named { path: whole, line: punct.span().start().line });
            }
            // A leading `::` names the same crate.
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        path = prefix.to_owned();
        at += 1;
    }
}

/// Whether `::` stands right behind this word. In `use ::std` it does not, and the path begins anew.
fn path_continues(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| match tokens.get(at) {
        Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => Some(punct.span().start()),
        _ => None,
    };
    colon(at + 2).is_some() && colon(at + 1) == Some(tokens[at].span().end())
}

/// If an item under `#[cfg(test)]` starts here, the place behind it.
fn test_item_end(tokens: &[TokenTree], at: usize) -> Option<usize> {
    let (TokenTree::Punct(hash), TokenTree::Group(attribute)) = (tokens.get(at)?, tokens.get(at + 1)?) else {
        return None;
    };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    if hash.as_char() != '#' || text != "cfg(test)" {
        return None;
    }
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    let length = tokens[at + 2..].iter().position(is_end)?;
    Some(at + 2 + length + 1)
}

fn unsafe_lines(tokens: TokenStream) -> Vec<usize> {
    let mut lines = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident == "unsafe" => lines.push(ident.span().start().line),
            TokenTree::Group(group) => lines.extend(unsafe_lines(group.stream())),
            _ => {}
        }
    }
    lines
}

mod tests {
    use super::*;

    fn banned_lines(source: &str) -> Vec<usize> {
        let tokens: TokenStream = source.parse().expect("the example is Rust");
        let banned = ["std::fs", "std::time::Instant", "tokio"];
        let is_banned = |named: &Named| banned.iter().any(|path| is_within(&named.path, path));
        named_paths(&tokens).into_iter().filter(is_banned).map(|named| named.line).collect()
    }

    #[test]
    fn a_banned_path_is_found_however_it_is_written() {
        for source in [
            "use std::fs;",
            "use std::fs::File;",
            "use ::std::fs::*;",
            "use std::{io, fs::{self, File}};",
            "use std::{time::{Duration, Instant}};",
            "fn now() { let _ = std::time::Instant::now(); }",
            "fn open() { open!(std::fs::read(x)) }",
            "use tokio as runtime;",
        ] {
            assert!(!banned_lines(source).is_empty(), "{source}");
        }
    }

    #[test]
    fn comments_strings_tests_and_other_paths_are_not() {
        for source in [
            "// std::fs\n/// std::fs::read\nfn a() {}",
            "const A: &str = \"std::fs\";",
            "use std::time::Duration; use crate::fs::x; use std::fsx;",
            "#[cfg(test)]\nmod tests { use std::fs; }",
            "#[cfg(test)]\nmod tests;\nuse std::io;",
        ] {
            assert_eq!(banned_lines(source), [0; 0], "{source}");
        }
    }

    #[test]
    fn code_behind_a_test_module_counts_again() {
        assert_eq!(banned_lines("#[cfg(test)]\nmod tests { use std::fs; }\nuse std::fs;"), [3]);
    }

    #[test]
    fn unsafe_is_found_in_blocks_functions_and_macros_but_not_in_text() {
        let lines = |source: &str| unsafe_lines(source.parse().expect("the example is Rust"));
        assert_eq!(lines("fn a() {\n unsafe { b() } }\nunsafe fn b() {}\nm!(unsafe {});"), [2, 3, 4]);
        assert_eq!(lines("// unsafe\nconst A: &str = \"unsafe\"; #[deny(unsafe_code)] fn c() {}"), [0; 0]);
    }
}
