//! What the pages for operators (`docs/runbook`, `docs/operate`) and the texts of alerts tell people to type and to open.
//!
//! Every command in them is one that the binary takes, and what looks at a server is tried on one: a field that is no
//! field any more is found here and not at night. `deploy/checks/test/runbook.test.ts` holds the rest of the runbook.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser as _;
use clap::error::ErrorKind;
use pulsewire::auth::Role;
use pulsewire::cli::channels::Channels;
use pulsewire::cli::conns::Conns;
use pulsewire::cli::upstreams::Upstreams;
use pulsewire::cli::{Cli, Command, Exit, Terminal, run};

use crate::harness::{Server, bearer};

/// The texts of all pages, by name.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = ["docs/runbook", "docs/operate", "deploy/prometheus/rules"].into_iter().flat_map(|folder| {
        let folder = root.join(folder);
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
    });
    let text =
        |path: std::path::PathBuf| (path.display().to_string(), std::fs::read_to_string(path).unwrap());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "md" || extension == "yml"))
        .map(text)
        .collect()
}

/// What stands in backticks and, in blocks of code, each line; in those of text what stands behind a prompt.
fn code<'a>(page: &'a str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, part) in page.split("```").enumerate() {
        if at % 2 == 1 {
            let (language, lines) = part.split_once('\n').unwrap_or((part, ""));
            let typed = |line: &'a str| match line.trim().strip_prefix("$ ") {
                None if language == "text" => None,
                typed => Some(typed.unwrap_or(line.trim())),
            };
            found.extend(lines.lines().filter_map(typed));
        } else {
            found.extend(part.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// The words of a command line, up to what the shell does with its output; `None` if it is no command of ours.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for character in line.chars().chain([' ']) {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => word.push(character),
            (None, '\'' | '"') => quote = Some(character),
            (None, ' ' | '\n') if word.is_empty() => {}
            (None, ' ' | '\n') => words.push(std::mem::take(&mut word)),
            (None, _) => word.push(character),
        }
    }
    if words.first()? != "pulsewire" {
        return None;
    }
    let end = words.iter().position(|word| ["|", ">", ">>", "&&", "&", "#", "\\"].contains(&word.as_str()));
    words.truncate(end.unwrap_or(words.len()));
    Some(words)
}

fn commands() -> BTreeSet<(String, Vec<String>)> {
    let of_page = |(name, text): (String, String)| {
        let found: Vec<_> = code(&text).into_iter().filter_map(words).collect();
        found.into_iter().map(move |words| (name.clone(), words))
    };
    pages().into_iter().flat_map(of_page).collect()
}

#[test]
fn every_command_on_a_page_for_operators_is_one_that_the_binary_takes() {
    let commands = commands();
    assert!(commands.len() > 100, "{}", commands.len());
    let refused = commands.iter().filter_map(|(page, words)| {
        let error = Cli::try_parse_from(words).err()?;
        let names_a_group = matches!(
            error.kind(),
            ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                | ErrorKind::MissingRequiredArgument
        );
        // A command's name alone speaks of the command.
        (!names_a_group || words.len() > 3).then(|| format!("{page}: {}: {error}", words.join(" ")))
    });
    let refused: Vec<_> = refused.collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn what_a_page_looks_at_a_server_with_is_answered() {
    let server = Server::start("");
    let _client = server.welcomed("ann");
    let token = server.token("ops", Role::Viewer);
    let url = format!("ws://{}", server.address);
    let mut asked = 0;
    for (page, words) in commands() {
        let there = ["--url", &url, "--token", &token].map(str::to_owned);
        let Ok(cli) = Cli::try_parse_from(words.iter().chain(&there)) else { continue };
        let looks = matches!(
            cli.command,
            Command::Conns(Conns::Ls(_))
                | Command::Channels(Channels::Ls(_))
                | Command::Upstreams(Upstreams::Ls(_))
        );
        if !looks {
            continue;
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(cli, &mut Terminal::new(&mut out, &mut err));
        assert_eq!(exit, Exit::Ok, "{page}: {}: {}", words.join(" "), String::from_utf8_lossy(&err));
        asked += 1;
    }
    assert!(asked > 20, "{asked}");
    for (page, text) in pages() {
        for path in code(&text)
            .into_iter()
            .filter(|code| code.starts_with("/connections?") || code.starts_with("/channels?"))
        {
            let answer = server.http("GET", &format!("/api/admin{path}"), &bearer(&token), "");
            assert_eq!(answer.status, 200, "{page}: {path}: {}", answer.text());
        }
    }
}
