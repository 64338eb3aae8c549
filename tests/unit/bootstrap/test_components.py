"""Parts of a worker that are built from the settings."""

from pathlib import Path

import pytest

from worker.bootstrap import components
from worker.config import ConfigurationError, load


def test_profile_without_keys_stops_the_start(tmp_path: Path) -> None:
    """No other way is tried in its place, whose keys would be another identity's; named or found in the home folder."""
    path = tmp_path / ".huaweicloud" / "credentials"
    path.parent.mkdir()
    path.write_text("[default]\nak = SHOWN\nsk = SHOWN\n")
    for environment in ({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(path)}, {"HOME": str(tmp_path)}):
        loaded = load({"WORKER_CREDENTIALS": "platform", **environment}, folder=tmp_path)
        with pytest.raises(ConfigurationError) as caught:
            components.profile(loaded.settings)
        assert caught.value.problems == (
            f"HUAWEICLOUD_SDK_CREDENTIALS_FILE: {path} must have usable ak and sk, or idp_id and id_token_file, "
            "in its section basic or global",
        )
