"""An extension whose parser forgets its table on one of its paths: malloc without free."""
# corpus: pattern = "native_leak"
# corpus: culprit = ["lostext", "check_line", "make_table"]
# corpus: seconds = 12
# corpus: needs = ["lostext"]

import lostext

import kit


def check_line(request):
    return lostext.parse(request["text"] + ",")


kit.serve(check_line, rate=150, size=2500)
