/* From a grey image to a network's input, to the bit what xrayedge makes of it. */
#ifndef PREPROCESS_H
#define PREPROCESS_H

#include <stdint.h>

typedef struct {
  int size;                 /* side of the square input, in pixels; a multiple of `tiles` */
  const char *fit;          /* "stretch" or "pad" */
  const char *equalisation; /* "clahe" or "none" */
  double clip;              /* CLAHE's limit, in multiples of a flat histogram's bin */
  int tiles;                /* CLAHE's tiles per side */
} preprocessing_t;

/* Images with a shorter side are refused. */
enum { MIN_SIDE = 112 };

/*
 * Writes size * size bytes to `input`. `pixels` holds width * height bytes row by row, bones bright.
 * Returns 0, or -1 where memory is short, a side is under MIN_SIDE, the image would have to be
 * enlarged, or the settings are others.
 */
int prepare(const preprocessing_t *settings, const uint8_t *pixels, int width, int height,
            uint8_t *input);

#endif
