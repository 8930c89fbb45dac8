//! Pools of threads.

/// Threads of a pool at most: more than any machine has cores, and fewer than bring one down.
const MOST: usize = 1024;

/// Whether so many threads may be started; else a sentence that says why not.
pub fn allowed(threads: usize) -> Result<(), String> {
    let refusal = || format!("{threads} threads are more than the {MOST} that may be started; 0 takes all cores");
    if threads > MOST { Err(refusal()) } else { Ok(()) }
}

/// A pool of so many threads; 0: as many as there are cores.
///
/// # Errors
/// A sentence that says why there is none: they are too many, or the system gives none.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool, String> {
    allowed(threads)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| format!("{threads} threads could not be started: {error}; ask for fewer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_have_the_threads_asked_for_and_not_too_many() {
        assert_eq!(pool(3).unwrap().current_num_threads(), 3);
        assert!(pool(MOST + 1).unwrap_err().contains("1025 threads"));
    }
}
