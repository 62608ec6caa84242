"""The tables of the guide's pages, generated; as a script, it writes them as CSV files.

It needs no more than xpnn does.

passengers.csv    texts, names, truth values, missing cells, an id: who survived?
machines.csv      three classes, one of them rare
houses.csv        prices, which spread more the higher they are
new.csv           passengers of whom nobody knows whether they survived
"""

import csv

import numpy as np

Columns = dict[str, list]

FIRST = {"female": ["Ada", "Emmy", "Lise", "Marie"], "male": ["Alan", "Carl", "Emil", "Niels"]}
INITIALS = list("ABCDEFGHJKLMNOPRSTVW")
LAST = ["Abel", "Berg", "Chen", "Diaz", "Egger", "Frank", "Gupta", "Hahn", "Ito", "Jansen"]


def passengers(rows: int = 900, seed: int = 0) -> Columns:
    """Return passengers of a ship: sex, class and age say most of who survived."""
    rng = np.random.RandomState(seed)
    sex = rng.choice(["female", "male"], rows, p=[0.35, 0.65])
    rank = rng.choice([1, 2, 3], rows, p=[0.25, 0.2, 0.55])
    age = np.clip(rng.normal(30, 14, rows), 1, 80).round()
    alone = rng.uniform(size=rows) < 0.6
    logit = 4.0 * (sex == "female") - 1.5 * rank - 0.05 * (age - 30) - 0.5 * alone + 1.5
    survived = rng.uniform(size=rows) < 1 / (1 + np.exp(-logit))
    port = rng.choice(["S", "C", "Q"], rows, p=[0.7, 0.2, 0.1]).astype(object)
    port[rng.uniform(size=rows) < 0.01] = None
    title = {"female": "Ms.", "male": "Mr."}
    name = [
        f"{rng.choice(LAST)}, {title[s]} {rng.choice(FIRST[s])} {rng.choice(INITIALS)}."
        for s in sex
    ]
    ticket = [f"{rng.choice(['A/5', 'PC', 'C.A.'])} {rng.randint(1000, 99999)}" for _ in sex]
    return _lists(
        {
            "PassengerId": np.arange(1, rows + 1),
            "Survived": survived.astype(int),
            "Pclass": rank,
            "Name": name,
            "Sex": sex,
            "Age": np.where(rng.uniform(size=rows) < 0.2, np.nan, age),
            "Alone": alone,
            "Ticket": ticket,
            "Fare": (rng.lognormal(0, 0.5, rows) * 60 / rank**1.5).round(2),
            "Embarked": port,
        }
    )


def machines(rows: int = 1500, seed: int = 1) -> Columns:
    """Return machines, of which one in twenty is broken."""
    rng = np.random.RandomState(seed)
    state = rng.choice(3, rows, p=[0.8, 0.15, 0.05])
    heat, shake = np.array([[60, 1.0], [68, 1.6], [74, 1.3]])[state].T
    return _lists(
        {
            "temperature": (heat + 5 * rng.standard_normal(rows)).round(1),
            "vibration": (shake + 0.3 * rng.standard_normal(rows)).round(2),
            "hours": rng.randint(0, 20000, rows),
            "site": rng.choice(["east", "north", "west"], rows),
            "state": np.array(["fine", "worn", "broken"])[state],
        }
    )


def houses(rows: int = 1500, seed: int = 2) -> Columns:
    """Return houses, whose prices in thousands spread more the higher they are."""
    rng = np.random.RandomState(seed)
    area = rng.uniform(40, 240, rows).round()
    year = rng.randint(1900, 2025, rows)
    distance = rng.gamma(2, 4, rows).round(1)
    garden = rng.uniform(size=rows) < 0.4
    price = area * (1.5 + 3 * np.exp(-distance / 8)) * (1 + (year - 1960) / 300) * (1 + garden / 10)
    price *= np.exp(0.15 * rng.standard_normal(rows))
    return _lists(
        {
            "area": area,
            "year": year,
            "distance": distance,
            "garden": garden,
            "price": price.round(1),
        }
    )


def _lists(columns: dict) -> Columns:
    return {name: np.asarray(values).tolist() for name, values in columns.items()}


def write(name: str, columns: Columns, first: int | None = None) -> None:
    """Write a table as pandas does: with `first`, the numbers of the rows too, from there on."""
    if first is not None:
        rows = len(next(iter(columns.values())))
        columns = {"": list(range(first, first + rows)), **columns}
    with open(name, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            # NaN, a missing number, is an empty cell, as None is
            writer.writerow([None if value != value else value for value in row])


if __name__ == "__main__":
    table = passengers()
    write("passengers.csv", {name: column[:800] for name, column in table.items()}, 0)
    del table["Survived"]
    write("new.csv", {name: column[800:] for name, column in table.items()}, 800)
    write("machines.csv", machines())
    write("houses.csv", houses())
