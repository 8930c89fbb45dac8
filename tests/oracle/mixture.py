"""What scikit-learn makes of the cells in src/ops/mask_threshold/tests.rs: the numbers that stand there.

    pip install scikit-learn && python tests/oracle/mixture.py
"""

import warnings

import numpy as np
from sklearn.mixture import GaussianMixture

warnings.simplefilter("ignore")  # 50 steps, converged or not
for cells in (np.exp(np.arange(36) / 9) / 60, np.arange(16) ** 2 % 23 / 23):
    mean, deviation = cells.mean(), cells.std()
    mixture = GaussianMixture(
        2, means_init=[[-1], [1]], precisions_init=[[[1]], [[1]]], weights_init=[0.5, 0.5], reg_covar=1e-3, max_iter=50,
        tol=0,
    ).fit((cells - mean)[:, None] / deviation)
    lower, upper = np.argsort(mixture.means_[:, 0])
    low, high = mixture.means_[[lower, upper], 0]
    for _ in range(60):
        middle = (low + high) / 2
        likely = mixture.predict_proba([[middle]])[0]
        low, high = (low, middle) if likely[upper] > likely[lower] else (middle, high)
    print(high * deviation + mean)
