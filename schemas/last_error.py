"""The last error of a request: what DCS answered, as JSON in one message header that travels with the request.

Law `tolerant-reader`: members that a later version added are left out; a header of another content is unreadable.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

LONGEST: Final = 256
"""Characters of each text."""


@dataclass(frozen=True, slots=True)
class LastError:
    """What the last call that did not succeed was answered; every text is cut to LONGEST characters."""

    message: str = ""
    """One sentence for an operator, which names who answered if that was neither DCS nor its gateway."""
    http_status: int | None = None
    error_code: str | None = None
    error_msg: str | None = None
    error_ext_msg: str | None = None
    dcs_request_id: str | None = None
    is_conflict: bool = False
    """A create was answered with 409: without a task the request is rejected, and never created again."""

    @classmethod
    def of(cls, error: Any, *, is_conflict: bool = False) -> Self:
        """The part of an error with these attributes that travels."""
        texts = ("message", "error_code", "error_msg", "error_ext_msg", "dcs_request_id")
        cut = {name: text and text[:LONGEST] for name in texts for text in (getattr(error, name),)}
        return cls(**cut, http_status=error.http_status, is_conflict=is_conflict)

    def text(self) -> str:
        """The header's value."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}, ensure_ascii=False)

    @classmethod
    def read(cls, text: object) -> Self | None:
        """The last error in a header; None if the header has another content."""
        try:
            content = json.loads(text) if isinstance(text, str | bytes) else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(content, dict):
            return None
        members: dict[str, Any] = {name: content.get(name, default) for name, default in asdict(cls()).items()}
        status, is_conflict = members.pop("http_status"), members.pop("is_conflict")
        is_status = status is None or (type(status) is int and 100 <= status <= 999)
        if not is_status or type(is_conflict) is not bool or not isinstance(members["message"], str):
            return None
        if not all(text is None or isinstance(text, str) for text in members.values()):
            return None
        return cls.of(cls(**members, http_status=status), is_conflict=is_conflict)
