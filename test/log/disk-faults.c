/* Loaded before libc by faults.test.ts: while $HYDRANT_DISK_FAULTS/eio or /enospc exists, fdatasync or the writing of
   data pages of an lmdb file fails. Meta pages (the first two) are written in place and never lack room. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int of_lmdb(int fd) {
  char link[64], target[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, target, sizeof target - 1);
  if (n <= 0) return 0;
  target[n] = 0;
  return strstr(target, "data.mdb") != NULL;
}
static int armed(const char *fault) {
  char path[4096];
  const char *dir = getenv("HYDRANT_DISK_FAULTS");
  if (!dir) return 0;
  snprintf(path, sizeof path, "%s/%s", dir, fault);
  return access(path, F_OK) == 0;
}
static int fails(int fd, const char *fault, int code) {
  if (!of_lmdb(fd) || !armed(fault)) return 0;
  errno = code;
  return 1;
}
int fdatasync(int fd) {
  int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
  return fails(fd, "eio", EIO) ? -1 : real(fd);
}
int fsync(int fd) {
  int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
  return fails(fd, "eio", EIO) ? -1 : real(fd);
}
ssize_t writev(int fd, const struct iovec *v, int n) {
  ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
  return fails(fd, "enospc", ENOSPC) ? -1 : real(fd, v, n);
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
  ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
  return at >= 2 * 4096 && fails(fd, "enospc", ENOSPC) ? -1 : real(fd, b, n, at);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) { return pwrite(fd, b, n, at); }
