//! The tasks that wait or run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::payload::TaskName;

/// A bounded table of tasks that have not ended, in the order in which they last said something.
#[derive(Debug)]
pub(super) struct Tasks {
    tasks: HashMap<Arc<str>, Task>,
    /// The names, by when they last said something.
    order: BTreeMap<u64, Arc<str>>,
    /// Counts what was said.
    said: u64,
    running: usize,
    forgotten: u64,
    tasks_max: usize,
    idle_ms: u64,
}

#[derive(Debug)]
struct Task {
    runs: bool,
    /// When it was first heard of.
    since_ms: u64,
    /// When it last said something, and its place in the order.
    heard_ms: u64,
    place: u64,
}

impl Tasks {
    pub(super) fn new(tasks_max: usize, idle_ms: u64) -> Self {
        Self {
            tasks: HashMap::new(),
            order: BTreeMap::new(),
            said: 0,
            running: 0,
            forgotten: 0,
            tasks_max,
            idle_ms,
        }
    }

    /// A task waits, unless it runs already.
    pub(super) fn waits(&mut self, name: Option<TaskName>, now_ms: u64) {
        self.hear(name, false, now_ms);
    }

    /// A task runs.
    pub(super) fn runs(&mut self, name: Option<TaskName>, now_ms: u64) {
        self.hear(name, true, now_ms);
    }

    /// Nothing can be known of a task without a name.
    fn hear(&mut self, name: Option<TaskName>, runs: bool, now_ms: u64) {
        self.forget_silent(now_ms);
        let Some(name) = name else { return };
        self.said += 1;
        let place = self.said;
        if let Some(task) = self.tasks.get_mut(&*name) {
            let name = self.order.remove(&task.place).expect("every task has a place");
            self.order.insert(place, name);
            self.running += usize::from(runs && !task.runs);
            task.runs |= runs;
            (task.heard_ms, task.place) = (now_ms, place);
            return;
        }
        if self.tasks.len() >= self.tasks_max {
            self.forget_first();
        }
        let name: Arc<str> = name.into();
        self.order.insert(place, name.clone());
        self.tasks.insert(name, Task { runs, since_ms: now_ms, heard_ms: now_ms, place });
        self.running += usize::from(runs);
    }

    /// A task ended. Returns when it was first heard of.
    pub(super) fn ended(&mut self, name: &str, now_ms: u64) -> Option<u64> {
        self.forget_silent(now_ms);
        let task = self.tasks.remove(name)?;
        self.order.remove(&task.place);
        self.running -= usize::from(task.runs);
        Some(task.since_ms)
    }

    /// Forgets tasks that have said nothing for too long.
    pub(super) fn forget_silent(&mut self, now_ms: u64) {
        while let Some((_, name)) = self.order.first_key_value() {
            if now_ms.saturating_sub(self.tasks[name].heard_ms) < self.idle_ms {
                break;
            }
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((_, name)) = self.order.pop_first() else { return };
        let task = self.tasks.remove(&name).expect("what has a place is a task");
        self.running -= usize::from(task.runs);
        self.forgotten += 1;
    }

    /// How many wait and how many run.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.tasks.len() - self.running, self.running)
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}
