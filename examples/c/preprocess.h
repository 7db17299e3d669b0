/* From a grey image to a network's input, bit for bit as xrayedge does it. */
#ifndef PREPROCESS_H
#define PREPROCESS_H

#include <stdint.h>

typedef struct {
  int size;                 /* side of the square input, in pixels; CLAHE: a multiple of `tiles` */
  const char *fit;          /* "stretch" or "pad" */
  const char *equalisation; /* "clahe", "global" or "none" */
  double clip;              /* CLAHE's limit, in multiples of a flat histogram's bin */
  int tiles;                /* CLAHE's tiles per side */
} preprocessing_t;

/* Images with fewer pixels on a side are refused, as xrayedge does. */
enum { MIN_SIDE = 112 };

/* Stretches an image that fills little of the grey range, in place, before any network sees it. */
void fill_range(uint8_t *pixels, int width, int height);

/*
 * Writes size * size bytes to `input`. `pixels` holds width * height bytes row by row, bones bright.
 * Returns 0, or -1 if memory is short, a side is under MIN_SIDE, the image would have to be enlarged
 * (for vgg16-edge 0.7.1, if a side of the part around the lungs is under 144 pixels), or the settings
 * are not supported.
 */
int prepare(const preprocessing_t *settings, const uint8_t *pixels, int width, int height,
            uint8_t *input);

#endif
