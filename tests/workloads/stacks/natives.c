/* Threads that Python does not know. Built without a C library of its own, so that it runs with every one. */

typedef unsigned long size_t;
typedef unsigned long pthread_t;
extern int pthread_create(pthread_t *, const void *, void *(*)(void *), void *);
extern int pthread_join(pthread_t, void **);
extern void *malloc(size_t);
extern void *realloc(void *, size_t);
extern void free(void *);

#define MAX_THREADS 64

struct job {
    size_t size, count, kept;
    void (*call)(int);
};

/* Allocates `count` blocks, gives back all but the last `kept`, by way of realloc too. */
static void *churn(void *argument) {
    struct job *job = argument;
    for (size_t i = 0; i < job->count; i++) {
        void *block = malloc(job->size);
        if (i + job->kept < job->count) {
            block = realloc(block, job->size * 2);
            free(block);
        }
    }
    return 0;
}

int pool(int threads, size_t count, size_t kept, size_t size) {
    pthread_t all[MAX_THREADS];
    struct job job = {size, count, kept, 0};
    if (threads > MAX_THREADS)
        return -1;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&all[i], 0, churn, &job))
            return -1;
    for (int i = 0; i < threads; i++)
        pthread_join(all[i], 0);
    return 0;
}

/* Native blocks before, between and after two calls into Python. */
static void *calling(void *argument) {
    struct job *job = argument;
    for (int i = 0; i < 2; i++) {
        malloc(job->size);
        job->call(i);
    }
    malloc(job->size);
    return 0;
}

int call_in_thread(void (*call)(int), size_t size) {
    pthread_t thread;
    struct job job = {size, 0, 0, call};
    return pthread_create(&thread, 0, calling, &job) || pthread_join(thread, 0);
}

/* In the calling thread: allocates, calls, and allocates again. */
int call_here(void (*call)(int), size_t size) {
    malloc(size);
    call(0);
    malloc(size + 1);
    return 0;
}

void *allocate(size_t size) { return malloc(size); }
