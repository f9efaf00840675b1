//! How the allocator keeps memory that was given back to it.

/// Lets all threads share few of the allocator's arenas. Each arena keeps what its threads gave back, and what one of a
/// dozen threads no longer needs another cannot use: reading a backup back from a bucket took a third more. Called while the
/// process has one thread.
#[cfg(target_env = "gnu")]
pub fn share_arenas() {
    /// As many as threads that work hard at once.
    const ARENAS: nix::libc::c_int = 2;
    #[expect(
        unsafe_code,
        reason = "the C library has no other way to be told, but for the environment"
    )]
    // SAFETY: it sets a number, before there is a thread that could use it.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, ARENAS);
    }
}

/// Other allocators have none.
#[cfg(not(target_env = "gnu"))]
pub fn share_arenas() {}
