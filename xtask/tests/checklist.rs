//! `docs/checklist.md` held to the code: every row once, and every test it names exists.

use std::collections::BTreeMap;

use xtask::workspace::Workspace;

/// Rows of document 003's table.
const DOCUMENT_ROWS: u32 = 76;
/// What a row without a test may say.
const WITHOUT: [&str; 2] = ["not the server", "not yet: "];
/// Rows of the fault catalogue that the page must have: its sections on coming back, keeping and clocks.
const FAULTS: [&str; 23] = [
    "R1", "R3", "R5", "R6", "R9", "R11", "D1", "D3", "D4", "D5", "D9", "D10", "D11", "D13", "D14", "D15",
    "D16", "D17", "D18", "D19", "D23", "C1", "C2",
];

/// The rows of all tables: what is in the first and in the last column.
fn rows(page: &str) -> Vec<(&str, &str)> {
    let cells = |line: &'_ str| -> Option<(usize, usize)> {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let (first, last) = (line.find(" | ")?, line.rfind(" | ")?);
        (first < last && !line.starts_with("row ")).then_some((first, last))
    };
    page.lines()
        .filter_map(|line| {
            let (first, last) = cells(line)?;
            let line = &line[2..line.len() - 2];
            Some((&line[..first], &line[last + 3..]))
        })
        .collect()
}

/// The numbers of document 003's rows that `text` names: `003-07` or `003-15 to 003-21`.
fn numbers(text: &str) -> Option<std::ops::RangeInclusive<u32>> {
    let number = |text: &str| text.strip_prefix("003-").and_then(|number| number.parse().ok());
    let (first, last) = text.split_once(" to ").unwrap_or((text, text));
    Some(number(first)?..=number(last)?)
}

/// Whether a test is in the code: `crate: module::test`, with the module's file under the crate's `tests/it`. The
/// names of a table's scripts stand before their text.
fn exists(workspace: &Workspace, test: &str) -> bool {
    let Some((krate, path)) = test.split_once(": ") else { return false };
    let Some((module, name)) = path.rsplit_once("::") else { return false };
    let file = format!("crates/{krate}/tests/it/{}.rs", module.replace("::", "/"));
    let Ok(code) = workspace.read(&file) else { return false };
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let is_test = |line: &str| line.starts_with("fn ") && line[3..].starts_with(&format!("{name}("));
        let marked = || lines[..at].iter().rev().take(3).any(|before| *before == "#[test]");
        (is_test(line) && marked()) || line.starts_with(&format!("{name} \""))
    })
}

#[test]
fn every_row_is_there_once_and_every_test_it_names_exists() {
    let workspace = Workspace::find().expect("the workspace");
    let page = workspace.read("docs/checklist.md").expect("the page");
    let mut seen = BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    for (row, shown) in rows(&page) {
        match numbers(row) {
            Some(range) => range.for_each(|number| *seen.entry(format!("003-{number:02}")).or_default() += 1),
            None => *seen.entry(row.to_owned()).or_default() += 1,
        }
        if WITHOUT.iter().any(|reason| shown.starts_with(reason)) {
            continue;
        }
        for test in shown.split(", ") {
            let named = test.strip_prefix('`').and_then(|test| test.strip_suffix('`'));
            if !named.is_some_and(|named| exists(&workspace, named)) {
                wrong.push(format!("{row}: no such test: {test}"));
            }
        }
    }
    let documents = (1..=DOCUMENT_ROWS).map(|number| format!("003-{number:02}"));
    for row in documents.chain(FAULTS.map(str::to_owned)) {
        match seen.remove(&row) {
            Some(1) => {}
            Some(times) => wrong.push(format!("{row} is there {times} times")),
            None => wrong.push(format!("{row} is missing")),
        }
    }
    wrong.extend(seen.into_keys().map(|row| format!("{row} is no row of the tables")));
    assert!(wrong.is_empty(), "docs/checklist.md:\n{}", wrong.join("\n"));
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let workspace = Workspace::find().expect("the workspace");
    let there = "hub: clock::tokens_that_end_together_are_refreshed_over_half_a_minute";
    assert!(exists(&workspace, there));
    for wrong in ["hub: clock::tokens", "hub: clock::growing", "hub: nowhere::a", "clock::a", "hub: a"] {
        assert!(!exists(&workspace, wrong), "{wrong}");
    }
}
