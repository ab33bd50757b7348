"""The page of questions links each of them to cells that exist."""

import re

from tests.lessons.cells import LESSONS, SOURCES, prose

PAGE = (LESSONS.parent / "docs" / "questions.md").read_text(encoding="utf-8")
TEACHING = (LESSONS.parent / "docs" / "teaching.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[Lesson (\d+), ([^\]]+)\]\(\.\./lessons/(\d\d_\w+)\.ipynb#([^ \n]+)\)")


def wrong_links(page):
    """Return the links to lessons whose file or heading does not exist."""
    headings = {s.stem: re.findall(r"^## (.+)$", prose(s), re.MULTILINE) for s in SOURCES}
    return [
        (number, heading)
        for number, heading, file, anchor in LINK.findall(page)
        if int(file[:2]) != int(number)
        or heading not in headings.get(file, [])
        or anchor != heading.replace(" ", "-")
    ]


def test_each_of_the_25_questions_has_a_cell():
    questions = re.split(r"^(\d+)\. \*\*", PAGE, flags=re.MULTILINE)[1:]
    assert questions[::2] == [str(k) for k in range(1, 26)]
    assert all("?**" in question and LINK.search(question) for question in questions[1::2])


def test_links_of_questions_and_of_the_teachers_table_lead_to_headings():
    assert wrong_links(PAGE) == []
    assert wrong_links(TEACHING) == []
    assert PAGE.count("](") == len(LINK.findall(PAGE))


def test_a_wrong_heading_is_found():
    page = "[Lesson 2, Canals](../lessons/02_one_convolution.ipynb#Canals)"
    assert wrong_links(page) == [("2", "Canals")]
