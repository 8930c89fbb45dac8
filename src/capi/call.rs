//! What every call does alike: pointers are looked at, panics end here, an error becomes a status and a sentence.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::g2d_session;
use super::g2d_status::{self, *};
use crate::{Error, Session};

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: g2d_status,
    pub sentence: String,
}

impl Failure {
    pub fn argument(sentence: impl Into<String>) -> Self {
        Self { status: G2D_ARGUMENT, sentence: sentence.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Device(_) | Error::Replay(_) | Error::Gpu(_) | Error::GpuReplay(_) | Error::Memory { .. } => {
                G2D_DEVICE
            }
            Error::Io { .. }
            | Error::Film { .. }
            | Error::Weights(_)
            | Error::NoModel { .. }
            | Error::Checkpoint(_)
            | Error::Data(_) => G2D_FILE,
            Error::NotFinite { .. } | Error::Unusable { .. } => G2D_NOT_FINITE,
            _ => G2D_REFUSED,
        };
        Self { status, sentence: error.to_string() }
    }
}

/// Does the work of a call. What it panics with is told like an error; nothing unwinds into the caller's frames.
pub(super) fn call(work: impl FnOnce() -> Result<(), Failure>) -> g2d_status {
    // What was half changed by a panic lies behind the lock of its session, which stays poisoned.
    let (status, sentence) = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => (G2D_OK, String::new()),
        Ok(Err(Failure { status, sentence })) => (status, sentence),
        Err(payload) => (G2D_FAULT, format!("a fault in g2d, which should be reported: {}", words(&*payload))),
    };
    // A thread that is ending has nobody left to ask.
    let _ = LAST.try_with(|last| last.replace(CString::new(sentence.replace('\0', " ")).unwrap_or_default()));
    status
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it said nothing")
}

/// The sentence of this thread's last call.
pub(super) fn last() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Lends a session to some work; calls from other threads wait.
///
/// # Safety
/// `session` is null or points to a session that is not freed meanwhile.
pub(super) unsafe fn with(
    session: *const g2d_session,
    work: impl FnOnce(&mut Session) -> Result<(), Failure>,
) -> Result<(), Failure> {
    usable("session", session)?;
    // SAFETY: as demanded, and neither null nor misaligned.
    let session = unsafe { &*session };
    let broken = "an earlier call on this session met a fault in g2d: free it";
    let mut held = session.0.lock().map_err(|_| Failure { status: G2D_FAULT, sentence: broken.into() })?;
    work(&mut held)
}

/// A text of the caller's.
///
/// # Safety
/// `text` is null or ends in a zero byte, and outlives what is done with it.
pub(super) unsafe fn text<'a>(name: &str, text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::argument(format!("`{name}` is null")));
    }
    // SAFETY: as demanded.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| Failure::argument(format!("`{name}` is no UTF-8: {error}")))
}

/// Numbers of the caller's; of none the pointer may be null.
///
/// # Safety
/// `from` is null or holds `count` numbers, which nobody changes meanwhile.
pub(super) unsafe fn slice<'a, T>(name: &str, from: *const T, count: usize) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    usable(name, from)?;
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::argument(format!("`{name}` cannot hold {count} numbers: memory has not so many")));
    }
    // SAFETY: neither null nor misaligned nor too long; the rest as demanded.
    Ok(unsafe { std::slice::from_raw_parts(from, count) })
}

/// Looks at a buffer that is to take `needed` numbers.
pub(super) fn room<T>(name: &str, to: *mut T, capacity: usize, needed: usize) -> Result<(), Failure> {
    if capacity < needed {
        let sentence = format!("`{name}` has room for {capacity}, {needed} are needed");
        return Err(Failure { status: G2D_BUFFER, sentence });
    }
    if needed == 0 { Ok(()) } else { usable(name, to) }
}

fn usable<T>(name: &str, pointer: *const T) -> Result<(), Failure> {
    match pointer {
        null if null.is_null() => Err(Failure::argument(format!("`{name}` is null"))),
        odd if !odd.is_aligned() => Err(Failure::argument(format!("`{name}` is misaligned"))),
        _ => Ok(()),
    }
}

/// Writes numbers where there is [`room`] for them.
///
/// # Safety
/// `to` was looked at by [`room`] for as many, and the caller of the library spoke the truth about it.
pub(super) unsafe fn fill<T: Copy>(to: *mut T, numbers: &[T]) {
    // SAFETY: as demanded; `copy` asks of nothing that the two lie apart.
    unsafe { std::ptr::copy(numbers.as_ptr(), to, numbers.len()) }
}

#[cfg(test)]
mod tests {
    use super::super::{g2d_describe, g2d_free, g2d_open_training};
    use super::*;

    fn last_sentence() -> String {
        // SAFETY: it ends in a zero byte and lives until the next call.
        unsafe { CStr::from_ptr(last()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_and_a_sentence() {
        assert_eq!(call(|| panic!("at {}", 7)), G2D_FAULT);
        assert!(last_sentence().ends_with("at 7"), "{}", last_sentence());
        assert_eq!(call(|| panic!("plainly")), G2D_FAULT);
        assert!(last_sentence().ends_with("plainly"));
        assert_eq!(call(|| std::panic::panic_any(7)), G2D_FAULT);
        assert!(last_sentence().ends_with("it said nothing"));
        assert_eq!(call(|| Ok(())), G2D_OK);
        assert_eq!(last_sentence(), "");
    }

    #[test]
    fn a_model_that_makes_no_finite_number_has_a_status_of_its_own() {
        let unusable = Failure::from(Error::Unusable { what: "a film".into() });
        assert_eq!(unusable.status, G2D_NOT_FINITE);
        assert!(unusable.sentence.contains("a film"), "{}", unusable.sentence);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it opens models, which would take hours")]
    fn a_session_that_met_a_fault_can_only_be_freed() {
        let settings = cr#"{"preset": "micro", "batch": 2, "text_length": 8, "threads": 1}"#;
        let [mut broken, mut other] = [std::ptr::null_mut(); 2];
        let mut info = std::mem::MaybeUninit::uninit();
        // SAFETY: sessions are open until they are freed, below; `info` has room for one, and is not read.
        unsafe {
            assert_eq!(g2d_open_training(settings.as_ptr(), &mut broken), G2D_OK, "{}", last_sentence());
            assert_eq!(g2d_open_training(settings.as_ptr(), &mut other), G2D_OK, "{}", last_sentence());
            assert_eq!(g2d_describe(broken, info.as_mut_ptr()), G2D_OK);
            assert_eq!(call(|| with(broken, |_| panic!("in the midst of it"))), G2D_FAULT);
            assert!(last_sentence().ends_with("in the midst of it"), "{}", last_sentence());
            for _ in 0..2 {
                assert_eq!(g2d_describe(broken, info.as_mut_ptr()), G2D_FAULT);
                assert!(last_sentence().contains("free it"), "{}", last_sentence());
            }
            assert_eq!(g2d_describe(other, info.as_mut_ptr()), G2D_OK, "{}", last_sentence());
            g2d_free(broken);
            assert_eq!(g2d_describe(other, info.as_mut_ptr()), G2D_OK, "{}", last_sentence());
            g2d_free(other);
        }
    }

    #[test]
    fn a_sentence_is_a_thread_s_own_and_holds_no_zero_byte() {
        assert_eq!(call(|| Err(Failure::argument("a\0b"))), G2D_ARGUMENT);
        std::thread::spawn(|| assert_eq!(last_sentence(), "")).join().unwrap();
        assert_eq!(last_sentence(), "a b");
    }

    #[test]
    fn pointers_are_looked_at() {
        let status = |result: Result<(), Failure>| result.map_or_else(|failure| failure.status, |()| G2D_OK);
        let mut numbers = [0_i32; 4];
        let odd = numbers.as_mut_ptr().cast::<u8>().wrapping_add(1).cast::<i32>();
        let null = std::ptr::null_mut::<i32>();
        assert_eq!(status(room("a", numbers.as_mut_ptr(), 4, 4)), G2D_OK);
        assert_eq!(status(room("a", numbers.as_mut_ptr(), 4, 5)), G2D_BUFFER);
        assert_eq!(status(room("a", odd, 4, 1)), G2D_ARGUMENT);
        assert_eq!(status(room("a", null, 4, 1)), G2D_ARGUMENT);
        assert_eq!(status(room("a", null, 0, 0)), G2D_OK);
        // SAFETY: what is not numbers is refused unread.
        unsafe {
            assert_eq!(status(slice("a", odd, 1).map(drop)), G2D_ARGUMENT);
            assert_eq!(status(slice("a", null, 1).map(drop)), G2D_ARGUMENT);
            assert_eq!(status(slice("a", numbers.as_ptr(), usize::MAX).map(drop)), G2D_ARGUMENT);
            assert_eq!(slice("a", null, 0).unwrap(), [0; 0]);
            assert_eq!(status(text("a", std::ptr::null()).map(drop)), G2D_ARGUMENT);
            assert_eq!(status(text("a", c"\xff".as_ptr()).map(drop)), G2D_ARGUMENT);
            assert_eq!(text("a", c"\u{e9}".as_ptr()).unwrap(), "\u{e9}");
        }
    }
}
