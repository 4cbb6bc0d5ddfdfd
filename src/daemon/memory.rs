//! How the C library's allocator keeps memory, set once at start, and given back when it is idle.
//!
//! Buffers of frames and packets (up to [`BUFFER_LEN_MAX`]) come from heaps whose free ends stay: left to
//! itself the allocator returns them after every burst and asks again, which costs a fifth of the processor
//! in bulk. Larger ones, the buffers of a TUN flow above all, are mapped one by one: an idle flow then holds
//! the pages that it has touched, not the whole of its buffers. Elsewhere than on glibc nothing is done.

use std::time::Duration;

/// Bytes of the largest buffer that comes from a heap: above those of transports and pumps, below those of flows.
pub const BUFFER_LEN_MAX: usize = 224 * 1024;
/// Free bytes that stay at the end of a heap.
const HEAP_KEPT: usize = 8 * 1024 * 1024;
/// Bytes by which a heap grows at least.
const HEAP_STEP: usize = 512 * 1024;
/// Heaps. Threads share them: more would hold more free memory each.
const HEAPS_MAX: usize = 4;
/// How often free memory goes back.
const TRIM_EVERY: Duration = Duration::from_secs(30);

/// Sets the allocator. Call it before any thread is started.
pub fn set() {
    #[cfg(target_env = "gnu")]
    {
        let set = |what, value: usize| {
            let value = libc::c_int::try_from(value).expect("a constant far below 2 GiB");
            // SAFETY: mallopt takes two numbers; it changes how memory is kept, not what is allocated.
            #[allow(unsafe_code)]
            let done = unsafe { libc::mallopt(what, value) };
            if done == 0 {
                tracing::debug!(what, value, "the allocator does not take a setting");
            }
        };
        set(libc::M_MMAP_THRESHOLD, BUFFER_LEN_MAX);
        set(libc::M_TRIM_THRESHOLD, HEAP_KEPT);
        set(libc::M_TOP_PAD, HEAP_STEP);
        set(libc::M_ARENA_MAX, HEAPS_MAX);
    }
}

/// Gives free memory back to the system from time to time. Runs for ever.
pub async fn trim() {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        #[cfg(target_env = "gnu")]
        {
            // SAFETY: malloc_trim takes a number and releases memory that nothing uses.
            #[allow(unsafe_code)]
            unsafe {
                libc::malloc_trim(0);
            }
        }
    }
}
