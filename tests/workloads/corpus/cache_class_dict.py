"""Rendered pages in a dictionary of the class, under a key that holds the request's number: never asked for again."""
# corpus: pattern = "unbounded_cache_or_queue"
# corpus: culprit = ["Renderer._cache", "render"]
# corpus: seconds = 10

import kit


class Renderer:
    _cache = {}

    def render(self, request):
        key = (request["n"], "html")
        if key not in self._cache:
            self._cache[key] = "<p>" + request["text"].replace("0", "<b>0</b>") + "</p>"
        return len(self._cache[key])


RENDERER = Renderer()

kit.serve(RENDERER.render, rate=80, size=4000)
