"""The documents stay true where that can be checked."""

import pytest

from scripts import settings_page


def test_settings_page_is_fresh() -> None:
    """A setting that is added or changed is changed in docs/settings.md: `make settings`."""
    text = settings_page.PAGE.read_text()
    assert settings_page.rewritten(text) == text


@pytest.mark.parametrize("text", ["", settings_page.BEGIN, settings_page.END])
def test_page_without_place_for_the_table_is_refused(text: str) -> None:
    """A page that lost its markers is an error, not a page without settings."""
    with pytest.raises(ValueError, match=r"settings\.md"):
        settings_page.rewritten(text)
