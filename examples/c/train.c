/* A model trained from C on made-up films: a bright disc in the upper or the lower half, and a text that says which. Then it is
   saved, opened again, and asked.

       cargo build --release --example g2d
       cc -std=c11 -I src/capi examples/c/train.c target/release/examples/libg2d.so -o train
       ./train FOLDER            a new folder, for the model */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "g2d.h"

enum { SIDE = 64, BATCH = 4, STEPS = 8, LENGTH = 3 };

static void check(g2d_status status) {
    if (status != G2D_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, g2d_error());
        exit(2);
    }
}

static unsigned number(uint64_t *state) {
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)(*state >> 33);
}

/* A film whose disc lies in the lower half, or not. */
static void draw(unsigned char *film, int lower, uint64_t *state) {
    int row = 12 + (lower ? SIDE / 2 : 0) + (int)(number(state) % 8), column = 16 + (int)(number(state) % 32);
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < SIDE; x++) {
            int inside = (y - row) * (y - row) + (x - column) * (x - column) < 100;
            film[y * SIDE + x] = (unsigned char)((inside ? 200 : 60) + number(state) % 40);
        }
    }
}

int main(int count, char **arguments) {
    if (count != 2 || g2d_abi() != G2D_ABI) {
        fputs("give a new folder for the model; and the library that this was compiled for\n", stderr);
        return 2;
    }
    static unsigned char films[BATCH * SIDE * SIDE];
    int32_t tokens[BATCH * LENGTH];
    size_t lengths[BATCH];
    uint64_t state = 1;

    g2d_session *model;
    check(g2d_open_training("{\"preset\": \"micro\", \"batch\": 4, \"text_length\": 8, \"seed\": 1, \"augment\": \"none\"}",
                            &model));
    for (int at = 0; at < BATCH; at++) {
        int lower = at % 2;
        draw(films + at * SIDE * SIDE, lower, &state);
        /* As a tokenizer would: a beginning, one word of two, an end. */
        int32_t text[LENGTH] = {2, lower ? 11 : 10, 3};
        for (int place = 0; place < LENGTH; place++) {
            tokens[at * LENGTH + place] = text[place];
        }
        lengths[at] = LENGTH;
    }
    for (int step = 0; step < STEPS; step++) { /* of a real training each has other films */
        g2d_metrics metrics;
        check(g2d_step(model, films, BATCH, tokens, BATCH * LENGTH, lengths, 1e-3, &metrics));
        printf("step %d: loss %.4f, gradient %.3f\n", (int)metrics.step, metrics.total, metrics.grad_norm);
    }
    check(g2d_save(model, arguments[1]));

    /* The one that trains and the one that was saved are the same model. */
    g2d_session *opened;
    check(g2d_open(arguments[1], "cpu", BATCH, 0, &opened));
    g2d_info info, less;
    check(g2d_describe(model, &info));
    check(g2d_describe(opened, &less));
    size_t numbers = BATCH * info.dim, same = 0;
    float *before = calloc(numbers, sizeof *before), *after = calloc(numbers, sizeof *after);
    if (before == NULL || after == NULL) {
        return 2;
    }
    check(g2d_embed_films(model, films, BATCH, before, numbers));
    check(g2d_embed_films(opened, films, BATCH, after, numbers));
    for (size_t at = 0; at < numbers; at++) {
        same += before[at] == after[at];
    }
    printf("%d of %d numbers are the same once opened again, in %d instead of %d KiB\n", (int)same, (int)numbers,
           (int)(less.memory >> 10), (int)(info.memory >> 10));
    free(after);
    free(before);
    g2d_free(opened);
    g2d_free(model);
    return same == numbers ? 0 : 1;
}
