"""The translations: all texts of pages, scripts, errors and mails are found in the source; each language has one .po.

    python -m web.catalogues            add new texts, drop those that are gone
    python -m web.catalogues --check    fail when a text has no translation

Texts are marked with `_`, `gettext`, `ngettext` in templates and code. The domain knows no gettext: its errors carry
English texts that the pages translate, and they are found by the names of the errors.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from web.i18n import LANGUAGES, LOCALES

ROOT = Path(__file__).resolve().parent.parent
DOMAIN = "consult"
TEMPLATE_OPTIONS = {
    "extensions": "jinja2.ext.i18n,jinja2.ext.do",
    "newstyle_gettext": "true",
    "trim_blocks": "true",
    "lstrip_blocks": "true",
    "silent": "false",
}
# the position of the text in what the domain raises
DOMAIN_KEYWORDS: dict[str, Any] = {
    "Problem": (3,),
    "Refused": (1,),
    "NotFound": (1,),
    "Forbidden": (1,),
    "Conflict": (1,),
    # consult/errors.py: what an error says when nothing else is given
    "__init__": (1,),
}
_PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w*\}|%[sd]")


def extract() -> Catalog:
    """All texts in the source, without translations."""
    catalog = Catalog(domain=DOMAIN, project="Consult", charset="utf-8", fuzzy=False)
    for folder, methods, options, keywords in (
        (
            "web",
            [("templates/**.html", babel_extract), ("**.py", "python")],
            {"templates/**.html": TEMPLATE_OPTIONS},
            {name: place for name, place in DOMAIN_KEYWORDS.items() if name != "__init__"},
        ),
        ("consult", [("**.py", "python")], {}, DOMAIN_KEYWORDS),
    ):
        for name, line, text, comments, context in extract_from_dir(
            ROOT / folder,
            methods,  # type: ignore[arg-type]
            options,
            keywords={**DEFAULT_KEYWORDS, **keywords},
            comment_tags=("translators:",),
        ):
            if text and not (folder == "consult" and isinstance(text, str) and _is_code(text)):
                # no line numbers: every edit of a template would change the catalogue
                catalog.add(text, None, [(f"{folder}/{name}", None)], auto_comments=comments, context=context)  # type: ignore[list-item]
                del line
    return catalog


def _is_code(text: str) -> bool:
    """A code or a name among the domain's strings, not a sentence for people."""
    return " " not in text and not text[:1].isupper() and not text.endswith((".", "…", "?"))


def path_of(language: str) -> Path:
    return LOCALES / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def load(language: str) -> Catalog:
    with path_of(language).open("rb") as source:
        return read_po(source, locale=language, domain=DOMAIN)


def update(language: str) -> Catalog:
    """Write the catalogue of today's texts, with the translations there are."""
    catalog = load(language) if path_of(language).exists() else Catalog(locale=language, domain=DOMAIN)
    # dates would change with every run
    created = catalog.creation_date
    catalog.update(extract(), no_fuzzy_matching=True)
    catalog.creation_date = created
    catalog.project, catalog.version = "Consult", "1"
    catalog.header_comment = f"# Texts of Consult in {catalog.locale_identifier}, kept by `python -m web.catalogues`."
    catalog.obsolete.clear()
    catalog.fuzzy = False
    path_of(language).parent.mkdir(parents=True, exist_ok=True)
    with path_of(language).open("wb") as target:
        write_po(target, catalog, sort_output=True, width=118, include_lineno=False, omit_header=False)
    return catalog


def gaps(language: str) -> Iterator[str]:
    """What is wrong with a catalogue: missing texts, missing translations, other placeholders."""
    catalog = load(language)
    for wanted in extract():
        if not wanted.id:
            continue
        found = catalog.get(wanted.id if isinstance(wanted.id, str) else wanted.id[0], wanted.context)
        if found is None:
            yield f"not in the catalogue: {wanted.id!r}"
            continue
        texts = found.string if isinstance(found.string, tuple | list) else [found.string]
        if not all(texts) or found.fuzzy:
            yield f"not translated: {wanted.id!r}"
        elif not _same_placeholders(found):
            yield f"other placeholders: {wanted.id!r}"


def _same_placeholders(message: Message) -> bool:
    ids = message.id if isinstance(message.id, tuple | list) else [message.id]
    texts = [text or "" for text in (message.string if isinstance(message.string, tuple | list) else [message.string])]
    wanted = set(_PLACEHOLDER.findall(ids[-1]))
    return all(set(_PLACEHOLDER.findall(text)) == wanted for text in texts)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m web.catalogues", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when a text has no translation; change nothing")
    check = parser.parse_args(arguments).check
    problems = 0
    for language in LANGUAGES:
        if language == "en":
            continue
        if not check:
            update(language)
        for gap in gaps(language):
            problems += 1
            sys.stderr.write(f"{language}: {gap}\n")
    return 1 if problems and check else 0


if __name__ == "__main__":
    raise SystemExit(main())
