"""From texts to settings, with every wrong text named rather than the first one raised."""

from collections.abc import Mapping

from pydantic import ValidationError

from worker.config.settings import Settings


def validate(texts: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """Return settings in which wrong texts are replaced by defaults, and what is wrong with each, by field."""
    try:
        return Settings.model_validate(texts), {}
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    wrong = {str(detail["loc"][0]): detail["msg"].removeprefix("Value error, ") for detail in details}
    right = {field: text for field, text in texts.items() if field not in wrong}
    return Settings.model_validate(right), wrong
