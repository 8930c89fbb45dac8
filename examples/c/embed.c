/* A model in use from C: how well a phrase fits a film, where on the film it is true, and what the model outlines.

       cargo build --release --example g2d
       cc -std=c11 -I src/capi examples/c/embed.c target/release/examples/libg2d.so -o embed
       ./embed RUN FILM.png "left pleural effusion" */
#include <stdio.h>
#include <stdlib.h>

#include "g2d.h"

static void check(g2d_status status) {
    if (status != G2D_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, g2d_error());
        exit(2);
    }
}

static void *room(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) {
        fputs("there is no memory\n", stderr);
        exit(2);
    }
    return memory;
}

int main(int count, char **arguments) {
    if (count != 4 || g2d_abi() != G2D_ABI) {
        fputs("give a run's folder, a film and a phrase; and the library that this was compiled for\n", stderr);
        return 2;
    }
    g2d_session *model;
    check(g2d_open(arguments[1], NULL, 1, 0, &model));
    g2d_info info;
    check(g2d_describe(model, &info));

    size_t plane = info.side * info.side;
    unsigned char *film = room(plane, 1);
    float *heat = room(plane, sizeof *heat), *mask = room(plane, sizeof *mask);
    float *embeddings = room(2 * info.dim, sizeof *embeddings);
    const char *phrase = arguments[3];
    check(g2d_film_file(model, arguments[2], film, plane));

    /* Both embeddings are of length 1: their product is the cosine. */
    check(g2d_embed_films(model, film, 1, embeddings, info.dim));
    check(g2d_embed_texts(model, &phrase, 1, embeddings + info.dim, info.dim));
    double similarity = 0;
    for (size_t at = 0; at < info.dim; at++) {
        similarity += (double)embeddings[at] * (double)embeddings[info.dim + at];
    }
    check(g2d_ground(model, film, phrase, heat, plane, NULL));
    check(g2d_segment(model, film, 1, mask, plane));

    size_t warmest = 0, within = 0;
    for (size_t at = 0; at < plane; at++) {
        warmest = heat[at] > heat[warmest] ? at : warmest;
        within += mask[at] > 0.5F;
    }
    printf("similarity %.3f; warmest at column %zu, row %zu\n", similarity, warmest % info.side, warmest / info.side);
    printf("%.1f %% of the film lie within the mask\n", 100.0 * (double)within / (double)plane);

    free(embeddings);
    free(mask);
    free(heat);
    free(film);
    g2d_free(model);
    return 0;
}
