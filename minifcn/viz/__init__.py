"""Pictures: labels over photographs, heat maps, training curves, confusion matrices, predictions and errors.

Every function but `label_map` returns a `matplotlib.figure.Figure` of its own, without global state; write it
with `figure.savefig("picture.png")`.
"""

from minifcn.viz.confusion import confusion_matrix
from minifcn.viz.curves import training_curve
from minifcn.viz.heat import heat_maps
from minifcn.viz.labels import label_map, overlay
from minifcn.viz.strips import prediction_strips

__all__ = ["confusion_matrix", "heat_maps", "label_map", "overlay", "prediction_strips", "training_curve"]
