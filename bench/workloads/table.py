"""A table read, grouped, sorted and joined by pandas: `table.py ROUNDS TABLE`."""

import sys

import pandas

for _ in range(int(sys.argv[1])):
    rides = pandas.read_csv(sys.argv[2])
    rides["start"] = pandas.to_datetime(rides["start"])
    rides["paid"] = rides["price"] + rides["tip"]
    month = rides["start"].dt.month.rename("month")
    towns = rides.groupby(["town", month]).agg({"paid": "sum", "kilometres": "mean", "stars": "mean"}).reset_index()
    best = rides.nlargest(100, "paid").merge(towns, on="town", suffixes=("", "_of_town"))
    ordered = rides.sort_values("paid", ascending=False)
    letters = rides["remark"].str.upper().str.len().sum()
    assert len(best) > 100 and len(ordered) == len(rides) and letters
