//! The same surface for C, and for whatever calls C: [`Session`] behind opaque handles (feature `capi`).
//!
//! `src/capi/g2d.h` is made of this file by cbindgen (`src/capi/cbindgen.toml` has the command) and compared with it in
//! `tests/capi`; docs/embedding.md says how both are built and what they promise. The comments here are the header's.
#![allow(unsafe_code, non_camel_case_types, reason = "an interface of C: pointers of the caller's, names of C's")]

mod call;

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Mutex;

use call::{Failure, call, fill, room, slice, text, with};

use crate::Session;
use crate::doctor::devices::{backends, processor};
use crate::session::settings::{self, Settings};
use crate::train::{Device, Resources};

/// Version of this interface, by which a program can tell whether the library it found is the one it was compiled for:
/// g2d_abi() must give the same. From the first release on it grows whenever a function, a struct or a meaning changes.
pub const G2D_ABI: u32 = 1;

/// How a call ended. Numbers never change their meaning; a later version may have more of them.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum g2d_status {
    /// As it should.
    G2D_OK = 0,
    /// A pointer is null or misaligned, a text is no UTF-8, or sizes contradict each other.
    G2D_ARGUMENT = 1,
    /// A buffer of the caller's is too short; the sentence says how long it must be.
    G2D_BUFFER = 2,
    /// A file or folder is not there, is not what is asked for, or cannot be read or written.
    G2D_FILE = 3,
    /// There is no such device, it refuses, or it has too little memory.
    G2D_DEVICE = 4,
    /// The model cannot do what is asked for: settings that cannot be, no tokenizer, no decoder, another batch.
    G2D_REFUSED = 5,
    /// A number became not finite. In a training step: nothing was updated, and the session can be used further. Of a film or a text:
    /// nothing that these weights say means anything; load others.
    G2D_NOT_FINITE = 6,
    /// A fault in the library. The session can only be freed; other sessions are unharmed.
    G2D_FAULT = 7,
}

/// A model. Made by g2d_open or g2d_open_training, freed by g2d_free and by nothing else.
pub struct g2d_session(Mutex<Session>);

/// What a model takes and gives.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct g2d_info {
    /// Pixels along a side of a film, a heat map and a mask.
    pub side: usize,
    /// Numbers of an embedding.
    pub dim: usize,
    /// Films or texts that are computed at once; those of a training step.
    pub batch: usize,
    /// The longest text, tokens.
    pub text_length: usize,
    /// Tokens there are: 0 to this, exclusive.
    pub vocab_size: usize,
    /// Bytes it holds on its device.
    pub memory: u64,
    /// Training steps since it was opened.
    pub steps: u64,
    /// Whether it was opened to be trained.
    pub trains: bool,
    /// Whether it has a decoder that learns masks.
    pub segments: bool,
}

/// What a training step leaves behind.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct g2d_metrics {
    /// The step, counted from 1.
    pub step: u64,
    /// The loss.
    pub total: f64,
    /// Of film and report.
    pub contrastive: f64,
    /// Of the decoder; NaN without one.
    pub segmentation: f64,
    /// Part of the films, 0 to 1, whose own report is the most similar one.
    pub top1: f64,
    /// Part, 0 to 1, whose own report is among the five most similar.
    pub top5: f64,
    /// Length of the gradient: the root of the sum of squares (L2).
    pub grad_norm: f64,
    /// Mean of the pseudo masks, 0 to 1.
    pub mask_area: f64,
}

/// G2D_ABI of the library.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub extern "C" fn g2d_abi() -> u32 {
    G2D_ABI
}

/// The library's version, such as "0.1.0". It lives as long as the library.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub extern "C" fn g2d_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What went wrong in this thread's last call, one sentence in UTF-8; empty if it ended well. It lives until this thread's
/// next call of a function that gives a status. Never null.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub extern "C" fn g2d_error() -> *const c_char {
    call::last()
}

/// Everything on this machine that a model can run on, as `g2d devices --json` tells it: writes a text of JSON with a zero
/// byte behind it. Its bytes with that one go into *needed, also where `capacity` is too small; `json` may then be null. Free
/// memory, which it tells, changes its length: call again, with more room, while this gives G2D_BUFFER.
///
/// # Safety
/// `json` has room for `capacity` bytes, `needed` for one number, or either is null.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_devices(json: *mut c_char, capacity: usize, needed: *mut usize) -> g2d_status {
    call(|| {
        room("needed", needed, 1, 1)?;
        let told = serde_json::json!({ "processor": processor(), "backends": backends() });
        let bytes: Vec<c_char> = told.to_string().bytes().chain([0]).map(|byte| byte as c_char).collect();
        // SAFETY: it was looked at, and the caller has room there.
        unsafe { fill(needed, &[bytes.len()]) };
        room("json", json, capacity, bytes.len())?;
        // SAFETY: so was this.
        unsafe { fill(json, &bytes) };
        Ok(())
    })
}

/// Opens a model to use it: the newest checkpoint of a run's folder, a checkpoint or a file of weights in one, or a folder
/// that g2d_save or `g2d import` made. `device` is cpu, cuda, cuda:N, cuda-emulated, cuda-emulated:sm_90a, wgpu or wgpu:N; null
/// is cpu. `batch` films or texts are computed at once: 1 where they come one by one. `threads` of its own, 0: as many as there
/// are cores.
///
/// # Safety
/// The texts end in a zero byte; `session` has room for one pointer.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_open(
    weights: *const c_char,
    device: *const c_char,
    batch: usize,
    threads: usize,
    session: *mut *mut g2d_session,
) -> g2d_status {
    call(|| {
        // SAFETY: as this function demands of its caller.
        unsafe {
            handed(session, || {
                let device = if device.is_null() { Device::Cpu } else { settings::device(text("device", device)?)? };
                let on = Resources { device, threads, ..Resources::default() };
                Ok(Session::open(Path::new(text("weights", weights)?), &on, batch)?)
            })
        }
    })
}

/// Opens a model to train it, and to use it meanwhile. `settings` is an object of JSON. Of these all may be left out:
/// `weights` (what g2d_open takes, to go on from), or else `preset` (micro, tiny, small, full) for fresh weights; `recipe`
/// (default, paper, official); `tokenizer` (a tokenizer.json or vocab.txt); `device` and `threads` as in g2d_open. Every other
/// key is one that `g2d pretrain --set` takes, such as batch, text_length, seed, augment, precision, image_size, vocab_size.
///
/// # Safety
/// `settings` ends in a zero byte; `session` has room for one pointer.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_open_training(settings: *const c_char, session: *mut *mut g2d_session) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        handed(session, || {
            let unreadable = |error| Failure::argument(format!("`settings` cannot be read: {error}"));
            let settings: Settings = serde_json::from_str(text("settings", settings)?).map_err(unreadable)?;
            Ok(settings.open()?)
        })
    })
}

/// Puts a session where the caller wants it; null if there is none.
///
/// # Safety
/// `place` is null or has room for one pointer.
unsafe fn handed(place: *mut *mut g2d_session, open: impl FnOnce() -> Result<Session, Failure>) -> Result<(), Failure> {
    room("session", place, 1, 1)?;
    // SAFETY: it was looked at, and the caller has room there.
    unsafe { fill(place, &[ptr::null_mut()]) };
    let handle = Box::into_raw(Box::new(g2d_session(Mutex::new(open()?))));
    // SAFETY: the same place.
    unsafe { fill(place, &[handle]) };
    Ok(())
}

/// Frees a session; null is nothing. No other call may be using it, and none may afterwards.
///
/// # Safety
/// `session` is null, or was made by g2d_open or g2d_open_training and not freed.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_free(session: *mut g2d_session) {
    if !session.is_null() {
        // It gives no status, so the sentence of the call before stays.
        // SAFETY: it came out of a box, and the caller gives it back.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(unsafe { Box::from_raw(session) })));
    }
}

/// What the model takes and gives.
///
/// # Safety
/// `session` is null or a session; `info` is null or has room for one.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_describe(session: *const g2d_session, info: *mut g2d_info) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        with(session, |session| {
            room("info", info, 1, 1)?;
            let (config, shapes) = (session.config(), session.shapes());
            let told = g2d_info {
                side: config.image_size,
                dim: config.projection_dim,
                batch: shapes.batch,
                text_length: shapes.text_len,
                vocab_size: config.vocab_size,
                memory: session.memory(),
                steps: session.steps(),
                trains: session.trains(),
                segments: config.decoder_objective.segments(),
            };
            fill(info, &[told]);
            Ok(())
        })
    })
}

/// Reads a film's file (PNG, JPEG or DICOM) as the model takes it: side * side gray pixels, row by row. Borders are cropped;
/// the rest is fitted into the square.
///
/// # Safety
/// `session` is null or a session; `path` ends in a zero byte; `pixels` has room for `capacity` bytes.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_film_file(
    session: *const g2d_session,
    path: *const c_char,
    pixels: *mut u8,
    capacity: usize,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        with(session, |session| {
            room("pixels", pixels, capacity, plane(session))?;
            fill(pixels, &session.film(Path::new(text("path", path)?))?);
            Ok(())
        })
    })
}

/// The same of a file's bytes that lie in memory.
///
/// # Safety
/// `session` is null or a session; `bytes` holds `count` of them; `pixels` has room for `capacity` bytes.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_film_bytes(
    session: *const g2d_session,
    bytes: *const c_void,
    count: usize,
    pixels: *mut u8,
    capacity: usize,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        with(session, |session| {
            room("pixels", pixels, capacity, plane(session))?;
            fill(pixels, &session.film_of(slice("bytes", bytes.cast::<u8>(), count)?.to_vec())?);
            Ok(())
        })
    })
}

/// Tokens of a text; a longer one than the model takes is cut, so text_length is always room enough. How many there are goes
/// into *count, also where `capacity` is too small; `tokens` may then be null.
///
/// # Safety
/// `session` is null or a session; `sentence` ends in a zero byte; `tokens` has room for `capacity` numbers, `count` for one.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_encode(
    session: *const g2d_session,
    sentence: *const c_char,
    tokens: *mut i32,
    capacity: usize,
    count: *mut usize,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        with(session, |session| {
            room("count", count, 1, 1)?;
            let found = session.encode(text("sentence", sentence)?)?;
            fill(count, &[found.len()]);
            room("tokens", tokens, capacity, found.len())?;
            fill(tokens, &found);
            Ok(())
        })
    })
}

/// Embeddings of films, films * dim numbers, each of length 1: the product of a film's with a text's is their cosine. `pixels`
/// are films * side * side.
///
/// # Safety
/// `session` is null or a session; `pixels` holds so many, and `embeddings` has room for `capacity` numbers.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_embed_films(
    session: *const g2d_session,
    pixels: *const u8,
    films: usize,
    embeddings: *mut f32,
    capacity: usize,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    unsafe {
        embedded(session, films, embeddings, capacity, |session| {
            Ok(session.embed_films(slice("pixels", pixels, product(films, plane(session))?)?)?)
        })
    }
}

/// Embeddings of texts, texts * dim numbers, each of length 1; longer texts are cut as in training.
///
/// # Safety
/// `session` is null or a session; `sentences` holds `texts` pointers to texts that end in a zero byte, and `embeddings` has
/// room for `capacity` numbers.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_embed_texts(
    session: *const g2d_session,
    sentences: *const *const c_char,
    texts: usize,
    embeddings: *mut f32,
    capacity: usize,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    unsafe {
        embedded(session, texts, embeddings, capacity, |session| {
            let sentences = slice("sentences", sentences, texts)?.iter().map(|&one| text("sentences", one));
            Ok(session.embed_texts(&sentences.collect::<Result<Vec<&str>, _>>()?)?)
        })
    }
}

/// The same of texts as tokens: all of them one behind the other, `count` tokens, and in `lengths` how many each text has.
///
/// # Safety
/// `session` is null or a session; `tokens` holds `count` numbers, `lengths` `texts`, and `embeddings` has room for `capacity`.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_embed_tokens(
    session: *const g2d_session,
    tokens: *const i32,
    count: usize,
    lengths: *const usize,
    texts: usize,
    embeddings: *mut f32,
    capacity: usize,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    unsafe {
        embedded(session, texts, embeddings, capacity, |session| {
            Ok(session.embed_tokens(&cut(slice("tokens", tokens, count)?, slice("lengths", lengths, texts)?)?)?)
        })
    }
}

/// Puts embeddings of `count` films or texts where the caller wants them, if there is room.
///
/// # Safety
/// `session` is null or a session; `embeddings` has room for `capacity` numbers, or is null.
unsafe fn embedded(
    session: *const g2d_session,
    count: usize,
    embeddings: *mut f32,
    capacity: usize,
    embed: impl FnOnce(&mut Session) -> Result<Vec<f32>, Failure>,
) -> g2d_status {
    // SAFETY: as this function demands of its caller; there is room for what was looked at.
    call(|| unsafe {
        with(session, |session| {
            room("embeddings", embeddings, capacity, product(count, session.config().projection_dim)?)?;
            fill(embeddings, &embed(session)?);
            Ok(())
        })
    })
}

/// Predicted masks of films: probabilities, films * side * side.
///
/// # Safety
/// `session` is null or a session; `pixels` holds films * side * side, and `masks` has room for `capacity` numbers.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_segment(
    session: *const g2d_session,
    pixels: *const u8,
    films: usize,
    masks: *mut f32,
    capacity: usize,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        with(session, |session| {
            let all = product(films, plane(session))?;
            room("masks", masks, capacity, all)?;
            fill(masks, &session.segment(slice("pixels", pixels, all)?)?);
            Ok(())
        })
    })
}

/// Where on one film a phrase is true: side * side cosines, warm where they are high, and in *similarity, unless that is null,
/// the phrase's cosine with the whole film.
///
/// # Safety
/// `session` is null or a session; `pixels` holds side * side, `phrase` ends in a zero byte, `map` has room for `capacity`
/// numbers, `similarity` for one or is null.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_ground(
    session: *const g2d_session,
    pixels: *const u8,
    phrase: *const c_char,
    map: *mut f32,
    capacity: usize,
    similarity: *mut f32,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        with(session, |session| {
            room("map", map, capacity, plane(session))?;
            if !similarity.is_null() {
                room("similarity", similarity, 1, 1)?;
            }
            let found = session.ground(slice("pixels", pixels, plane(session))?, text("phrase", phrase)?)?;
            if !similarity.is_null() {
                fill(similarity, &[found.similarity]);
            }
            fill(map, &found.map);
            Ok(())
        })
    })
}

/// One training step on `batch` films (`films` must be that many, batch * side * side pixels) and a text each, as tokens: all of
/// them one behind the other, `count` tokens, and in `lengths` how many each text has. Films are augmented here. `metrics` may
/// be null.
///
/// # Safety
/// `session` is null or a session; `pixels`, `tokens` and `lengths` hold so many; `metrics` is null or has room for one.
// SAFETY: nobody else's names begin so.
#[allow(clippy::too_many_arguments, reason = "C has no slices: each comes as a pointer and a length")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_step(
    session: *const g2d_session,
    pixels: *const u8,
    films: usize,
    tokens: *const i32,
    count: usize,
    lengths: *const usize,
    learning_rate: f64,
    metrics: *mut g2d_metrics,
) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        with(session, |session| {
            if !metrics.is_null() {
                room("metrics", metrics, 1, 1)?;
            }
            let pixels = slice("pixels", pixels, product(films, plane(session))?)?;
            let texts = cut(slice("tokens", tokens, count)?, slice("lengths", lengths, films)?)?;
            let found = session.step(pixels, &texts, learning_rate)?;
            if !metrics.is_null() {
                let told = g2d_metrics {
                    step: session.steps(),
                    total: found.total,
                    contrastive: found.contrastive,
                    segmentation: found.segmentation.unwrap_or(f64::NAN),
                    top1: found.top1,
                    top5: found.top5,
                    grad_norm: found.grad_norm,
                    mask_area: found.mask_area,
                };
                fill(metrics, &[told]);
            }
            Ok(())
        })
    })
}

/// Writes the model into a folder, new or empty, which appears whole or not at all: weights.safetensors, config.json and, if
/// there is a tokenizer, tokenizer.json. g2d_open, g2d_load and `g2d export` read it.
///
/// # Safety
/// `session` is null or a session; `folder` ends in a zero byte.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_save(session: *const g2d_session, folder: *const c_char) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe { with(session, |session| session.save(Path::new(text("folder", folder)?)).map_err(Failure::from)) })
}

/// Reads weights of the same model: a file of them, or what g2d_open takes. If they do not fit nothing is changed. What
/// training remembers besides, the moments, stays as it is.
///
/// # Safety
/// `session` is null or a session; `weights` ends in a zero byte.
// SAFETY: nobody else's names begin so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn g2d_load(session: *const g2d_session, weights: *const c_char) -> g2d_status {
    // SAFETY: as this function demands of its caller.
    call(|| unsafe {
        with(session, |session| session.load(Path::new(text("weights", weights)?)).map_err(Failure::from))
    })
}

/// Pixels of one film.
fn plane(session: &Session) -> usize {
    session.config().image_size * session.config().image_size
}

fn product(count: usize, each: usize) -> Result<usize, Failure> {
    count.checked_mul(each).ok_or_else(|| Failure::argument(format!("{count} are more than memory can hold")))
}

/// Texts of `lengths` tokens each, one behind the other.
fn cut<'a>(tokens: &'a [i32], lengths: &[usize]) -> Result<Vec<&'a [i32]>, Failure> {
    let mut rest = tokens;
    let mut texts = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let (text, behind) = rest.split_at_checked(length).ok_or_else(|| {
            Failure::argument(format!("{} tokens are fewer than the lengths of the texts say", tokens.len()))
        })?;
        texts.push(text);
        rest = behind;
    }
    match rest.len() {
        0 => Ok(texts),
        more => Err(Failure::argument(format!("{more} tokens are left behind the last text; lengths must add up"))),
    }
}
