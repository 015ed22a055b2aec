//! `docs/checklist.md` held to the code: every row once, and every test it names exists.

use std::collections::BTreeMap;

use xtask::workspace::Workspace;

/// What stands for a test where there is none, and for the part of a row that no test shows.
const WITHOUT: [&str; 2] = ["not the server", "not yet: "];
/// Rows of the fault catalogue that the page must have, section by section.
const FAULTS: [&str; 10] = [
    "P1 P2 P3 P5 P6 P7 P8 P9 P10 P11 P12 P14 P15 P16 P17 P18 P20 P23 P24 P25 P27",
    "A1 A2 A3 A4 A7 A8 A9 A11 A12 A15 A17 A18 A19 A20",
    "X1 X2 X3 X4 X6 X7 X8 X9 X11 X12 X15 X16",
    "L1 L2 L3 L4 L7 L9",
    "R1 R3 R5 R6 R9 R11 D1 D3 D4 D5 D9 D10 D11 D13 D14 D15 D16 D17 D18 D19 D23 C1 C2",
    "B1 B2 B5 B7 B8 B11 M1 M2 M3 M7 M8 M9 U1 U2 U4",
    "G1 G2 G4 G5 G8",
    "K1 K2 K3 K4 K7 K8 K11 K12 K13",
    "W1 W3 W4 W5 W7 W8",
    "T1 T2 T3 T5 T6 T8 T9 T12",
];

/// Every row that the page must have, in the order of the tables.
fn wanted() -> Vec<String> {
    let mut rows = Vec::new();
    for (document, last) in [("000", 49), ("001", 117), ("002", 40), ("003", 76), ("004", 74)] {
        for number in 1..=last {
            let parts: &[&str] = match (document, number) {
                ("001", 85) => &["", "b"],
                ("001", 88 | 114 | 115) => &["a", "b", "c"],
                ("002", 19) => &["", "b"],
                _ => &[""],
            };
            rows.extend(parts.iter().map(|part| format!("{document}-{number:02}{part}")));
        }
    }
    rows.extend(FAULTS.iter().flat_map(|section| section.split(' ')).map(str::to_owned));
    rows
}

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

/// Where the rows that `text` names stand in the tables: `003-07`, or `003-15 to 003-21` with all between.
fn places(wanted: &[String], text: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let place = |row: &str| wanted.iter().position(|wanted| wanted == row);
    let (first, last) = text.split_once(" to ").unwrap_or((text, text));
    Some(place(first)?..=place(last)?)
}

/// What is wrong with the last column: tests by their names, and behind `;` what no test shows.
fn wrong_names(workspace: &Workspace, shown: &str) -> Vec<String> {
    let is_reason = |text: &str| WITHOUT.iter().any(|reason| text.starts_with(reason));
    if is_reason(shown) {
        return Vec::new();
    }
    // The names of the SDK's tests are sentences, with commas in them.
    let (tests, rest) = match shown.split_once("`; ") {
        Some((tests, rest)) => (tests, Some(rest)),
        None => (shown, None),
    };
    let unknown = rest.filter(|rest| !is_reason(rest)).map(|rest| format!("no reason: {rest}"));
    let absent = tests
        .split("`, `")
        .map(|test| test.trim_matches('`'))
        .filter(|test| !exists(workspace, test))
        .map(|test| format!("no such test: {test}"));
    absent.chain(unknown).collect()
}

/// Whether what is named is in the code: a test, `crate: module::test`, a test of the TypeScript SDK,
/// `sdk client/outbox.unit: its sentence`, of what reads `deploy/`, `deploy contract: its sentence`, a scenario of both
/// clients, `scenario: its sentence`, a load scenario, `bench name`, or a check of `cargo xtask test operations`,
/// `operations name`.
fn exists(workspace: &Workspace, named: &str) -> bool {
    let in_typescript = |path: String, sentence: &str| {
        let code = workspace.read(&path).unwrap_or_default();
        ["'", "`"].iter().any(|quote| code.contains(&format!("({quote}{sentence}{quote}, ")))
    };
    if let Some((file, sentence)) = named.strip_prefix("sdk ").and_then(|test| test.split_once(": ")) {
        let path = match file.split_once('/') {
            Some((package, file)) => format!("sdk/typescript/{package}/test/{file}.test.ts"),
            None => format!("sdk/typescript/test/{file}.test.ts"),
        };
        return in_typescript(path, sentence);
    }
    if let Some((file, sentence)) = named.strip_prefix("deploy ").and_then(|test| test.split_once(": ")) {
        return in_typescript(format!("deploy/checks/test/{file}.test.ts"), sentence);
    }
    if let Some(check) = named.strip_prefix("operations ") {
        return ["monitoring", "rules", "machines", "kubernetes"].iter().any(|file| {
            let code = workspace.read(&format!("xtask/src/operations/{file}.rs")).unwrap_or_default();
            code.contains(&format!("name: \"{check}\""))
        });
    }
    if let Some(sentence) = named.strip_prefix("scenario: ") {
        let file = workspace.read("sdk/conformance/scenarios.json").unwrap_or_default();
        return file.contains(&format!("\"name\": \"{sentence}\""));
    }
    if let Some(scenario) = named.strip_prefix("bench ") {
        let code = workspace.read("crates/loadtest/src/scenario.rs").unwrap_or_default();
        return code.lines().any(|line| line.trim() == format!("name: \"{scenario}\","));
    }
    let Some((krate, path)) = named.split_once(": ") else { return false };
    let Some((module, name)) = path.rsplit_once("::") else { return false };
    files(krate, &module.replace("::", "/"))
        .iter()
        .find_map(|file| workspace.read(file).ok())
        .is_some_and(|code| has_test(&code, name))
}

/// Where a module of tests may be: under the crate's `tests/it`; a `src::…::tests` in a file of its own or in that of
/// the code it tests.
fn files(krate: &str, module: &str) -> Vec<String> {
    let folder = format!("crates/{krate}");
    match module.strip_prefix("src/") {
        Some(inside) => inside.strip_suffix("/tests").map_or_else(Vec::new, |tested| {
            vec![format!("{folder}/src/{inside}.rs"), format!("{folder}/src/{tested}.rs")]
        }),
        None => vec![format!("{folder}/tests/it/{module}.rs")],
    }
}

/// Whether a function of this name is marked as a test. The names of a table's scripts stand before their text.
fn has_test(code: &str, name: &str) -> bool {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let is_named = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").is_some_and(|line| line.starts_with(&format!("{name}(")))
    };
    let is_mark = |line: &&str| *line == "#[test]" || *line == "#[tokio::test]";
    lines.iter().enumerate().any(|(at, line)| {
        (is_named(line) && lines[..at].iter().rev().take(3).any(is_mark))
            || line.starts_with(&format!("{name} \""))
    })
}

#[test]
fn every_row_is_there_once_and_every_test_it_names_exists() {
    let workspace = Workspace::find().expect("the workspace");
    let page = workspace.read("docs/checklist.md").expect("the page");
    let wanted = wanted();
    let mut seen = BTreeMap::<usize, usize>::new();
    let mut wrong = Vec::new();
    for (row, shown) in rows(&page) {
        match places(&wanted, row) {
            Some(places) => places.for_each(|place| *seen.entry(place).or_default() += 1),
            None => wrong.push(format!("{row} is no row of the tables")),
        }
        wrong.extend(wrong_names(&workspace, shown).into_iter().map(|what| format!("{row}: {what}")));
    }
    for (place, row) in wanted.iter().enumerate() {
        match seen.get(&place) {
            Some(1) => {}
            Some(times) => wrong.push(format!("{row} is there {times} times")),
            None => wrong.push(format!("{row} is missing")),
        }
    }
    assert!(wrong.is_empty(), "docs/checklist.md:\n{}", wrong.join("\n"));
}

#[test]
fn what_is_not_there_is_noticed() {
    let workspace = Workspace::find().expect("the workspace");
    for there in [
        "hub: clock::tokens_that_end_together_are_refreshed_over_half_a_minute",
        "bus: conformance::cases::a_clock_that_went_back_leaves_no_hole",
        "client: main::the_wait_after_a_drain_is_the_servers",
        "server: src::auth::attempts::tests::zero_means_no_limit",
        "server: src::hook::tests::options_that_cannot_be_used_are_refused",
        "bench rest",
        "sdk client/outbox.unit: succeeds on the third attempt under the same id (K2)",
        "sdk client/client.unit: come once and in order; a hole is asked for, and what is gone is told",
    ] {
        assert!(exists(&workspace, there), "{there}");
        assert_eq!(wrong_names(&workspace, &format!("`{there}`; not yet: more")), [""; 0], "{there}");
    }
    for absent in [
        "hub: clock::tokens",
        "hub: clock::growing",
        "hub: nowhere::a",
        "clock::a",
        "hub: a",
        "server: src::auth::attempts::zero_means_no_limit",
        "server: src::auth::attempts::tests::network_of",
        "bench",
        "bench res",
        "sdk client/outbox.unit: succeeds on the third attempt",
        "sdk nowhere: a",
        "scenario: none of this name",
    ] {
        assert!(!exists(&workspace, absent), "{absent}");
        assert_eq!(wrong_names(&workspace, &format!("`{absent}`")).len(), 1, "{absent}");
    }
    assert_eq!(wrong_names(&workspace, "`bench rest`; soon"), ["no reason: soon"]);
    assert_eq!(wrong_names(&workspace, "").len(), 1, "an empty column shows nothing");
}

#[test]
fn a_range_names_all_rows_between_its_ends() {
    let wanted = wanted();
    let named = |text: &str| places(&wanted, text).map(|places| wanted[places].join(" "));
    assert_eq!(named("001-85 to 001-88b").unwrap(), "001-85 001-85b 001-86 001-87 001-88a 001-88b");
    assert_eq!(named("P27").unwrap(), "P27");
    for absent in ["001-88", "001-118", "P4", "000-00", ""] {
        assert_eq!(named(absent), None, "{absent}");
    }
}
