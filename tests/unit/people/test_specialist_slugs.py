"""Page addresses from titles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consult.people.specialists import SLUG_LONGEST, is_slug, slug_from


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Clinical psychologist, PhD", "clinical-psychologist-phd"),
        ("Diététicienne", "dieteticienne"),
        ("  --  ", ""),
        ("Психолог", ""),
        ("A" * 100, "a" * 60),
    ],
)
def test_slugs(title: str, slug: str) -> None:
    assert slug_from(title) == slug


@given(st.text())
def test_what_comes_out_is_a_slug_with_room_for_a_number(text: str) -> None:
    slug = slug_from(text)
    assert slug == "" or (is_slug(slug) and is_slug(f"{slug}-99"))


@pytest.mark.parametrize("text", ["", "-a", "a-", "a--b", "A", "a b", "ä", "a\n", "a" * (SLUG_LONGEST + 1), "../a"])
def test_no_slugs(text: str) -> None:
    assert not is_slug(text)
