//! How the allocator shares memory between threads.

/// Rows are made by the threads that read, and freed by the one that commits: with a heap for each thread, as glibc has
/// it by default, memory wanders from one heap to another and is given back to the kernel and asked for again with
/// every batch. Two heaps took a seventh off the wall time of a job of
/// fifty files (benches/compare/README.md). To be called before there are threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn share() {
    const HEAPS: libc::c_int = 2;
    // SAFETY: mallopt(3) takes no pointers; where it refuses, all stays as it is.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn share() {}
