"""The splits that tests/layouts/splits.rs holds ours to, drawn by the libraries that the published scripts draw them with.

    python tests/oracle/splits.py        needs numpy, pandas, scikit-learn; made with 2.4.6, 3.1.1, 1.9.1

Each line is a count of rows and a fingerprint of which they are: the sum of (row + 1)^2, modulo 10^9 + 7.
"""

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

ROWS = 9000
FIVE = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
OTHERS = ["Enlarged Cardiomediastinum", "Lung Lesion", "Lung Opacity", "Pneumonia", "Pneumothorax", "Pleural Other", "Fracture",
          "Support Devices"]


def told(what, rows):
    rows = list(map(int, rows))
    print(f"{what}: ({len(rows)}, {sum((row + 1) ** 2 for row in rows) % (10**9 + 7)})")


def table():
    """The rows of the test: each seventh has no finding, each seventh two, the others one; some are uncertain, some lateral."""
    rows = []
    for row in range(ROWS):
        labels = {}
        kind = row % 7
        if kind < 5:
            labels[FIVE[kind]] = 1.0
        elif kind == 6:
            labels[FIVE[row % 5]] = labels["Lung Opacity"] = 1.0
        if row % 13 == 0:
            labels["Pneumonia"] = -1.0
        if row % 17 == 0:
            labels["Fracture"] = 0.0
        rows.append({"row": row, "view": "Lateral" if row % 11 == 3 else "Frontal", **labels})
    return pd.DataFrame(rows, columns=["row", "view", *FIVE, *OTHERS])


def five_times_200(films):
    """MGCA: 200 of the frontal films that have one label of five and nothing else."""
    films = films.fillna(0)
    films = films[films["view"] == "Frontal"]
    chosen = []
    for label in FIVE:
        alone = (films[[other for other in FIVE + OTHERS if other != label]] == 0).all(axis=1)
        chosen.append(films[(films[label] == 1) & alone].sample(n=200, random_state=0))
    return pd.concat(chosen)


films = table()
five = five_times_200(films)
told("CheXpert 5x200", five["row"])
rest = films[~films["row"].isin(five["row"])]
np.random.seed(0)
places = np.random.choice(len(rest), size=5000, replace=False)
validation = rest.iloc[places]["row"]
training = rest.drop(places, errors="ignore")["row"]
told("MGCA, validation", validation)
told("MGCA, training without those", set(training) - set(validation))
told("MGCA, both", set(training) & set(validation))
frontal = set(films[films["view"] == "Frontal"]["row"])
told("MGCA, validation, frontal", set(validation) & frontal)
told("MGCA, training without those, frontal", (set(training) - set(validation)) & frontal)

# MGCA's scripts for RSNA and SIIM: a part set apart, then halved.
for what, part in [("RSNA", 0.4), ("SIIM", 0.3)]:
    train, apart = train_test_split(np.arange(103), test_size=part, random_state=0)
    test, validation = train_test_split(apart, test_size=0.5, random_state=0)
    told(f"{what}, validation", validation)
    told(f"{what}, test", test)

train, held_out = train_test_split(np.arange(103), train_size=0.8, random_state=0)
told("COVIDx, validation", held_out)
train, held_out = train_test_split(np.arange(103), test_size=0.2, random_state=0)
told("Object-CXR and VinDr-CXR, validation", held_out)
