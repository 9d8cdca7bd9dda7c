//! Gives memory that the allocator keeps free back to the system.
//!
//! The only crate that declares a function of C, and so the only one that may hold unsafe code: a
//! declaration is the programmer's word for a signature that the compiler cannot check. Nothing else
//! belongs here.

/// Gives pages that the allocator keeps free back to the system; whether there were any.
///
/// It looks through all free memory and holds the allocator's locks meanwhile, so it takes
/// milliseconds on a large heap, and threads that allocate wait for it: call it seldom, and on a
/// thread of its own.
///
/// *Source:* `malloc_trim` of glibc. With another C library it does nothing and says `false`.
#[must_use]
pub fn release() -> bool {
    c::release()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod c {
    use std::ffi::c_int;

    #[expect(
        unsafe_code,
        reason = "glibc's heap cannot be asked in any other way; the signature is that of its \
                  malloc.h, and any thread may call it at any time"
    )]
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> c_int;
    }

    pub(crate) fn release() -> bool {
        malloc_trim(0) == 1
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod c {
    pub(crate) fn release() -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    fn resident_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse().unwrap()
    }

    #[test]
    fn memory_below_something_that_stays_goes_back() {
        // Small pieces, so that they lie in the heap; the last one keeps its end where it is.
        let pieces: Vec<_> = (0..64 * 1024).map(|_| vec![1_u8; 1024]).collect();
        let stays = vec![1_u8; 1024];
        drop(pieces);
        let before = resident_kib();
        assert!(release());
        let after = resident_kib();
        assert!(
            after + 48 * 1024 < before,
            "{before} KiB before, {after} after"
        );
        drop(stays);
    }
}
