"""Wrong answers to the exercises of lesson 11, and what must be said about each."""

from itertools import pairwise

import numpy as np


def fits(new, old):
    return [name for name in new if name in old and new[name].shape == old[name].shape]


def rest(names, copied):
    return [name for name in names if name not in copied]


def dictionary_updated(new, old):
    copied = fits(new, old)
    new.update({name: old[name] for name in copied})
    return copied, rest(old, copied), rest(new, copied)


def misfits_forgotten(new, old):
    copied = fits(new, old)
    for name in copied:
        new[name][...] = old[name]
    return copied, [name for name in old if name not in new], [name for name in new if name not in old]


def misfits_copied(new, old):
    copied = fits(new, old)
    for name in copied:
        new[name][:] = old[name]
    both = [name for name in new if name in old]
    return both, rest(old, both), rest(new, both)


def names_only(new, old):
    copied = []
    for name in new:
        if name in old:
            new[name][...] = old[name]
            copied.append(name)
    return copied, rest(old, copied), rest(new, copied)


def lists_exchanged(new, old):
    copied = fits(new, old)
    for name in copied:
        new[name][...] = old[name]
    return copied, rest(new, copied), rest(old, copied)


def from_new_to_old(new, old):
    copied = fits(new, old)
    for name in copied:
        old[name][...] = new[name]
    return copied, rest(old, copied), rest(new, copied)


def only_said(new, old):
    copied = fits(new, old)
    return copied, rest(old, copied), rest(new, copied)


def in_order_of_shapes(new, old):
    """As if names did not matter."""
    copied = []
    for name, array in new.items():
        for other in old.values():
            if other.shape == array.shape:
                array[...] = other
                copied.append(name)
                break
    return copied, rest(old, copied), rest(new, copied)


def copied_only(new, old):
    copied = fits(new, old)
    for name in copied:
        np.copyto(new[name], old[name])
    return copied


def nothing_returned(new, old):
    for name in fits(new, old):
        new[name][...] = old[name]


def learning(layers, frozen):
    return [name for name in layers if name not in frozen]


def from_the_first(layers, frozen):
    for i, name in enumerate(layers):
        if name not in frozen:
            return layers[i:]
    return []


def other_way_round(layers, frozen):
    return [name for i, name in enumerate(layers) if any(n not in frozen for n in layers[i + 1 :])]


def all_but_the_first(layers, frozen):
    return layers[1:]


def frozen_left_out(layers, frozen):
    passing, learns = [], False
    for name in layers:
        if name not in frozen:
            if learns:
                passing.append(name)
            learns = True
    return passing


def in_order_of_backward(layers, frozen):
    passing = []
    for i in reversed(range(len(layers))):
        if any(name not in frozen for name in layers[:i]):
            passing.append(layers[i])
    return passing


def only_the_neighbour(layers, frozen):
    return [name for before, name in pairwise(layers) if before not in frozen]


def a_number(layers, frozen):
    return len(layers) - len(frozen)


WRONG = {
    "my_transplant": {
        dictionary_updated: "Likely mistake: The entries of the dictionary are replaced",
        misfits_forgotten: "Likely mistake: A name in both networks with different shapes is in no list",
        misfits_copied: "Likely mistake: A name in both networks is reported as copied although the shapes",
        names_only: "Likely mistake: Only names are compared",
        lists_exchanged: "Likely mistake: Left over and missing are swapped",
        from_new_to_old: "Likely mistake: The weights are copied from new to old",
        only_said: "of new is",
        in_order_of_shapes: "must be 'copied: none', yours is 'copied: score'",
        copied_only: "three lists must be returned",
        nothing_returned: "three lists must be returned, yours returns None",
    },
    "my_passing_on": {
        learning: "Likely mistake: These are the layers that learn",
        from_the_first: "Likely mistake: The first layer that learns is one too many",
        other_way_round: "Likely mistake: Backward goes from the loss to the image",
        all_but_the_first: "Likely mistake: The frozen layers next to the image pass a gradient on",
        frozen_left_out: "Likely mistake: A frozen layer after one that learns is left out",
        in_order_of_backward: "Likely mistake: The order is that of backward",
        only_the_neighbour: "frozen = ['layer 1']",
        a_number: "the result must be 0 values, yours is of type int",
    },
}
