import unittest

import pytest
import shop


def test_orders():
    assert len(shop.orders()) == shop.ROWS


class TestCart:
    def test_keep(self):
        cart = shop.Cart()
        cart.keep(bytearray(300_000))
        assert len(cart.kept) == 1

    @pytest.mark.parametrize("count", [100, 400])
    def test_export(self, count):
        assert len(shop.export([bytes(1000)] * count)) == 1000 * count


class OldTest(unittest.TestCase):
    def test_old(self):
        assert len(shop.export([bytes(500)] * 500)) == 250_000


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text").write_bytes(bytes(100_000))
    return tmp_path


def test_folder(folder):
    assert len((folder / "text").read_bytes()) == 100_000
