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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Wrapped {
        what: &'static str,
        source: io::Error,
    }

    #[test]
    fn a_cause_is_said_once_however_it_is_written() {
        let told = |what| {
            let source = io::Error::from_raw_os_error(nix::errno::Errno::EACCES as i32);
            with_causes(&Wrapped { what, source })
        };
        assert_eq!(told("open `/a`"), "open `/a`: Permission denied (os error 13)");
        let said = "cannot open `/a`: permission denied to user op: as root `usermod` lets you";
        assert_eq!(told(said), said);
    }
}
