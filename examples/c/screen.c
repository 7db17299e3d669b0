/*
 * screen BUNDLE WIDTH HEIGHT [any] < grey: screens one image, WIDTH * HEIGHT bytes, bones bright.
 * With "any" the frontal check rejects nothing and the classifier sees all of the image, for test
 * images such as the golden ones.
 * It can't enlarge: the part around the lungs needs at least as many pixels as the classifier's input
 * on both sides, 144 for vgg16-edge 0.7.1. xrayedge itself accepts smaller images, from MIN_SIDE on.
 * Exit status: 0 screened, 1 rejected, 2 an error. Research software, not a medical device.
 */
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { MAX_SIDE = 20000 };

static const OrtApi *ort;

static void check(OrtStatus *status) {
  if (!status) return;
  fprintf(stderr, "screen: %s\n", ort->GetErrorMessage(status));
  ort->ReleaseStatus(status);
  exit(2);
}

static OrtSession *open_network(OrtEnv *env, const char *bundle, const network_t *network) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/%s", bundle, network->file) >= (int)sizeof path) {
    fprintf(stderr, "screen: the bundle's path is too long\n");
    exit(2);
  }
  OrtSessionOptions *options;
  OrtSession *session;
  check(ort->CreateSessionOptions(&options));
  check(ort->SetIntraOpNumThreads(options, 1));
  /* Without it int8 sums saturate on x86 without VNNI; see docs/quantisation.md. */
  check(ort->AddSessionConfigEntry(options, "session.x64quantprecision", "1"));
  check(ort->CreateSession(env, path, options, &session));
  ort->ReleaseSessionOptions(options);
  return session;
}

/* Mean of the activation map over its places, by temperature: in double. */
static void read_map(const network_t *network, const float *map, size_t places, size_t channels,
                     double *logits) {
  for (int c = 0; c < network->count; c++) {
    double sum = 0.0;
    for (size_t i = 0; i < places; i++) sum += map[i * channels + (size_t)c];
    logits[c] = sum / (double)places / network->temperature;
  }
}

static void softmax(int count, double *values) {
  double largest = -INFINITY, total = 0.0;
  for (int c = 0; c < count; c++) largest = fmax(largest, values[c]);
  for (int c = 0; c < count; c++) total += values[c] = exp(values[c] - largest);
  for (int c = 0; c < count; c++) values[c] /= total;
}

static void run(OrtSession *session, const network_t *network, const uint8_t *pixels, int width,
                int height, double *logits) {
  const int size = network->preprocessing.size;
  const int64_t shape[4] = {1, size, size, 1};
  uint8_t *input = malloc((size_t)size * size);
  if (!input || prepare(&network->preprocessing, pixels, width, height, input) != 0) {
    fprintf(stderr, "screen: the image can't be prepared; both sides need at least %d pixels\n", size);
    exit(2);
  }
  OrtAllocator *allocator;
  OrtMemoryInfo *memory;
  OrtValue *value, *result = NULL;
  char *input_name, *output_name;
  check(ort->GetAllocatorWithDefaultOptions(&allocator));
  check(ort->SessionGetInputName(session, 0, allocator, &input_name));
  check(ort->SessionGetOutputName(session, 0, allocator, &output_name));
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  check(ort->CreateTensorWithDataAsOrtValue(memory, input, (size_t)size * size, shape, 4,
                                            ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &value));
  check(ort->Run(session, NULL, (const char *const *)&input_name, (const OrtValue *const *)&value,
                 1, (const char *const *)&output_name, 1, &result));

  OrtTensorTypeAndShapeInfo *info;
  int64_t dimensions[4];
  size_t rank;
  void *map;
  check(ort->GetTensorTypeAndShape(result, &info));
  check(ort->GetDimensionsCount(info, &rank));
  if (rank == 4) check(ort->GetDimensions(info, dimensions, rank));
  if (rank != 4 || dimensions[3] < network->count) {
    fprintf(stderr, "screen: the file's output is not the manifest's\n");
    exit(2);
  }
  check(ort->GetTensorMutableData(result, &map));
  read_map(network, map, (size_t)(dimensions[1] * dimensions[2]), (size_t)dimensions[3], logits);

  ort->ReleaseTensorTypeAndShapeInfo(info);
  ort->ReleaseValue(result), ort->ReleaseValue(value), ort->ReleaseMemoryInfo(memory);
  check(ort->AllocatorFree(allocator, input_name)), check(ort->AllocatorFree(allocator, output_name));
  free(input);
}

#ifdef HAS_LUNGS
static double clamped(double share) { return fmin(fmax(share, 0.0), 1.0); }

/* Keeps the part of the image around the lungs, in place. */
static void frame_lungs(OrtSession *lungs, uint8_t *pixels, int *width, int *height) {
  double edges[MAX_CLASSES]; /* left, top, right, bottom */
  run(lungs, &LUNGS, pixels, *width, *height, edges);
  for (int i = 0; i < 4; i++) edges[i] = 0.5 * (1.0 + tanh(edges[i] / 2.0));
  if (edges[2] - edges[0] < SMALLEST_SHARE || edges[3] - edges[1] < SMALLEST_SHARE) return;
  const int left = (int)floor(clamped(edges[0] - LUNGS_MARGIN) * *width + 0.5);
  const int top = (int)floor(clamped(edges[1] - LUNGS_MARGIN) * *height + 0.5);
  const int right = (int)floor(clamped(edges[2] + LUNGS_MARGIN) * *width + 0.5);
  const int bottom = (int)floor(clamped(edges[3] + LUNGS_MARGIN) * *height + 0.5);
  for (int y = top; y < bottom; y++)
    memmove(pixels + (size_t)(y - top) * (size_t)(right - left),
            pixels + (size_t)y * (size_t)*width + left, (size_t)(right - left));
  *width = right - left;
  *height = bottom - top;
}
#endif

int main(int argc, char **argv) {
  const int any = argc == 5 && strcmp(argv[4], "any") == 0, right = argc == 4 || any;
  int width = right ? atoi(argv[2]) : 0, height = right ? atoi(argv[3]) : 0;
  if (width < MIN_SIDE || height < MIN_SIDE || width > MAX_SIDE || height > MAX_SIDE) {
    fprintf(stderr, "usage: screen BUNDLE WIDTH HEIGHT [any] < grey; sides from %d to %d\n", MIN_SIDE,
            MAX_SIDE);
    return 2;
  }
  const size_t count = (size_t)width * (size_t)height;
  uint8_t *pixels = malloc(count);
  if (!pixels || fread(pixels, 1, count, stdin) != count) {
    fprintf(stderr, "screen: fewer than %zu bytes\n", count);
    return 2;
  }
  fill_range(pixels, width, height);
  ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (!ort) {
    fprintf(stderr, "screen: ONNX Runtime %s is too old\n", OrtGetApiBase()->GetVersionString());
    return 2;
  }
  OrtEnv *env;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "screen", &env));
  OrtSession *frontal = open_network(env, argv[1], &FRONTAL);
  OrtSession *classifier = open_network(env, argv[1], &CLASSIFIER);

  double scores[MAX_CLASSES] = {0}, passes = 0.0;
  run(frontal, &FRONTAL, pixels, width, height, scores);
  softmax(FRONTAL.count, scores);
  for (int c = 0; c < FRONTAL.count; c++)
    if (strcmp(FRONTAL.classes[c], FRONTAL_LABEL) == 0) passes = scores[c];
  printf("frontal_score %.6f\n", passes);
  const int rejected = !any && passes < FRONTAL_THRESHOLD;
  if (rejected) {
    printf("rejected not-frontal\n");
  } else {
#ifdef HAS_LUNGS
    if (!any) {
      OrtSession *lungs = open_network(env, argv[1], &LUNGS);
      frame_lungs(lungs, pixels, &width, &height);
      ort->ReleaseSession(lungs);
    }
#endif
    run(classifier, &CLASSIFIER, pixels, width, height, scores);
    softmax(CLASSIFIER.count, scores);
    for (int c = 0; c < CLASSIFIER.count; c++) printf("%s %.6f\n", CLASSIFIER.classes[c], scores[c]);
  }
  ort->ReleaseSession(classifier), ort->ReleaseSession(frontal), ort->ReleaseEnv(env);
  free(pixels);
  return rejected;
}
