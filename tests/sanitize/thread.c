/*
 * thread.c - what ThreadSanitizer must be told about libraries that are not instrumented
 *
 * Linked into every program of a build with HEADRACE_SANITIZE=thread, so that a program under test needs no
 * environment.
 *
 * librdkafka locks and starts threads by C11's <threads.h>, which gcc 12's ThreadSanitizer does not see: everything
 * handed over by such a mutex would be a race. Here these functions are what glibc makes of them anyway, pthreads,
 * which it does see. The program's own definitions are found before libc's, by the library as well.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

/* Only libraries that are not ours. What they call by themselves is then neither judged nor taken as synchronisation.
 */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return
        /* Counts references by atomics that are not seen, and frees what we have read before we gave it back. */
        "called_from_lib:librdkafka.so\n"
        /* Publishes memtables, versions and cached blocks by atomics that are not seen. */
        "called_from_lib:librocksdb.so\n"
        /* RocksDB calls memcpy in these on blocks that it shares in that way. */
        "called_from_lib:libstdc++.so\n"
        "called_from_lib:liblz4.so\n"
        "called_from_lib:libsnappy.so\n";
}

_Static_assert(sizeof(thrd_t) == sizeof(pthread_t), "a C11 thread is a pthread");
_Static_assert(sizeof(mtx_t) >= sizeof(pthread_mutex_t), "a C11 mutex has room for a pthread's");
_Static_assert(sizeof(cnd_t) >= sizeof(pthread_cond_t), "a C11 condition has room for a pthread's");
_Static_assert(sizeof(once_flag) >= sizeof(pthread_once_t), "a C11 once_flag has room for a pthread's");

struct start {
    thrd_start_t function;
    void *argument;
};

static void *run(void *context)
{
    struct start start = *(struct start *)context;
    free(context);
    return (void *)(intptr_t)start.function(start.argument);
}

static int result_of(int error)
{
    return error == 0           ? thrd_success
           : error == EBUSY     ? thrd_busy
           : error == ETIMEDOUT ? thrd_timedout
           : error == ENOMEM    ? thrd_nomem
                                : thrd_error;
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *argument)
{
    struct start *start = malloc(sizeof *start);
    if (start == NULL)
        return thrd_nomem;
    *start = (struct start){function, argument};
    int error = pthread_create((pthread_t *)thread, NULL, run, start);
    if (error != 0)
        free(start);
    return result_of(error);
}

int thrd_join(thrd_t thread, int *result)
{
    void *returned;
    int error = pthread_join((pthread_t)thread, &returned);
    if (error == 0 && result != NULL)
        *result = (int)(intptr_t)returned;
    return result_of(error);
}

int thrd_detach(thrd_t thread)
{
    return result_of(pthread_detach((pthread_t)thread));
}

int mtx_init(mtx_t *mutex, int type)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    if ((type & mtx_recursive) != 0)
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    int error = pthread_mutex_init((pthread_mutex_t *)mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return result_of(error);
}

int mtx_lock(mtx_t *mutex)
{
    return result_of(pthread_mutex_lock((pthread_mutex_t *)mutex));
}

int mtx_trylock(mtx_t *mutex)
{
    return result_of(pthread_mutex_trylock((pthread_mutex_t *)mutex));
}

int mtx_timedlock(mtx_t *restrict mutex, const struct timespec *restrict until)
{
    return result_of(pthread_mutex_timedlock((pthread_mutex_t *)mutex, until));
}

int mtx_unlock(mtx_t *mutex)
{
    return result_of(pthread_mutex_unlock((pthread_mutex_t *)mutex));
}

void mtx_destroy(mtx_t *mutex)
{
    pthread_mutex_destroy((pthread_mutex_t *)mutex);
}

int cnd_init(cnd_t *condition)
{
    return result_of(pthread_cond_init((pthread_cond_t *)condition, NULL));
}

int cnd_signal(cnd_t *condition)
{
    return result_of(pthread_cond_signal((pthread_cond_t *)condition));
}

int cnd_broadcast(cnd_t *condition)
{
    return result_of(pthread_cond_broadcast((pthread_cond_t *)condition));
}

int cnd_wait(cnd_t *condition, mtx_t *mutex)
{
    return result_of(pthread_cond_wait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex));
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    return result_of(pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until));
}

void cnd_destroy(cnd_t *condition)
{
    pthread_cond_destroy((pthread_cond_t *)condition);
}

void call_once(once_flag *flag, void (*function)(void))
{
    pthread_once((pthread_once_t *)flag, function);
}

/*
 * Read-write locks, of which librdkafka has pthread's, as calls from here: what it hands over by them counts. Not their
 * end: it is the atomics' count of references that says when.
 */
static int call_next(const char *name, pthread_rwlock_t *lock)
{
    union {
        void *symbol;
        int (*function)(pthread_rwlock_t *);
    } next = {dlsym(RTLD_NEXT, name)};
    return next.function(lock);
}

int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
    return call_next("pthread_rwlock_rdlock", lock);
}

int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
    return call_next("pthread_rwlock_wrlock", lock);
}

int pthread_rwlock_unlock(pthread_rwlock_t *lock)
{
    return call_next("pthread_rwlock_unlock", lock);
}
