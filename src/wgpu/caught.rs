//! Panics of wgpu's that are errors here.

use std::any::Any;
use std::cell::Cell;
#[cfg(any(test, feature = "cli"))]
use std::panic::PanicHookInfo;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    /// Whether this thread's panics are caught, and so nobody is told of them.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Makes the hook of panics leave out those that [`caught`] catches. For programs of our own, at their begin: the hook is the
/// whole process's, so the library sets none.
#[cfg(feature = "cli")]
pub fn silence() {
    panic::set_hook(but_caught(panic::take_hook()));
}

#[cfg(any(test, feature = "cli"))]
type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

#[cfg(any(test, feature = "cli"))]
fn but_caught(told: Hook) -> Hook {
    Box::new(move |panic| {
        if !CAUGHT.get() {
            told(panic);
        }
    })
}

/// What `act` returns; or, in one line, the message with which it panicked.
pub fn caught<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    let before = CAUGHT.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(act));
    CAUGHT.set(before);
    done.map_err(|panic| message(&*panic).split_whitespace().collect::<Vec<_>>().join(" "))
}

fn message(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_panic_is_caught_in_one_line_and_only_others_are_told() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        let one = thread::current().id();
        let others = panic::take_hook();
        panic::set_hook(but_caught(Box::new(move |panic| {
            TOLD.fetch_add(usize::from(thread::current().id() == one), Ordering::Relaxed);
            others(panic);
        })));
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| -> u8 { panic!("lost\n  for {}", "good") }), Err("lost for good".into()));
        assert_eq!(caught(|| -> u8 { panic!("lost") }), Err("lost".into()));
        assert_eq!(TOLD.load(Ordering::Relaxed), 0, "a caught panic was told");
        assert!(panic::catch_unwind(|| panic!("told")).is_err());
        assert_eq!(TOLD.load(Ordering::Relaxed), 1, "a panic that nobody catches was not told");
    }
}
