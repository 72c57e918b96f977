"""The VOC devkit's measure, written again from what VOCevalseg.m does, with nothing of this project."""

from collections.abc import Iterable

import numpy as np


def devkit_accuracies(pairs: Iterable[tuple[np.ndarray, np.ndarray]], classes: int) -> list[float]:
    """Accuracy of each class in %, as VOCevalseg.m prints it, from pairs of result and truth.

    Over all images, pixels below 255 in the truth are counted by pair of labels; a class's accuracy is the intersection in % of
    (pixels of the class in the truth + pixels of the class in the result - intersection). Its mean is the benchmark's number.
    """
    raw = [[0] * classes for _ in range(classes)]
    for result, truth in pairs:
        for true in range(classes):
            of_class = result[truth == true]
            for guess in range(classes):
                raw[true][guess] += int(np.count_nonzero(of_class == guess))
    accuracies = []
    for label in range(classes):
        truth_pixels = sum(raw[label])
        result_pixels = sum(raw[true][label] for true in range(classes))
        intersection = raw[label][label]
        union = truth_pixels + result_pixels - intersection
        accuracies.append(100 * intersection / union if union else float("nan"))
    return accuracies
