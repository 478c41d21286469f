"""Docstrings are taken apart without a word lost, whoever wrote them."""

from __future__ import annotations

from textwrap import dedent

import pytest

from fedlight.plugins.card import Block, parse

CARD = parse(
    dedent(
        """\
        Bright and Dark: images get another brightness (Doe et al., arXiv 1234.56789, equation 2; Roe, MICCAI 2020).

        An idea that goes
        over two lines (see arXiv 2345.67890).

            x' = x + b          b ~ N(0, s^2)
              if Bright: x' >= x

        Then b is small.

        Shared: mean brightness, 4 C bytes; colour images make 12 bytes up and 48 down with four sites, 8 bytes less of
        the model. Privacy: one number. Secure aggregation: possible, in parts. Cost: an addition, 1.07 times FedAvg's
        time. Settings that matter: ``s``.

        A remark.

        Deviations: none (so far). Released code: it adds twice.
        """
    )
)


def test_a_title_has_names_a_phrase_and_a_source() -> None:
    assert CARD.name == "Bright and Dark"
    assert CARD.phrase == "images get another brightness"
    assert CARD.source == "Doe et al., arXiv 1234.56789, equation 2; Roe, MICCAI 2020"


def test_paragraphs_become_lines_and_formulas_stay_as_they_are() -> None:
    assert CARD.body == (
        Block("An idea that goes over two lines (see arXiv 2345.67890)."),
        Block("x' = x + b          b ~ N(0, s^2)\n  if Bright: x' >= x", verbatim=True),
        Block("Then b is small."),
    )
    assert CARD.formula == CARD.body[1].text


def test_parts_are_found_inside_paragraphs_and_keep_their_order() -> None:
    parts = ["Shared", "Privacy", "Secure aggregation", "Cost", "Settings that matter", "Deviations", "Released code"]
    assert list(CARD.parts) == parts
    assert CARD.said("Privacy") == "one number."
    assert CARD.said("Deviations") == "none (so far)."
    assert CARD.said("Nonsense") == ""


def test_a_paragraph_without_a_label_belongs_to_the_part_before() -> None:
    assert CARD.parts["Settings that matter"] == (Block("``s``."), Block("A remark."))


def test_numbers_are_read_from_their_parts() -> None:
    assert CARD.shared_bytes == (12, 48)
    assert CARD.kept_bytes == 8
    assert CARD.secure_aggregation == "possible"
    assert CARD.times == 1.07
    assert CARD.papers == ("1234.56789", "2345.67890")
    assert CARD.paper == "1234.56789"


def test_a_venue_stands_in_for_an_arxiv_id() -> None:
    assert parse("Bright: adds (Doe et al., IEEE TMI 2023; not on arXiv).").paper == "IEEE TMI 2023"
    assert parse("Bright: adds.\n\nAfter arXiv 1234.56789.").paper == "1234.56789"
    assert parse("Bright: adds (reference arm, no paper).").paper == ""


@pytest.mark.parametrize("said", ["nothing.", "nothing. The model is 5 bytes.", "nothing but a number."])
def test_nothing_is_no_bytes(said: str) -> None:
    assert parse(f"Bright: adds.\n\nShared: {said}").shared_bytes == (0, 0)


def test_bytes_in_other_words_are_not_known() -> None:
    assert parse("Bright: adds.\n\nShared: 12 bytes up.").shared_bytes is None
    assert parse("Bright: adds.\n\nShared: nothingness.").shared_bytes is None


@pytest.mark.parametrize("docstring", ["Adds a number to images.", "Adds a number to images"])
def test_one_line_is_a_card(docstring: str) -> None:
    card = parse(docstring)
    assert (card.name, card.phrase, card.body, card.parts) == ("", "Adds a number to images", (), {})
    assert (card.times, card.shared_bytes, card.secure_aggregation, card.paper) == (None, None, "", "")


def test_no_docstring_is_an_empty_card() -> None:
    assert parse("").phrase == ""
