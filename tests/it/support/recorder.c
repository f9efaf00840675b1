/* Writes down what a program does to the files below a folder, in the order in which it is done. One record a call: its kind, two
 * numbers, two texts with their lengths. Started with LD_PRELOAD, RECORD_BELOW and RECORD_TO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int out = -2;
#define REAL(name, type, types) static type (*real) types; if (!real) real = dlsym(RTLD_NEXT, #name)

static int real_openat(int dir, const char *path, int flags, int mode) {
    REAL(openat64, int, (int, const char *, int, ...));
    return real(dir, path, flags, mode);
}

static ssize_t real_write(int fd, const void *data, size_t length) {
    REAL(write, ssize_t, (int, const void *, size_t));
    return real(fd, data, length);
}

/* The lock is held. */
static void record(char kind, uint64_t a, uint64_t b, const char *one, size_t one_length, const char *two, size_t two_length) {
    if (out == -2) out = real_openat(AT_FDCWD, getenv("RECORD_TO"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    uint64_t head[5] = {(unsigned char)kind, a, b, one_length, two_length};
    real_write(out, head, sizeof head);
    if (one_length) real_write(out, one, one_length);
    if (two_length) real_write(out, two, two_length);
}

static int is_below(const char *path) {
    const char *below = getenv("RECORD_BELOW");
    size_t length = below ? strlen(below) : 0;
    return below && !strncmp(path, below, length) && (path[length] == '/' || !path[length]);
}

/* The name of a descriptor; where it has lost its name, of the one it had. */
static int name_of(int fd, char *name) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, PATH_MAX - 1);
    if (length < 0) return 0;
    name[length] = 0;
    return 1;
}

/* A path from the root on, its last part not followed. Paths of the programs that are recorded have no other links in them. */
static int whole(int dir, const char *path, char *to) {
    char base[PATH_MAX] = "";
    int fd, at = 0;
    if (sscanf(path, "/proc/self/fd/%d/%n", &fd, &at) == 1 && at) {
        if (!name_of(fd, base)) return 0;
        path += at;
    } else if (path[0] != '/') {
        if (dir == AT_FDCWD ? !getcwd(base, sizeof base) : !name_of(dir, base)) return 0;
    }
    if (snprintf(to, PATH_MAX, "%s%s%s", base, base[0] ? "/" : "", path) >= PATH_MAX) return 0;
    size_t length = strlen(to);
    while (length > 1 && (to[length - 1] == '/' || (to[length - 1] == '.' && to[length - 2] == '/'))) to[--length] = 0;
    return is_below(to);
}

/* A file or folder below. */
static int descriptor(int fd, struct stat *found) {
    char name[PATH_MAX];
    int saved = errno;
    int is = fstat(fd, found) == 0 && (S_ISREG(found->st_mode) || S_ISDIR(found->st_mode)) && name_of(fd, name) && is_below(name);
    errno = saved;
    return is;
}

static uint64_t inode(const char *path) {
    struct stat found;
    return lstat(path, &found) == 0 ? found.st_ino : 0;
}

static int opened(int dir, const char *path, int flags, int mode) {
    char to[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !whole(dir, path, to)) return real_openat(dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    uint64_t before = inode(to);
    int fd = real_openat(dir, path, flags, mode);
    int saved = errno;
    struct stat found;
    if (fd >= 0 && fstat(fd, &found) == 0) {
        if (!before) record('c', found.st_ino, found.st_mode & 07777, to, strlen(to), 0, 0);
        else if (flags & O_TRUNC) record('t', found.st_ino, 0, 0, 0, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return fd;
}

#define MODE va_list rest; va_start(rest, flags); int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0; va_end(rest)
int open(const char *path, int flags, ...) { MODE; return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE; return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE; return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE; return opened(dir, path, flags, mode); }

ssize_t write(int fd, const void *data, size_t length) {
    struct stat found;
    if (!descriptor(fd, &found)) return real_write(fd, data, length);
    pthread_mutex_lock(&lock);
    ssize_t written = real_write(fd, data, length);
    int saved = errno;
    if (written > 0) record('w', found.st_ino, lseek(fd, 0, SEEK_CUR) - written, data, written, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return written;
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    struct stat found;
    REAL(writev, ssize_t, (int, const struct iovec *, int));
    if (!descriptor(fd, &found)) return real(fd, pieces, count);
    for (int at = 0; at < count; at++)
        if (pieces[at].iov_len) return write(fd, pieces[at].iov_base, pieces[at].iov_len);
    return 0;
}

static ssize_t written_at(int fd, const void *data, size_t length, off64_t at) {
    REAL(pwrite64, ssize_t, (int, const void *, size_t, off64_t));
    struct stat found;
    if (!descriptor(fd, &found)) return real(fd, data, length, at);
    pthread_mutex_lock(&lock);
    ssize_t written = real(fd, data, length, at);
    int saved = errno;
    if (written > 0) record('w', found.st_ino, at, data, written, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return written;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return written_at(fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return written_at(fd, data, length, at); }

/* What would write without passing by: the program then does it with calls that do. */
ssize_t copy_file_range(int a, off64_t *b, int c, off64_t *d, size_t e, unsigned f) { errno = ENOSYS; return -1; }
ssize_t sendfile64(int a, int b, off64_t *c, size_t d) { errno = ENOSYS; return -1; }
ssize_t sendfile(int a, int b, off_t *c, size_t d) { errno = ENOSYS; return -1; }

/* After a call of this length of a file, or this sync, whatever kind of call it is. */
#define ON_FD(name, types, values, kind, number) \
    int name types { \
        REAL(name, int, types); \
        struct stat found; \
        if (!descriptor(fd, &found)) return real values; \
        pthread_mutex_lock(&lock); \
        int answer = real values; \
        int saved = errno; \
        if (answer == 0) record(kind, found.st_ino, number, 0, 0, 0, 0); \
        pthread_mutex_unlock(&lock); \
        errno = saved; \
        return answer; \
    }
ON_FD(fsync, (int fd), (fd), 's', 0)
ON_FD(fdatasync, (int fd), (fd), 's', 0)
ON_FD(ftruncate, (int fd, off_t length), (fd, length), 't', length)
ON_FD(ftruncate64, (int fd, off64_t length), (fd, length), 't', length)
ON_FD(fallocate, (int fd, int how, off_t at, off_t length), (fd, how, at, length), 'a', how & FALLOC_FL_KEEP_SIZE ? 0 : at + length)
ON_FD(fallocate64, (int fd, int how, off64_t at, off64_t length), (fd, how, at, length), 'a', how & FALLOC_FL_KEEP_SIZE ? 0 : at + length)
ON_FD(fchmod, (int fd, mode_t mode), (fd, mode), 'm', mode)

#define ON_NAME(name, types, values, dir, path, kind, number) \
    int name types { \
        REAL(name, int, types); \
        char to[PATH_MAX]; \
        if (!whole(dir, path, to)) return real values; \
        pthread_mutex_lock(&lock); \
        int answer = real values; \
        int saved = errno; \
        if (answer == 0) record(kind, number, 0, to, strlen(to), 0, 0); \
        pthread_mutex_unlock(&lock); \
        errno = saved; \
        return answer; \
    }
ON_NAME(mkdir, (const char *a, mode_t b), (a, b), AT_FDCWD, a, 'd', inode(to))
ON_NAME(mkdirat, (int a, const char *b, mode_t c), (a, b, c), a, b, 'd', inode(to))
ON_NAME(unlink, (const char *a), (a), AT_FDCWD, a, 'u', 0)
ON_NAME(unlinkat, (int a, const char *b, int c), (a, b, c), a, b, 'u', 0)
ON_NAME(rmdir, (const char *a), (a), AT_FDCWD, a, 'u', 0)

#define ON_NAMES(name, types, values, a_dir, a, b_dir, b, kind) \
    int name types { \
        REAL(name, int, types); \
        char one[PATH_MAX], two[PATH_MAX]; \
        int is_one = whole(a_dir, a, one), is_two = whole(b_dir, b, two); \
        if (!is_one && !is_two) return real values; \
        pthread_mutex_lock(&lock); \
        int answer = real values; \
        int saved = errno; \
        if (answer == 0) record(kind, 0, 0, one, strlen(one), two, strlen(two)); \
        pthread_mutex_unlock(&lock); \
        errno = saved; \
        return answer; \
    }
ON_NAMES(link, (const char *a, const char *b), (a, b), AT_FDCWD, a, AT_FDCWD, b, 'l')
ON_NAMES(linkat, (int a, const char *b, int c, const char *d, int e), (a, b, c, d, e), a, b, c, d, 'l')
ON_NAMES(rename, (const char *a, const char *b), (a, b), AT_FDCWD, a, AT_FDCWD, b, 'r')
ON_NAMES(renameat, (int a, const char *b, int c, const char *d), (a, b, c, d), a, b, c, d, 'r')
ON_NAMES(renameat2, (int a, const char *b, int c, const char *d, unsigned e), (a, b, c, d, e), a, b, c, d, e & 2 ? 'x' : 'r')
