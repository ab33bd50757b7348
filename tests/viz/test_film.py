import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from minifcn.viz import Film, Sliders, panels


def film(captions=("one", "two", "three"), size=(2, 1)):
    return Film(lambda figure, k: figure.text(0.2 + 0.1 * k, 0.5, str(k)), captions, size)


def picture(png):
    with Image.open(io.BytesIO(png)) as opened:
        return np.asarray(opened.convert("RGB"))


def test_frames_are_pictures_that_differ():
    frames = [picture(frame) for frame in film().frames]
    assert [frame.shape for frame in frames] == [(100, 200, 3)] * 3
    assert (frames[0] != frames[1]).any()


def test_html_is_the_same_each_time_and_asks_nobody():
    html = film().html()
    assert html == film().html()
    assert not re.search(r"https?:|//[a-z]|src=\"(?!data:)", html)
    assert html.index("<img") < html.index("<script>")


def test_html_waits_and_is_described():
    html = film(["a < b", "</script>"]).html()
    assert 'alt="a &lt; b"' in html
    assert html.count("</script>") == 1
    captions = re.search(r"captions = (\[.*?\]),", html)
    assert captions
    assert json.loads(captions[1]) == ["a < b", "</script>"]
    assert "timer = null;" in html
    assert html.count("setInterval") == 1, "only the button plays"


def test_jupyterlab_leaves_the_keys_of_the_slider_alone():
    assert 'it.dataset.lmSuppressShortcuts = "true";' in film().html()


def test_two_films_on_a_page_have_names_of_their_own():
    names = {
        re.search(r'data-film="(\w+)"', film(captions, size).html())[1]
        for captions, size in ((["a"], (2, 1)), (["a", "b"], (2, 1)), (["a"], (3, 1)))
    }
    assert len(names) == 3


@pytest.mark.parametrize(
    ("frames", "shape"), [(1, (100, 200)), (2, (100, 406)), (3, (206, 406)), (9, (206, 406))]
)
def test_the_strip_holds_some_frames_from_first_to_last(frames, shape):
    shown = film([str(k) for k in range(frames)])
    strip = picture(shown.strip())
    assert strip.shape[:2] == shape
    np.testing.assert_array_equal(strip[:100, :200] < 128, picture(shown.frames[0]) < 128)
    if frames > 3:
        np.testing.assert_array_equal(strip[106:, 206:] < 128, picture(shown.frames[-1]) < 128)


@pytest.mark.parametrize("count", [0, 51])
def test_films_are_short(count):
    with pytest.raises(ValueError, match=f"a film has 1 to 50 frames, got {count}"):
        film(["caption"] * count)


def sliders():
    def draw(start, size):
        return panels({"x": np.arange(6)}, boxes={"x": [(0, start, 1, size)]}), f"cells from {start}, {size}"

    return Sliders(draw, {"start": (0, 1, 2), "size": (1, 3)})


def test_sliders_hold_all_combinations_and_the_last_choice_changes_fastest():
    shown = sliders()
    assert shown.captions == [f"cells from {start}, {size}" for start in (0, 1, 2) for size in (1, 3)]
    assert len(set(shown.frames)) == 6
    assert 'choices = [["start", 0, 1, 2], ["size", 1, 3]]' in shown.html()
    assert "choices = []" in film().html(), "a film has buttons instead"


def test_sliders_of_figures_that_differ_in_size_have_a_strip():
    def draw(rows):
        return panels({"x": np.zeros((rows, 9))}), f"{rows} rows"

    shown = Sliders(draw, {"rows": (2, 9)})
    heights = [picture(frame).shape[0] for frame in shown.frames]
    assert heights[0] < heights[1] == picture(shown.strip()).shape[0]


@pytest.mark.parametrize("values", [(), range(51)])
def test_sliders_have_few_combinations(values):
    with pytest.raises(ValueError, match=rf"choices .* 1 to 50 .* \{{'a': {len(values)}, 'b': 1\}}"):
        Sliders(lambda a, b: (None, ""), {"a": values, "b": (1,)})
