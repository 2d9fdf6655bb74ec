"""A Pool of four by spawn: each worker loads the model for itself."""
# corpus: pattern = "process_model_multiplication"
# corpus: culprit = ["load_model", "MODEL", "worker"]
# corpus: seconds = 12
# corpus: python = "3.10"

import multiprocessing
import os

import kit

MODEL = []


def load_model():
    MODEL.extend({"weight": number / 3, "name": f"unit {number}"} for number in range(120_000))


def score(number):
    return MODEL[number]["weight"] * 2


def main():
    with multiprocessing.get_context("spawn").Pool(4, load_model) as pool:
        pool.map(score, range(400))
        kit.wait_until_steady(os.getpid())
        kit.ready()
        for _ in kit.ticks(10):
            pool.map(score, range(100))


if __name__ == "__main__":
    main()
