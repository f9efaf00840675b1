//! How exact this host's clock is, as the kernel says: what keeps it by others (chrony, systemd-timesyncd, ntpd) tells the
//! kernel, and the kernel lets the bound grow until it is told anew.

use nix::libc;

/// By how much the clock may be wrong, in milliseconds; none where nothing keeps it by others, or the system does not tell.
pub fn clock_uncertainty_ms() -> Option<u32> {
    let (state, said) = asked()?;
    let is_kept = state != libc::TIME_ERROR && said.status & libc::STA_UNSYNC == 0;
    is_kept.then(|| in_milliseconds(said.maxerror))?
}

/// Never less than it is.
fn in_milliseconds(micros: impl TryInto<u64>) -> Option<u32> {
    u32::try_from(micros.try_into().ok()?.div_ceil(1000)).ok()
}

/// The state of the clock, and what the kernel says of it; none where it says nothing, as a sandbox may have it.
fn asked() -> Option<(libc::c_int, libc::timex)> {
    #[expect(unsafe_code, reason = "the standard library does not tell how exact the clock is")]
    // SAFETY: all of it are numbers, for which zeros are values; with no modes the call sets nothing, and writes only to what it is
    // given, which is of the size that it expects.
    let (state, said) = unsafe {
        let mut said: libc::timex = std::mem::zeroed();
        let state = libc::adjtimex(&raw mut said);
        (state, said)
    };
    (state >= 0).then_some((state, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_never_rounded_down() {
        let all = [0_i64, 1, 1000, 1001, 16_000_000].map(in_milliseconds);
        assert_eq!(all, [Some(0), Some(1), Some(1), Some(2), Some(16_000)]);
        assert_eq!([-1_i64, i64::MAX].map(in_milliseconds), [None, None]);
    }

    #[test]
    fn what_is_told_is_what_the_kernel_says() {
        let Some((state, said)) = asked() else {
            assert_eq!(clock_uncertainty_ms(), None);
            return;
        };
        let told = clock_uncertainty_ms();
        match state == libc::TIME_ERROR || said.status & libc::STA_UNSYNC != 0 {
            true => assert_eq!(told, None),
            // The bound grows meanwhile.
            false => assert!(told >= in_milliseconds(said.maxerror), "{told:?}"),
        }
    }
}
