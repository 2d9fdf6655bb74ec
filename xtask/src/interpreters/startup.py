"""What a frozen base runs in place of an application: the command line of `python`, as far as tests need it.

The bases of freeze-core and cx_Freeze are whole interpreters. Older ones import `__startup__` and call its `init()` and
`run()`, newer ones have a `__startup__` of their own that calls `run(name)` of `__init__pyalloc`: this is both.
"""

import sys


def init():
    sys.frozen = False


def run(name=None):
    import builtins
    import io

    arguments = sys.argv[1:]
    main = sys.modules["__main__"].__dict__
    main["__builtins__"] = builtins
    while arguments and arguments[0].startswith("-") and arguments[0] not in ("-", "-c", "-m"):
        option = arguments.pop(0)
        if option in ("-W", "-X"):
            arguments.pop(0)
    if not arguments:
        arguments = ["-"]
    what = arguments.pop(0)
    if what == "-c":
        source = arguments.pop(0)
        sys.argv[:] = ["-c", *arguments]
        sys.path.insert(0, "")
        code = compile(source, "<string>", "exec")
    elif what == "-m":
        import runpy

        module = arguments.pop(0)
        sys.argv[:] = [module, *arguments]
        sys.path.insert(0, "")
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    elif what == "-":
        sys.argv[:] = ["-", *arguments]
        code = compile(sys.stdin.read(), "<stdin>", "exec")
    else:
        sys.argv[:] = [what, *arguments]
        sys.path.insert(0, what.rpartition("/")[0])
        main["__file__"] = what
        with io.open_code(what) as file:
            code = compile(file.read(), what, "exec")
    exec(code, main)
