// hello [--cat FILE] [--exit N] [ANYTHING...]: the arguments, one a line, then what was asked for.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
  int code = 0;
  puts("hello from C");
  for (int i = 0; i < argc; i++) puts(argv[i]);
  for (int i = 1; i + 1 < argc; i++) {
    if (!strcmp(argv[i], "--exit")) code = atoi(argv[i + 1]);
    if (!strcmp(argv[i], "--cat")) {
      FILE *file = fopen(argv[i + 1], "r");
      if (!file) {
        perror(argv[i + 1]);
        return 1;
      }
      for (int c; (c = getc(file)) != EOF;) putchar(c);
      fclose(file);
    }
  }
  return code;
}
