//! The dashboard that is served is the one that is written.

use xtask::workspace::Workspace;

#[test]
fn the_served_dashboard_was_built_from_the_sources_as_they_are() {
    let workspace = Workspace::find().expect("the test runs inside the repository");
    if let Err(error) = xtask::dashboard::check_source(&workspace) {
        panic!("{error:#}");
    }
}
