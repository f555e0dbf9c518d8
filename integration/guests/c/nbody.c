// Floating point: a star and its planets, and how many milliseconds their steps took.
#include <math.h>
#include <stdio.h>
#include <time.h>

enum { BODIES = 5 };
static struct { double at[3], speed[3], mass; } body[BODIES] = {
    {{0, 0, 0}, {0, 0, 0}, 39.48},
    {{4.84, -1.16, -0.10}, {0.61, 2.81, -0.03}, 0.0377},
    {{8.34, 4.12, -0.40}, {-1.01, 1.82, 0.01}, 0.0113},
    {{12.89, -15.11, -0.22}, {1.08, 0.87, -0.01}, 0.0017},
    {{15.38, -25.92, 0.18}, {0.98, 0.59, -0.03}, 0.0020}};

static void step(double dt) {
  for (int i = 0; i < BODIES; i++)
    for (int j = i + 1; j < BODIES; j++) {
      double d[3], far = 0;
      for (int k = 0; k < 3; k++) {
        d[k] = body[i].at[k] - body[j].at[k];
        far += d[k] * d[k];
      }
      double pull = dt / (far * sqrt(far));
      for (int k = 0; k < 3; k++) {
        body[i].speed[k] -= d[k] * body[j].mass * pull;
        body[j].speed[k] += d[k] * body[i].mass * pull;
      }
    }
  for (int i = 0; i < BODIES; i++)
    for (int k = 0; k < 3; k++) body[i].at[k] += dt * body[i].speed[k];
}

int main(void) {
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (int i = 0; i < 10000000; i++) step(0.001);
  clock_gettime(CLOCK_MONOTONIC, &to);
  printf("%.3f\n", (to.tv_sec - from.tv_sec) * 1e3 + (to.tv_nsec - from.tv_nsec) / 1e6);
  return body[0].at[0] == 0;
}
