"""What `kubeocean verify` refuses before it looks anywhere."""

import pytest
from typer.testing import CliRunner

from kubeocean.cli import app


@pytest.mark.parametrize("zone", ["Europe", "Mars/Phobos", "", "../UTC"])
def test_a_name_that_is_no_time_zone_is_refused_with_an_example(zone: str) -> None:
    result = CliRunner().invoke(app, ["verify", f"--time-zone={zone}", "--kubeconfig=/nowhere"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert f"{zone!r} is no known time zone" in result.stderr
    assert "such as Europe/Berlin" in result.stderr
