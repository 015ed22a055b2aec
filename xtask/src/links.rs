//! Links between the repository's Markdown pages must lead somewhere.
//!
//! Only what the repository itself holds is looked at: a relative path must exist and an anchor must be a heading
//! of the page it points into. Web addresses are not fetched, so the check works offline and never flickers.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::workspace::Workspace;

/// Folders that hold no pages of ours.
const FOREIGN: [&str; 5] = [".git", "target", "node_modules", "corpus", "data"];

/// Checks every page of the repository.
///
/// # Errors
///
/// One line per link that leads nowhere: page, target, what is missing.
pub fn check(workspace: &Workspace) -> Result<String> {
    let mut files = Vec::new();
    collect(workspace.root(), &mut files)?;
    let mut pages = HashMap::new();
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        pages.insert(file, Page::read(&text));
    }
    let links: usize = pages.values().map(|page| page.links.len()).sum();
    let mut broken: Vec<String> =
        pages.iter().flat_map(|(file, page)| page.broken(file, workspace.root(), &pages)).collect();
    broken.sort();
    broken.dedup();
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(format!("{links} links in {} pages", pages.len()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !FOREIGN.contains(&name) {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(())
}

/// What one Markdown page links to and can be linked at.
#[derive(Debug, Default)]
struct Page {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => page.anchors.extend(html_id(&html)),
                _ => {}
            }
        }
        page
    }

    /// GitHub's rule: lower case, blanks to hyphens, other punctuation dropped, repeats numbered.
    fn add_anchor(&mut self, heading: &str) {
        let slug: String = heading
            .to_lowercase()
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            })
            .collect();
        let mut name = slug.clone();
        let mut repeats = 0;
        while !self.anchors.insert(name) {
            repeats += 1;
            name = format!("{slug}-{repeats}");
        }
    }

    fn broken(&self, file: &Path, root: &Path, pages: &HashMap<PathBuf, Self>) -> Vec<String> {
        let here = file.strip_prefix(root).unwrap_or(file).display();
        let fault = |link: &String| {
            let missing = fault(link, file, root, pages)?;
            Some(format!("{here}: {link}: {missing}"))
        };
        self.links.iter().filter_map(fault).collect()
    }
}

fn fault(link: &str, file: &Path, root: &Path, pages: &HashMap<PathBuf, Page>) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path.strip_prefix('/') {
        _ if path.is_empty() => file.to_path_buf(),
        Some(from_root) => root.join(from_root),
        None => normal(&file.parent()?.join(path)),
    };
    let Some(page) = pages.get(&target) else {
        return (!target.exists()).then(|| "no such file".into());
    };
    (!anchor.is_empty() && !page.anchors.contains(anchor)).then(|| format!("no heading `#{anchor}` there"))
}

/// Resolves `.` and `..` by name, so that the result can be looked up among the pages.
fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole
}

fn html_id(html: &str) -> Option<String> {
    let rest = html.split_once("id=\"").or_else(|| html.split_once("name=\""))?.1;
    Some(rest.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &str, expected: &[&str]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = root.join("page.md");
        let pages = HashMap::from([(file.clone(), Page::read(page))]);
        assert_eq!(pages[&file].broken(&file, root, &pages), expected);
    }

    #[test]
    fn a_link_to_an_existing_file_or_heading_passes() {
        check("# The `first` part: one\n[a](Cargo.toml) [b](#the-first-part-one) [c](/src/lib.rs)", &[]);
        check("# Same\n# Same\n[second](./page.md#same-1) <a id=\"here\"></a> [x](#here)", &[]);
    }

    #[test]
    fn a_link_to_nothing_is_named_with_its_page() {
        check("[a](nothing.md)", &["page.md: nothing.md: no such file"]);
        check("[a](#gone)", &["page.md: #gone: no heading `#gone` there"]);
    }

    #[test]
    fn code_and_web_addresses_are_left_alone() {
        check("`[a](nothing.md)` [w](https://example.com/x#y)\n```\n[b](nothing.md)\n```", &[]);
    }
}
