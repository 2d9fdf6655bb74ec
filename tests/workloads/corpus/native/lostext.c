/* A C extension with three faults that extensions have.
 *
 * parse(text):     a table for each call, by malloc, that is not freed where the text has a comma.
 * labels(number):  a list of new strings, each with one reference too many.
 * buffer(size):    raw memory of Python's for a scratch buffer, not given back.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#define KEPT __attribute__((noinline, noclone))

KEPT static char *make_table(const char *text, size_t length)
{
    char *table = malloc(length * 4 + 64);
    if (table != NULL)
        memset(table, text[0], length * 4 + 64);
    return table;
}

static PyObject *ext_parse(PyObject *self, PyObject *arguments)
{
    const char *text;
    Py_ssize_t length;
    char *table;
    long sum = 0;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "s#", &text, &length))
        return NULL;
    table = make_table(text, (size_t)length);
    if (table == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t at = 0; at < length; at++)
        sum += table[at];
    if (memchr(text, ',', (size_t)length) == NULL)
        free(table);
    return PyLong_FromLong(sum);
}

static PyObject *ext_labels(PyObject *self, PyObject *arguments)
{
    long number;
    PyObject *list;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "l", &number))
        return NULL;
    list = PyList_New(0);
    for (long at = 0; list != NULL && at < 60; at++) {
        PyObject *label = PyUnicode_FromFormat("label %ld of %ld, which nobody will see again", at, number);
        /* PyList_Append takes a reference of its own: ours is lost. */
        if (label == NULL || PyList_Append(list, label) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *ext_buffer(PyObject *self, PyObject *arguments)
{
    Py_ssize_t size;
    char *scratch;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "n", &size))
        return NULL;
    scratch = PyMem_RawMalloc((size_t)size);
    if (scratch == NULL)
        return PyErr_NoMemory();
    memset(scratch, 1, (size_t)size);
    return PyLong_FromLong(scratch[size / 2]);
}

static PyMethodDef methods[] = {
    {"parse", ext_parse, METH_VARARGS, NULL},
    {"labels", ext_labels, METH_VARARGS, NULL},
    {"buffer", ext_buffer, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "lostext", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_lostext(void)
{
    return PyModule_Create(&module);
}
