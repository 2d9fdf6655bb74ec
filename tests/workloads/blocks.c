/* A C extension that calls the C allocator itself: blocks.hold(function, count, size), blocks.release(count). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

static void *held[1024];
static int held_count;

static void *made(const char *function, size_t size)
{
    void *block = NULL;
    if (strcmp(function, "malloc") == 0)
        return malloc(size);
    if (strcmp(function, "calloc") == 0)
        return calloc(size / 8, 8);
    if (strcmp(function, "realloc") == 0)
        return realloc(malloc(size / 2), size);
    if (strcmp(function, "posix_memalign") == 0)
        return posix_memalign(&block, 4096, size) == 0 ? block : NULL;
    return NULL;
}

static PyObject *hold(PyObject *self, PyObject *args)
{
    const char *function;
    int count;
    Py_ssize_t size;
    (void)self;
    if (!PyArg_ParseTuple(args, "sin", &function, &count, &size))
        return NULL;
    for (; count > 0 && held_count < 1024; count--) {
        void *block = made(function, (size_t)size);
        if (block == NULL)
            return PyErr_NoMemory();
        held[held_count++] = block;
    }
    Py_RETURN_NONE;
}

static PyObject *release(PyObject *self, PyObject *args)
{
    int count;
    (void)self;
    if (!PyArg_ParseTuple(args, "i", &count))
        return NULL;
    for (; count > 0 && held_count > 0; count--)
        free(held[--held_count]);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"hold", hold, METH_VARARGS, NULL},
    {"release", release, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "blocks", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_blocks(void)
{
    return PyModule_Create(&module);
}
