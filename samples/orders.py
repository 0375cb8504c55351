"""The shop's orders. A real shop would be asked over its API; nothing here changes while the process lives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Order:
    """`price` is in euros."""

    content: str
    price: float
    status: str


ORDERS = {
    "1001": Order("two green tea tins", 18.50, "delivered on Monday"),
    "1002": Order("a teapot", 64.00, "on its way, expected on Friday"),
    "1003": Order("a set of six cups", 112.90, "being packed"),
}
