"""What Wen et al. 2021 (J. Neural Eng. 18, 056003) print, each figure with its place.

Figures 4 to 7 are drawn there, not printed: only what the text and the tables say is here.
"""

from __future__ import annotations

STEPS = (5, 10, 20, 40)  # samples, sections 3.3.4.1 and 3.3.4.2
WINDOWS = (20, 40, 80, 120)
NODES = {  # section 2.2: C1-C2-C3-C4-F1
    "64-64-64-32-128": (64, 64, 64, 32, 128),
    "128-128-128-64-256": (128, 128, 128, 64, 256),
    "256-256-256-128-512": (256, 256, 256, 128, 512),
}
LAYERS = {  # section 2.2: convolutions before the two fully connected layers
    "case 1: 2 fully connected": 0,
    "case 2: 2 conv + 2 fully connected": 2,
    "case 3: 4 conv + 2 fully connected": 4,
}
PUBLISHED_NODES, PUBLISHED_LAYERS = "128-128-128-64-256", "case 3: 4 conv + 2 fully connected"
BATCH, EPOCHS, PATIENCE = 64, 100, 50  # section 3.3.3
THRESHOLD = 0.5  # section 2.1
MIN_DISCHARGES = 150  # in each of the three segments, section 3.3.1
BEST = (20, 120)  # step, window: sections 4.2.1 and 4.2.3

# section 4.1: weights of the networks for 64 channels, window 120
WEIGHTS = {"so": 590_785, "mo_ten_units": 5_241_994, "mo_per_unit": 524_199}

# (decoder, step, window) -> sensitivity and precision in %, simulated signals
SIMULATED = {
    ("so", 20, 120): (98, 98),  # section 4.1
    ("mo", 20, 120): (95, 97),  # section 4.1; section 4.2.1 prints 97 and 95 of the same setting
}
SIMULATED_AGAIN = {("mo", 20, 120): (97, 95)}  # section 4.2.1
SIMULATED_CKC = (99, 99)  # "higher than 99%", section 4.1
SIMULATED_UNITS, SIMULATED_PNR_DB = 17, 35.9  # section 4.1

# sensitivity and precision in %, mean and sd
EXPERIMENT = {
    ("so", 20, 120): ((92, 4), (90, 5)),  # one participant, 10 % MVC, 9 of 10 units, section 4.1
    ("mo", 20, 120): ((83, 11), (91, 5)),
}
EXPERIMENT_ALL = ((84, 5), (93, 2))  # six participants, 10, 30 and 50 % MVC, section 4.2.3

# MO-DCNN, mean r of 1 s segments at their best lag, window 120: step -> mean, sd; section 4.2.1
CST = {5: (0.84, 0.09), 10: (0.94, 0.05), 20: (0.95, 0.05), 40: (0.91, 0.08)}
CST_CKC = 0.99  # "higher than 0.99 for all the step sizes"
CST_EXPERIMENT = {"10 % MVC": (0.95, 0.03), "30 % MVC": (0.94, 0.03), "50 % MVC": (0.88, 0.05)}

# seconds per epoch over steps 40 to 5, window 120, ten units, section 4.1 (the abstract prints
# 3.2 to 21.4 and 6.5 to 47.8)
TRAINING_S = {"so": (6.5, 48.3), "mo": (3.4, 20.7)}
PREDICTION_MS = {"so": (270, 280), "mo": (40, 41)}  # per window, all ten units, section 4.1

# table 2: step -> by window 20, 40, 80, 120; MO-DCNN, all participants and intensities
TABLE_2_TRAINING_S = {5: (13, 16, 22, 28), 10: (7, 9, 11, 15), 20: (4, 5, 6, 8), 40: (3, 3, 4, 5)}
TABLE_2_PREDICTION_MS = {
    5: (46, 46, 49, 49), 10: (46, 46, 48, 48), 20: (46, 46, 49, 48), 40: (46, 46, 48, 48),
}

# table 1: by intensity 10, 30, 50 % MVC: units found, their PNR, units with 150 spikes or more
TABLE_1 = {
    "motor units": ((22, 5), (23, 4), (15, 5)),
    "PNR (dB)": ((40, 4), (39, 3), (40, 3)),
    "used for training": ((13, 4), (18, 4), (13, 4)),
}


def table_2(step: int, window: int) -> tuple[int, int]:
    """Training time (s per epoch) and prediction time (ms per window) of table 2."""
    column = WINDOWS.index(window)
    return TABLE_2_TRAINING_S[step][column], TABLE_2_PREDICTION_MS[step][column]
