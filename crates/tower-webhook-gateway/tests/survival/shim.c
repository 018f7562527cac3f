/* Between a program and its disk, by LD_PRELOAD. While the folder $TROUBLE has a file `slow`, each
   flush takes 200 ms longer; while it has a file `readonly`, nothing can be written to any other
   file: what a file system that was remounted read-only does.

   If there is a folder $UNSYNCED, what each write replaces is kept there until the file is flushed, so that a test
   can undo what a loss of power may undo (power.rs). While $TROUBLE has a file `lies`, a flush does not count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Held while a file is changed or flushed: a flush then covers what was written before it, and nothing else. */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

/* The kept bytes of a file, or -1 where none are kept. */
static int kept(ino_t file) {
    static struct { ino_t file; int fd; } known[64];
    static int count;
    for (int i = 0; i < count; i++)
        if (known[i].file == file) return known[i].fd;
    const char *folder = getenv("UNSYNCED");
    if (!folder) return -1;
    char path[4096];
    snprintf(path, sizeof path, "%s/%llu", folder, (unsigned long long)file);
    int fd = open(path, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || count == 64) abort();
    known[count].file = file;
    known[count++].fd = fd;
    return fd;
}

static int is_kept(int fd) {
    struct stat of;
    return getenv("UNSYNCED") && fstat(fd, &of) == 0 && S_ISREG(of.st_mode);
}

/* Keeps the bytes that `span` bytes at `at` replace, and the size of the file. */
static void keep(int fd, off_t at, size_t span) {
    struct stat of;
    if (fstat(fd, &of) != 0) abort();
    struct { uint64_t at, size; uint32_t span, bytes, path; } head = {at, of.st_size, span, 0, 0};
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    if (length < 0) abort();
    head.path = length;
    char *record = malloc(sizeof head + length + span);
    if (!record) abort();
    memcpy(record + sizeof head, path, length);
    ssize_t old = 0;
    if (at < of.st_size) {
        /* The file may be open for writing alone. */
        int reader = open(link, O_RDONLY | O_CLOEXEC);
        if (reader < 0) abort();
        old = pread(reader, record + sizeof head + length, span, at);
        close(reader);
        if (old < 0) abort();
    }
    head.bytes = old;
    memcpy(record, &head, sizeof head);
    size_t size = sizeof head + length + old;
    if (REAL(write)(kept(of.st_ino), record, size) != (ssize_t)size) abort();
    free(record);
}

static void forget(int fd) {
    struct stat of;
    if (fstat(fd, &of) != 0 || REAL(ftruncate)(kept(of.st_ino), 0) != 0) abort();
}

static off_t position(int fd) {
    struct stat of;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &of) == 0 ? of.st_size : 0;
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : at;
}

static void before_size(int fd, off_t size) {
    struct stat of;
    if (fstat(fd, &of) == 0) keep(fd, size, of.st_size > size ? of.st_size - size : 0);
}

/* One change of a file, and what is done before it and after it where its bytes are kept. */
#define CHANGE(type, before, real, after)                \
    do {                                                 \
        if (refused(fd)) return -1;                      \
        if (!is_kept(fd)) return real;                   \
        pthread_mutex_lock(&changing);                   \
        before;                                          \
        type result = real;                              \
        int saved = errno;                               \
        after;                                           \
        pthread_mutex_unlock(&changing);                 \
        errno = saved;                                   \
        return result;                                   \
    } while (0)
#define FLUSH(name)                                      \
    int name(int fd) {                                   \
        wait_if_slow();                                  \
        CHANGE(int, (void)0, REAL(name)(fd), if (result == 0 && !on("lies")) forget(fd)); \
    }

FLUSH(fsync)
FLUSH(fdatasync)
ssize_t write(int fd, const void *from, size_t size) {
    CHANGE(ssize_t, keep(fd, position(fd), size), REAL(write)(fd, from, size), (void)0);
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    CHANGE(ssize_t, keep(fd, at, size), REAL(pwrite)(fd, from, size, at), (void)0);
}
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    CHANGE(ssize_t, keep(fd, at, size), REAL(pwrite64)(fd, from, size, at), (void)0);
}
int ftruncate(int fd, off_t size) {
    CHANGE(int, before_size(fd, size), REAL(ftruncate)(fd, size), (void)0);
}
int ftruncate64(int fd, off64_t size) {
    CHANGE(int, before_size(fd, size), REAL(ftruncate64)(fd, size), (void)0);
}
