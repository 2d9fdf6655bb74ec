"""A cache with a bound of 2000 entries fills in the first seconds, and stays: the oldest entry goes for each new one."""
# corpus: pattern = "levels_off"
# corpus: healthy = true
# corpus: seconds = 20

import collections

import kit

PAGES = collections.OrderedDict()


def page(request):
    PAGES[request["n"]] = request["text"] * 4
    if len(PAGES) > 1500:
        PAGES.popitem(last=False)
    return len(PAGES)


kit.serve(page, rate=220, size=3000)
