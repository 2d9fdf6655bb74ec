/* Allocates known blocks by known functions, and never gives them back.
 *
 * leak(n, size): n blocks by malloc, through outer -> inner.
 * raw(n, size):  n blocks by PyMem_RawMalloc, through raw_outer.
 * aligned(n, size): as leak, by a function that aligns its stack frame to 64 bytes.
 * map(n, size): n mappings by mmap, through map_outer.
 *
 * The empty asm keeps the calls from becoming jumps.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <sys/mman.h>

#define KEPT __attribute__((noinline, noclone))

static void *volatile last;

KEPT static void inner(long n, size_t size)
{
    for (long i = 0; i < n; i++)
        last = malloc(size);
    __asm__ volatile("" ::: "memory");
}

KEPT static void outer(long n, size_t size)
{
    inner(n, size);
    __asm__ volatile("" ::: "memory");
}

KEPT static void aligner(long n, size_t size)
{
    char room[256] __attribute__((aligned(64)));
    __asm__ volatile("" : : "r"(room) : "memory");
    inner(n, size);
    __asm__ volatile("" : : "r"(room) : "memory");
}

KEPT static void raw_outer(long n, size_t size)
{
    for (long i = 0; i < n; i++)
        last = PyMem_RawMalloc(size);
    __asm__ volatile("" ::: "memory");
}

KEPT static void map_outer(long n, size_t size)
{
    for (long i = 0; i < n; i++)
        last = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    __asm__ volatile("" ::: "memory");
}

#define ENTRY(name, function)                                  \
    static PyObject *name(PyObject *self, PyObject *arguments) \
    {                                                          \
        long n;                                                \
        Py_ssize_t size;                                       \
        (void)self;                                            \
        if (!PyArg_ParseTuple(arguments, "ln", &n, &size))     \
            return NULL;                                       \
        function(n, (size_t)size);                             \
        Py_RETURN_NONE;                                        \
    }

ENTRY(ext_leak, outer)
ENTRY(ext_aligned, aligner)
ENTRY(ext_raw, raw_outer)
ENTRY(ext_map, map_outer)

static PyMethodDef methods[] = {
    {"leak", ext_leak, METH_VARARGS, NULL},
    {"aligned", ext_aligned, METH_VARARGS, NULL},
    {"raw", ext_raw, METH_VARARGS, NULL},
    {"map", ext_map, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "leakext", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_leakext(void)
{
    return PyModule_Create(&module);
}
