# C functions have no Python frames: a block made in one is its caller's.

cdef object in_c(keep, size, str situation):
    return keep(situation, bytes(size()))


cpdef in_cp(keep, size):
    return in_c(keep, size, "Cython: cpdef")


def plain(keep, size):
    keep("Cython: def", bytes(size()))
    in_c(keep, size, "Cython: cdef")
    in_cp(keep, size)


class Python:
    def method(self, keep, size):
        keep("Cython: method", bytes(size()))


def generator(keep, size):
    yield keep("Cython: generator", bytes(size()))
    yield keep("Cython: generator again", bytes(size()))


async def coroutine(keep, size):
    keep("Cython: coroutine", bytes(size()))


def everything(keep, size):
    plain(keep, size)
    Python().method(keep, size)
    for _ in generator(keep, size):
        pass
    try:
        coroutine(keep, size).send(None)
    except StopIteration:
        pass
    sorted([1], key=lambda _: keep("Cython: lambda", bytes(size())))
    return callback(keep, size)


def callback(keep, size):
    names = {"keep": keep, "size": size}
    exec("def back(): keep('Cython: Python called from it', bytes(size()))", names)
    names["back"]()
