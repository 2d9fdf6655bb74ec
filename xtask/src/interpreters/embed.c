/* A program that embeds Python the two ways programs do: with a libpython that is loaded with it (preloaded here), or
 * with one that it loads later, named by PYALLOC_LIBPYTHON. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int (*run)(int, char **) = (int (*)(int, char **))dlsym(RTLD_DEFAULT, "Py_BytesMain");
    const char *path = getenv("PYALLOC_LIBPYTHON");
    if (!run && path) {
        void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        run = library ? (int (*)(int, char **))dlsym(library, "Py_BytesMain") : 0;
    }
    if (!run) {
        fprintf(stderr, "no libpython: %s\n", path ? dlerror() : "PYALLOC_LIBPYTHON is not set");
        return 1;
    }
    return run(argc, argv);
}
