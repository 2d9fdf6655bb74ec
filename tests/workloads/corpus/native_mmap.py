"""A C library maps memory for each picture and never unmaps it (by ctypes): no block of malloc's, but pages."""
# corpus: pattern = "native_leak"
# corpus: culprit = ["decode_picture", "mmap"]
# corpus: seconds = 12
# corpus: python = "3.11"

import ctypes

import kit

library = ctypes.CDLL(None)
library.mmap.restype = ctypes.c_void_p
library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
READ_WRITE, PRIVATE_ANONYMOUS = 3, 0x22
SIZE = 64 << 10


def decode_picture(request):
    plane = library.mmap(None, SIZE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
    ctypes.memset(plane, request["n"] % 256, SIZE)
    return SIZE


kit.serve(decode_picture, rate=25, size=200)
