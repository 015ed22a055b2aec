//! The figures for the dashboard.

use std::fmt::Write as _;

use super::FIGURES;

/// `dashboard/src/generated/figures.ts`: the figures' ids, titles and units, so that a page that names a figure which
/// does not exist is not compiled.
#[must_use]
pub fn typescript() -> String {
    let mut text = String::from(
        "// Generated from crates/server/src/figures/table.rs by `cargo xtask generate`; do not edit.\n\n\
         /** What a figure counts in. */\nexport type Unit =\n",
    );
    let mut units: Vec<String> = FIGURES.iter().map(|figure| quoted(&figure.unit)).collect();
    units.sort_unstable();
    units.dedup();
    let _ = writeln!(text, "  | {};\n", units.join("\n  | "));
    text.push_str("/** A number that the server follows. */\nexport interface Figure {\n");
    text.push_str("  readonly id: string;\n  readonly title: string;\n  readonly unit: Unit;\n  readonly help: string;\n}\n\n");
    text.push_str(
        "/** Every figure of `GET /api/admin/history`, in its order. */\nexport const FIGURES = [\n",
    );
    for figure in FIGURES {
        let (id, title) = (quoted(&figure.id), quoted(&figure.title));
        let (unit, help) = (quoted(&figure.unit), quoted(&figure.help));
        let _ = writeln!(
            text,
            "  {{\n    id: {id},\n    title: {title},\n    unit: {unit},\n    help:\n      {help},\n  }},"
        );
    }
    text.push_str("] as const satisfies readonly Figure[];\n\n");
    text.push_str("/** The id of a figure. */\nexport type FigureId = (typeof FIGURES)[number][\"id\"];\n");
    text
}

/// A value as JSON, which is a literal of TypeScript.
fn quoted(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
