/* g2d: a vision-language model of chest radiographs, to be used and trained from C.

   Ownership: whatever a function is given stays the caller's and is not kept beyond the call; a session is freed by g2d_free;
   texts that functions return are the library's. Buffers are the caller's, each with its capacity in elements, and must not
   overlap; where a call fails nothing is promised about what they hold.

   Threads: functions may be called by any thread at any time. Calls on one session wait for each other; sessions share nothing.
   g2d_free must be the last call on a session. g2d_error is each thread's own. A session has threads, which fork leaves
   behind: in a process that was forked after it was opened, calls that compute wait for ever.

   Errors: every status but G2D_OK leaves a sentence in g2d_error. Nothing unwinds into the caller; the library prints nothing
   but what Rust says of a fault (G2D_FAULT). Drivers of GPUs, which g2d_devices and the devices cuda and wgpu load, may write
   to standard error on their own. Made by cbindgen of src/capi/mod.rs: do not edit. */

#ifndef G2D_H
#define G2D_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * Version of this interface, by which a program can tell whether the library it found is the one it was compiled for:
 * g2d_abi() must give the same. From the first release on it grows whenever a function, a struct or a meaning changes.
 */
#define G2D_ABI 1

/**
 * How a call ended. Numbers never change their meaning; a later version may have more of them.
 */
enum g2d_status
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
    /**
     * As it should.
     */
    G2D_OK = 0,
    /**
     * A pointer is null or misaligned, a text is no UTF-8, or sizes contradict each other.
     */
    G2D_ARGUMENT = 1,
    /**
     * A buffer of the caller's is too short; the sentence says how long it must be.
     */
    G2D_BUFFER = 2,
    /**
     * A file or folder is not there, is not what is asked for, or cannot be read or written.
     */
    G2D_FILE = 3,
    /**
     * There is no such device, it refuses, or it has too little memory.
     */
    G2D_DEVICE = 4,
    /**
     * The model cannot do what is asked for: settings that cannot be, no tokenizer, no decoder, another batch.
     */
    G2D_REFUSED = 5,
    /**
     * A number became not finite. In a training step: nothing was updated, and the session can be used further. Of a film or a text:
     * nothing that these weights say means anything; load others.
     */
    G2D_NOT_FINITE = 6,
    /**
     * A fault in the library. The session can only be freed; other sessions are unharmed.
     */
    G2D_FAULT = 7,
};
#ifndef __cplusplus
typedef int32_t g2d_status;
#endif // __cplusplus

/**
 * A model. Made by g2d_open or g2d_open_training, freed by g2d_free and by nothing else.
 */
typedef struct g2d_session g2d_session;

/**
 * What a model takes and gives.
 */
typedef struct g2d_info {
    /**
     * Pixels along a side of a film, a heat map and a mask.
     */
    size_t side;
    /**
     * Numbers of an embedding.
     */
    size_t dim;
    /**
     * Films or texts that are computed at once; those of a training step.
     */
    size_t batch;
    /**
     * The longest text, tokens.
     */
    size_t text_length;
    /**
     * Tokens there are: 0 to this, exclusive.
     */
    size_t vocab_size;
    /**
     * Bytes it holds on its device.
     */
    uint64_t memory;
    /**
     * Training steps since it was opened.
     */
    uint64_t steps;
    /**
     * Whether it was opened to be trained.
     */
    bool trains;
    /**
     * Whether it has a decoder that learns masks.
     */
    bool segments;
} g2d_info;

/**
 * What a training step leaves behind.
 */
typedef struct g2d_metrics {
    /**
     * The step, counted from 1.
     */
    uint64_t step;
    /**
     * The loss.
     */
    double total;
    /**
     * Of film and report.
     */
    double contrastive;
    /**
     * Of the decoder; NaN without one.
     */
    double segmentation;
    /**
     * Part of the films, 0 to 1, whose own report is the most similar one.
     */
    double top1;
    /**
     * Part, 0 to 1, whose own report is among the five most similar.
     */
    double top5;
    /**
     * Length of the gradient: the root of the sum of squares (L2).
     */
    double grad_norm;
    /**
     * Mean of the pseudo masks, 0 to 1.
     */
    double mask_area;
} g2d_metrics;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * G2D_ABI of the library.
 */
uint32_t g2d_abi(void);

/**
 * The library's version, such as "0.1.0". It lives as long as the library.
 */
const char *g2d_version(void);

/**
 * What went wrong in this thread's last call, one sentence in UTF-8; empty if it ended well. It lives until this thread's
 * next call of a function that gives a status. Never null.
 */
const char *g2d_error(void);

/**
 * Everything on this machine that a model can run on, as `g2d devices --json` tells it: writes a text of JSON with a zero
 * byte behind it. Its bytes with that one go into *needed, also where `capacity` is too small; `json` may then be null. Free
 * memory, which it tells, changes its length: call again, with more room, while this gives G2D_BUFFER.
 *
 * # Safety
 * `json` has room for `capacity` bytes, `needed` for one number, or either is null.
 */
g2d_status g2d_devices(char *json,
                       size_t capacity,
                       size_t *needed);

/**
 * Opens a model to use it: the newest checkpoint of a run's folder, a checkpoint or a file of weights in one, or a folder
 * that g2d_save or `g2d import` made. `device` is cpu, cuda, cuda:N, cuda-emulated, cuda-emulated:sm_90a, wgpu or wgpu:N; null
 * is cpu. `batch` films or texts are computed at once: 1 where they come one by one. `threads` of its own, 0: as many as there
 * are cores.
 *
 * # Safety
 * The texts end in a zero byte; `session` has room for one pointer.
 */
g2d_status g2d_open(const char *weights,
                    const char *device,
                    size_t batch,
                    size_t threads,
                    struct g2d_session **session);

/**
 * Opens a model to train it, and to use it meanwhile. `settings` is an object of JSON. Of these all may be left out:
 * `weights` (what g2d_open takes, to go on from), or else `preset` (micro, tiny, small, full) for fresh weights; `recipe`
 * (default, paper, official); `tokenizer` (a tokenizer.json or vocab.txt); `device` and `threads` as in g2d_open. Every other
 * key is one that `g2d pretrain --set` takes, such as batch, text_length, seed, augment, precision, image_size, vocab_size.
 *
 * # Safety
 * `settings` ends in a zero byte; `session` has room for one pointer.
 */
g2d_status g2d_open_training(const char *settings,
                             struct g2d_session **session);

/**
 * Frees a session; null is nothing. No other call may be using it, and none may afterwards.
 *
 * # Safety
 * `session` is null, or was made by g2d_open or g2d_open_training and not freed.
 */
void g2d_free(struct g2d_session *session);

/**
 * What the model takes and gives.
 *
 * # Safety
 * `session` is null or a session; `info` is null or has room for one.
 */
g2d_status g2d_describe(const struct g2d_session *session, struct g2d_info *info);

/**
 * Reads a film's file (PNG, JPEG or DICOM) as the model takes it: side * side gray pixels, row by row. Borders are cropped;
 * the rest is fitted into the square.
 *
 * # Safety
 * `session` is null or a session; `path` ends in a zero byte; `pixels` has room for `capacity` bytes.
 */
g2d_status g2d_film_file(const struct g2d_session *session,
                         const char *path,
                         uint8_t *pixels,
                         size_t capacity);

/**
 * The same of a file's bytes that lie in memory.
 *
 * # Safety
 * `session` is null or a session; `bytes` holds `count` of them; `pixels` has room for `capacity` bytes.
 */
g2d_status g2d_film_bytes(const struct g2d_session *session,
                          const void *bytes,
                          size_t count,
                          uint8_t *pixels,
                          size_t capacity);

/**
 * Tokens of a text; a longer one than the model takes is cut, so text_length is always room enough. How many there are goes
 * into *count, also where `capacity` is too small; `tokens` may then be null.
 *
 * # Safety
 * `session` is null or a session; `sentence` ends in a zero byte; `tokens` has room for `capacity` numbers, `count` for one.
 */
g2d_status g2d_encode(const struct g2d_session *session,
                      const char *sentence,
                      int32_t *tokens,
                      size_t capacity,
                      size_t *count);

/**
 * Embeddings of films, films * dim numbers, each of length 1: the product of a film's with a text's is their cosine. `pixels`
 * are films * side * side.
 *
 * # Safety
 * `session` is null or a session; `pixels` holds so many, and `embeddings` has room for `capacity` numbers.
 */
g2d_status g2d_embed_films(const struct g2d_session *session,
                           const uint8_t *pixels,
                           size_t films,
                           float *embeddings,
                           size_t capacity);

/**
 * Embeddings of texts, texts * dim numbers, each of length 1; longer texts are cut as in training.
 *
 * # Safety
 * `session` is null or a session; `sentences` holds `texts` pointers to texts that end in a zero byte, and `embeddings` has
 * room for `capacity` numbers.
 */
g2d_status g2d_embed_texts(const struct g2d_session *session,
                           const char *const *sentences,
                           size_t texts,
                           float *embeddings,
                           size_t capacity);

/**
 * The same of texts as tokens: all of them one behind the other, `count` tokens, and in `lengths` how many each text has.
 *
 * # Safety
 * `session` is null or a session; `tokens` holds `count` numbers, `lengths` `texts`, and `embeddings` has room for `capacity`.
 */
g2d_status g2d_embed_tokens(const struct g2d_session *session,
                            const int32_t *tokens,
                            size_t count,
                            const size_t *lengths,
                            size_t texts,
                            float *embeddings,
                            size_t capacity);

/**
 * Predicted masks of films: probabilities, films * side * side.
 *
 * # Safety
 * `session` is null or a session; `pixels` holds films * side * side, and `masks` has room for `capacity` numbers.
 */
g2d_status g2d_segment(const struct g2d_session *session,
                       const uint8_t *pixels,
                       size_t films,
                       float *masks,
                       size_t capacity);

/**
 * Where on one film a phrase is true: side * side cosines, warm where they are high, and in *similarity, unless that is null,
 * the phrase's cosine with the whole film.
 *
 * # Safety
 * `session` is null or a session; `pixels` holds side * side, `phrase` ends in a zero byte, `map` has room for `capacity`
 * numbers, `similarity` for one or is null.
 */
g2d_status g2d_ground(const struct g2d_session *session,
                      const uint8_t *pixels,
                      const char *phrase,
                      float *map,
                      size_t capacity,
                      float *similarity);

/**
 * One training step on `batch` films (`films` must be that many, batch * side * side pixels) and a text each, as tokens: all of
 * them one behind the other, `count` tokens, and in `lengths` how many each text has. Films are augmented here. `metrics` may
 * be null.
 *
 * # Safety
 * `session` is null or a session; `pixels`, `tokens` and `lengths` hold so many; `metrics` is null or has room for one.
 */
g2d_status g2d_step(const struct g2d_session *session,
                    const uint8_t *pixels,
                    size_t films,
                    const int32_t *tokens,
                    size_t count,
                    const size_t *lengths,
                    double learning_rate,
                    struct g2d_metrics *metrics);

/**
 * Writes the model into a folder, new or empty, which appears whole or not at all: weights.safetensors, config.json and, if
 * there is a tokenizer, tokenizer.json. g2d_open, g2d_load and `g2d export` read it.
 *
 * # Safety
 * `session` is null or a session; `folder` ends in a zero byte.
 */
g2d_status g2d_save(const struct g2d_session *session,
                    const char *folder);

/**
 * Reads weights of the same model: a file of them, or what g2d_open takes. If they do not fit nothing is changed. What
 * training remembers besides, the moments, stays as it is.
 *
 * # Safety
 * `session` is null or a session; `weights` ends in a zero byte.
 */
g2d_status g2d_load(const struct g2d_session *session, const char *weights);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* G2D_H */
