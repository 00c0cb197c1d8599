/* Loaded before a program (LD_PRELOAD), kills it at the CAMPAIGN_COUNT-th of its calls that change files, as kill -9 would:
   a write, a rename, a sync, a removal. Without CAMPAIGN_COUNT it writes the number of them to the file CAMPAIGN_TOTAL. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long calls;

static void count(void) {
  const char* most = getenv("CAMPAIGN_COUNT");
  if (__sync_add_and_fetch(&calls, 1) == (most ? atol(most) : -1)) { kill(getpid(), SIGKILL); }
}

static int regular(int file) {
  struct stat what;
  return fstat(file, &what) == 0 && S_ISREG(what.st_mode);
}

__attribute__((destructor)) static void total(void) {
  const char* path = getenv("CAMPAIGN_TOTAL");
  FILE* file = path ? fopen(path, "w") : NULL;
  if (file) { fprintf(file, "%ld", calls); fclose(file); }
}

#define WRAP(result, name, declared, given, matters) \
  result name declared { \
    static result (*next) declared; \
    if (!next) { next = (result (*) declared) dlsym(RTLD_NEXT, #name); } \
    if (matters) { count(); } \
    return next given; \
  }

WRAP(ssize_t, write, (int file, const void* data, size_t size), (file, data, size), regular(file))
WRAP(ssize_t, pwrite, (int file, const void* data, size_t size, off_t at), (file, data, size, at), 1)
WRAP(ssize_t, pwrite64, (int file, const void* data, size_t size, off64_t at), (file, data, size, at), 1)
WRAP(int, rename, (const char* from, const char* to), (from, to), 1)
WRAP(int, fsync, (int file), (file), 1)
WRAP(int, fdatasync, (int file), (file), 1)
WRAP(int, unlink, (const char* path), (path), 1)
WRAP(int, mkdir, (const char* path, mode_t mode), (path, mode), 1)
WRAP(int, ftruncate, (int file, off_t size), (file, size), 1)
