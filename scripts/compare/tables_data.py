"""Seven generated tables and scikit-learn's five small ones, for the programs beside this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn import datasets

Arrays = tuple[np.ndarray, np.ndarray]


class Table(NamedTuple):
    """What is to be learnt: ``make()`` returns features and targets, the same ones each time."""

    make: Callable[[], Arrays]
    values: bool  # whether the targets are values, which R² judges, or classes, by accuracy


def housing() -> Arrays:
    """Return 4000 rows of 8 features like those of houses: skewed, correlated, with noise."""
    rng = np.random.RandomState(0)
    n = 4000
    income = rng.gamma(3.5, 1.1, n)
    age = rng.uniform(1, 52, n)
    rooms = np.exp(rng.normal(1.6, 0.25, n)) + 0.1 * income
    bedrooms = rooms * rng.uniform(0.15, 0.3, n)
    people = np.exp(rng.normal(7.0, 0.7, n))
    household = np.exp(rng.normal(1.0, 0.25, n))
    latitude, longitude = rng.uniform(32.5, 42, n), rng.uniform(-124.3, -114.3, n)
    coast = np.abs(longitude + 118 + 0.8 * (latitude - 34))
    value = 0.45 * income + 0.01 * age - 0.6 * np.log(household) + 1.2 * np.exp(-coast)
    value += 0.15 * income * np.exp(-coast) + 0.1 * (rooms - bedrooms) + rng.normal(0, 0.35, n)
    columns = (income, age, rooms, bedrooms, people, household, latitude, longitude)
    return np.stack(columns, axis=1), np.clip(value, 0.15, 5.0)


TABLES = {
    "friedman1": Table(lambda: datasets.make_friedman1(2000, 10, noise=1.0, random_state=0), True),
    "friedman3": Table(lambda: datasets.make_friedman3(2000, noise=0.1, random_state=0), True),
    "friedman2": Table(lambda: datasets.make_friedman2(2000, random_state=0), True),
    "housing": Table(housing, True),
    "quantiles": Table(
        lambda: datasets.make_gaussian_quantiles(
            n_samples=2000, n_features=6, n_classes=3, random_state=0
        ),
        False,
    ),
    "hastie": Table(lambda: datasets.make_hastie_10_2(3000, random_state=0), False),
    "clusters": Table(
        lambda: datasets.make_classification(
            2000, 12, n_informative=8, n_classes=4, random_state=0
        ),
        False,
    ),
    "iris": Table(lambda: datasets.load_iris(return_X_y=True), False),
    "wine": Table(lambda: datasets.load_wine(return_X_y=True), False),
    "cancer": Table(lambda: datasets.load_breast_cancer(return_X_y=True), False),
    "digits": Table(lambda: datasets.load_digits(return_X_y=True), False),
    "diabetes": Table(lambda: datasets.load_diabetes(return_X_y=True), True),
}
GENERATED = list(TABLES)[:7]
