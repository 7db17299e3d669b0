"""Labelled images and manifests, made in the test."""

from __future__ import annotations

import csv

import cv2
import numpy as np


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, str(path)))
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), np.uint8)
    cv2.imwrite(str(path), pixels)


def manifest(folder, rows):
    path = folder / "manifest.csv"
    columns = list(rows[0])
    for row in rows:
        image(folder / row["file"])
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def site_rows(site, **columns):
    """A small manifest of a site: two patients of each class in each split."""
    return [
        {
            "file": f"{site}/{split}-{label}{patient}.png",
            "label": label,
            "split": split,
            "patient_id": f"{site}-{split}-{label}{patient}",
            "source": site,
            **columns,
        }
        for split in ("train", "val", "test")
        for label in ("covid", "healthy")
        for patient in range(2)
    ]
