//! The runbooks: README and manual page have somebody type the same. That it works is shown in the lab.

use super::support::runbook::{headings, manual, readme};

#[test]
fn the_manual_page_has_every_runbook_of_the_readme_and_both_type_the_same() {
    let headings = headings();
    assert_eq!(headings.len(), 10, "{headings:?}");
    for heading in headings {
        let typed = readme(heading);
        assert!(!typed.is_empty(), "nothing to type below `{heading}`");
        assert_eq!(manual(&heading.to_uppercase()), typed, "below `{heading}`");
    }
}
