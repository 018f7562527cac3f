/* Between a program and its disk, by LD_PRELOAD. While the folder $TROUBLE has a file `slow`, each
   flush takes 200 ms longer; while it has a file `readonly`, nothing can be written to any other
   file: what a file system that was remounted read-only does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int on(const char *what) {
    char path[4096];
    const char *folder = getenv("TROUBLE");
    if (!folder) return 0;
    snprintf(path, sizeof path, "%s/%s", folder, what);
    int saved = errno, there = access(path, F_OK) == 0;
    errno = saved;
    return there;
}

static int refused(int fd) {
    struct stat of;
    if (fstat(fd, &of) != 0 || !S_ISREG(of.st_mode) || !on("readonly")) return 0;
    errno = EROFS;
    return 1;
}

static void wait_if_slow(void) {
    struct timespec time = {0, 200 * 1000 * 1000};
    if (on("slow")) nanosleep(&time, NULL);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) {
    if (refused(fd)) return -1;
    wait_if_slow();
    return REAL(fsync)(fd);
}
int fdatasync(int fd) {
    if (refused(fd)) return -1;
    wait_if_slow();
    return REAL(fdatasync)(fd);
}
ssize_t write(int fd, const void *from, size_t size) {
    return refused(fd) ? -1 : REAL(write)(fd, from, size);
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    return refused(fd) ? -1 : REAL(pwrite)(fd, from, size, at);
}
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    return refused(fd) ? -1 : REAL(pwrite64)(fd, from, size, at);
}
int ftruncate(int fd, off_t size) {
    return refused(fd) ? -1 : REAL(ftruncate)(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    return refused(fd) ? -1 : REAL(ftruncate64)(fd, size);
}
