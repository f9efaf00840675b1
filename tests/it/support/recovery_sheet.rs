//! A recovery sheet as its reader sees it: what is to be typed, and what is said above it.

/// The blocks of a sheet that are to be typed, each with what is said above it.
pub fn blocks(sheet: &str) -> Vec<(String, String)> {
    let (mut found, mut said): (Vec<(String, String)>, String) = (Vec::new(), String::new());
    let mut is_typed = false;
    for line in sheet.lines() {
        match line.strip_prefix("      ") {
            Some(command) if is_typed => {
                let (_, block) = found.last_mut().expect("one is open");
                block.push('\n');
                block.push_str(command);
            }
            Some(command) => {
                found.push((said.trim().to_owned(), command.to_owned()));
                is_typed = true;
            }
            None => {
                if is_typed && !line.is_empty() {
                    said.clear();
                }
                is_typed = false;
                said.push_str(line.trim());
                said.push(' ');
            }
        }
    }
    found
}

/// The one block in which this is typed.
#[track_caller]
pub fn only<'a>(blocks: &'a [(String, String)], part: &str) -> &'a str {
    let mut found = blocks.iter().filter(|(_, block)| block.contains(part));
    let (_, block) = found
        .next()
        .unwrap_or_else(|| panic!("nothing with {part} in {blocks:#?}"));
    assert!(found.next().is_none(), "more than one with {part} in {blocks:#?}");
    block
}
