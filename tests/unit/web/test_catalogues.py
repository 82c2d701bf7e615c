"""Every text has a translation, and the catalogue can say numbers."""

from __future__ import annotations

import pytest

from web import i18n
from web.catalogues import extract, gaps

OTHERS = [language for language in i18n.LANGUAGES if language != "en"]


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated(language: str) -> None:
    assert list(gaps(language)) == [], "run `python -m web.catalogues` and translate what is new"


def test_texts_are_found_everywhere() -> None:
    catalog = extract()
    for text in (
        "Confirm booking",  # a template
        "Morning",  # page code
        "Please choose a time zone from the list.",  # a field's problem in the domain
        "Please choose a date.",  # a field's problem in page code
        "This time has just been taken. Please choose another one.",  # an error's own text
        "Hello %(name)s,",  # a mail
        "Unmute microphone",  # a script's text
    ):
        assert catalog.get(text) is not None, text
    # codes are no texts
    for code in ("too_late", "bad_ticket", "required"):
        assert catalog.get(code) is None


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1 минута"), (2, "2 минуты"), (5, "5 минут"), (11, "11 минут"), (21, "21 минута")]
)
def test_russian_counts(number: int, text: str) -> None:
    found = i18n.catalogue("ru").ngettext("%(num)s minute", "%(num)s minutes", number)
    assert found % {"num": number} == text


def test_an_unknown_language_reads_english() -> None:
    assert i18n.translator("xx")("Join") == "Join"
    assert i18n.translator("ru")("Join") == "Войти"
