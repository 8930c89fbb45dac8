//! Memory that threads share: who needs more than is free waits.

use std::sync::{Condvar, Mutex, PoisonError};

/// So many bytes, lent in parts.
pub struct Budget {
    whole: u64,
    free: Mutex<u64>,
    returned: Condvar,
}

/// A part of a [`Budget`]; dropping it gives it back. A thread that holds one asks for no second.
pub struct Held<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// A budget of `whole` bytes.
    pub fn new(whole: u64) -> Self {
        Self { whole, free: Mutex::new(whole), returned: Condvar::new() }
    }

    /// Waits until `bytes` are free and takes them; never more than there are at all.
    pub fn hold(&self, bytes: u64) -> Held<'_> {
        let bytes = bytes.min(self.whole);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Held { budget: self, bytes }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn threads_never_hold_more_than_there_is() {
        let (budget, held, most) = (Budget::new(100), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (budget, held, most) = (&budget, &held, &most);
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = (thread * 37 + round * 13) % 101;
                        let part = budget.hold(bytes);
                        most.fetch_max(held.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        drop(part);
                    }
                });
            }
        });
        let most = most.load(Ordering::SeqCst);
        assert!((1..=100).contains(&most), "{most} of 100 bytes were held at once");
        drop(budget.hold(1000)); // more than all is all
        drop(budget.hold(100));
    }
}
