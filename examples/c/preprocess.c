/* Area averaging and equalisation as docs/embed.md describes them, "The file's contract". */
#include "preprocess.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS = 256, HALVE_FROM = 8 };

typedef struct {
  int first, count;  /* source pixels that a target pixel averages */
  float *weights;
} tap_t;

static uint8_t rounded(float value) { return (uint8_t)lrintf(value); } /* half to even */

static void free_taps(tap_t *taps, int target) {
  for (int i = 0; taps && i < target; i++) free(taps[i].weights);
  free(taps);
}

static tap_t *make_taps(int source, int target) {
  const double scale = (double)source / target;
  tap_t *taps = calloc((size_t)target, sizeof *taps);
  for (int i = 0; taps && i < target; i++) {
    const double start = i * scale, end = start + scale;
    const double cell = fmin(scale, source - start);
    const int last = (int)fmin(floor(end), source - 1);
    const int first = (int)fmin(ceil(start), last);
    tap_t *tap = &taps[i];
    tap->weights = malloc(sizeof(float) * (size_t)(last - first + 3));
    if (!tap->weights) return free_taps(taps, target), NULL;
    tap->first = first - start > 1e-3 ? first - 1 : first;
    if (first - start > 1e-3) tap->weights[tap->count++] = (float)((first - start) / cell);
    for (int j = first; j < last; j++) tap->weights[tap->count++] = (float)(1.0 / cell);
    if (end - last > 1e-3)
      tap->weights[tap->count++] = (float)(fmin(fmin(end - last, 1.0), cell) / cell);
  }
  return taps;
}

/* Both ratios whole: a plain mean. `stride` is the length of a row of `from`. */
static void shrink_whole(const uint8_t *from, int stride, int across, int down, int width,
                         int height, uint8_t *to) {
  const float share = 1.0f / (float)(across * down);
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      int sum = 0;
      for (int j = 0; j < down; j++)
        for (int i = 0; i < across; i++)
          sum += from[(size_t)(y * down + j) * stride + (size_t)x * across + i];
      to[(size_t)y * width + x] =
          across == 2 && down == 2 ? (uint8_t)((sum + 2) >> 2) : rounded((float)sum * share);
    }
}

static int shrink(const uint8_t *from, int columns, int rows, int width, int height, uint8_t *to) {
  if (columns % width == 0 && rows % height == 0) {
    shrink_whole(from, columns, columns / width, rows / height, width, height, to);
    return 0;
  }
  tap_t *across = make_taps(columns, width), *down = make_taps(rows, height);
  float *sums = malloc(sizeof(float) * (size_t)width);
  const int failed = !across || !down || !sums;
  for (int y = 0; !failed && y < height; y++) {
    memset(sums, 0, sizeof(float) * (size_t)width);
    for (int j = 0; j < down[y].count; j++) {
      const uint8_t *row = from + (size_t)(down[y].first + j) * columns;
      for (int x = 0; x < width; x++) {
        float sum = 0.0f;
        for (int i = 0; i < across[x].count; i++)
          sum += (float)row[across[x].first + i] * across[x].weights[i];
        sums[x] += sum * down[y].weights[j];
      }
    }
    for (int x = 0; x < width; x++) to[(size_t)y * width + x] = rounded(sums[x]);
  }
  free_taps(across, width), free_taps(down, height), free(sums);
  return failed ? -1 : 0;
}

/* Large images are halved first; an odd last row or column is dropped. */
static int resize(const uint8_t *pixels, int columns, int rows, int width, int height,
                  uint8_t *to) {
  uint8_t *half = NULL;
  while (columns >= HALVE_FROM * width && rows >= HALVE_FROM * height) {
    uint8_t *next = malloc((size_t)(columns / 2) * (size_t)(rows / 2));
    if (next) shrink_whole(half ? half : pixels, columns, 2, 2, columns / 2, rows / 2, next);
    free(half);
    if (!next) return -1;
    half = next, columns /= 2, rows /= 2;
  }
  const int status = shrink(half ? half : pixels, columns, rows, width, height, to);
  free(half);
  return status;
}

void fill_range(uint8_t *pixels, int width, int height) {
  enum { NARROWEST_RANGE = 96, TAIL = 200, ROWS_LOOKED_AT = 128 };
  const int step = height < ROWS_LOOKED_AT ? 1 : height / ROWS_LOOKED_AT;
  const int64_t outside = (int64_t)width * ((height + step - 1) / step) / TAIL;
  int64_t counts[LEVELS] = {0}, below = 0, above = 0;
  int low = 0, high = LEVELS - 1;
  for (int y = 0; y < height; y += step)
    for (int x = 0; x < width; x++) counts[pixels[(size_t)y * (size_t)width + x]]++;
  while ((below += counts[low]) <= outside) low++;
  while ((above += counts[high]) <= outside) high--;
  const int span = high - low;
  if (span <= 0 || span >= NARROWEST_RANGE) return;
  uint8_t table[LEVELS];
  for (int i = 0; i < LEVELS; i++) {
    const int inside = i < low ? 0 : i > high ? span : i - low;
    table[i] = (uint8_t)((2 * (LEVELS - 1) * inside + span) / (2 * span));
  }
  for (size_t i = 0; i < (size_t)width * (size_t)height; i++) pixels[i] = table[pixels[i]];
}

static void make_table(const uint8_t *tile, int stride, int side, double clip, uint8_t *table) {
  int counts[LEVELS] = {0}, over = 0, sum = 0;
  const int area = side * side;
  const int limit = (int)fmax((int)(clip * area / LEVELS), 1);
  const float scale = (float)(LEVELS - 1) / (float)area;
  for (int y = 0; y < side; y++)
    for (int x = 0; x < side; x++) counts[tile[(size_t)y * stride + x]]++;
  for (int i = 0; i < LEVELS; i++)
    if (counts[i] > limit) over += counts[i] - limit, counts[i] = limit;
  const int left = over % LEVELS, step = left && LEVELS / left > 1 ? LEVELS / left : 1;
  for (int i = 0; i < LEVELS; i++) {
    counts[i] += over / LEVELS + (i % step == 0 && i / step < left);
    sum += counts[i];
    table[i] = rounded((float)sum * scale);
  }
}

static void equalise_as_one(uint8_t *pixels, int area) {
  int counts[LEVELS] = {0}, darkest = 0, sum = 0;
  uint8_t table[LEVELS] = {0};
  for (int i = 0; i < area; i++) counts[pixels[i]]++;
  while (!counts[darkest]) darkest++;
  if (counts[darkest] == area) return;
  const float scale = (float)(LEVELS - 1) / (float)(area - counts[darkest]);
  for (int i = darkest + 1; i < LEVELS; i++) {
    sum += counts[i];
    table[i] = rounded((float)sum * scale);
  }
  for (int i = 0; i < area; i++) pixels[i] = table[pixels[i]];
}

static int equalise_in_tiles(uint8_t *pixels, int size, double clip, int tiles) {
  const int side = size / tiles;
  uint8_t(*tables)[LEVELS] = malloc(sizeof *tables * (size_t)(tiles * tiles));
  if (!tables) return -1;
  for (int i = 0; i < tiles * tiles; i++)
    make_table(pixels + (size_t)(i / tiles) * side * size + (size_t)(i % tiles) * side, size, side,
               clip, tables[i]);
  const float inverse = 1.0f / (float)side;
  for (int y = 0; y < size; y++) {
    const float v = (float)y * inverse - 0.5f, below = v - floorf(v), above = 1.0f - below;
    const int top = (int)fmaxf(floorf(v), 0), bottom = (int)fminf(floorf(v) + 1, tiles - 1);
    for (int x = 0; x < size; x++) {
      const float u = (float)x * inverse - 0.5f, right = u - floorf(u), rest = 1.0f - right;
      const int l = (int)fmaxf(floorf(u), 0), r = (int)fminf(floorf(u) + 1, tiles - 1);
      uint8_t *pixel = &pixels[(size_t)y * size + x];
      const float upper = (float)tables[top * tiles + l][*pixel] * rest +
                          (float)tables[top * tiles + r][*pixel] * right;
      const float lower = (float)tables[bottom * tiles + l][*pixel] * rest +
                          (float)tables[bottom * tiles + r][*pixel] * right;
      *pixel = rounded(upper * above + lower * below);
    }
  }
  free(tables);
  return 0;
}

/* Tiles need a square, which an image with bars is not yet. */
static int equalise(const preprocessing_t *settings, uint8_t *pixels, int width, int height) {
  const int size = settings->size, tiles = settings->tiles;
  if (strcmp(settings->equalisation, "none") == 0) return 0;
  if (strcmp(settings->equalisation, "global") == 0)
    return equalise_as_one(pixels, width * height), 0;
  if (strcmp(settings->equalisation, "clahe") != 0 || size % tiles != 0) return -1;
  if (width != size || height != size) return -1;
  return equalise_in_tiles(pixels, size, settings->clip, tiles);
}

int prepare(const preprocessing_t *settings, const uint8_t *pixels, int width, int height,
            uint8_t *input) {
  const int size = settings->size, pads = strcmp(settings->fit, "pad") == 0;
  const int longer = width > height ? width : height;
  const int enlarges = pads ? longer < size : width < size || height < size;
  const int known = pads || strcmp(settings->fit, "stretch") == 0;
  if (width < MIN_SIDE || height < MIN_SIDE || enlarges || !known) return -1;
  if (!pads) {
    const int status = resize(pixels, width, height, size, size, input);
    return status ? status : equalise(settings, input, size, size);
  }
  const double scale = (double)size / longer;
  const int columns = (int)fmax(1, nearbyint(width * scale));
  const int rows = (int)fmax(1, nearbyint(height * scale));
  uint8_t *inner = malloc((size_t)columns * (size_t)rows);
  if (!inner) return -1;
  int status = resize(pixels, width, height, columns, rows, inner);
  if (!status) status = equalise(settings, inner, columns, rows);
  memset(input, 0, (size_t)size * size);
  for (int y = 0; !status && y < rows; y++)
    memcpy(input + (size_t)((size - rows) / 2 + y) * size + (size - columns) / 2,
           inner + (size_t)y * columns, (size_t)columns);
  free(inner);
  return status;
}
