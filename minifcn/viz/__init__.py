"""Figures: labels over images, heat maps, training curves, confusion matrices, predictions and errors.

All functions but `label_map` and `convolution_matrix` return a new `matplotlib.figure.Figure`, without global
state, or a `Film`. Save a figure with `figure.savefig("figure.png")`; in a notebook, `show` displays both.
"""

from minifcn.viz.arithmetic import convolution_film, painting_film, zeros_film
from minifcn.viz.confusion import confusion_matrix
from minifcn.viz.curves import training_curve
from minifcn.viz.film import Film, Sliders
from minifcn.viz.heat import heat_maps
from minifcn.viz.labels import label_map, overlay
from minifcn.viz.panels import panels
from minifcn.viz.predictions import prediction_strips
from minifcn.viz.receptive_fields import convolution_matrix, coverage, receptive_fields
from minifcn.viz.showing import show

__all__ = [
    "Film",
    "Sliders",
    "confusion_matrix",
    "convolution_film",
    "convolution_matrix",
    "coverage",
    "heat_maps",
    "label_map",
    "overlay",
    "painting_film",
    "panels",
    "prediction_strips",
    "receptive_fields",
    "show",
    "training_curve",
    "zeros_film",
]
