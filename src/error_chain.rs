//! How an error is printed: the one place that walks its causes.

/// An error and its causes in one line, each said once: wrapped errors often repeat what they wrap.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // The number that the system has for it is for machines.
        let words = said.split(" (os error ").next().unwrap_or(&said).to_lowercase();
        if !text.to_lowercase().contains(&words) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
