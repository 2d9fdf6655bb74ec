"""ctypes: strdup'ed names of a C library are not given to free."""
# corpus: pattern = "native_leak"
# corpus: culprit = ["copy_name", "strdup", "ctypes"]
# corpus: seconds = 12
# corpus: python = "3.10"

import ctypes

import kit

library = ctypes.CDLL(None)
library.strdup.restype = ctypes.c_void_p
library.strdup.argtypes = [ctypes.c_char_p]
library.strlen.argtypes = [ctypes.c_void_p]


def copy_name(request):
    name = library.strdup(request["text"].encode())
    return library.strlen(name)


kit.serve(copy_name, rate=200, size=8000)
