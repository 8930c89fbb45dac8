/* Calls as they should not be, and calls from several threads. Built and run by tests/capi/main.rs.

       calls misuse MODEL FILM FOLDER     every wrong call gives its status, its sentence, and touches nothing
       calls threads MODEL FILM           two sessions in two threads, one session in four
       calls leak MODEL FILM              a session that is not freed: the sanitizer must report it
       calls lie MODEL FILM               a buffer shorter than its capacity says: the sanitizer must report it */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "g2d.h"

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition, g2d_error());   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A call gives this status and a sentence that holds this part; a good one leaves no sentence. */
#define GIVES(status, part, call)                                                                  \
    do {                                                                                           \
        MUST((call) == (status));                                                                  \
        MUST(strstr(g2d_error(), (part)) != NULL);                                                 \
        MUST((g2d_error()[0] == '\0') == ((status) == G2D_OK));                                    \
    } while (0)

enum { ROOM = 64 * 64 };
static unsigned char film[ROOM];
static float numbers[4 * ROOM];

static g2d_session *opened(const char *model, size_t batch) {
    g2d_session *session = NULL;
    GIVES(G2D_OK, "", g2d_open(model, NULL, batch, 1, &session));
    MUST(session != NULL);
    return session;
}

static void opening(const char *model) {
    g2d_session *session = (g2d_session *)&film;
    GIVES(G2D_ARGUMENT, "`weights` is null", g2d_open(NULL, NULL, 1, 1, &session));
    MUST(session == NULL); /* nothing is left that could be freed by mistake */
    GIVES(G2D_ARGUMENT, "`session` is null", g2d_open(model, NULL, 1, 1, NULL));
    GIVES(G2D_ARGUMENT, "`weights` is no UTF-8", g2d_open("\xff", NULL, 1, 1, &session));
    GIVES(G2D_ARGUMENT, "`device` is no UTF-8", g2d_open(model, "\xc3", 1, 1, &session));
    GIVES(G2D_DEVICE, "there is no device `gpu`", g2d_open(model, "gpu", 1, 1, &session));
    GIVES(G2D_DEVICE, "", g2d_open(model, "cuda:4000000000", 1, 1, &session));
    GIVES(G2D_REFUSED, "a batch of 0", g2d_open(model, NULL, 0, 1, &session));
    GIVES(G2D_REFUSED, "", g2d_open(model, NULL, SIZE_MAX, 1, &session));
    GIVES(G2D_FILE, "nowhere", g2d_open("nowhere", NULL, 1, 1, &session));
    GIVES(G2D_FILE, "", g2d_open("", NULL, 1, 1, &session));
    GIVES(G2D_FILE, "none of ours", g2d_open(".", NULL, 1, 1, &session));

    GIVES(G2D_ARGUMENT, "`settings` is null", g2d_open_training(NULL, &session));
    GIVES(G2D_ARGUMENT, "`settings` cannot be read", g2d_open_training("{\"batch\": ", &session));
    GIVES(G2D_ARGUMENT, "`settings` cannot be read", g2d_open_training("[4, 8]", &session));
    GIVES(G2D_REFUSED, "batsh", g2d_open_training("{\"preset\": \"micro\", \"batsh\": 4}", &session));
    GIVES(G2D_REFUSED, "batch is 1", g2d_open_training("{\"preset\": \"micro\", \"batch\": 1}", &session));
    GIVES(G2D_REFUSED, "huge", g2d_open_training("{\"preset\": \"huge\"}", &session));
    GIVES(G2D_REFUSED, "image_size", g2d_open_training("{\"preset\": \"micro\", \"image_size\": 33}", &session));
    GIVES(G2D_FILE, "nowhere", g2d_open_training("{\"preset\": \"micro\", \"tokenizer\": \"nowhere\"}", &session));
    GIVES(G2D_FILE, "nowhere", g2d_open_training("{\"weights\": \"nowhere\"}", &session));
    GIVES(G2D_DEVICE, "`gpu`", g2d_open_training("{\"preset\": \"micro\", \"device\": \"gpu\"}", &session));
    GIVES(G2D_REFUSED, "`preset` beside `weights`",
          g2d_open_training("{\"preset\": \"micro\", \"weights\": \"run\"}", &session));
    MUST(session == NULL);
    g2d_free(NULL);
}

static void using(g2d_session *session, const g2d_info *info, const char *path) {
    const char *phrase = "pleural effusion", *bad = "\xe2\x82", *none = NULL;
    size_t plane = info->side * info->side, count = 7;
    int32_t tokens[64];
    GIVES(G2D_ARGUMENT, "`session` is null", g2d_segment(NULL, film, 1, numbers, plane));
    GIVES(G2D_ARGUMENT, "`info` is null", g2d_describe(session, NULL));
    GIVES(G2D_ARGUMENT, "`path` is null", g2d_film_file(session, NULL, film, plane));
    GIVES(G2D_BUFFER, "4096 are needed", g2d_film_file(session, path, film, plane - 1));
    GIVES(G2D_FILE, "nothing.png", g2d_film_file(session, "nothing.png", film, plane));
    GIVES(G2D_FILE, "neither PNG, JPEG nor DICOM", g2d_film_bytes(session, phrase, strlen(phrase), film, plane));
    GIVES(G2D_FILE, "", g2d_film_bytes(session, NULL, 0, film, plane));
    GIVES(G2D_ARGUMENT, "`bytes` is null", g2d_film_bytes(session, NULL, 9, film, plane));
    GIVES(G2D_OK, "", g2d_film_file(session, path, film, plane));

    GIVES(G2D_OK, "", g2d_embed_films(session, NULL, 0, NULL, 0));
    GIVES(G2D_ARGUMENT, "`pixels` is null", g2d_embed_films(session, NULL, 1, numbers, info->dim));
    GIVES(G2D_ARGUMENT, "more than memory", g2d_embed_films(session, film, SIZE_MAX, numbers, SIZE_MAX));
    GIVES(G2D_ARGUMENT, "", g2d_embed_films(session, film, SIZE_MAX / info->dim, numbers, SIZE_MAX));
    GIVES(G2D_BUFFER, "are needed", g2d_embed_films(session, film, 1, numbers, info->dim - 1));
    GIVES(G2D_ARGUMENT, "`embeddings` is misaligned",
          g2d_embed_films(session, film, 1, (float *)(void *)((char *)numbers + 1), info->dim));
    GIVES(G2D_BUFFER, "are needed", g2d_segment(session, film, 1, numbers, plane - 1));

    GIVES(G2D_ARGUMENT, "`sentences` is no UTF-8", g2d_embed_texts(session, &bad, 1, numbers, info->dim));
    GIVES(G2D_ARGUMENT, "`sentences` is null", g2d_embed_texts(session, &none, 1, numbers, info->dim));
    GIVES(G2D_ARGUMENT, "`sentences` is null", g2d_embed_texts(session, NULL, 1, numbers, info->dim));
    GIVES(G2D_REFUSED, "has no word", g2d_ground(session, film, "", numbers, plane, NULL));
    GIVES(G2D_BUFFER, "are needed", g2d_ground(session, film, phrase, numbers, plane - 1, NULL));
    GIVES(G2D_ARGUMENT, "`map` is null", g2d_ground(session, film, phrase, NULL, plane, NULL));
    size_t needed = 0;
    GIVES(G2D_ARGUMENT, "`count` is null", g2d_encode(session, phrase, tokens, 64, NULL));
    GIVES(G2D_BUFFER, "are needed", g2d_encode(session, phrase, NULL, 0, &needed));
    GIVES(G2D_OK, "", g2d_encode(session, phrase, tokens, needed, &count));
    MUST(count == needed && count > 2 && count <= info->text_length);

    size_t lengths[2] = {2, count - 2}, over[2] = {2, SIZE_MAX};
    GIVES(G2D_OK, "", g2d_embed_tokens(session, tokens, count, lengths, 2, numbers, 2 * info->dim));
    GIVES(G2D_ARGUMENT, "fewer than the lengths", g2d_embed_tokens(session, tokens, count, over, 2, numbers, 2 * info->dim));
    GIVES(G2D_ARGUMENT, "left behind", g2d_embed_tokens(session, tokens, count, lengths, 1, numbers, info->dim));
    int32_t foreign[2] = {-1, 3};
    size_t two = 2;
    GIVES(G2D_REFUSED, "vocab_size", g2d_embed_tokens(session, foreign, 2, &two, 1, numbers, info->dim));
    GIVES(G2D_REFUSED, "open one that trains", g2d_step(session, film, 1, tokens, 2, &two, 1e-3, NULL));
    GIVES(G2D_FILE, "", g2d_load(session, "nowhere"));
    GIVES(G2D_FILE, "", g2d_load(session, path)); /* a film is no file of weights */
    GIVES(G2D_FILE, "", g2d_save(session, path)); /* a file is no folder */
    GIVES(G2D_FILE, "", g2d_save(session, ""));

    char *json = NULL;
    needed = 0;
    GIVES(G2D_ARGUMENT, "`needed` is null", g2d_devices(NULL, 0, NULL));
    GIVES(G2D_BUFFER, "are needed", g2d_devices(json, 0, &needed));
    g2d_status status;
    do { /* free memory may gain a digit meanwhile */
        MUST(needed > 2 && (json = realloc(json, needed)) != NULL);
        status = g2d_devices(json, needed, &needed);
    } while (status == G2D_BUFFER);
    GIVES(G2D_OK, "", status);
    MUST(strlen(json) + 1 == needed && strstr(json, "\"cpu\"") != NULL);
    free(json);
}

static void training(const char *model, const char *folder) {
    g2d_session *session = NULL;
    static unsigned char films[2 * ROOM];
    int32_t tokens[6] = {2, 9, 3, 2, 8, 3};
    size_t lengths[2] = {3, 3};
    g2d_metrics metrics;
    GIVES(G2D_OK, "", g2d_open_training("{\"preset\": \"micro\", \"batch\": 2, \"text_length\": 8, \"threads\": 1}", &session));
    for (size_t at = 0; at < sizeof films; at++) {
        films[at] = (unsigned char)(at * 37 % 251);
    }
    GIVES(G2D_REFUSED, "a step takes 2 films", g2d_step(session, films, 1, tokens, 3, lengths, 1e-3, &metrics));
    GIVES(G2D_REFUSED, "learning rate", g2d_step(session, films, 2, tokens, 6, lengths, -1.0, &metrics));
    GIVES(G2D_REFUSED, "learning rate", g2d_step(session, films, 2, tokens, 6, lengths, (double)NAN, &metrics));
    GIVES(G2D_ARGUMENT, "`lengths` is null", g2d_step(session, films, 2, tokens, 6, NULL, 1e-3, &metrics));
    GIVES(G2D_ARGUMENT, "left behind", g2d_step(session, films, 2, tokens, 6, (size_t[]){3, 2}, 1e-3, &metrics));
    GIVES(G2D_REFUSED, "0 tokens", g2d_step(session, films, 2, tokens, 6, (size_t[]){6, 0}, 1e-3, &metrics));
    GIVES(G2D_OK, "", g2d_step(session, films, 2, tokens, 6, lengths, 1e-3, &metrics));
    MUST(metrics.step == 1 && metrics.total > 0 && metrics.segmentation == metrics.segmentation);
    GIVES(G2D_OK, "", g2d_step(session, films, 2, tokens, 6, lengths, 1e-3, NULL));
    /* Without a tokenizer words are refused, tokens are not. */
    GIVES(G2D_REFUSED, "without a tokenizer", g2d_encode(session, "effusion", tokens, 6, lengths));
    GIVES(G2D_REFUSED, "without a tokenizer", g2d_ground(session, films, "effusion", numbers, ROOM, NULL));
    GIVES(G2D_OK, "", g2d_save(session, folder));
    GIVES(G2D_FILE, "", g2d_save(session, folder)); /* it is not empty now */
    GIVES(G2D_OK, "", g2d_load(session, folder));
    GIVES(G2D_FILE, "does not fit this model", g2d_load(session, model)); /* another vocabulary */
    g2d_free(session);
}

static void misuse(const char *model, const char *path, const char *folder) {
    MUST(g2d_abi() == G2D_ABI && strlen(g2d_version()) > 4 && g2d_error()[0] == '\0');
    opening(model);
    g2d_session *session = opened(model, 2);
    g2d_info info;
    GIVES(G2D_OK, "", g2d_describe(session, &info));
    MUST(info.side == 64 && info.batch == 2 && info.segments && !info.trains && info.steps == 0);
    using(session, &info, path);
    g2d_free(session);
    training(model, folder);
}

struct job {
    g2d_session *session;
    const char *model;
    float similarity;
    int failed;
};

static void *work(void *given) {
    struct job *job = given;
    g2d_session *session = job->session;
    float *map = malloc(ROOM * sizeof *map);
    job->failed = map == NULL || (session == NULL && g2d_open(job->model, NULL, 1, 1, &session) != G2D_OK);
    for (int round = 0; round < 4 && !job->failed; round++) {
        float similarity = 0;
        job->failed |= g2d_ground(session, film, "pleural effusion", map, ROOM, &similarity) != G2D_OK;
        /* Of another thread's errors nothing is seen here. */
        job->failed |= g2d_error()[0] != '\0' || (round > 0 && similarity != job->similarity);
        job->failed |= g2d_ground(session, film, NULL, map, ROOM, NULL) != G2D_ARGUMENT;
        job->similarity = similarity;
    }
    if (job->session == NULL) {
        g2d_free(session);
    }
    free(map);
    return NULL;
}

/* Runs as many threads, on one session or each on one of its own; what all of them found. */
static float in_threads(g2d_session *session, const char *model, size_t count) {
    pthread_t threads[4];
    struct job jobs[4];
    for (size_t at = 0; at < count; at++) {
        jobs[at] = (struct job){session, model, 0, 0};
        MUST(pthread_create(&threads[at], NULL, work, &jobs[at]) == 0);
    }
    for (size_t at = 0; at < count; at++) {
        MUST(pthread_join(threads[at], NULL) == 0);
        MUST(!jobs[at].failed && jobs[at].similarity == jobs[0].similarity);
    }
    return jobs[0].similarity;
}

int main(int count, char **arguments) {
    MUST(count >= 4);
    const char *task = arguments[1], *model = arguments[2], *path = arguments[3];
    if (strcmp(task, "misuse") == 0 && count == 5) {
        misuse(model, path, arguments[4]);
        return 0;
    }
    g2d_session *session = opened(model, 1);
    GIVES(G2D_OK, "", g2d_film_file(session, path, film, ROOM));
    if (strcmp(task, "threads") == 0) {
        MUST(in_threads(session, model, 4) == in_threads(NULL, model, 2));
        g2d_free(session);
    } else if (strcmp(task, "leak") == 0) {
        session = NULL;
    } else if (strcmp(task, "lie") == 0) {
        float *map = malloc(ROOM * sizeof *map / 2);
        MUST(map != NULL);
        g2d_ground(session, film, "pleural effusion", map, ROOM, NULL);
        free(map);
        g2d_free(session);
    }
    return 0;
}
