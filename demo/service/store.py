"""Orders in SQLite. Holds a bounded number of them, so that the file and its page cache stay small."""

import json
import os
import sqlite3
import threading

KEEP = 1000
PATH = os.environ.get("ORDERS_DB", "orders.sqlite3")
_local = threading.local()


def connect():
    if getattr(_local, "connection", None) is None:
        _local.connection = sqlite3.connect(PATH, timeout=30, isolation_level=None)
        _local.connection.execute("pragma synchronous = off")
        _local.connection.execute(
            "create table if not exists orders (id integer primary key, customer text, total real, lines text)"
        )
    return _local.connection


def add(customer, total, lines):
    connection = connect()
    cursor = connection.execute(
        "insert into orders (customer, total, lines) values (?, ?, ?)", (customer, total, json.dumps(lines))
    )
    connection.execute("delete from orders where id <= ?", (cursor.lastrowid - KEEP,))
    return cursor.lastrowid


def find(order):
    row = connect().execute("select id, customer, total, lines from orders where id = ?", (order,)).fetchone()
    if row is None:
        return None
    return {"id": row[0], "customer": row[1], "total": row[2], "lines": json.loads(row[3])}


def latest(count):
    rows = connect().execute("select id, customer, total from orders order by id desc limit ?", (count,))
    return [{"id": row[0], "customer": row[1], "total": row[2]} for row in rows]
