//! auth keys
use crate::settings::{Problem, Settings};
use std::{io, path::Path};
/// problems
pub(crate) fn problems(_: &Settings, _: &dyn Fn(&Path) -> io::Result<String>) -> Vec<Problem> {
    Vec::new()
}
