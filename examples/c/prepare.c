/*
 * prepare classifier|frontal|lungs WIDTH HEIGHT < grey > input: a network's input as bytes.
 * Exit status: 0 written; 1 too few bytes, or an image that would have to be enlarged; 2 wrong usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

int main(int argc, char **argv) {
  const int width = argc == 4 ? atoi(argv[2]) : 0, height = argc == 4 ? atoi(argv[3]) : 0;
  if (width < MIN_SIDE || height < MIN_SIDE || width > 20000 || height > 20000) {
    fprintf(stderr, "usage: prepare classifier|frontal|lungs WIDTH HEIGHT < grey > input\n");
    return 2;
  }
  const network_t *network = strcmp(argv[1], "frontal") == 0 ? &FRONTAL : &CLASSIFIER;
#ifdef HAS_LUNGS
  if (strcmp(argv[1], "lungs") == 0) network = &LUNGS;
#endif
  const size_t count = (size_t)width * (size_t)height;
  const size_t size = (size_t)network->preprocessing.size * (size_t)network->preprocessing.size;
  uint8_t *pixels = malloc(count), *input = malloc(size);
  const int read = pixels && input && fread(pixels, 1, count, stdin) == count;
  if (read) fill_range(pixels, width, height);
  const int done = read && prepare(&network->preprocessing, pixels, width, height, input) == 0 &&
                   fwrite(input, 1, size, stdout) == size;
  free(pixels), free(input);
  return done ? 0 : 1;
}
