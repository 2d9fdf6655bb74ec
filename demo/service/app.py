"""A small orders service, with two leaks that real services have.

Each leak's allocation stands on a line that ends in a `# leak:` comment; that line, in that function, is what
a memory profiler should name. Who holds the memory is another line: see `audit.py` and `PAGES`.
"""

import datetime
import os

import audit
import store
from flask import Flask, abort, jsonify, render_template, request

app = Flask(__name__)

# Rendered pages by (order, moment). The moment is different at every request, so no page is ever found again.
PAGES = {}


@app.before_request
def open_store():
    store.connect()


@app.get("/healthz")
def health():
    return jsonify(status="ok", pid=os.getpid())


@app.post("/orders")
def create_order():
    payload = request.get_json()  # leak: audit
    total = sum(line["quantity"] * line["price"] for line in payload["lines"])
    order = store.add(payload["customer"], total, payload["lines"])
    audit.record(request.remote_addr, "create", payload)
    return jsonify(id=order, total=round(total, 2)), 201


@app.get("/orders/<int:order>")
def show_order(order):
    found = store.find(order)
    if found is None:
        abort(404)
    return jsonify(found)


@app.get("/orders/<int:order>/invoice")
def invoice(order):
    moment = datetime.datetime.now().isoformat()
    if (order, moment) not in PAGES:
        found = store.find(order)
        if found is None:
            abort(404)
        PAGES[order, moment] = render_template("invoice.html", order=found, moment=moment)  # leak: pages
    return PAGES[order, moment]


@app.get("/")
def overview():
    return render_template("overview.html", orders=store.latest(50))
