//! A file system that never answers, as one behind a dead server. Needs root.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::tools;

/// A mounted file system that nobody serves: whoever looks at it hangs. Dropped, or once this process is gone, it is
/// unmounted, and who hung gets an error.
pub struct Hanging {
    server: Child,
}

impl Hanging {
    /// Mounts one on a directory that is there, or says that the test is skipped and gives `None`.
    pub fn mount(dir: &Path) -> Option<Hanging> {
        const SERVE: &str = "exec 3<>/dev/fuse && \
            mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other hangs \"$0\" && \
            echo mounted && { read -r never; umount -l \"$0\"; }";
        let mut server = Command::new("sh")
            .args(["-c", SERVE])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let mut said = String::new();
        let stdout = server.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut said).expect("it is text");
        if said == "mounted\n" {
            return Some(Hanging { server });
        }
        server.wait().ok();
        tools::skip("right to mount", "a file system that hangs needs root and /dev/fuse");
        None
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        self.server.wait().ok();
    }
}
