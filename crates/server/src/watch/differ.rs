//! From one answer to the next: the whole page, or only what changed.
//!
//! Whoever has a page and applies the changes that name it as their base has the next page. A field that is gone is
//! told as `null`, so a field that is `null` and one that is not there mean the same.

use serde_json::{Map, Value, json};

use super::{List, Row};

/// A field that only grows at its end: of it, changes hold the entries whose `id` was not there before.
const APPENDED: &str = "timeline";

/// What the listeners of a watch were told last.
#[derive(Debug, Clone, Default)]
pub struct Differ {
    revision: u64,
    last: Option<List>,
}

impl Differ {
    /// The number of what was told last; 0 if nothing was.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The rows that were told last, in order: those to be asked for again. `None` before the first page.
    #[must_use]
    pub fn rows(&self) -> Option<Vec<String>> {
        self.last.as_ref().map(|list| list.rows.iter().map(|row| id(row).to_owned()).collect())
    }

    /// Tells a whole list.
    pub fn page(&mut self, list: List, at: &str) -> Value {
        self.revision += 1;
        let page = page(&list, self.revision, at);
        self.last = Some(list);
        page
    }

    /// Tells what of a list is different; `None` if that is nothing. `Err` returns the list if it cannot be told so:
    /// there is a row that was not there before, or the order is another. Tell it as a page then.
    ///
    /// # Errors
    ///
    /// The list.
    pub fn changes(&mut self, list: List, at: &str) -> Result<Option<Value>, List> {
        let Some(last) = self.last.as_ref().filter(|last| is_part(&list.rows, &last.rows)) else {
            return Err(list);
        };
        let mut rows: Vec<Value> = Vec::new();
        let mut next = list.rows.iter().peekable();
        for before in &last.rows {
            match next.next_if(|row| id(row) == id(before)) {
                Some(row) => rows.extend(changed(before, row).map(Value::Object)),
                None => rows.push(json!({ "id": id(before), "gone": true })),
            }
        }
        let mut told = changed_fields(&last.meta, &list.meta);
        let counts = (last.total, last.matched) != (list.total, list.matched);
        if rows.is_empty() && told.is_empty() && !counts {
            self.last = Some(list);
            return Ok(None);
        }
        self.revision += 1;
        told.extend(head(&list, self.revision, at));
        told.insert("base".to_owned(), (self.revision - 1).into());
        told.insert("rows".to_owned(), rows.into());
        self.last = Some(list);
        Ok(Some(told.into()))
    }
}

/// A whole list as it is told; over HTTP it belongs to no watch and has the revision 0.
#[must_use]
pub fn page(list: &List, revision: u64, at: &str) -> Value {
    let mut told = list.meta.clone();
    told.extend(head(list, revision, at));
    told.insert("rows".to_owned(), list.rows.iter().cloned().map(Value::Object).collect());
    told.into()
}

fn head(list: &List, revision: u64, at: &str) -> Map<String, Value> {
    let fields = [
        ("revision", revision.into()),
        ("at", at.into()),
        ("total", list.total.into()),
        ("matched", list.matched.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn id(row: &Row) -> &str {
    row.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// Whether rows are some of others, in the same order.
fn is_part(some: &[Row], all: &[Row]) -> bool {
    let mut all = all.iter();
    some.iter().all(|row| all.any(|other| id(other) == id(row)))
}

/// The fields of a row that differ, with its id; `None` if none does.
fn changed(before: &Row, now: &Row) -> Option<Row> {
    let mut fields = changed_fields(before, now);
    if let (Some(was), Some(is)) = (before.get(APPENDED), fields.get_mut(APPENDED)) {
        *is = appended(was, is);
    }
    (!fields.is_empty()).then(|| {
        fields.insert("id".to_owned(), id(now).into());
        fields
    })
}

/// The fields that are new or other than before; one that is gone is `null`.
fn changed_fields(before: &Map<String, Value>, now: &Map<String, Value>) -> Map<String, Value> {
    let gone = before.iter().filter(|(name, value)| !value.is_null() && !now.contains_key(*name));
    let gone = gone.map(|(name, _)| (name.clone(), Value::Null));
    let other = now.iter().filter(|(name, value)| before.get(*name).unwrap_or(&Value::Null) != *value);
    other.map(|(name, value)| (name.clone(), value.clone())).chain(gone).collect()
}

/// The entries that were not there before.
fn appended(before: &Value, now: &Value) -> Value {
    let entries = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let known: std::collections::HashSet<String> =
        entries(before).iter().map(|entry| entry["id"].to_string()).collect();
    entries(now).into_iter().filter(|entry| !known.contains(&entry["id"].to_string())).collect()
}

/// What a reader of changes does: makes the next page of the one it has. `None` if they do not belong to it.
#[must_use]
pub fn apply(page: &Value, changes: &Value) -> Option<Value> {
    if page["revision"] != changes["base"] {
        return None;
    }
    let mut next = page.as_object()?.clone();
    for (name, value) in
        changes.as_object()?.iter().filter(|(name, _)| !["base", "rows"].contains(&name.as_str()))
    {
        next.insert(name.clone(), value.clone());
    }
    let rows = next.get_mut("rows")?.as_array_mut()?;
    for change in changes["rows"].as_array()? {
        let place = rows.iter().position(|row| row["id"] == change["id"])?;
        if change["gone"] == true {
            rows.remove(place);
            continue;
        }
        for (name, value) in change.as_object()? {
            match rows[place].get_mut(name).and_then(Value::as_array_mut) {
                Some(entries) if name == APPENDED => entries.extend(value.as_array()?.iter().cloned()),
                _ => rows[place][name] = value.clone(),
            }
        }
    }
    Some(next.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: &str = "2026-11-22T02:00:00.000Z";

    fn list(rows: &[Value]) -> List {
        let rows: Vec<Row> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        List { meta: Map::new(), total: rows.len(), matched: rows.len(), rows }
    }

    #[test]
    fn a_page_is_whole_and_changes_hold_only_what_changed() {
        let mut differ = Differ::default();
        assert_eq!(differ.rows(), None);
        let page = differ.page(list(&[json!({"id": "a", "x": 1, "y": 2}), json!({"id": "b", "x": 1})]), AT);
        assert_eq!(
            page,
            json!({"revision": 1, "at": AT, "total": 2, "matched": 2,
                "rows": [{"id": "a", "x": 1, "y": 2}, {"id": "b", "x": 1}]})
        );
        assert_eq!(differ.rows().unwrap(), ["a", "b"]);
        let changes =
            differ.changes(list(&[json!({"id": "a", "x": 5, "y": 2}), json!({"id": "b", "x": 1})]), AT);
        assert_eq!(
            changes.unwrap().unwrap(),
            json!({"revision": 2, "base": 1, "at": AT, "total": 2, "matched": 2, "rows": [{"id": "a", "x": 5}]})
        );
    }

    #[test]
    fn a_row_that_ended_is_gone_and_told_once() {
        let mut differ = Differ::default();
        differ.page(list(&[json!({"id": "a"}), json!({"id": "b"})]), AT);
        let changes = differ.changes(list(&[json!({"id": "b"})]), AT).unwrap().unwrap();
        assert_eq!(changes["rows"], json!([{"id": "a", "gone": true}]));
        assert_eq!(differ.changes(list(&[json!({"id": "b"})]), AT), Ok(None));
        assert_eq!(differ.revision(), 2, "what changes nothing is not told");
    }

    #[test]
    fn a_new_row_or_another_order_is_a_page() {
        let mut differ = Differ::default();
        assert!(differ.changes(list(&[]), AT).is_err(), "nothing was told yet");
        differ.page(list(&[json!({"id": "a"}), json!({"id": "b"})]), AT);
        for other in [vec![json!({"id": "c"})], vec![json!({"id": "b"}), json!({"id": "a"})]] {
            assert_eq!(differ.changes(list(&other), AT), Err(list(&other)));
        }
    }

    #[test]
    fn a_timeline_is_told_from_where_it_was() {
        let mut differ = Differ::default();
        let row = |ids: &[u64]| {
            let entries: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
            list(&[json!({"id": "a", "timeline": entries})])
        };
        differ.page(row(&[1, 2]), AT);
        let changes = differ.changes(row(&[1, 2, 3, 4]), AT).unwrap().unwrap();
        assert_eq!(changes["rows"], json!([{"id": "a", "timeline": [{"id": 3}, {"id": 4}]}]));
        let page = differ.page(row(&[1, 2]), AT);
        assert_eq!(page["rows"][0]["timeline"].as_array().unwrap().len(), 2, "a page has it whole");
    }

    #[test]
    fn changes_of_another_page_are_not_applied() {
        let mut differ = Differ::default();
        let page = differ.page(list(&[json!({"id": "a", "x": 1})]), AT);
        differ.page(list(&[json!({"id": "a", "x": 1})]), AT);
        let changes = differ.changes(list(&[json!({"id": "a", "x": 2})]), AT).unwrap().unwrap();
        assert_eq!(apply(&page, &changes), None);
    }

    /// A row's fields, some of them missing.
    type Fields = Vec<Option<u8>>;

    fn row() -> impl Strategy<Value = Fields> {
        proptest::collection::vec(proptest::option::of(0_u8..4), 3)
    }

    /// A list of those of six rows that there are.
    fn lists() -> impl Strategy<Value = Vec<(Vec<Option<Fields>>, Option<u8>)>> {
        let rows = proptest::collection::vec(proptest::option::weighted(0.8, row()), 6);
        proptest::collection::vec((rows, proptest::option::of(0_u8..3)), 1..8)
    }

    fn made(rows: &[Option<Fields>], meta: Option<u8>) -> List {
        let fields = |(at, fields): (usize, &Fields)| {
            let mut row = Row::new();
            row.insert("id".to_owned(), format!("r{at}").into());
            for (name, value) in ["x", "y", "z"].iter().zip(fields) {
                value.map(|value| row.insert((*name).to_owned(), value.into()));
            }
            row
        };
        let found = rows.iter().enumerate().filter_map(|(at, row)| Some((at, row.as_ref()?)));
        let rows: Vec<Row> = found.map(fields).collect();
        let meta = meta.map(|value| ("tabs".to_owned(), json!({ "active": value }))).into_iter().collect();
        List { meta, total: 6, matched: rows.len(), rows }
    }

    /// Without what is `null`, which means the same as nothing.
    fn plain(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().filter(|(_, value)| !value.is_null());
                fields.map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>().into()
            }
            Value::Array(items) => items.iter().map(plain).collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn changes_applied_to_a_page_give_the_next_page(lists in lists()) {
            let mut differ = Differ::default();
            let mut has = Value::Null;
            for (rows, meta) in &lists {
                let list = made(rows, *meta);
                let whole = plain(&page(&list, 0, AT));
                match differ.changes(list, AT) {
                    Ok(Some(changes)) => has = apply(&has, &changes).expect("they are about what was told"),
                    Ok(None) => {}
                    Err(list) => has = differ.page(list, AT),
                }
                prop_assert_eq!(&has["revision"], &json!(differ.revision()));
                let mut seen = plain(&has);
                seen["revision"] = 0.into();
                prop_assert_eq!(seen, whole);
            }
        }
    }
}
