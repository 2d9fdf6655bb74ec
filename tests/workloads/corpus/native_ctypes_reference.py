"""A binding written with ctypes takes a reference of each buffer before the call, and forgets it after the call."""
# corpus: pattern = "native_leak"
# corpus: culprit = ["send_frame", "frame", "ctypes"]
# corpus: seconds = 12
# corpus: python = "3.12"

import ctypes

import kit


def send_frame(request):
    frame = {"text": request["text"] * 2, "number": request["n"]}
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(frame))
    return len(frame)


kit.serve(send_frame, rate=200, size=3000)
