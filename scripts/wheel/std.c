/* Debian's static gflags, HDF5, JPEG and PNG refer to stdin, stdout and stderr as only a program may; the names are changed in them
   (wheel.sh). */
#include <stdio.h>
__attribute__((visibility("hidden"))) FILE *acu_stdin, *acu_stdout, *acu_stderr;
__attribute__((constructor(101))) static void set(void) { acu_stdin = stdin; acu_stdout = stdout; acu_stderr = stderr; }
